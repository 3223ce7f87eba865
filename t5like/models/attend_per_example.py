"""Attention one example after another, and of a long one some heads after others: in logits that stay near the core.

The logits of a batch go to memory and back several times, where they cost more than the products that they come from and
go into. Those of a block fit in a CPU's cache, or in the memory that a TPU has on its core.

Letters in einsums: b batch, q query position, k key position, h head of a block, d head_dim.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5like.models.attend import LEAST, MASKED
from t5like.models.attend_in_blocks import Blockwise, Forward, Gradients
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals

MOST_LOGITS = 2**22
"""Of a block: in float32 16 MiB, of which a backward pass holds some three."""


class _Block(NamedTuple):
    """What is read of one example and some heads, heads first, as products want them."""

    query: jax.Array  # [heads, query, head_dim]
    key: jax.Array  # [heads, key, head_dim]
    value: jax.Array


def per_example_forward(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: Diagonals | None, mask: Mask
) -> Forward:
    """Returns what `Blockwise.forward` should."""
    groups = num_groups(query.shape[2], query.shape[1], key.shape[1])
    mask = _read_twice(mask)

    def of_heads(heads: tuple[_Block, jax.Array | None]) -> Forward:
        blocks, laid_out = heads

        def of_example(example: tuple[_Block, Mask]) -> Forward:
            block, mask = _heads_first(example[0]), example[1]
            logits = _logits(block, mask, laid_out)
            largest = jnp.maximum(jnp.max(logits, axis=-1), LEAST)
            weights = jnp.exp(logits - largest[..., None])
            total = jnp.sum(weights, axis=-1)
            total = jnp.where(total == 0.0, 1.0, total)  # of a query that sees nothing
            attended = _dot("hqk,hkd->hqd", weights.astype(value.dtype), block.value) / total[..., None]
            return Forward(_heads_first(attended.astype(query.dtype)), largest + jnp.log(total))

        return jax.lax.map(of_example, (blocks, mask))

    done = _over_groups(of_heads, (_grouped(_Block(query, key, value), groups), _laid_out(bias, groups)))
    return Forward(_joined(done.attended), jnp.moveaxis(done.log_total, 0, 1).reshape(_rows(query)))


def per_example_backward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Diagonals | None,
    mask: Mask,
    done: Forward,
    gradient: jax.Array,
) -> Gradients:
    """Returns what `Blockwise.backward` should."""
    groups = num_groups(query.shape[2], query.shape[1], key.shape[1])
    mask = _read_twice(mask)
    # The gradient of a softmax is w (g - sum(w g)). That sum over keys equals one over head_dim, of the attended
    # values times their gradient, which is much shorter.
    weighted_sum = jnp.einsum("bqhd,bqhd->bhq", done.attended, gradient, preferred_element_type=jnp.float32)

    def of_heads(
        heads: tuple[_Block, jax.Array | None, jax.Array, jax.Array, jax.Array],
    ) -> tuple[_Block, jax.Array | None]:
        blocks, laid_out, gradients, log_totals, weighted_sums = heads

        def of_example(
            of_bias: jax.Array | None, example: tuple[_Block, Mask, jax.Array, jax.Array, jax.Array]
        ) -> tuple[jax.Array | None, _Block]:
            block, gradient = _heads_first((example[0], example[2]))
            mask, log_total, weighted_sum = example[1], *example[3:]
            weights = jnp.exp(_logits(block, mask, laid_out) - log_total[..., None])
            of_value = _summed_over_queries(weights.astype(value.dtype), gradient)
            of_weights = _dot("hqd,hkd->hqk", gradient, block.value)
            of_logits = weights * (of_weights - weighted_sum[..., None])
            if of_bias is not None:
                of_bias = of_bias + of_logits
            of_logits = of_logits.astype(query.dtype)
            of_query = jnp.einsum("hqk,hkd->hqd", of_logits, block.key)
            of_key = _summed_over_queries(of_logits, block.query)
            return of_bias, _Block(of_query.swapaxes(0, 1), of_key, of_value)

        start = None if laid_out is None else jnp.zeros_like(laid_out)
        of_bias, of_blocks = jax.lax.scan(
            of_example, start, (blocks, mask, gradients, log_totals, weighted_sums)
        )
        return of_blocks, of_bias

    of_blocks, of_laid_out = _over_groups(
        of_heads,
        (
            _grouped(_Block(query, key, value), groups),
            _laid_out(bias, groups),
            _grouped(gradient, groups),
            _grouped_rows(done.log_total, groups),
            _grouped_rows(weighted_sum, groups),
        ),
    )
    of_bias = None
    if bias is not None:
        _, transpose = jax.vjp(lambda bias: _laid_out(bias, groups), bias)
        (of_bias,) = transpose(of_laid_out)
    return Gradients(_joined(of_blocks.query), _joined(of_blocks.key), _joined(of_blocks.value), of_bias)


PER_EXAMPLE = Blockwise(per_example_forward, per_example_backward)


def num_groups(num_heads: int, num_queries: int, num_keys: int) -> int:
    """Returns in how many groups the heads of an example are taken: as few as leave each no more than MOST_LOGITS."""
    needed = math.ceil(num_heads * num_queries * num_keys / MOST_LOGITS)
    return next((n for n in range(needed, num_heads) if num_heads % n == 0), num_heads)


def _read_twice(mask: Mask) -> Mask:
    """Returns the mask with segments of queries and keys that are not one array, though equal.

    Of one array, of which each round of a loop takes a row for queries and for keys, XLA's CPU compiler makes a loop over the
    logits that is six times as slow as of two.
    """
    return dataclasses.replace(mask, key_segments=mask.key_segments.astype(jnp.float32))


def _logits(block: _Block, mask: Mask, laid_out: jax.Array | None) -> jax.Array:
    """Returns the masked logits [heads, query, key] float32 of a block."""
    logits = _dot("hqd,hkd->hqk", block.query, block.key)
    if laid_out is not None:
        logits = logits + laid_out
    of_example = jax.tree.map(lambda x: x[None], mask)
    return jnp.where(of_example.dense()[0], logits, MASKED)


def _dot(letters: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns a product summed up in float32."""
    return jnp.einsum(letters, x, y, preferred_element_type=jnp.float32)


