"""Any batch of a run can be made again: from the beginning, or from a checkpoint, on any machine."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t5like import pretrain as pretrain_entry
from t5like import workdir as workdirs
from t5like.cli import dispatch
from t5like.config import to_dict
from t5like.data.audit import AUDIT_FILE
from t5like.errors import CheckpointError, UserError
from t5like.show_batch import _run_lengths, _write, batch_sha256, rebuild_batch
from t5like.whole_files import write_json


@pytest.fixture(scope="module")
def audited(small_pretrain: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run that wrote down what it learned from."""
    config = dataclasses.replace(small_pretrain, audits_examples=True)
    workdir = tmp_path_factory.mktemp("audited") / "run"
    pretrain_entry.pretrain(config, workdir)
    return config, workdir


def test_every_batch_of_a_run_is_made_again(audited: tuple[Any, Path]) -> None:
    config, workdir = audited
    lines = [json.loads(line) for line in (workdir / AUDIT_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(config.num_steps))
    _, vocabulary = workdirs.load_description(workdir)
    text = pretrain_entry.read_text(config)
    with contextlib.closing(pretrain_entry.training_batches(config, text, vocabulary)) as batches:
        straight = list(itertools.islice(batches, config.num_steps))
    for step in (0, config.num_steps // 2, config.num_steps - 1):
        batch, _ = rebuild_batch(config, step, workdir)
        assert [[int(i)] for i in batch["example_ids"]] == lines[step]["example_ids"]
        assert batch.keys() == straight[step].keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], straight[step][name])


def test_the_command_shows_and_writes_a_batch(
    audited: tuple[Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, workdir = audited
    dispatch(
        ["batch", "--workdir", str(workdir), "--step", "3", "--rows", "2", "--to", str(tmp_path / "b.npz")]
    )
    printed = capsys.readouterr().out
    batch, vocabulary = rebuild_batch(config, 3, workdir)
    assert printed.startswith(f"batch 3: {config.batch_size} rows, sha256 {batch_sha256(batch)}\n")
    assert len(re.findall("^row", printed, re.MULTILINE)) == 2
    assert repr(vocabulary.decode_all(batch["encoder_input_tokens"][1])) in printed
    with np.load(tmp_path / "b.npz") as saved:
        assert {name: saved[name].tolist() for name in saved} == {n: f.tolist() for n, f in batch.items()}


def test_what_is_written_is_whole_or_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    path.write_bytes(b"an earlier batch")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"^--to .*b\.npz cannot be written: File too large\.$"):
            _write({"a": np.zeros(1000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"an earlier batch"]


def test_a_digest_is_of_everything() -> None:
    batch = {"a": np.arange(3, dtype=np.int32), "b": np.zeros(2, np.float32)}
    others = (
        {**batch, "a": np.array([0, 1, 3], np.int32)},
        {**batch, "a": batch["a"].astype(np.int64)},
        {**batch, "a": batch["a"][None]},
        {"a": batch["a"]},
        {"c": batch["a"], "b": batch["b"]},
    )
    assert len({batch_sha256(b) for b in (batch, *others)}) == 6
    assert batch_sha256(batch) == batch_sha256(dict(reversed(batch.items())))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, 1, 1, 0], "1 x 3, 0 x 1"),
        ([0, 1, 2, 3], "0 to 3"),
        ([0, 1, 2, 0, 1, 0, 0], "0 to 2, 0 to 1, 0 x 2"),
        ([5], "5 x 1"),
    ],
)
def test_features_are_shown_in_runs(values: list[int], shown: str) -> None:
    assert _run_lengths(np.array(values)) == shown


def test_a_run_that_may_not_be_written_to_is_read(
    audited: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = audited
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # as one who is not root sees it
    batch, _ = rebuild_batch(config, 0, workdir)
    assert len(batch["example_ids"]) == config.batch_size


def test_a_damaged_cursor_is_not_gone_on_from_and_damaged_arrays_do_not_matter(
    audited: tuple[Any, Path], tmp_path: Path
) -> None:
    config, workdir = audited
    shutil.copytree(workdir, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    (newest / "params" / "_METADATA").write_text("{}")
    expected, _ = rebuild_batch(config, config.num_steps, workdir)
    batch, _ = rebuild_batch(config, config.num_steps, tmp_path / "run")
    assert batch_sha256(batch) == batch_sha256(expected)
    saved = newest / "run" / "metadata"
    saved.write_text(saved.read_text().replace("1", "2"))
    with pytest.raises(CheckpointError, match="run/metadata"):
        rebuild_batch(config, config.num_steps, tmp_path / "run")


def test_other_data_or_another_config_are_refused(audited: tuple[Any, Path], tmp_path: Path) -> None:
    config, workdir = audited
    with pytest.raises(UserError, match="belongs to another config"):
        rebuild_batch(dataclasses.replace(config, seed=5), 0, workdir)
    shutil.copytree(workdir, tmp_path / "run")
    shutil.copytree(config.data, tmp_path / "text")
    (tmp_path / "text" / "more.txt").write_text("abc def")
    moved = dataclasses.replace(config, data=str(tmp_path / "text"))
    write_json(tmp_path / "run" / "config.json", to_dict(moved))
    first = min(int(path.name) for path in (workdir / "checkpoints").iterdir())
    for step in (0, first - 1, config.num_steps - 1):  # those before the first checkpoint too
        with pytest.raises(UserError, match="training data is not that of"):
            rebuild_batch(moved, step, tmp_path / "run")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--workdir", "nowhere"], "needs --step N"),
        (["--workdir", "nowhere", "--step", "x"], "invalid int value"),
        (["--workdir", "nowhere", "--step", "1"], "nowhere is no workdir"),
        (["--step", "1"], "needs a config file first"),
        (["configs/tny.py", "--step", "1"], "did you mean configs/tiny.py"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(argv: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        dispatch(["batch", *argv])
