"""What decoding remembers: keys and values of what has been read and said, and which of them belong to which beam."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5like.models.attend import Cached, KeyValue
from t5like.models.config import TransformerConfig


class LayerCache(NamedTuple):
    """What one decoder layer remembers while decoding."""

    own: Cached
    """Of the tokens so far, beams * max_length of each example: one beam after the other."""
    encoded: Cached | None
    """Of the encoder's output, computed once for each example; None without an encoder."""

    def num_beams(self, x: jax.Array) -> int:
        """Returns how many rows of x belong to an example."""
        return x.shape[0] // self.own.value.shape[0]

    def num_positions(self, x: jax.Array) -> int:
        """Returns how many positions there are for each row of x."""
        return self.own.value.shape[2] // self.num_beams(x)


class DecodingState(NamedTuple):
    """All that decoding the next position needs, beside the parameters and the last token."""

    cache: tuple[LayerCache, ...]  # one a layer
    num_padding: jax.Array  # [rows] int32: cache positions before the row's first token
    encoder_segment_ids: jax.Array | None  # [examples, inputs_length]
    position: jax.Array  # scalar int32: where in the cache the next token goes
    said_by: jax.Array | None = (
        None  # [rows, max_length] int32: which beam has written a row's past; None: one beam
    )


def expand_rows(state: DecodingState, num: int) -> DecodingState:
    """Returns the state with `num` rows for each, its beams, side by side, which share what they have read so far."""

    def expand(x: jax.Array, axis: int) -> jax.Array:
        # [..., max_length, ...] -> [..., beams * max_length, ...]
        room = [(0, (num - 1) * x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
        return jnp.pad(x, room)

    max_length = state.cache[0].own.value.shape[2]
    cache = tuple(
        layer._replace(own=Cached(expand(layer.own.key, 3), expand(layer.own.value, 2)))
        for layer in state.cache
    )
    num_padding = jnp.repeat(state.num_padding, num)
    said_by = jnp.zeros((len(num_padding), max_length), jnp.int32)  # the first beam has what all have read
    return state._replace(cache=cache, num_padding=num_padding, said_by=said_by)


def reorder_rows(state: DecodingState, rows: jax.Array) -> DecodingState:
    """Returns the state whose row i goes on from what row `rows[i]` was, which must be a beam of the same example.

    Args:
      rows: [rows] int32.
    """
    assert state.said_by is not None
    return state._replace(said_by=state.said_by[rows])


def empty_cache(c: TransformerConfig, num_examples: int, length: int) -> Cached:
    """Returns room for the keys and values of so many positions."""
    key, value = (
        (num_examples, c.num_heads, c.head_dim, length),
        (num_examples, c.num_heads, length, c.head_dim),
    )
    return Cached(jnp.zeros(key, c.compute_dtype), jnp.zeros(value, c.compute_dtype))


def by_examples(x: jax.Array, cache: Cached) -> jax.Array:
    """Returns x [rows, length, embed] with the beams of an example in one row: [examples, beams * length, embed]."""
    return x.reshape(cache.value.shape[0], -1, x.shape[-1])


def cached(key_value: KeyValue) -> Cached:
    """Returns keys and values as they lie in a cache."""
    return Cached(key_value.key.transpose(0, 2, 3, 1), key_value.value.swapaxes(1, 2))


def append_to_cache(past: Cached, new: KeyValue, position: jax.Array | None, *, num_beams: int) -> Cached:
    """Returns the cache with what `num_beams` beams have new, one beam after the other, at `position` (None: 0) and after."""
    start = 0 if position is None else position

    def write(past: jax.Array, new: jax.Array, axis: int) -> jax.Array:
        # [..., beams * length, ...] -> [..., beams, length, ...]
        apart, new = (x.reshape(*x.shape[:axis], num_beams, -1, *x.shape[axis + 1 :]) for x in (past, new))
        return jax.lax.dynamic_update_slice_in_dim(apart, new, start, axis=axis + 1).reshape(past.shape)

    news = cached(new)
    return Cached(write(past.key, news.key, 3), write(past.value, news.value, 2))


def of_beams(state: DecodingState, mask: jax.Array) -> tuple[DecodingState, jax.Array]:
    """Returns the state with the next position written by each beam itself, and which of an example's keys a beam may see.

    With 2 beams, of which the second goes on from what the first has said at position 0, and max_length 3:

        said_by [0 0 .]  [0 1 .]  ->  sees of beam 0, then of beam 1:  [1 1 . | . . .]  [1 . . | . 1 .]

    Args:
      mask: [rows, 1, 1, max_length] bool, the positions that are past.

    Returns:
      The mask as [examples, 1, beams, beams * max_length].
    """
    assert state.said_by is not None
    examples = state.cache[0].own.value.shape[0]
    beams = jnp.arange(len(mask) // examples, dtype=jnp.int32)
    itself = jnp.tile(beams, examples)[:, None]
    said_by = jax.lax.dynamic_update_slice_in_dim(state.said_by, itself, state.position, axis=1)
    # [rows, beams, max_length]
    sees = (said_by[:, None] == beams[:, None]) & mask[:, 0]
    return state._replace(said_by=said_by), sees.reshape(examples, 1, len(beams), -1)
