"""Attention a chunk of keys at a time, in plain XLA: on any device, in memory that grows with the length alone.

Letters in einsums: b batch, q query position, k key position of a chunk, h head, d head_dim.
Source: Rabe and Staats 2021, "Self-attention Does Not Need O(n^2) Memory", with one loop and a gradient of our own.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5like.models.attend import LEAST, MASKED
from t5like.models.attend_in_blocks import Blockwise, Forward, Gradients
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals, toeplitz

LARGEST_CHUNK = 128


class _Chunk(NamedTuple):
    """Some keys, and what belongs to them."""

    key: jax.Array  # [batch, k, heads, head_dim]
    value: jax.Array
    marks: jax.Array  # [batch, 1 or 2, k], as `Mask.marks`
    start: jax.Array  # scalar int32: the position of the first key


class _Sums(NamedTuple):
    """What is known of each query after some chunks, float32."""

    largest: jax.Array  # [batch, heads, query]: the largest logit
    total: jax.Array  # [batch, heads, query]: the sum of the exponentials of logits minus the largest
    weighted: jax.Array  # [batch, heads, query, head_dim]: the sum of values, each times its exponential


def chunked_forward(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: Diagonals | None, mask: Mask
) -> Forward:
    """Returns what `Blockwise.forward` should."""
    batch, num_queries, heads, head_dim = query.shape
    chunks = _cut(key, value, mask)
    rising = _rising(bias, chunks.key.shape[2])

    def add_chunk(sums: _Sums, chunk: _Chunk) -> tuple[_Sums, None]:
        logits = _logits(query, chunk, rising, mask)
        largest = jnp.maximum(sums.largest, jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - largest[..., None])
        scale = jnp.exp(sums.largest - largest)
        total = sums.total * scale + jnp.sum(weights, axis=-1)
        of_chunk = _dot("bhqk,bkhd->bhqd", weights.astype(value.dtype), chunk.value)
        return _Sums(largest, total, sums.weighted * scale[..., None] + of_chunk), None

    start = _Sums(
        jnp.full((batch, heads, num_queries), LEAST),
        jnp.zeros((batch, heads, num_queries)),
        jnp.zeros((batch, heads, num_queries, head_dim)),
    )
    (largest, total, weighted), _ = jax.lax.scan(add_chunk, start, chunks)
    total = jnp.where(total == 0.0, 1.0, total)  # of a query that sees nothing
    attended = (weighted / total[..., None]).astype(query.dtype).swapaxes(1, 2)
    return Forward(attended, largest + jnp.log(total))


def chunked_backward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Diagonals | None,
    mask: Mask,
    done: Forward,
    gradient: jax.Array,
) -> Gradients:
    """Returns what `Blockwise.backward` should."""
    chunks = _cut(key, value, mask)
    rising = _rising(bias, chunks.key.shape[2])
    # The gradient of a softmax is w (g - sum(w g)), and that sum over keys is one over head_dim of the attended values.
    weighted_sum = _dot("bqhd,bqhd->bhq", done.attended, gradient)

    def add_chunk(
        sums: tuple[jax.Array, jax.Array | None], chunk: _Chunk
    ) -> tuple[tuple[jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]:
        of_query, of_rising = sums
        weights = jnp.exp(_logits(query, chunk, rising, mask) - done.log_total[..., None])
        of_value = _dot("bhqk,bqhd->bkhd", weights.astype(value.dtype), gradient)
        of_weights = _dot("bqhd,bkhd->bhqk", gradient, chunk.value)
        of_logits = weights * (of_weights - weighted_sum[..., None])
        if of_rising is not None:
            width, queries = chunk.key.shape[1], query.shape[1]
            _, transpose = jax.vjp(lambda x: _bias_of_chunk(x, chunk.start, width, queries), rising)
            of_rising = of_rising + transpose(jnp.sum(of_logits, axis=0))[0]
        of_logits = of_logits.astype(query.dtype)
        of_query = of_query + _dot("bhqk,bkhd->bqhd", of_logits, chunk.key)
        of_key = _dot("bhqk,bqhd->bkhd", of_logits, query)
        return (of_query, of_rising), (of_key.astype(key.dtype), of_value.astype(value.dtype))

    start = (jnp.zeros(query.shape), None if rising is None else jnp.zeros_like(rising))
    (of_query, of_rising), (of_key, of_value) = jax.lax.scan(add_chunk, start, chunks)
    of_bias = None
    if bias is not None:
        _, transpose = jax.vjp(lambda x: _rising(x, chunks.key.shape[2]), bias)
        (of_bias,) = transpose(of_rising)
    return Gradients(
        of_query.astype(query.dtype), _join(of_key, key.shape[1]), _join(of_value, key.shape[1]), of_bias
    )


CHUNKED = Blockwise(chunked_forward, chunked_backward)


def _dot(letters: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns a product summed up in float32."""
    return jnp.einsum(letters, x, y, preferred_element_type=jnp.float32)


