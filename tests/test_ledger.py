"""The ledger accounts for every second, and what was done for nothing is lost and not a step."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like import phases
from t5like.errors import UserError
from t5like.ledger import IDLE, LEDGER_FILE, REDONE, add_up, keep_ledger, note_end, read_ledger
from t5like.phases import Deadlines, enter, limited, take_seconds


def attempt(
    began: float, start: int, steps: int, *, step_seconds: float = 2.0, ends: bool = False
) -> list[dict[str, Any]]:
    """Returns the rows of an attempt: 3 s to start, then steps, each of which is a row."""
    rows = [{"event": "start", "time": began + 3.0, "step": start, "seconds": {"init": 3.0}}]
    for number in range(1, steps + 1):
        time = began + 3.0 + number * step_seconds
        rows.append(
            {"event": "phase", "time": time, "step": start + number, "seconds": {"step": step_seconds}}
        )
    if ends:
        rows.append({**rows[-1], "event": "end", "seconds": {}})
    return rows


def test_steps_that_were_done_again_and_idle_time_are_lost() -> None:
    rows = [
        *attempt(0.0, 0, 10),
        *attempt(123.0, 7, 5, ends=True),
    ]  # the first was saved at 7, and killed at 23 s
    times = add_up(rows)
    assert times.num_attempts == 2
    assert times.seconds == {"init": 6.0, "step": 2.0 * (7 + 5), REDONE: 2.0 * 3, IDLE: 100.0}
    assert times.total_seconds == 123.0 + 3.0 + 10.0
    assert times.goodput_percent == pytest.approx(100 * 24 / 136)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1e4)), min_size=1, max_size=6))
def test_no_second_is_counted_twice_or_not_at_all(
    attempts: list[tuple[int, int, float]],
) -> None:
    rows: list[dict[str, Any]] = []
    now, reached = 0.0, 0
    for steps, saved, idle_seconds in attempts:
        start = min(saved, reached)
        rows += attempt(now, start, steps)
        now = rows[-1]["time"] + idle_seconds
        reached = start + steps
    times = add_up(rows)
    assert times.total_seconds == pytest.approx(rows[-1]["time"])
    assert times.seconds.get("step", 0.0) == pytest.approx(2.0 * reached)  # each step of the result once


def test_a_run_that_is_watched_by_the_ledger_accounts_for_its_time(tmp_path: Path) -> None:
    take_seconds()
    with limited(Deadlines()), keep_ledger(tmp_path, step=4):
        for phase, seconds in (
            ("wait", 0.01),
            ("compile", 0.05),
            ("wait", 0.0),
            ("step", 0.02),
            ("save", 0.03),
        ):
            enter(phase, 5 if phase in ("wait", "save") else 4)  # type: ignore[arg-type]
            time.sleep(seconds)
        enter("finish", 5)
        time.sleep(0.02)
        note_end(tmp_path, 5)
    rows = read_ledger(tmp_path / LEDGER_FILE)
    assert [(row["event"], row["step"]) for row in rows] == [
        ("start", 4),
        ("phase", 5),
        ("phase", 5),
        ("end", 5),
    ]
    times = add_up(rows)
    assert times.total_seconds == pytest.approx(rows[-1]["time"] - rows[0]["time"], abs=0.02)
    for phase, seconds in (
        ("wait", 0.01),
        ("compile", 0.05),
        ("step", 0.02),
        ("save", 0.03),
        ("finish", 0.02),
    ):
        assert seconds <= times.seconds[phase] < seconds + 0.5


def test_what_ends_an_attempt_is_written_down(tmp_path: Path) -> None:
    enter("init")
    with contextlib.suppress(KeyboardInterrupt), keep_ledger(tmp_path, step=0):
        enter("step", 3)
        enter("wait", 4)
        raise KeyboardInterrupt
    last = read_ledger(tmp_path / LEDGER_FILE)[-1]
    assert (last["event"], last["step"], last["why"]) == ("end", 4, "KeyboardInterrupt")


def test_a_torn_line_is_no_row_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    whole = json.dumps(attempt(0.0, 0, 0)[0])
    path.write_text(f"{whole}\n{whole[:-9]}")
    assert len(read_ledger(path)) == 1
    with keep_ledger(tmp_path, step=0):
        pass
    assert len(read_ledger(path)) == 2


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "nothing",
        "[" * 100_000,
        '{"event": "start", "time": 1, "step": -1, "seconds": {}}',
        '{"event": "start", "time": "x", "step": 1, "seconds": {}}',
        '{"event": "start", "time": 1, "step": 1, "seconds": {"sleep": 1}}',
        '{"event": "start", "time": 1, "step": 1, "seconds": {"step": NaN}}',
    ],
)
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    path.write_text(f"{json.dumps(attempt(0.0, 0, 0)[0])}\n{line}\n")
    with pytest.raises(UserError, match=r"line 2 of .* is not a row of a ledger"):
        read_ledger(path)


def test_a_phase_has_its_deadline_within_a_run_alone() -> None:
    assert phases.current().allowed_seconds is None
    with limited(Deadlines(step_seconds=7.0, evaluate_seconds=8.0)):
        assert phases.current()[1:] == ("init", 0, Deadlines().init_seconds)
        for phase, seconds in (("step", 7.0), ("wait", 7.0), ("evaluate", 8.0), ("finish", 8.0)):
            enter(phase, 3)  # type: ignore[arg-type]
            assert phases.current()[1:] == (phase, 3, seconds)
    assert phases.current().allowed_seconds is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_deadline_is_some_time_off(seconds: float) -> None:
    with pytest.raises(UserError, match=r"deadlines\.save_seconds is .*; give more than 0\."):
        Deadlines(save_seconds=seconds)
