"""The log reads back as written, and that of a resumed run reads as that of one that was never stopped."""

import json
import math
import os
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2

from t5like.errors import UserError
from t5like.metrics_log import (
    METRICS_FILE,
    MetricsLog,
    decode_number,
    encode_number,
    input_wait_percent,
    read_metrics,
)

NAMES = st.text(alphabet='ab/_ é"\n', min_size=1, max_size=8)


def write_steps(log: MetricsLog, first: int, last: int) -> None:
    """Logs what a run does from state `first` up to state `last`, validating every third state."""
    for step in range(first, last + 1):
        if step > first:
            log.write("train", step, {"loss": 1 / step})
        if step % 3 == 0:
            log.write("validation", step, {"nats_per_token": 2 / (step + 1)})


def read_events(folder: pathlib.Path) -> list[event_pb2.Event]:
    """Returns the events of all files of a folder; a record is length 8 bytes, check 4, event, check 4."""
    events = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def visible_steps(folder: pathlib.Path) -> list[int]:
    """Returns the steps TensorBoard shows: a start mark hides the steps from its own on that came before it."""
    steps: list[int] = []
    for event in read_events(folder):
        if event.HasField("session_log"):
            steps = [step for step in steps if step < event.step]
        elif event.HasField("summary"):
            steps.append(event.step)
    return steps


@given(number=st.floats())
@settings(deadline=None, max_examples=50)
def test_a_number_comes_back_exactly_through_strict_json(number):
    text = json.dumps(encode_number(number), allow_nan=False)
    again = decode_number(json.loads(text))
    assert again == number or (math.isnan(again) and math.isnan(number))


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.dictionaries(NAMES, st.floats(allow_nan=False))), max_size=4
    )
)
@settings(deadline=None, max_examples=25)
def test_rows_come_back_as_written(tmp_path_factory, rows):
    workdir = tmp_path_factory.mktemp("run")
    with MetricsLog(workdir, resume_step=None) as log:
        for step, metrics in rows:
            log.write("train", step, metrics)
    expected = [{"step": step, "split": "train"} | metrics for step, metrics in rows]
    assert read_metrics(workdir / "metrics.jsonl") == expected


def test_lines_are_strict_json_and_flushed_at_once(tmp_path):
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    with MetricsLog(tmp_path, resume_step=None) as log:
        log.write("validation", 7, {"loss": math.nan, "up": math.inf, "down": -math.inf, "tenth": 0.1})
        line = (tmp_path / "metrics.jsonl").read_text()
    expected = {
        "step": 7,
        "split": "validation",
        "loss": "NaN",
        "up": "Infinity",
        "down": "-Infinity",
        "tenth": 0.1,
    }
    assert json.loads(line, parse_constant=refuse) == expected
    assert line.endswith("\n")


@given(
    restored=st.integers(0, 8),
    lived=st.integers(0, 6),
    torn=st.sampled_from(["", '{"st', '{"step": 99, "split": "train"}']),
)
@settings(deadline=None, max_examples=25)
def test_a_resumed_log_is_the_log_of_a_run_never_stopped(tmp_path_factory, restored, lived, torn):
    straight, resumed = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("resumed")
    with MetricsLog(straight, resume_step=None) as log:
        write_steps(log, 0, 15)
    with MetricsLog(resumed, resume_step=None) as log:
        write_steps(log, 0, restored + lived)
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write(torn)
    with MetricsLog(resumed, resume_step=restored) as log:
        write_steps(log, restored, 15)
    assert (resumed / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    for split in ("train", "validation"):
        folders = [workdir / "tensorboard" / split for workdir in (straight, resumed)]
        assert visible_steps(folders[0]) == visible_steps(folders[1]) != []


def test_a_fresh_start_sets_an_earlier_attempt_aside(tmp_path):
    for loss in (5.0, 4.0):
        with MetricsLog(tmp_path, resume_step=None) as log:
            log.write("train", 1, {"loss": loss})
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [4.0]
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.previous.jsonl")] == [5.0]
    assert visible_steps(tmp_path / "tensorboard" / "train") == [1]


def test_a_torn_last_line_is_not_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "split": "train", "loss": 2.5}\n{"step": 2, "spl')
    assert read_metrics(path) == [{"step": 1, "split": "train", "loss": 2.5}]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"split": "train"}',
        '{"step": 2, "split": "test"}',
        '{"step": 2.5, "split": "train"}',
        '{"step": 2, "split": "train", "loss": "low"}',
        '{"step": 2, "split": "train", "loss": 1' + 400 * "0" + "}",
        "\udcff",
        "",
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "split": "train"}}\n{line}\n', errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(UserError, match="line 2 of"):
        MetricsLog(tmp_path, resume_step=1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_reserved_names_are_refused(tmp_path):
    with MetricsLog(tmp_path, resume_step=None) as log, pytest.raises(ValueError, match="split"):
        log.write("train", 1, {"split": 1.0})


def test_input_wait_is_a_share_of_the_time_of_all_steps() -> None:
    rows = [
        {"split": "train", "step": 10, "step_seconds": 1.0, "input_wait_seconds": 0.0},
        {"split": "validation", "step": 10, "nats_per_token": 1.0},
        {"split": "train", "step": 40, "step_seconds": 2.0, "input_wait_seconds": 0.5},
    ]
    assert input_wait_percent(rows) == pytest.approx(100 * 30 * 0.5 / (10 * 1.0 + 30 * 2.0))
    assert input_wait_percent(rows[1:2]) is None
    assert input_wait_percent([]) is None


def test_a_row_is_on_the_disk_when_it_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((tmp_path / METRICS_FILE).read_text()))
    with MetricsLog(tmp_path, resume_step=None) as log:
        log.write("train", 1, {"loss": 2.0})
    assert synced[:1] == ['{"step": 1, "split": "train", "loss": 2.0}\n']