def _summed_over_queries(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the sums over queries of weights [heads, query, key] times x [heads, query, head_dim], [key, heads, head_dim]."""
    # Positions last, XLA's CPU compiler has a product for it; heads and head_dim last, it writes loops of its own.
    return jnp.einsum("hqk,hdq->hdk", weights, x.swapaxes(1, 2)).transpose(2, 0, 1)


def _heads_first(tree: Any) -> Any:
    """Returns arrays [length, heads, head_dim] as [heads, length, head_dim], and back."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1), tree)


def _laid_out(bias: Diagonals | None, groups: int) -> jax.Array | None:
    """Returns a bias as [groups, heads, query, key] float32."""
    if bias is None:
        return None
    dense = bias.dense()[0]
    return dense.reshape(groups, -1, *dense.shape[1:])


def _over_groups(function: Callable[[Any], Any], arguments: Any) -> Any:
    """Returns what a function gives for each group of heads, which are the first axis of arguments and results."""
    if jax.tree.leaves(arguments)[0].shape[0] == 1:  # a loop of one round is one all the same
        return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], arguments)))
    return jax.lax.map(function, arguments)


def _grouped(tree: Any, groups: int) -> Any:
    """Returns arrays [batch, length, heads, head_dim] as [groups, batch, length, heads / groups, head_dim]."""

    def group(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:2], groups, -1, x.shape[-1]), 2, 0)

    return jax.tree.map(group, tree)


def _grouped_rows(x: jax.Array, groups: int) -> jax.Array:
    """Returns x [batch, heads, query] as [groups, batch, heads / groups, query]."""
    return jnp.moveaxis(x.reshape(x.shape[0], groups, -1, x.shape[-1]), 1, 0)


def _joined(x: jax.Array) -> jax.Array:
    """Returns x [groups, batch, length, heads, head_dim] as [batch, length, groups * heads, head_dim]."""
    return jnp.moveaxis(x, 0, 2).reshape(*x.shape[1:3], -1, x.shape[-1])


def _rows(query: jax.Array) -> tuple[int, int, int]:
    return query.shape[0], query.shape[2], query.shape[1]
