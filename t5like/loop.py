"""The one training loop."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from t5like.batch import EXAMPLE_IDS, BatchIterator, Features, without_ids
from t5like.checkpoint import Checkpoints
from t5like.distributed import mark, shared_cursor, told_to_end
from t5like.flops import FlopMeter
from t5like.phases import enter
from t5like.preemption import call_unless_told, preempted, under_way
from t5like.reporter import Reporter, Update
from t5like.train_step import TrainState

Metrics = Mapping[str, float]


StepFunction = Callable[[TrainState, dict[str, jax.Array], float], tuple[TrainState, dict[str, jax.Array]]]
"""(state, batch, limit of the norm of gradients) -> the next state and the metrics of its update."""


class Evaluator(NamedTuple):
    """What is measured on the way: `evaluate(params)` at every multiple of `every_steps`, and at the end."""

    every_steps: int
    evaluate: Callable[[Any], Metrics]


def fit(
    state: TrainState,
    batches: BatchIterator,
    *,
    step_function: StepFunction,
    put_batch: Callable[[Features], dict[str, jax.Array]],
    meter: FlopMeter,
    num_steps: int,
    evaluators: tuple[Evaluator, ...],
    checkpoints: Checkpoints,
    checkpoint_every_steps: int,
    run: dict[str, Any],
    reporter: Reporter,
) -> TrainState:
    """Returns the state after `num_steps` updates in all, counting those before a restart.

    An update that is bad may end it early; see `t5like.guard`. The order at step n, which a test holds:
      1. evaluate state n
      2. checkpoint state n with the data cursor that gives batch n
      3. take batch n
      4. dispatch step n
      5. report update n-1, whose metrics are ready by now, while step n computes
    """
    start = restored = int(state.step)
    save = functools.partial(save_state, checkpoints, reporter, run)
    for step in range(start, num_steps + 1):
        mark(is_under_way=step > start)
        is_last = step == num_steps
        # Rows up to state n are on disk before an evaluation of n is, and before n can be resumed from.
        due = [evaluator for evaluator in evaluators if step % evaluator.every_steps == 0 or is_last]
        measured = evaluate_all(due, step, state.params, reporter)  # 1
        # From before waiting, which may be broken off with a batch already taken.
        cursor = batches.get_state()
        if (step % checkpoint_every_steps == 0 and step != restored) or is_last:  # 2
            save(step, state, cursor, measured)
        enter("wait", step)
        waiting_since = time.perf_counter()
        if is_last or told_to_end(step) or (batch := call_unless_told(next, batches)) is None:  # 3
            break
        input_wait_seconds = time.perf_counter() - waiting_since
        enter("compile" if step == start else "step", step)
        arrays = put_batch(without_ids(batch))
        state, metrics_of_step = step_function(state, arrays, reporter.judge.limit(step + 1))  # 4
        if step == start:
            # Compiling is over, and the first batch has been waited for; throughput is of going on.
            reporter.restart_clock()
            input_wait_seconds = 0.0
            under_way(True)
        reporter.report()  # 5
        work = meter.work(arrays)
        reporter.add(Update(step + 1, metrics_of_step, work, input_wait_seconds, batch[EXAMPLE_IDS]))
    if not is_last and step != restored:
        save(step, state, cursor, measured)
    enter("save", step)
    checkpoints.wait()
    enter("finish", step)
    if not is_last:
        raise preempted(step)
    under_way(False)
    return state


def save_state(
    checkpoints: Checkpoints,
    reporter: Reporter,
    run: dict[str, Any],
    step: int,
    state: TrainState,
    cursor: dict[str, Any],
    measured: Metrics,
) -> None:
    """Begins to save a state and all that goes on with it, unless that is done already.

    Args:
      cursor: of this host's share of the batches.

    Raises:
      DivergenceError, Rewind: the state is not one to be kept.
    """
    if checkpoints.latest_step != step:
        enter("save", step)
        reporter.report()
        reporter.check()
        checkpoints.save(step, state, {**run, "cursor": shared_cursor(cursor)}, measured)


def evaluate_all(
    evaluators: Sequence[Evaluator], step: int, params: Any, reporter: Reporter
) -> dict[str, float]:
    """Returns what evaluators give, having written it down; nothing of those that the end of the run breaks off."""
    measured: dict[str, float] = {}
    for evaluator in evaluators:
        enter("evaluate", step)
        reporter.report()
        metrics = call_unless_told(evaluator.evaluate, params)
        if metrics is None:
            break
        measured |= metrics
        reporter.validated(step, metrics)
    return measured
