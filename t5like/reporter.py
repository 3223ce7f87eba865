"""What a run tells of its updates: rows of the log and of the display, and that their numbers are such."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from t5like.flops import FlopMeter, Work
from t5like.guard import LeavingOut
from t5like.metrics_log import MetricsLog
from t5like.progress import Progress

_LARGEST = float(np.finfo(np.float32).max)
_NORMS = ("gradient_norm", "update_norm")
_TOKENS = ("encoder_tokens", "decoder_tokens")  # a model of one stack has but one of them


class Update(NamedTuple):
    """An update that has been dispatched and perhaps not yet computed."""

    step: int  # of the state it makes
    metrics: dict[str, jax.Array]
    work: Work
    input_wait_seconds: float
    example_ids: np.ndarray  # of this host's rows of its batch


class Reporter:
    """Reads the metrics of dispatched updates and writes the rows that are due."""

    def __init__(
        self,
        log: MetricsLog,
        progress: Progress,
        meter: FlopMeter,
        log_every_steps: int,
        num_steps: int,
        left_out: LeavingOut,
    ):
        """Begins with no updates."""
        self.judge, self._left_out = left_out.judge, left_out
        self._log, self._progress, self._meter = log, progress, meter
        self._log_every_steps, self._num_steps = log_every_steps, num_steps
        self._updates: list[Update] = []  # whose row is to come
        self._judged = 0  # the step up to which updates have been judged
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what has passed since the last report out of the throughput."""
        self._clock = time.perf_counter()

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the row of an evaluation."""
        self._log.write("validation", step, metrics)
        self._progress.note(
            f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        )
        self.restart_clock()

    def add(self, update: Update) -> None:
        """Takes note of an update that has just been dispatched."""
        self._updates.append(update)

    def report(self) -> None:
        """Writes the newest update's row if its turn has come; throughput is the mean since the last row."""
        if not self._updates:
            return
        newest = self._updates[-1]
        jax.block_until_ready(newest.metrics)  # so that no more than one step is ever ahead of us
        if newest.step % self._log_every_steps and newest.step != self._num_steps:
            return
        row = {name: float(value) for name, value in jax.device_get(newest.metrics).items()}
        seconds = time.perf_counter() - self._clock
        counts = jax.device_get([[u.metrics.get(name, 0.0) for name in _TOKENS] for u in self._updates])
        row["tokens_per_second"] = float(np.sum(counts)) / seconds
        done = [(u.work, float(i), float(t)) for u, (i, t) in zip(self._updates, counts, strict=True)]
        row |= self._meter.rates(done, seconds)
        row["step_seconds"] = seconds / len(self._updates)
        row["input_wait_seconds"] = sum(u.input_wait_seconds for u in self._updates) / len(self._updates)
        row["input_wait_percent"] = 100 * row["input_wait_seconds"] / max(row["step_seconds"], 1e-9)
        self.restart_clock()
        self._log.write("train", newest.step, row)
        self._progress.update(newest.step, row)
        self.judge.add(newest.step, row["gradient_norm"])
        self.check()
        self._updates = []

    def check(self) -> None:
        """Returns if no update so far was bad, or what was bad is left out; then the state they made of a good one is good.

        Parameters are not finite only after an update that is not, and of optimizers' states none is larger than the sum
        of the squares of all gradients, of which their norm is made.

        Raises:
          DivergenceError, Rewind: an update was bad.
        """
        updates = [update for update in self._updates if update.step > self._judged]
        norms = jax.device_get([[update.metrics[name] for name in _NORMS] for update in updates])
        for update, of_update in zip(updates, norms, strict=True):
            gradient_norm, update_norm = map(float, of_update)
            why = self.judge.why_bad(update.step, gradient_norm, update_norm)
            if why is not None:
                was_held_back = not gradient_norm <= min(self.judge.limit(update.step), _LARGEST)
                self._left_out.leave_out(update.step, why, update.example_ids, can_be_skipped=was_held_back)
                self._progress.note(f"step {update.step} is left out: {why}")
            self._judged = update.step
