"""Where the wall time of a run went, over all its attempts: `ledger.jsonl`, to which rows are only ever added.

One strict JSON object a line, in the order written:

    {"event": "start", "time": 1700000020.5, "step": 0, "seconds": {"init": 20.5}}
    {"event": "phase", "time": 1700000052.5, "step": 100, "seconds": {"compile": 9.0, "step": 22.5, "wait": 0.5}}
    {"event": "end", "time": 1700000060.0, "step": 100, "seconds": {"finish": 7.5}, "why": "done"}

`seconds` are those since the row before, by phase (`t5like.phases`); `step` is how far the state had come; `time` is that
of the machine, in seconds since 1970. An attempt begins with "start", at the step it goes on from. One that was killed has
no "end", and what it did in the last seconds is in no row.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from t5like.phases import Entered, Phase, take_seconds, told_when_left
from t5like.record_lines import read_record

LEDGER_FILE = "ledger.jsonl"
REDONE, IDLE = "redone", "idle"  # what restarts cost, beside starting again

Event = Literal["start", "phase", "end"]
_ROW_SECONDS = 10.0  # at least one row in so many, as long as the run goes on
_MAKE_A_STATE = ("compile", "step")
_OF_THEIR_OWN = ("compile", "evaluate", "save")


@contextlib.contextmanager
def keep_ledger(workdir: Path, *, step: int) -> Iterator[None]:
    """Writes the ledger of an attempt that goes on from a step, up to where the block is left; see `note_end`."""
    path = workdir / LEDGER_FILE
    _cut_torn_line(path)
    _append(path, "start", step)
    written_at, newest = time.monotonic(), step

    def note(left: Entered) -> None:
        nonlocal written_at, newest
        newest = max(newest, left.step + (left.phase in _MAKE_A_STATE))
        if left.phase in _OF_THEIR_OWN or time.monotonic() - written_at > _ROW_SECONDS:
            _append(path, "phase", newest)
            written_at = time.monotonic()

    with told_when_left(note):
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(OSError):  # what is raised is said, and not this
                _append(path, "end", newest, why=type(error).__name__)
            raise


def note_end(workdir: Path, step: int) -> None:
    """Writes that an attempt is over, and that it came to a good end."""
    _append(workdir / LEDGER_FILE, "end", step, why="done")


def _append(path: Path, event: Event, step: int, **more: str) -> None:
    seconds = {name: round(value, 6) for name, value in take_seconds().items()}
    row = {"event": event, "time": round(time.time(), 3), "step": step, "seconds": seconds, **more}
    with path.open("ab") as file:
        file.write(json.dumps(row, allow_nan=False).encode() + b"\n")


def _cut_torn_line(path: Path) -> None:
    """Takes away the half line that a killed process may have left at the end."""
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


@dataclasses.dataclass(frozen=True)
class Times:
    """Where the time of a run went.

    Attributes:
      seconds: by phase; under REDONE what was done again because an attempt ended too early, and under IDLE the time
        between attempts.
      num_attempts: of the run.
    """

    seconds: Mapping[str, float]
    num_attempts: int

    @property
    def total_seconds(self) -> float:
        """From the beginning of the first attempt to the end of the last."""
        return sum(self.seconds.values())

    @property
    def goodput_percent(self) -> float:
        """Which share of the time went to steps of which the result stayed."""
        return 100 * self.seconds.get("step", 0.0) / max(self.total_seconds, 1e-9)


def read_ledger(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the rows of a ledger in the order written; a torn last line is none.

    Raises:
      UserError: it cannot be read, or a whole line of it is not a row.
    """
    lines = read_record(path, _parsed, row_of="a ledger", remedy="remove that line")
    return [line.row for line in lines]


def _parsed(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or row.get("event") not in get_args(Event):
        raise ValueError("no event")
    if not isinstance(row.get("step"), int) or row["step"] < 0:
        raise ValueError("no step")
    seconds = row.get("seconds")
    if not isinstance(seconds, dict) or not set(seconds) <= set(get_args(Phase)):
        raise ValueError("no seconds by phase")
    if not all(_is_number(value) for value in (row.get("time"), *seconds.values())):
        raise ValueError("a time is not a number")
    return row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def add_up(rows: Sequence[Mapping[str, Any]]) -> Times:
    """Returns where the time of a run went.

    What an attempt did after a step that a later one goes on from was done again. Between the last row of an attempt and
    the beginning of the next nothing was done, or nothing that is known.
    """
    starts = [number for number, row in enumerate(rows) if row["event"] == "start" or number == 0]
    attempts = [rows[begin:end] for begin, end in itertools.pairwise([*starts, len(rows)])]
    seconds: dict[str, float] = {}
    credit = functools.partial(_credit, seconds)
    kept_up_to = math.inf
    for number, attempt in reversed(list(enumerate(attempts))):
        for row in attempt:
            is_lost = row["step"] > kept_up_to
            for phase, value in row["seconds"].items():
                credit(REDONE if is_lost else phase, value)
        first = attempt[0]
        kept_up_to = min(kept_up_to, first["step"])
        if number > 0:
            began = first["time"] - sum(first["seconds"].values())
            credit(IDLE, max(0.0, began - attempts[number - 1][-1]["time"]))
    return Times(seconds, len(attempts))


def _credit(seconds: dict[str, float], name: str, value: float) -> None:
    seconds[name] = seconds.get(name, 0.0) + value
