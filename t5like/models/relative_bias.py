"""The relative position bias of T5: one number for each head and distance between query and key."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from t5like.models.config import TransformerConfig


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


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["query_length", "key_length"]
)
@dataclasses.dataclass(frozen=True)
class Diagonals:
    """A bias that depends on key minus query alone, as long as the rows and not their square."""

    values: jax.Array
    """[heads, query_length + key_length] float32, one for each relative position in the order that `toeplitz` wants:
    0 .. key_length - 1, -query_length .. -1."""
    query_length: int
    key_length: int

    def dense(self) -> jax.Array:
        """Returns the bias [1, heads, query, key] float32."""
        return toeplitz(self.values, self.query_length, self.key_length)[None]


class RelativeBias(nn.Module):
    """The learned bias of each head and bucket, by relative position."""

    config: TransformerConfig
    is_bidirectional: bool

    @nn.compact
    def __call__(
        self, query_length: int, key_length: int, position: jax.Array | None = None
    ) -> Diagonals | jax.Array:
        """Returns the bias of queries at 0, 1, ..., or [1, heads, 1, key] float32 of the one query at `position`."""
        c = self.config
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        table = self.param(
            "rel_embedding",
            nn.with_logical_partitioning(init, ("heads", "buckets")),
            (c.num_heads, c.num_relative_buckets),
            jnp.float32,
        )
        if position is None:
            relative = np.concatenate([np.arange(key_length), np.arange(-query_length, 0)])
            return Diagonals(self._values(table, relative), query_length, key_length)
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
