"""Adafactor by T5's rules, with every average taken inside one layer's matrix."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5like.optim.base import Optimizer, in_float32, is_axes, is_stacked, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
    """Adafactor without momentum and weight decay, as T5 was trained.

    At step t = 0, 1, ... a parameter p with gradient g becomes, with s = g^2 + `epsilon1` and
    d = 1 - (t + 1)^-`decay_exponent`:

        a matrix:      row = d row + (1 - d) mean_columns(s)    u = g / sqrt(row column / mean(row))
                       column = d column + (1 - d) mean_rows(s)
        a small one:   v = d v + (1 - d) s                      u = g / sqrt(v)
        update:        -lr(t) max(RMS(p), epsilon2) u / max(1, RMS(u) / clip_threshold)

    A matrix is factored where its smaller side is `min_dim_size_to_factor` or more; the rest, and vectors,
    are small.

    An array whose first axis is `"layers"` is updated as its layers would be apart: no mean, no RMS and no
    choice of the factored sides sees more than one layer. `optax.adafactor` mixes them, and may even factor
    over the layers.

    The state holds, under the parameter's path in each of `v_row`, `v_col` and `v`, either a statistic (the
    parameter's shape, less one axis where factored) or a stand-in of one element, one a layer for a stack.

    Source: Shazeer and Stern 2018 (the rule and its constants); Raffel et al. 2020, section 3.1.2 (T5's use).
    """

    decay_exponent: float = 0.8
    clip_threshold: float = 1.0
    epsilon1: float = 1e-30
    epsilon2: float = 1e-3
    min_dim_size_to_factor: int = 128

    def __post_init__(self) -> None:
        require_positive(
            self, "decay_exponent", "clip_threshold", "epsilon1", "epsilon2", "min_dim_size_to_factor"
        )

    def build(self, total_steps: int, param_axes: Any) -> optax.GradientTransformation:
        """Returns the transformation; see `Optimizer.build`.

        Raises:
          UserError: the schedule does not fit in `total_steps`.
          ValueError: an array has three or more axes besides a leading `"layers"`, so that which of them make
            up the matrix is not known.
        """
        jax.tree_util.tree_map_with_path(_require_matrix, param_axes, is_leaf=is_axes)
        rule = optax.chain(
            optax.scale_by_factored_rms(
                decay_rate=self.decay_exponent,
                min_dim_size_to_factor=self.min_dim_size_to_factor,
                epsilon=self.epsilon1,
            ),
            optax.clip_by_block_rms(self.clip_threshold),
            optax.scale_by_param_block_rms(self.epsilon2),
        )
        return optax.chain(
            in_float32(per_layer(rule, param_axes)),
            optax.scale_by_learning_rate(self.schedule.build(total_steps)),
        )


def per_layer(tx: optax.GradientTransformation, param_axes: Any) -> optax.GradientTransformation:
    """Returns `tx` applied to each array alone, and to each layer of a stacked array alone.

    The state has the structure of `tx`'s own: integers in it are step counts, one for all arrays; any other
    leaf becomes a tree like the parameters, in which a stacked array has one entry a layer on a new first
    axis.

    Args:
      tx: a transformation that treats the arrays of a tree alike, so that one array is a tree it accepts.
      param_axes: as in `Optimizer.build`.
    """
    stacked = [is_stacked(axes) for axes in jax.tree.leaves(param_axes, is_leaf=is_axes)]
    structure: Any = jax.tree.structure(param_axes, is_leaf=is_axes)

    def init_one(param: jax.Array, is_stack: bool) -> Any:
        if not is_stack:
            return tx.init(param)
        layer_axis = jax.tree.map(_layer_axis, jax.eval_shape(tx.init, param))
        return jax.vmap(tx.init, out_axes=layer_axis)(param)

    def update_one(update: jax.Array, state: Any, param: jax.Array, is_stack: bool) -> tuple[Any, Any]:
        if not is_stack:
            return tx.update(update, state, param)
        layer_axis = jax.tree.map(_layer_axis, state)
        return jax.vmap(tx.update, in_axes=(0, layer_axis, 0), out_axes=(0, layer_axis))(update, state, param)

    def init(params: Any) -> Any:
        leaves = structure.flatten_up_to(params)
        return _gather([init_one(*args) for args in zip(leaves, stacked, strict=True)], structure)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        columns = (
            structure.flatten_up_to(updates),
            _scatter(state, structure),
            structure.flatten_up_to(params),
            stacked,
        )
        results = [update_one(*args) for args in zip(*columns, strict=True)]
        new_updates, states = zip(*results, strict=True)
        return structure.unflatten(new_updates), _gather(states, structure)

    return optax.GradientTransformation(init, update)


def _gather(states: Any, structure: Any) -> Any:
    """Returns one state whose statistics are trees like the parameters, from one state a parameter."""
    return jax.tree.map(lambda *xs: xs[0] if _is_count(xs[0]) else structure.unflatten(xs), *states)


def _scatter(state: Any, structure: Any) -> list[Any]:
    """Returns one state a parameter: the inverse of `_gather`, with the step counts repeated."""

    def is_statistic(x: Any) -> bool:
        return jax.tree.structure(x) == structure

    skeleton: Any
    parts, skeleton = jax.tree.flatten(state, is_leaf=is_statistic)
    columns = [
        structure.flatten_up_to(part) if is_statistic(part) else [part] * structure.num_leaves
        for part in parts
    ]
    return [skeleton.unflatten(column) for column in zip(*columns, strict=True)]


def _is_count(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.integer)


def _layer_axis(x: Any) -> int | None:
    return None if _is_count(x) else 0


def _require_matrix(path: Any, axes: tuple[str | None, ...]) -> None:
    """Raises ValueError where T5's rule does not say how to treat an array with these axes."""
    one_layer = axes[1:] if is_stacked(axes) else axes
    if len(one_layer) > 2 or "layers" in one_layer:
        raise ValueError(
            f"Adafactor cannot tell the matrix in {jax.tree_util.keystr(path)} with axes {axes}: "
            f'store it with at most two axes after a leading "layers".'
        )
