"""Attention, its masks, and the relative position bias of T5.

What is made of queries, keys, values, bias and mask is computed in attend.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from t5like.models.attend import KeyValue, attend_at_once, attend_per_example, attend_to_cache
from t5like.models.config import TransformerConfig
from t5like.models.layers import fan_in_normal, project


def segment_mask(query_segment_ids: jax.Array, key_segment_ids: jax.Array) -> jax.Array:
    """Returns bool [batch, 1, query, key]: True where both belong to the same segment, padding (0) to none.

    query_segment_ids [1 1 2 0], key_segment_ids [1 2 2 0]  ->  1 0 0 0
                                                                1 0 0 0
                                                                0 1 1 0
                                                                0 0 0 0
    """
    same = query_segment_ids[:, :, None] == key_segment_ids[:, None, :]
    return (same & (key_segment_ids[:, None, :] > 0))[:, None]


def causal_mask(length: int) -> np.ndarray:
    """Returns bool [1, 1, length, length]: True where the key is not after the query.

    length 3  ->  1 0 0
                  1 1 0
                  1 1 1
    """
    return np.tril(np.ones((length, length), bool))[None, None]


def prefix_mask(is_prefix: jax.Array) -> jax.Array:
    """Returns bool [batch, 1, query, key]: True where the key is not after the query, or both are in the prefix.

    is_prefix [1 1 0]  ->  1 1 0
                           1 1 0
                           1 1 1

    Args:
      is_prefix: [batch, length], above 0 on the tokens that see one another.
    """
    prefix = is_prefix > 0
    both = prefix[:, :, None] & prefix[:, None, :]
    return both[:, None] | causal_mask(is_prefix.shape[1])


def relative_buckets(
    relative_position: np.ndarray, *, is_bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """Returns the bucket in [0, num_buckets) of each relative position (key minus query), int32, same shape.

    Half of the buckets hold one distance each, the rest grow logarithmically up to `max_distance`, beyond
    which all share the last. Bidirectional stacks give the upper half to keys after the query; causal ones
    put all of those in bucket 0.

        32 buckets, distance 128, bidirectional:  -91 -16 -8 -1 0  +1 +8 +16  ->  15 10 8 1 0 17 24 26

    In numpy at trace time, so that no device's logarithm decides at a border. Source: Raffel et al. 2020, 2.1.
    """
    distance = -relative_position.astype(np.int32)
    offset = np.zeros_like(distance)
    if is_bidirectional:
        num_buckets //= 2
        offset = (distance < 0).astype(np.int32) * num_buckets
        distance = np.abs(distance)
    else:
        distance = np.maximum(distance, 0)
    max_exact = num_buckets // 2
    # The small constant and the float32 arithmetic are what public checkpoints were trained with.
    ratio = np.log(distance.astype(np.float32) / max_exact + np.finfo(np.float32).eps)
    ratio = ratio / np.float32(np.log(max_distance / max_exact)) * (num_buckets - max_exact)
    large = np.minimum(max_exact + ratio.astype(np.int32), num_buckets - 1)
    return offset + np.where(distance < max_exact, distance, large)


def toeplitz(values: jax.Array, query_length: int, key_length: int) -> jax.Array:
    """Returns [..., query, key] with `values[..., (key - query) mod m]`, m being the last size of values.

        values [a b c d e f] (relative positions 0 1 2 -3 -2 -1), 3 queries, 3 keys  ->  a b c
                                                                                         f a b
                                                                                         e f a

    Reshapes and slices alone: writing m*query values in rows of m-1 moves each row one to the right. A gather
    would be slow on a TPU, and its transpose, a scatter, slow everywhere.

    Args:
      values: [..., m] with m >= query_length + key_length.
    """
    m = values.shape[-1]
    rows = jnp.broadcast_to(values[..., None, :], (*values.shape[:-1], query_length, m))
    flat = rows.reshape(*values.shape[:-1], query_length * m)[..., : query_length * (m - 1)]
    return flat.reshape(*values.shape[:-1], query_length, m - 1)[..., :key_length]


class RelativeBias(nn.Module):
    """The learned bias of each head and bucket, laid out over query and key positions."""

    config: TransformerConfig
    is_bidirectional: bool

    @nn.compact
    def __call__(self, query_length: int, key_length: int, position: jax.Array | None = None) -> jax.Array:
        """Returns [1, heads, query, key] float32 for queries at 0, 1, ..., or for the one query at `position`."""
        c = self.config
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        table = self.param(
            "rel_embedding",
            nn.with_logical_partitioning(init, ("heads", "buckets")),
            (c.num_heads, c.num_relative_buckets),
            jnp.float32,
        )
        if position is None:
            # One value for each relative position, in the order `toeplitz` wants: 0 .. k-1, -q .. -1.
            relative = np.concatenate([np.arange(key_length), np.arange(-query_length, 0)])
            return toeplitz(self._values(table, relative), query_length, key_length)[None]
        assert query_length == 1
        # The one row needed is a window of the values from -(k-1) to k-1: key 0 is `position` before the query.
        values = self._values(table, np.arange(1 - key_length, key_length))
        row = jax.lax.dynamic_slice_in_dim(values, key_length - 1 - position, key_length, axis=1)
        return row[None, :, None]

    def _values(self, table: jax.Array, relative_positions: np.ndarray) -> jax.Array:
        """Returns the bias [heads, m] at each of m relative positions."""
        c = self.config
        buckets = relative_buckets(
            relative_positions,
            is_bidirectional=self.is_bidirectional,
            num_buckets=c.num_relative_buckets,
            max_distance=c.max_relative_distance,
        )
        one_hot = buckets[None, :] == np.arange(c.num_relative_buckets)[:, None]
        return jnp.dot(table, one_hot.astype(np.float32), precision=jax.lax.Precision.HIGHEST)


class Attention(nn.Module):
    """Multi-head attention, its logits scaled by 1/sqrt(head_dim) or, as in T5, only at the start of training."""

    config: TransformerConfig

    def setup(self) -> None:
        c = self.config
        width = c.num_heads * c.head_dim
        query_init = nn.initializers.variance_scaling(1.0 / c.head_dim, "fan_in", "normal")
        if c.scales_attention:
            query_init = fan_in_normal
        self.query = project(c, width, ("embed", "heads"), query_init, remat_name="qkv")
        self.key = project(c, width, ("embed", "heads"), fan_in_normal, remat_name="qkv")
        self.value = project(c, width, ("embed", "heads"), fan_in_normal, remat_name="qkv")
        self.out = project(c, c.embed_dim, ("heads", "embed"), fan_in_normal, remat_name="attention_out")

    def _split_heads(self, x: jax.Array) -> jax.Array:
        # [batch, length, heads * head_dim] -> [batch, length, heads, head_dim]
        return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

    def key_value(self, x: jax.Array) -> KeyValue:
        """Returns the keys and values of x [batch, key, embed]."""
        return KeyValue(self._split_heads(self.key(x)), self._split_heads(self.value(x)))

    def __call__(
        self,
        x: jax.Array,
        key_value: KeyValue,
        bias: jax.Array | None,
        mask: jax.Array,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        """Returns [batch, query, embed].

        Args:
          x: [batch, query, embed].
          key_value: what is attended to.
          bias: [1, heads, query, key] float32 added to the logits, or None.
          mask: bool, broadcastable to [batch, heads, query, key]; False positions are not attended to.
          dropout_key: None for no dropout of the attention weights.
        """
        c = self.config
        at_once = functools.partial(attend_at_once, shares_dropout=c.shares_dropout)
        attend = attend_per_example if c.attention == "per_example" else at_once
        rate = c.dropout_at("attention")
        return self._join(attend(self._queries(x), key_value, bias, mask, rate, dropout_key))

    def to_cache(self, x: jax.Array, cache: KeyValue, bias: jax.Array | None, mask: jax.Array) -> jax.Array:
        """Returns [batch, query, embed], as `__call__` but of keys and values that lie heads first."""
        return self._join(attend_to_cache(self._queries(x), cache, bias, mask))

    def _queries(self, x: jax.Array) -> jax.Array:
        # [batch, query, embed] -> [batch, query, heads, head_dim]
        query = self._split_heads(self.query(x))
        return query * self.config.head_dim**-0.5 if self.config.scales_attention else query

    def _join(self, attended: jax.Array) -> jax.Array:
        # [batch, query, heads, head_dim] -> [batch, query, embed]
        return self.out(checkpoint_name(attended.reshape(*attended.shape[:-2], -1), "attended"))
