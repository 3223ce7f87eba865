"""Which examples a run has not learned from because their update was bad: `left_out.jsonl`, one line an update.

    {"step": 120, "batch": 119, "how": "rewound", "why": "the norm of its gradients is 812, ...", "example_ids": [[...], ...]}

`step` is that of the state the update made or would have made, `batch` the place of its batch in the stream. A batch that
was rewound is never given again; one whose update was skipped is, to a run that goes on from before it, and is skipped
again. See `t5like.data.example_ids` for what an id says.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from t5like.batch import BatchIterator, DerivedBatches, Features
from t5like.errors import UserError
from t5like.whole_files import write_text

LEFT_OUT_FILE = "left_out.jsonl"


class LeftOut(NamedTuple):
    """A line of the file."""

    step: int
    batch: int
    how: Literal["rewound", "skipped"]
    why: str
    example_ids: list[list[int]]


def read_left_out(workdir: Path) -> list[LeftOut]:
    """Returns what is in the file, nothing if there is none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / LEFT_OUT_FILE
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        rows = [LeftOut(**json.loads(line)) for line in lines]
        if not all(isinstance(row.batch, int) and isinstance(row.step, int) for row in rows):
            raise ValueError("a number is none")
        return rows
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}), and without it the run would not be the same; put it back."
        ) from error


def write_left_out(workdir: Path, rows: Sequence[LeftOut]) -> None:
    """Replaces the file, as a whole."""
    write_text(workdir / LEFT_OUT_FILE, "".join(json.dumps(row._asdict()) + "\n" for row in rows))


def kept_at(rows: Sequence[LeftOut], step: int) -> list[LeftOut]:
    """Returns what still holds for a run that goes on from a step."""
    return [row for row in rows if row.how == "rewound" or row.step <= step]


def place_of_batch(step: int, passed_over: Collection[int]) -> int:
    """Returns the first place in the stream from which a run at a step may take its next batch.

    Args:
      passed_over: places of batches that are not given.
    """
    place = step
    while place - sum(passed < place for passed in passed_over) < step:
        place += 1
    return place


class PassingOver(DerivedBatches):
    """Batches without those at some places of the stream; its cursor is that of what it passes over."""

    def __init__(self, batches: BatchIterator, passed_over: Collection[int], *, step: int) -> None:
        """Begins where a run at a step goes on, to which the batches are set or will be."""
        super().__init__(batches)
        self._passed_over = frozenset(passed_over)
        self._place = place_of_batch(step, self._passed_over)

    def __next__(self) -> Features:
        while self._place in self._passed_over:
            next(self._batches)
            self._place += 1
        batch = next(self._batches)
        self._place += 1
        return batch
