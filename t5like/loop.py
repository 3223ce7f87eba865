"""The one training loop."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from t5like.batch import Features, without_ids
from t5like.checkpoint import Checkpoints
from t5like.distributed import mark, told_to_end
from t5like.errors import DivergenceError
from t5like.flops import FlopMeter, Work
from t5like.metrics_log import MetricsLog
from t5like.preemption import call_unless_told, preempted, under_way
from t5like.progress import Progress
from t5like.train_step import TrainState

Metrics = Mapping[str, float]
_NORMS = ("gradient_norm", "update_norm")
_TOKENS = ("encoder_tokens", "decoder_tokens")  # a model of one stack has but one of them


class BatchIterator(Protocol):
    """An endless stream of batches with a small JSON-able cursor; Grain's iterators are of this kind."""

    def __next__(self) -> Features: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Evaluator(NamedTuple):
    """What is measured on the way: `evaluate(params)` at every multiple of `every_steps`, and at the end."""

    every_steps: int
    evaluate: Callable[[Any], Metrics]


class Update(NamedTuple):
    """An update that has been dispatched and perhaps not yet computed."""

    step: int  # of the state it makes
    metrics: dict[str, jax.Array]
    work: Work
    input_wait_seconds: float


def fit(
    state: TrainState,
    batches: BatchIterator,
    *,
    step_function: Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]],
    put_batch: Callable[[Features], dict[str, jax.Array]],
    meter: FlopMeter,
    num_steps: int,
    evaluators: tuple[Evaluator, ...],
    checkpoints: Checkpoints,
    checkpoint_every_steps: int,
    run: dict[str, Any],
    log: MetricsLog,
    log_every_steps: int,
    progress: Progress,
) -> TrainState:
    """Returns the state after `num_steps` updates in all, counting those before a restart.

    The order at step n, which a test holds:
      1. evaluate state n
      2. checkpoint state n with the data cursor that gives batch n
      3. take batch n
      4. dispatch step n
      5. report update n-1, whose metrics are ready by now, while step n computes
    """
    start = restored = int(state.step)
    reporter = Reporter(log, progress, meter, log_every_steps, num_steps)
    save = functools.partial(save_state, checkpoints, reporter, batches, run)
    for step in range(start, num_steps + 1):
        mark(is_under_way=step > start)
        is_last = step == num_steps
        # Rows up to state n are on disk before an evaluation of n is, and before n can be resumed from.
        due = [evaluator for evaluator in evaluators if step % evaluator.every_steps == 0 or is_last]
        measured = evaluate_all(due, step, state.params, reporter)  # 1
        if (step % checkpoint_every_steps == 0 and step != restored) or is_last:  # 2
            save(step, state, measured)
        waiting_since = time.perf_counter()
        if is_last or told_to_end(step) or (batch := call_unless_told(next, batches)) is None:  # 3
            break
        input_wait_seconds = time.perf_counter() - waiting_since
        arrays = put_batch(without_ids(batch))
        state, metrics_of_step = step_function(state, arrays)  # 4
        if step == start:
            # Compiling is over, and the first batch has been waited for; throughput is of going on.
            reporter.restart_clock()
            input_wait_seconds = 0.0
            under_way(True)
        reporter.report()  # 5
        reporter.add(Update(step + 1, metrics_of_step, meter.work(arrays), input_wait_seconds))
    if not is_last and step != restored:
        save(step, state, measured)
    checkpoints.wait()
    if not is_last:
        raise preempted(step)
    under_way(False)
    return state


def save_state(
    checkpoints: Checkpoints,
    reporter: "Reporter",
    batches: BatchIterator,
    run: dict[str, Any],
    step: int,
    state: TrainState,
    measured: Metrics,
) -> None:
    """Begins to save a state and all that goes on with it, unless that is done already.

    Raises:
      DivergenceError: the state is not one to be kept.
    """
    if checkpoints.latest_step != step:
        reporter.report()
        reporter.check_finite()
        checkpoints.save(step, state, {**run, "cursor": batches.get_state()}, measured)


def evaluate_all(
    evaluators: Sequence[Evaluator], step: int, params: Any, reporter: "Reporter"
) -> dict[str, float]:
    """Returns what evaluators give, having written it down; nothing of those that the end of the run breaks off."""
    measured: dict[str, float] = {}
    for evaluator in evaluators:
        reporter.report()
        metrics = call_unless_told(evaluator.evaluate, params)
        if metrics is None:
            break
        measured |= metrics
        reporter.validated(step, metrics)
    return measured


class Reporter:
    """Reads the metrics of dispatched updates and writes the rows that are due."""

    def __init__(
        self,
        log: MetricsLog,
        progress: Progress,
        meter: FlopMeter,
        log_every_steps: int,
        num_steps: int,
    ):
        self._log, self._progress, self._meter = log, progress, meter
        self._log_every_steps, self._num_steps = log_every_steps, num_steps
        self._updates: list[Update] = []  # whose row is to come
        self._unchecked: list[Update] = []  # whose row is written
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what has passed since the last report out of the throughput."""
        self._clock = time.perf_counter()

    def validated(self, step: int, metrics: Metrics) -> None:
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
        self._unchecked += self._updates
        self._updates = []
        self.restart_clock()
        self._log.write("train", newest.step, row)
        self._progress.update(newest.step, row)
        self.check_finite()

    def check_finite(self) -> None:
        """Returns if all updates so far were finite; then the state they made of a finite one is too.

        Parameters are not finite only after an update that is not, and of optimizers' states none is larger than the sum
        of the squares of all gradients, of which their norm is made.

        Raises:
          DivergenceError: one was not.
        """
        updates = [*self._unchecked, *self._updates]
        norms = jax.device_get([[update.metrics[name] for name in _NORMS] for update in updates])
        for update, of_update in zip(updates, norms, strict=True):
            if not np.isfinite(of_update).all():
                raise DivergenceError(
                    f"The gradients of step {update.step} hold numbers that are not finite, and so does the state they make: "
                    "it is not saved, and the last checkpoint is from before. Lower the learning rate or max_grad_norm, or "
                    "warm up for longer."
                )
        self._unchecked = []
