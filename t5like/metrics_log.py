"""The numbers of a run: `metrics.jsonl`, which is the record, and TensorBoard event files, which are a view of it.

One strict JSON object a line, in the order written:

    {"step": 100, "split": "train", "loss": 4.25, "learning_rate": 0.01}
    {"step": 100, "split": "validation", "nats_per_token": 4.5}

A train row at step n describes the update that made state n; a validation row at step n describes state n, measured
before going on. A run that restores state n measures it again, so of an earlier log it keeps train rows up to and
including n and validation rows before n: nothing is missing and nothing is there twice.

JSON has no number for a loss that is not finite, so those are the strings "NaN", "Infinity" and "-Infinity".
"""

import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, get_args

from t5like.record_lines import RecordLine, Row, read_record
from t5like.whole_files import write_text

# Where PyTorch is installed, tensorboardX would bring it in, for tensors that it is never given: a second of each start.
_torch, sys.modules["torch"] = sys.modules.get("torch"), None  # type: ignore[assignment]
from tensorboardX import SummaryWriter  # noqa: E402

if _torch is None:
    del sys.modules["torch"]
else:
    sys.modules["torch"] = _torch

METRICS_FILE = "metrics.jsonl"
PREVIOUS_METRICS_FILE = "metrics.previous.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

Split = Literal["train", "validation"]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsLog:
    """The open log of one run; one process of a run holds it, and no row it was given is lost to a kill."""

    def __init__(self, workdir: str | os.PathLike[str], *, resume_step: int | None):
        """Opens the log of `workdir`, first taking out what the run is about to measure again.

        Args:
          workdir: folder of the run, made if it is not there.
          resume_step: step of the restored state. None where nothing was restored: the log then starts empty, and
            the rows of an attempt that never reached a checkpoint are set aside as `metrics.previous.jsonl`.

        Raises:
          UserError: a line of the earlier log, other than a torn last one, is not a row; nothing was written then.
        """
        folder = pathlib.Path(workdir)
        path = folder / METRICS_FILE
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and resume_step is None:
            os.replace(path, folder / PREVIOUS_METRICS_FILE)
        elif path.exists() and resume_step is not None:
            write_text(path, "".join(_kept_lines(path, resume_step)))
        self._file = path.open("a", encoding="utf-8", newline="\n")
        first_train_step = 0 if resume_step is None else resume_step + 1
        self._writers: dict[Split, SummaryWriter] = {
            "train": _event_writer(folder, "train", purge_step=first_train_step),
            "validation": _event_writer(folder, "validation", purge_step=resume_step or 0),
        }

    def write(self, split: Split, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one row, which is on the disk when the call returns: a machine may vanish after its checkpoint.

        Args:
          split: which rows of data the numbers are about.
          step: number of updates behind the state that the row is about.
          metrics: host numbers by name, none of them named "step" or "split".
        """
        if reserved := metrics.keys() & {"step", "split"}:
            raise ValueError(f"a metric may not be named {sorted(reserved)}")
        numbers = {name: float(value) for name, value in metrics.items()}
        row = {"step": int(step), "split": split} | {name: encode_number(x) for name, x in numbers.items()}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        for name, number in numbers.items():
            self._writers[split].add_scalar(name, number, step)

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        self._file.close()
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the rows of a `metrics.jsonl` in the order written, every metric a float.

    A torn last line, as a killed process or one still writing leaves it, is not a row.

    Raises:
      UserError: the file cannot be read, or a whole line of it is not a row.
    """
    return [line.row for line in _read(path)]


def encode_number(number: float) -> float | str:
    """Returns `number` as strict JSON can hold it: itself, or "NaN", "Infinity", "-Infinity"."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def decode_number(value: object) -> float:
    """Returns the number that `encode_number` made `value` from.

    Raises:
      ValueError: `value` stands for no number.
    """
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.40} is not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("an integer of hundreds of digits is not a number we keep") from error


def _kept_lines(path: pathlib.Path, resume_step: int) -> Iterable[str]:
    for line, row in _read(path):
        if row["step"] < resume_step or (row["step"] == resume_step and row["split"] == "train"):
            yield line


def _read(path: str | os.PathLike[str]) -> list[RecordLine]:
    return read_record(path, _parse_row, row_of="metrics", remedy="mend or remove that line")


def _parse_row(row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if not isinstance(row.get("step"), int) or not 0 <= row["step"] < 2**53:
        raise ValueError("no step")
    if row.get("split") not in get_args(Split):
        raise ValueError("no split")
    return {name: value if name in ("step", "split") else decode_number(value) for name, value in row.items()}


def _event_writer(folder: pathlib.Path, split: Split, *, purge_step: int) -> SummaryWriter:
    # One folder a split lays the two curves over each other in TensorBoard, and lets each purge from its own step.
    events = folder / TENSORBOARD_FOLDER / split
    # The writer names its file by the second and would overwrite that of a run restarted within it.
    num_files = len(list(events.glob("events.*")))
    return SummaryWriter(
        str(events), purge_step=purge_step, flush_secs=10, max_queue=1000, filename_suffix=f".{num_files}"
    )


def input_wait_percent(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns which share of the time of all steps was spent waiting for data, None where no step was timed.

    Args:
      rows: of a log, in order; those of training count, each for the steps since the one before.
    """
    waited = total = 0.0
    earlier = 0
    for row in rows:
        if row["split"] == "train" and "input_wait_seconds" in row and "step_seconds" in row:
            num_steps = row["step"] - earlier
            waited += num_steps * row["input_wait_seconds"]
            total += num_steps * row["step_seconds"]
            earlier = row["step"]
    return 100 * waited / total if total else None