def _cut(key: jax.Array, value: jax.Array, mask: Mask) -> _Chunk:
    """Returns the keys in chunks of equal length, one after another along a new first axis; padding is seen by none."""
    length = key.shape[1]
    num_chunks = math.ceil(length / LARGEST_CHUNK)
    width = math.ceil(length / num_chunks)
    spare = num_chunks * width - length

    def cut(x: jax.Array, axis: int, fill: int = 0) -> jax.Array:
        spare_of_axis = [(0, spare if i == axis else 0) for i in range(x.ndim)]
        x = jnp.pad(x, spare_of_axis, constant_values=fill)
        return jnp.moveaxis(x.reshape(*x.shape[:axis], num_chunks, width, *x.shape[axis + 1 :]), axis, 0)

    starts = jnp.arange(num_chunks, dtype=jnp.int32) * width
    return _Chunk(cut(key, 1), cut(value, 1), cut(mask.marks()[1], 2, -1), starts)


def _join(chunks: jax.Array, length: int) -> jax.Array:
    """Returns chunks [num_chunks, batch, k, ...] as [batch, length, ...]."""
    x = jnp.moveaxis(chunks, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


def _logits(query: jax.Array, chunk: _Chunk, rising: jax.Array | None, mask: Mask) -> jax.Array:
    """Returns the masked logits [batch, heads, query, k] float32."""
    width, num_queries = chunk.key.shape[1], query.shape[1]
    logits = _dot("bqhd,bkhd->bhqk", query, chunk.key)
    if rising is not None:
        logits = logits + _bias_of_chunk(rising, chunk.start, width, num_queries)
    same = mask.marks()[0][..., :, None] == chunk.marks[..., None, :]  # [batch, 1 or 2, query, k]
    is_seen = same[:, :1]
    if mask.is_causal:
        is_past = chunk.start + jnp.arange(width) <= jnp.arange(num_queries)[:, None]
        is_seen &= is_past | same[:, 1:] if mask.is_prefix is not None else is_past
    return jnp.where(is_seen, logits, MASKED)


def _rising(bias: Diagonals | None, width: int) -> jax.Array | None:
    """Returns the values [heads, m] of a bias by rising relative position, from the least that a chunk may ask for.

    That is minus the number of queries, which is rounded up to a multiple of the chunk's width, as the keys are.
    """
    if bias is None:
        return None
    rising = jnp.roll(bias.values, bias.query_length, axis=-1)
    return jnp.pad(rising, ((0, 0), (-bias.query_length % width, -bias.key_length % width)))


def _bias_of_chunk(rising: jax.Array, start: jax.Array, width: int, num_queries: int) -> jax.Array:
    """Returns the bias [heads, query, k] of a chunk's keys, made of squares of which each has a row of 2 k values.

    Laid out in one, it would be as large as the logits of all keys before being cut.

    Args:
      rising: as `_rising`.
      start: the position of the first key.
      width: how many keys there are.
    """
    num_squares = math.ceil(num_queries / width)
    length = (num_squares + 1) * width
    values = jax.lax.dynamic_slice_in_dim(rising, start, length, axis=1)
    parts = values.reshape(-1, num_squares + 1, width)[
        :, ::-1
    ]  # the queries furthest on have the least of them
    rows = jnp.concatenate([parts[:, :-1], parts[:, 1:]], axis=-1)
    squares = toeplitz(rows, width, width)  # [heads, squares, k, k]
    return squares.reshape(-1, num_squares * width, width)[:, :num_queries]
