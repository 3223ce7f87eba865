"""Schedules: the formulas at chosen steps, and continuity and monotony as laws."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.optim.base import Schedule
from t5like.optim.schedules import Constant, Cosine, InverseSquareRoot, Linear

RUN = 64  # steps of the runs in the property tests: one length, one compilation


def rates(schedule: Schedule, total_steps: int, steps: list[int]) -> np.ndarray:
    lr = schedule.build(total_steps)
    return np.asarray([lr(step) for step in steps], np.float64)


def test_constant_is_flat() -> None:
    np.testing.assert_allclose(rates(Constant(peak=1e-3), 10, [0, 5, 10, 10_000]), 1e-3, rtol=1e-6)


def test_inverse_square_root_defaults_are_those_of_t5() -> None:
    steps = [0, 1, 9_999, 10_000, 10_001, 40_000, 250_000, 1_000_000]
    expected = [1 / math.sqrt(max(step, 10_000)) for step in steps]
    assert expected[0] == 0.01
    assert expected[-1] == 0.001
    np.testing.assert_allclose(rates(InverseSquareRoot(), 1_000_000, steps), expected, rtol=1e-6)


def test_inverse_square_root_ramp() -> None:
    schedule = InverseSquareRoot(peak=0.5, warmup_steps=100, ramps_up=True)
    np.testing.assert_allclose(
        rates(schedule, 1000, [0, 1, 50, 100, 400]), [0, 0.005, 0.25, 0.5, 0.25], rtol=1e-6
    )


def test_cosine_by_formula() -> None:
    schedule = Cosine(peak=1.0, warmup_steps=10, end=0.2)
    steps = [0, 5, 10, 20, 30, 50, 60]
    expected = [
        0,
        0.5,
        1,
        *(0.2 + 0.8 * (1 + math.cos(math.pi * (s - 10) / 40)) / 2 for s in (20, 30)),
        0.2,
        0.2,
    ]
    assert expected[4] == pytest.approx(0.6)
    np.testing.assert_allclose(rates(schedule, 50, steps), expected, atol=1e-6)


def test_linear_by_formula() -> None:
    schedule = Linear(peak=1.0, warmup_steps=10, end=0.2)
    np.testing.assert_allclose(
        rates(schedule, 50, [0, 5, 10, 20, 30, 50, 60]), [0, 0.5, 1, 0.8, 0.6, 0.2, 0.2], atol=1e-6
    )


@pytest.mark.parametrize("kind", [Cosine, Linear])
def test_decay_steps_replaces_the_end_of_the_run_and_counts_the_warm_up(kind: type) -> None:
    given_steps = rates(kind(peak=1.0, warmup_steps=4, decay_steps=20), 100, list(range(30)))
    whole_run = rates(kind(peak=1.0, warmup_steps=4), 20, list(range(30)))
    np.testing.assert_array_equal(given_steps, whole_run)
    np.testing.assert_allclose(given_steps[20:], 0.0, atol=1e-7)
    assert given_steps[19] > 1e-3


def ramped_schedules() -> st.SearchStrategy[Schedule]:
    peak = st.floats(1e-5, 10.0)
    warmup = st.integers(0, RUN - 1)
    decaying = st.builds(
        lambda kind, peak, warmup, share: kind(peak=peak, warmup_steps=warmup, end=share * peak),
        st.sampled_from([Cosine, Linear]),
        peak,
        warmup,
        st.floats(0, 1),
    )
    root = st.builds(
        lambda peak, warmup: InverseSquareRoot(peak=peak, warmup_steps=warmup + 1, ramps_up=True),
        peak,
        warmup,
    )
    return st.one_of(decaying, root)


@settings(deadline=None, max_examples=25)
@given(schedule=ramped_schedules())
def test_rises_without_a_jump_to_the_peak_then_never_rises(schedule: Schedule) -> None:
    lr = np.asarray(schedule.build(RUN)(jnp.arange(RUN + 10)), np.float64) / schedule.peak
    warmup: int = schedule.warmup_steps  # type: ignore[attr-defined]
    np.testing.assert_allclose(lr[warmup], 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.diff(lr[: warmup + 1]), 1 / max(warmup, 1), atol=1e-5)
    fall = -np.diff(lr[warmup:])
    assert np.all(fall >= -1e-6)
    # No jump at the peak: half a cosine wave falls at most pi / 2 / length a step, 1 / sqrt(x) by 1 / 2x.
    length = 2 * warmup if isinstance(schedule, InverseSquareRoot) else RUN - warmup
    assert fall[0] <= math.pi / 2 / max(length, 1) + 1e-5
    assert np.all(lr[warmup:] >= getattr(schedule, "end", 0.0) / schedule.peak - 1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(peak=1.0),
        InverseSquareRoot(),
        InverseSquareRoot(warmup_steps=5, ramps_up=True),
        Cosine(peak=1.0, warmup_steps=5),
        Linear(peak=1.0, warmup_steps=0),
    ],
)
def test_traces_to_a_float32_scalar_equal_to_the_eager_one(schedule: Schedule) -> None:
    lr = schedule.build(20)
    traced = jax.jit(lr)
    assert jax.eval_shape(lr, jax.ShapeDtypeStruct((), jnp.int32)) == jax.ShapeDtypeStruct((), jnp.float32)
    for step in (0, 4, 5, 6, 19, 20, 21):
        value = traced(jnp.int32(step))
        assert not value.weak_type
        np.testing.assert_allclose(value, lr(step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(peak=0.0), "Constant.peak is 0.0"),
        (lambda: Constant(peak=float("nan")), "Constant.peak is nan"),
        (lambda: Constant(peak=10**400), r"Constant.peak is 1000\d*\.\.\.; give a number below"),
        (lambda: InverseSquareRoot(warmup_steps=2**63), "InverseSquareRoot.warmup_steps is 9223"),
        (lambda: Cosine(peak=float("inf"), warmup_steps=1), "Cosine.peak is inf"),
        (lambda: InverseSquareRoot(peak=-1.0), "InverseSquareRoot.peak is -1.0"),
        (lambda: InverseSquareRoot(warmup_steps=0), "InverseSquareRoot.warmup_steps is 0"),
        (lambda: Cosine(peak=1.0, warmup_steps=-1), "Cosine.warmup_steps is -1"),
        (lambda: Linear(peak=1.0, warmup_steps=1, end=-0.1), "Linear.end is -0.1"),
        (lambda: Linear(peak=1.0, warmup_steps=1, end=1.1), "above its peak"),
        (lambda: Linear(peak=1.0, warmup_steps=11).build(10), "run ends at step 10"),
        (lambda: Cosine(peak=1.0, warmup_steps=11, decay_steps=30).build(10), "run ends at step 10"),
        (lambda: InverseSquareRoot(warmup_steps=11, ramps_up=True).build(10), "run ends at step 10"),
        (lambda: Cosine(peak=1.0, warmup_steps=10).build(10), "no step left to decay"),
        (lambda: Linear(peak=1.0, warmup_steps=5, decay_steps=5).build(10), "no step left to decay"),
        (lambda: Linear(peak=1.0, warmup_steps=5, decay_steps=0).build(10), "no step left to decay"),
        (lambda: Constant(peak=1.0).build(0), "run of 0 steps"),
    ],
)
def test_what_cannot_work_is_refused(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]


def test_t5s_flat_warm_up_may_outlast_the_run() -> None:
    np.testing.assert_allclose(rates(InverseSquareRoot(), 10, [0, 10]), 0.01, rtol=1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    schedule: Schedule = Cosine(peak=1.0, warmup_steps=5)


def test_a_field_annotated_with_the_base_is_narrowed_to_its_default_on_the_command_line() -> None:
    changed = tyro.cli(Experiment, args=["--schedule.peak", "2e-3", "--schedule.warmup-steps", "7"])
    assert changed.schedule == Cosine(peak=2e-3, warmup_steps=7)
