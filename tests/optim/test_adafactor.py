"""Adafactor: T5's rule transcribed, and layers in a stack updated as layers apart."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5like.errors import UserError
from t5like.optim.adafactor import Adafactor
from t5like.optim.schedules import Constant, InverseSquareRoot

NUM_STEPS = 20
SCHEDULE = InverseSquareRoot(peak=0.3, warmup_steps=6)  # the rate moves within the test
NUM_LAYERS = 3

# With sides of 16 or more factored: two stacks of factored matrices, one square; a stack of thin ones;
# stacked vectors; an embedding; a thin table; a vector.
SHAPES: dict[str, Any] = {
    "encoder": {
        "wi": ((16, 24), ("embed", "mlp")),
        "query": ((16, 16), ("embed", "heads")),
        "thin": ((40, 15), ("mlp", "embed")),
        "norm": ((16,), ("norm",)),
    },
    "token_embedder": {"embedding": ((64, 16), ("vocab", "embed"))},
    "relpos_bias": {"table": ((4, 32), ("heads", "buckets"))},
    "final_norm": {"scale": ((16,), ("norm",))},
}
STACKED = "encoder"


def is_entry(x: Any) -> bool:
    return isinstance(x, tuple)


def stacked_axes() -> Any:
    tree = jax.tree.map(lambda entry: entry[1], SHAPES, is_leaf=is_entry)
    tree[STACKED] = {name: ("layers", *axes) for name, axes in tree[STACKED].items()}
    return tree


def apart_axes() -> Any:
    tree = jax.tree.map(lambda entry: entry[1], SHAPES, is_leaf=is_entry)
    tree[STACKED] = {f"layer_{i}": tree[STACKED] for i in range(NUM_LAYERS)}
    return tree


def random_stacked(seed: int, dtype: Any = np.float32) -> Any:
    """Layers of very different size, so that an average over layers would be noticed."""
    rng = np.random.default_rng(seed)

    def draw(entry: tuple[tuple[int, ...], tuple[str, ...]]) -> np.ndarray:
        return np.asarray(rng.normal(size=entry[0]) * 10 ** rng.uniform(-3, 1), dtype)

    tree = {group: jax.tree.map(draw, entries, is_leaf=is_entry) for group, entries in SHAPES.items()}
    layers = [jax.tree.map(draw, SHAPES[STACKED], is_leaf=is_entry) for _ in range(NUM_LAYERS)]
    tree[STACKED] = jax.tree.map(lambda *xs: np.stack(xs), *layers)
    return tree


def take_apart(tree: Any) -> Any:
    layers = {f"layer_{i}": jax.tree.map(lambda x, i=i: x[i], tree[STACKED]) for i in range(NUM_LAYERS)}
    return {**tree, STACKED: layers}


def put_together(tree: Any) -> Any:
    layers = [tree[STACKED][f"layer_{i}"] for i in range(NUM_LAYERS)]
    return {**tree, STACKED: jax.tree.map(lambda *xs: np.stack(xs), *layers)}


def trajectory(
    tx: optax.GradientTransformation, view: Callable[[Any], Any], num_steps: int = NUM_STEPS
) -> list[Any]:
    """Returns the updates of each step; parameters move, gradients are random, some rows of them zero."""
    params = jax.tree.map(jnp.asarray, view(random_stacked(0)))
    state = jax.jit(tx.init)(params)
    step = jax.jit(tx.update)
    found = []
    for t in range(num_steps):
        grads = random_stacked(100 + t)
        grads["token_embedder"]["embedding"][5:9] = 0
        updates, state = step(view(grads), state, params)
        params = optax.apply_updates(params, updates)
        found.append(jax.tree.map(np.asarray, updates))
    return found


def assert_close(found: Any, expected: Any, rtol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=0), found, expected)


def adafactor(**changes: Any) -> Adafactor:
    return Adafactor(**{"schedule": SCHEDULE, "min_dim_size_to_factor": 16, **changes})


@pytest.fixture(scope="module")
def stacked() -> list[Any]:
    return trajectory(adafactor().build(100, stacked_axes()), lambda tree: tree)


@pytest.fixture(scope="module")
def apart() -> list[Any]:
    return trajectory(adafactor().build(100, apart_axes()), take_apart)


def test_a_stack_is_updated_as_its_layers_apart(stacked: list[Any], apart: list[Any]) -> None:
    for together, separate in zip(stacked, apart, strict=True):
        assert_close(together, put_together(separate), rtol=2e-6)


def test_without_layers_it_is_optax_adafactor(apart: list[Any]) -> None:
    theirs = trajectory(optax.adafactor(SCHEDULE.build(100), min_dim_size_to_factor=16), take_apart)
    for a, b in zip(apart, theirs, strict=True):
        assert_close(a, b, rtol=1e-5)


def test_optax_adafactor_on_the_stack_is_something_else(stacked: list[Any]) -> None:
    ours = stacked[0]
    theirs = trajectory(
        optax.adafactor(SCHEDULE.build(100), min_dim_size_to_factor=16), lambda tree: tree, num_steps=1
    )[0]
    for name in SHAPES[STACKED]:
        assert np.max(np.abs(ours[STACKED][name] / theirs[STACKED][name] - 1)) > 0.1
    assert_close(ours["token_embedder"], theirs["token_embedder"], rtol=1e-5)


def test_follows_t5s_rule(stacked: list[Any]) -> None:
    """The rule in float64 numpy, a matrix at a time, with every constant written out."""

    def reference(params: np.ndarray, grads: list[np.ndarray]) -> list[np.ndarray]:
        p = params.astype(np.float64)
        row = np.zeros(p.shape[:1])
        column = np.zeros(p.shape[1:])
        full = np.zeros(p.shape)
        factored = p.ndim == 2 and min(p.shape) >= 16
        updates = []
        for t, g in enumerate(g.astype(np.float64) for g in grads):
            beta2 = 1 - (t + 1) ** -0.8
            squared = g**2 + 1e-30
            if factored:
                row = beta2 * row + (1 - beta2) * squared.mean(axis=1)
                column = beta2 * column + (1 - beta2) * squared.mean(axis=0)
                second_moment = np.outer(row, column) / row.mean()
            else:
                full = beta2 * full + (1 - beta2) * squared
                second_moment = full
            u = g / np.sqrt(second_moment)
            u = u / max(1.0, np.sqrt(np.mean(u**2)) / 1.0)
            lr = 0.3 * math.sqrt(6 / max(t, 6))
            updates.append(-lr * max(np.sqrt(np.mean(p**2)), 1e-3) * u)
            p = p + updates[-1]
        return updates

    params = take_apart(random_stacked(0))
    grads = []
    for t in range(NUM_STEPS):
        tree = random_stacked(100 + t)
        tree["token_embedder"]["embedding"][5:9] = 0
        grads.append(take_apart(tree))
    expected = jax.tree.map(lambda p, *gs: reference(p, list(gs)), params, *grads)
    structure = jax.tree.structure(params)
    for t, updates in enumerate(stacked):
        leaves = [updates[t] for updates in structure.flatten_up_to(expected)]
        assert_close(take_apart(updates), structure.unflatten(leaves), rtol=2e-5)


@pytest.mark.parametrize("shape", [(20, 4, 24), (20, 16, 16), (2, 16, 24), (24, 20)])
def test_no_layer_sees_another(shape: tuple[int, ...]) -> None:
    """Also where the layers are one of the two largest axes, over which plain Adafactor would factor."""
    rng = np.random.default_rng(1)
    params, first, second = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    second[1:] = first[1:]
    axes = ("layers", "embed", "mlp")[: len(shape)]

    def last_update(tx: optax.GradientTransformation, grad: np.ndarray) -> np.ndarray:
        step = jax.jit(tx.update)
        _, state = step(grad, tx.init(jnp.asarray(params)), params)
        return np.asarray(step(first, state, params)[0])

    ours = adafactor().build(100, axes)
    a, b = last_update(ours, first), last_update(ours, second)
    np.testing.assert_array_equal(a[1:], b[1:])
    assert np.all(np.any(a[0] != b[0], axis=-1))
    theirs = optax.adafactor(0.1, min_dim_size_to_factor=16)
    assert np.any(last_update(theirs, first)[1:] != last_update(theirs, second)[1:])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_state_is_float32_and_small_and_found_by_path_suffix(dtype: Any) -> None:
    axes = stacked_axes()
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), random_stacked(0))
    tx = adafactor().build(100, axes)
    abstract = jax.eval_shape(tx.init, params)
    updates, state = jax.jit(lambda params: tx.update(params, tx.init(params), params))(params)
    assert jax.tree.all(jax.tree.map(lambda x: x.dtype == jnp.float32, updates))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, abstract))
    by_path = {tuple(map(str, path)): x for path, x in jax.tree_util.tree_leaves_with_path(params)}
    shapes: dict[tuple[str, ...], list[tuple[int, ...]]] = {path: [] for path in by_path}
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        if x.ndim == 0:
            assert x.dtype == jnp.int32
            assert x == 1
            continue
        assert x.dtype == jnp.float32
        keys = tuple(map(str, path))
        (owner,) = [p for p in by_path if keys[-len(p) :] == p]
        shapes[owner].append(x.shape)
    found = {"/".join(key.strip("[]'") for key in path): sorted(sizes) for path, sizes in shapes.items()}
    assert found == {
        "encoder/wi": [(3, 1), (3, 16), (3, 24)],
        "encoder/query": [(3, 1), (3, 16), (3, 16)],
        "encoder/thin": [(3, 1), (3, 1), (3, 40, 15)],
        "encoder/norm": [(3, 1), (3, 1), (3, 16)],
        "token_embedder/embedding": [(1,), (16,), (64,)],
        "relpos_bias/table": [(1,), (1,), (4, 32)],
        "final_norm/scale": [(1,), (1,), (16,)],
    }


def test_default_factors_from_128_on() -> None:
    tx = Adafactor(schedule=Constant(peak=1e-3)).build(
        1, {"a": ("layers", "embed", "mlp"), "b": ("embed", "mlp")}
    )
    params = {"a": jnp.zeros((200, 128, 256)), "b": jnp.zeros((127, 4096))}
    state = jax.eval_shape(tx.init, params)
    sizes = sorted(x.shape for x in jax.tree.leaves(state) if x.ndim)
    assert sizes == [(1,), (1,), (127, 4096), (200, 1), (200, 128), (200, 256)]


def test_bfloat16_parameters_give_the_update_of_their_float32_copy() -> None:
    axes = stacked_axes()
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_stacked(0))
    grads = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_stacked(1))
    wide = [jax.tree.map(lambda x: x.astype(jnp.float32), tree) for tree in (params, grads)]
    tx = adafactor().build(100, axes)
    update = jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params)[0])
    narrow_update, wide_update = update(grads, params), update(wide[1], wide[0])
    jax.tree.map(np.testing.assert_array_equal, narrow_update, wide_update)


def test_parameters_at_zero_move_by_the_floor() -> None:
    tx = adafactor(schedule=Constant(peak=1.0), epsilon2=1e-3).build(1, ("layers", "norm"))
    params = jnp.stack([jnp.zeros(8), jnp.full(8, 5.0)])
    update, _ = tx.update(jnp.ones((2, 8)), tx.init(params), params)
    np.testing.assert_allclose(update, [[-1e-3] * 8, [-5.0] * 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"decay_exponent": 0.0}, "decay_exponent"),
        ({"clip_threshold": -1.0}, "clip_threshold"),
        ({"epsilon1": 0.0}, "epsilon1"),
        ({"epsilon2": float("nan")}, "epsilon2"),
        ({"min_dim_size_to_factor": 0}, "min_dim_size_to_factor"),
    ],
)
def test_bad_numbers_are_refused(changes: dict[str, float], field: str) -> None:
    with pytest.raises(UserError, match=f"Adafactor.{field} is "):
        adafactor(**changes)


@pytest.mark.parametrize(
    "axes", [("embed", "heads", "kv"), ("layers", "embed", "heads", "kv"), ("embed", "layers")]
)
def test_an_array_without_a_known_matrix_is_refused(axes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"\['attention'\]\['query'\] with axes"):
        adafactor().build(100, {"attention": {"query": axes}})
