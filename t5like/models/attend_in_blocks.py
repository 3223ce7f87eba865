"""Attention that never holds its logits: some of them at a time, in the backward pass once more.

`chunked` and `flash` differ in how they compute a forward and a backward pass; what they share is here: the rule of
differentiation, the dropout, and the mesh, over which batch and heads are split and nothing else.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

from t5like.models.attend import KeyValue, drop_values
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals
from t5like.sharding import AxisRules


class Forward(NamedTuple):
    """What a forward pass gives."""

    attended: jax.Array
    """[batch, query, heads, head_dim]; 0 for a query that sees nothing."""
    log_total: jax.Array
    """[batch, heads, query] float32: the logarithm of the sum of the exponentials of a query's logits."""


class Gradients(NamedTuple):
    """What a backward pass gives, each of the shape and dtype of what it is the gradient of."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    bias: Diagonals | None


class Blockwise(NamedTuple):
    """A way to compute attention block by block, on one device."""

    forward: Callable[[jax.Array, jax.Array, jax.Array, Diagonals | None, Mask], Forward]
    """Of query, key, value, bias and mask."""
    backward: Callable[
        [jax.Array, jax.Array, jax.Array, Diagonals | None, Mask, Forward, jax.Array], Gradients
    ]
    """Of the same, what the forward pass gave, and the gradient of the attended values."""


def attend_in_blocks(
    way: Blockwise,
    query: jax.Array,
    key_value: KeyValue,
    bias: Diagonals | None,
    mask: Mask,
    dropout_rate: float,
    dropout_key: jax.Array | None,
    *,
    rules: AxisRules,
) -> jax.Array:
    """Returns what `attend_at_once` does, dropout that all queries share included, where a query sees anything.

    Args:
      query: [batch, query, heads, head_dim].
      key_value, dropout_key: as `Attention`.
      bias, mask: not laid out.
      rules: how batch and heads are split over the mesh, if there is one.
    """
    value = drop_values(key_value.value, dropout_rate, dropout_key)
    return _attend(way, rules, query, key_value.key, value, bias, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    way: Blockwise,
    rules: AxisRules,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Diagonals | None,
    mask: Mask,
) -> jax.Array:
    return _attend_forward(way, rules, query, key, value, bias, mask)[0]


def _attend_forward(way: Blockwise, rules: AxisRules, *inputs: Any) -> tuple[jax.Array, Any]:
    """Returns the attended values, and what the backward pass needs: nothing as large as the logits."""
    specs = _specs(rules)
    forward = _on_each_device(way.forward, specs.inputs, specs.forward)
    done = forward(*inputs)
    return done.attended, (inputs, done)


def _attend_backward(
    way: Blockwise, rules: AxisRules, residuals: Any, gradient: jax.Array
) -> tuple[Any, ...]:
    inputs, done = residuals
    specs = _specs(rules)

    def backward(*arguments: Any) -> Gradients:
        gradients = way.backward(*arguments)
        if gradients.bias is None or not _is_split():
            return gradients
        # The bias is that of all examples, and each device has some of them.
        return gradients._replace(bias=jax.lax.psum(gradients.bias, specs.batch_axes))

    in_specs = (*specs.inputs, specs.forward, specs.of_tokens)
    gradients = _on_each_device(backward, in_specs, specs.gradients)(*inputs, done, gradient)
    return *gradients, None


_attend.defvjp(_attend_forward, _attend_backward)


class _Specs(NamedTuple):
    """How everything lies on the mesh."""

    of_tokens: PartitionSpec
    inputs: tuple[PartitionSpec, ...]
    forward: Forward
    gradients: Gradients
    batch_axes: tuple[str, ...]


def _specs(rules: AxisRules) -> _Specs:
    of_tokens: Any = rules.spec(("batch", None, "heads", None))
    of_bias: Any = rules.spec(("heads", None))
    of_log_total: Any = rules.spec(("batch", "heads", None))
    batch = rules.batch or ()
    return _Specs(
        of_tokens,
        (of_tokens, of_tokens, of_tokens, of_bias, rules.spec(("batch", None))),
        Forward(of_tokens, of_log_total),
        Gradients(of_tokens, of_tokens, of_tokens, of_bias),
        (batch,) if isinstance(batch, str) else batch,
    )


def _is_split() -> bool:
    return jax.sharding.get_abstract_mesh().size > 1


def _on_each_device(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """Returns a function that each device computes of its own part; no compiler would split a kernel."""
    if not _is_split():
        return function
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)
