"""AdamW: against optax where comparable, what decays, and stacks against layers apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5like.errors import UserError
from t5like.optim.adamw import AdamW, decay_mask, second_moment_in
from t5like.optim.schedules import Constant, Linear

SCHEDULE = Linear(peak=0.1, warmup_steps=2)
NUM_LAYERS = 3
APART = {f"layer_{i}": {"wi": ("embed", "mlp"), "norm": ("norm",)} for i in range(NUM_LAYERS)}
STACKED = {"wi": ("layers", "embed", "mlp"), "norm": ("layers", "norm")}


def random_stacked(seed: int, scale: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    wi, norm = rng.normal(size=(NUM_LAYERS, 6, 5)), rng.normal(size=(NUM_LAYERS, 6))
    return {"wi": np.float32(scale * wi), "norm": np.float32(scale * norm)}


def take_apart(tree: Any) -> Any:
    return {f"layer_{i}": jax.tree.map(lambda x, i=i: x[i], tree) for i in range(NUM_LAYERS)}


def put_together(tree: Any) -> Any:
    return jax.tree.map(lambda *xs: np.stack(xs), *(tree[f"layer_{i}"] for i in range(NUM_LAYERS)))


def trajectory(tx: optax.GradientTransformation, view: Any = lambda tree: tree) -> list[Any]:
    params = jax.tree.map(jnp.asarray, view(random_stacked(0)))
    state = tx.init(params)
    step = jax.jit(tx.update)
    found = []
    for t in range(12):
        updates, state = step(view(random_stacked(10 + t, scale=0.02 * t)), state, params)
        params = optax.apply_updates(params, updates)
        found.append(jax.tree.map(np.asarray, updates))
    return found


def assert_close(found: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-8) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected)


def largest_difference(a: Any, b: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: np.max(np.abs(x - y)), a, b)))


def test_equals_optax_adamw() -> None:
    axes = {"wi": ("layers", "embed", "mlp"), "norm": ("embed", "mlp")}  # every array decays
    ours = AdamW(schedule=SCHEDULE, b1=0.8, b2=0.95, eps=1e-6, weight_decay=0.3, max_grad_norm=None)
    theirs = optax.adamw(SCHEDULE.build(12), b1=0.8, b2=0.95, eps=1e-6, weight_decay=0.3)
    found, expected = trajectory(ours.build(12, axes)), trajectory(theirs)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)
    undecayed = trajectory(optax.adamw(SCHEDULE.build(12), b1=0.8, b2=0.95, eps=1e-6, weight_decay=0.0))
    assert largest_difference(found[5], undecayed[5]) > 1e-3


def test_clips_by_the_global_norm_first() -> None:
    ours = AdamW(schedule=SCHEDULE, max_grad_norm=0.5).build(12, STACKED)
    theirs = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(SCHEDULE.build(12), weight_decay=0.0))
    unclipped = trajectory(AdamW(schedule=SCHEDULE, max_grad_norm=None).build(12, STACKED))
    found, expected = trajectory(ours), trajectory(theirs)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)
    assert largest_difference(found[5], unclipped[5]) > 1e-3


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_a_stack_is_updated_as_its_layers_apart(max_grad_norm: float | None) -> None:
    """With clipping too: the global norm of the stack is that of its layers together."""
    optimizer = AdamW(schedule=SCHEDULE, weight_decay=0.3, max_grad_norm=max_grad_norm)
    stacked = trajectory(optimizer.build(12, STACKED))
    apart = trajectory(optimizer.build(12, APART), take_apart)
    for together, separate in zip(stacked, apart, strict=True):
        assert_close(together, put_together(separate), atol=1e-7)


def test_decay_leaves_logical_vectors_and_relative_position_tables() -> None:
    axes = {
        "embedding": ("vocab", "embed"),
        "wi": ("layers", "embed", "mlp"),
        "pre_mlp_norm": ("layers", "norm"),
        "final_norm": ("norm",),
        "relpos": ("heads", "buckets"),
    }
    expected = {"embedding": True, "wi": True, "pre_mlp_norm": False, "final_norm": False, "relpos": False}
    assert decay_mask(axes) == expected
    params = {name: jnp.full((2,) * len(names), 3.0) for name, names in axes.items()}
    tx = AdamW(schedule=Constant(peak=0.1), weight_decay=0.5).build(1, axes)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    for name, decays in expected.items():
        np.testing.assert_allclose(updates[name], -0.1 * 0.5 * 3.0 if decays else 0.0, rtol=1e-6)


def test_state_is_float32_and_found_by_path_suffix() -> None:
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_stacked(0))
    tx = AdamW(schedule=SCHEDULE).build(12, STACKED)
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    assert jax.tree.all(jax.tree.map(lambda x: x.dtype == jnp.float32, updates))
    statistics = [(path[-1].key, x) for path, x in jax.tree_util.tree_leaves_with_path(state) if x.ndim]
    assert len(statistics) == 4
    for name, x in statistics:
        assert x.dtype == jnp.float32
        assert x.shape == params[name].shape


def second_moments(b2: float, dtype: Any) -> Any:
    """Returns the second moments after 200 gradients of size 1 and 600 of size 0.1."""
    tx = second_moment_in(dtype, optax.scale_by_adam(b2=b2))
    params = jnp.zeros(500)
    signs = jax.random.rademacher(jax.random.key(0), (800, 500), jnp.float32)
    gradients = signs * np.where(np.arange(800) < 200, 1.0, 0.1)[:, None].astype(np.float32)
    state, _ = jax.lax.scan(lambda state, g: (tx.update(g, state)[1], None), tx.init(params), gradients)
    assert state.nu.dtype == dtype
    return np.asarray(state.nu, np.float32)


def test_a_second_moment_in_bfloat16_follows_smaller_gradients_up_to_the_largest_b2() -> None:
    np.testing.assert_allclose(second_moments(0.98, jnp.float32), 0.01, rtol=1e-3)
    np.testing.assert_allclose(second_moments(0.98, jnp.bfloat16), 0.01, rtol=0.15)
    assert second_moments(0.999, jnp.bfloat16).min() > 0.15  # as after the first 200: it never fell
    with pytest.raises(UserError, match=r"AdamW.b2 is 0.999, too near 1 .* 0.98 or less"):
        AdamW(schedule=SCHEDULE, second_moment_dtype="bfloat16")


def test_a_second_moment_in_bfloat16_gives_nearly_the_updates_of_one_in_float32() -> None:
    config = AdamW(schedule=SCHEDULE, b2=0.98, weight_decay=0.1)
    expected = trajectory(config.build(12, STACKED))
    found = trajectory(dataclasses.replace(config, second_moment_dtype="bfloat16").build(12, STACKED))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=0.02, atol=1e-5)
    assert largest_difference(found[-1], expected[-1]) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b1": 1.0}, "AdamW.b1 is 1.0"),
        ({"b2": -0.1}, "AdamW.b2 is -0.1"),
        ({"b2": float("nan")}, "AdamW.b2 is nan"),
        ({"eps": 0.0}, "AdamW.eps is 0.0"),
        ({"weight_decay": -0.1}, "AdamW.weight_decay is -0.1"),
        ({"max_grad_norm": 0.0}, "AdamW.max_grad_norm is 0.0"),
    ],
)
def test_bad_numbers_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AdamW(**{"schedule": SCHEDULE, **changes})  # type: ignore[arg-type]


def test_a_schedule_that_does_not_fit_is_refused_at_build() -> None:
    with pytest.raises(UserError, match="run ends at step 1"):
        AdamW(schedule=SCHEDULE).build(1, STACKED)
