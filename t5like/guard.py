"""Updates that are bad, whose gradients are not finite or a spike: how they are told, and what becomes of them.

All of it follows from the config, the log and `left_out.jsonl`, so a run that is killed and goes on decides as one that
was not.
"""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from t5like.batch import EXAMPLE_IDS, ids_of_examples
from t5like.distributed import gather, is_first_host
from t5like.errors import DivergenceError, UserError
from t5like.left_out import LeftOut, kept_at, place_of_batch, read_left_out, write_left_out
from t5like.metrics_log import METRICS_FILE, read_metrics

_NUM_ROWS = 20
_ENOUGH_ROWS = 5  # with fewer nothing is a spike

_REMEDY = "Lower the learning rate or optimizer.max_grad_norm, or warm up for longer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guard:
    """What becomes of an update whose gradients are not finite, or a spike."""

    when_bad: Literal["end", "skip", "rewind"] = "end"
    """end: the run ends with exit code 6. skip: the update is not made, and the optimizer, its schedule included, is from
    then on one update behind the step. rewind: the run goes back to its last checkpoint,
    or its start, and goes on from there without that batch. What is left out is in left_out.jsonl."""
    spike_factor: float | None = None
    """A spike is where the norm of the gradients is so many times the median of the log's last 20 rows; None: nowhere."""
    max_left_out: int = 10
    """Updates that are left out over the whole run; one more ends it."""

    def __post_init__(self) -> None:
        if self.spike_factor is not None and not self.spike_factor > 1:
            raise UserError(f"guard.spike_factor is {self.spike_factor}; give more than 1.")
        if self.max_left_out < 0:
            raise UserError(f"guard.max_left_out is {self.max_left_out}; give 0 or more.")


class Judge:
    """Tells which updates are bad."""

    def __init__(self, spike_factor: float | None, rows: Iterable[tuple[int, float]] = ()) -> None:
        """Begins with rows of the log: steps, in order, and the norm of their gradients."""
        self._spike_factor = spike_factor
        self._rows = collections.deque(rows, maxlen=2 * _NUM_ROWS)

    def add(self, step: int, gradient_norm: float) -> None:
        """Takes note of a row of the log."""
        self._rows.append((step, gradient_norm))

    def usual(self, step: int) -> float | None:
        """Returns the usual norm for the update that makes the state of a step, None where not enough is known.

        It is that of rows which are there, on any path to that step, before the update is dispatched.
        """
        norms = [norm for at, norm in self._rows if at <= step - 2 and math.isfinite(norm)][-_NUM_ROWS:]
        return statistics.median(norms) if len(norms) >= _ENOUGH_ROWS else None

    def limit(self, step: int) -> float:
        """Returns the largest norm of gradients that is no spike, rounded to float32 as the norm is."""
        usual = self.usual(step) if self._spike_factor is not None else None
        return math.inf if usual is None else float(np.float32((self._spike_factor or 1.0) * usual))

    def why_bad(self, step: int, gradient_norm: float, update_norm: float) -> str | None:
        """Returns what is the matter with an update, None if it is good."""
        if not (math.isfinite(gradient_norm) and math.isfinite(update_norm)):
            return "its gradients hold numbers that are not finite"
        if gradient_norm <= self.limit(step):
            return None
        return (
            f"the norm of its gradients is {gradient_norm:.4g}, more than {self._spike_factor:g} times the usual "
            f"{self.usual(step):.4g}"
        )


class Rewind(Exception):
    """The run is to go back, and to leave out the batch of an update."""

    def __init__(self, row: LeftOut) -> None:
        super().__init__(row.why)
        self.row = row


class LeavingOut:
    """What a run has left out so far, and leaves out now."""

    def __init__(self, guard: Guard, workdir: Path, *, step: int) -> None:
        """Begins an attempt that goes on from a step; all hosts read what earlier ones have left out.

        Raises:
          UserError: that cannot be read.
        """
        self._guard, self._workdir = guard, workdir
        self.rows = kept_at(read_left_out(workdir), step)
        rows = []
        if guard.spike_factor is not None and step and (workdir / METRICS_FILE).exists():
            rows = [
                (row["step"], row["gradient_norm"])
                for row in read_metrics(workdir / METRICS_FILE)
                if row["split"] == "train" and row["step"] <= step and "gradient_norm" in row
            ]
        self.judge = Judge(guard.spike_factor, rows)

    @property
    def passed_over(self) -> list[int]:
        """The places of the batches that are not given."""
        return [row.batch for row in self.rows if row.how == "rewound"]

    def leave_out(self, step: int, why: str, example_ids: np.ndarray, *, can_be_skipped: bool) -> None:
        """Leaves a bad update out, as the guard says; all hosts call it at the same step.

        Args:
          can_be_skipped: whether the step itself has seen that it is bad, by its gradients, if it was to skip such.

        Raises:
          DivergenceError: it says that the run ends, or enough is left out, or the update was made.
          Rewind: it says that the run goes back.
        """
        ends = f"The update of step {step} is bad: {why}. No state is saved after it, and the last checkpoint is from before."
        if self._guard.when_bad == "skip" and not can_be_skipped:
            raise DivergenceError(f"{ends} {_REMEDY}.")
        if self._guard.when_bad == "end":
            raise DivergenceError(f"{ends} {_REMEDY}, or let --guard.when_bad rewind leave its batch out.")
        if len(self.rows) >= self._guard.max_left_out:
            raise DivergenceError(
                f"{ends} guard.max_left_out {self._guard.max_left_out} have been left out before. {_REMEDY}."
            )
        row = LeftOut(
            step=step,
            batch=self._place(step),
            how="rewound" if self._guard.when_bad == "rewind" else "skipped",
            why=why,
            example_ids=_of_all_hosts(example_ids),
        )
        self.rows.append(row)
        self.write()
        if self._guard.when_bad == "rewind":
            raise Rewind(row)

    def write(self) -> None:
        """Has the file say what is left out."""
        if is_first_host() and self.rows != read_left_out(self._workdir):
            write_left_out(self._workdir, self.rows)

    def _place(self, step: int) -> int:
        """Returns the place in the stream of the batch whose update makes the state of a step."""
        passed_over = set(self.passed_over)
        place = place_of_batch(step - 1, passed_over)
        while place in passed_over:
            place += 1
        return place


def _of_all_hosts(example_ids: np.ndarray) -> list[list[int]]:
    """Returns the ids of each row of the global batch once, by host."""
    shares = gather(ids_of_examples({EXAMPLE_IDS: example_ids}))
    return [list(row) for row in dict.fromkeys(tuple(row) for share in shares for row in share)]
