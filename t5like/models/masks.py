"""Who sees whom: masks laid out over queries and keys, and masks that are not laid out yet."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np


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


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["query_segments", "key_segments", "is_prefix"],
    meta_fields=["is_causal"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mask:
    """What says who sees whom, as long as the rows and not their square: a query sees the keys of its own segment."""

    query_segments: jax.Array
    """[batch, query] int32, 0 on padding."""
    key_segments: jax.Array
    """[batch, key] int32, 0 on padding."""
    is_causal: bool = False
    """Whether no query sees a key after it; queries and keys are the same tokens then."""
    is_prefix: jax.Array | None = None
    """[batch, length], above 0 on tokens that see one another all the same; only where is_causal."""

    def dense(self) -> jax.Array:
        """Returns bool [batch, 1, query, key], True where the query sees the key."""
        mask = segment_mask(self.query_segments, self.key_segments)
        if self.is_prefix is not None:
            return mask & prefix_mask(self.is_prefix)
        return mask & causal_mask(self.query_segments.shape[1]) if self.is_causal else mask

    def marks(self) -> tuple[jax.Array, jax.Array]:
        """Returns marks of queries and of keys, int32 [batch, 1 or 2, query] and [batch, 1 or 2, key].

        A query sees a key if their first marks are equal and, where the mask is causal, the key is not after the
        query. Of two marks, equal second ones lift the latter.

            segments [1 1 2 0]     ->  queries [1 1 2 0]  keys [1 1 2 -1]
            is_prefix [1 0 1 0]    ->          [1 2 1 2]       [1  3 1  3]
        """
        query, key = self.query_segments, jnp.where(self.key_segments > 0, self.key_segments, -1)
        if self.is_prefix is None:
            return query[:, None], key[:, None]
        prefix = self.is_prefix > 0
        return (
            jnp.stack([query, jnp.where(prefix, 1, 2)], axis=1),
            jnp.stack([key, jnp.where(prefix, 1, 3)], axis=1),
        )
