"""A bias that depends on key minus query alone, in tiles of 128 by 128 that a TPU kernel lays out for itself.

Of such a bias all tiles on one diagonal are equal, so that a head has (queries + keys) / 128 - 1 of them, each read
from 256 values in a row. Tiles are laid out keys by queries, as the logits of the kernel are.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

TILE = 128  # lanes of a vector register
_SUBLANES = 8


def bias_rows(
    values: jax.Array, query_length: int, key_length: int, num_queries: int, num_keys: int
) -> jax.Array:
    """Returns the values of each relative position in rows [heads, tiles + 1, 128], from the largest to the least.

    They go from `num_keys` down to 1 - `num_queries`, the last row first: row n holds those from
    128 (n + 1) - num_queries downwards.

        2 queries, 2 keys, in rows of 2 instead of 128  ->  +0 -1
                                                            +2 +1

    Args:
      values: [heads, query_length + key_length] float32 at 0 .. key_length - 1, -query_length .. -1.
      num_queries: query_length rounded up to a multiple of 128; what is beyond has the bias 0.
      num_keys: key_length likewise.
    """
    rising = jnp.roll(values, query_length, axis=-1)[:, 1:]  # from 1 - query_length to key_length - 1
    rising = jnp.pad(rising, ((0, 0), (num_queries - query_length, num_keys - key_length + 1)))
    return rising.reshape(values.shape[0], -1, TILE)[:, :, ::-1]


def lay_out_tile(window: jax.Array) -> jax.Array:
    """Returns the tile [128, 128] whose key j and query i have `window[128 + i - j]`; for use in kernels.

    Each row is the one above moved on by one. Eight rows are moved apart, each doubling of them costs one move more.

    Args:
      window: [1, 256] float32, of falling relative positions.
    """
    rows = jnp.broadcast_to(window, (_SUBLANES, 2 * TILE))
    row = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 0)
    for bit in (1, 2, 4):
        rows = jnp.where(row & bit != 0, pltpu.roll(rows, bit, 1), rows)
    while rows.shape[0] < TILE:
        rows = jnp.concatenate([rows, pltpu.roll(rows, rows.shape[0], 1)], axis=0)
    return rows[:, TILE:]


def sum_diagonals(tile: jax.Array) -> jax.Array:
    """Returns what `lay_out_tile` takes its gradient back to: [1, 256], the sums along the diagonals of a tile.

    The moves of `lay_out_tile` backwards: halves of the rows are added until eight are left.
    """
    rows = jnp.concatenate([jnp.zeros_like(tile), tile], axis=1)
    while rows.shape[0] > _SUBLANES:
        half = rows.shape[0] // 2
        rows = rows[:half] + pltpu.roll(rows[half:], 2 * TILE - half, 1)
    row = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 0)
    for bit in (4, 2, 1):
        rows = jnp.where(row & bit != 0, pltpu.roll(rows, 2 * TILE - bit, 1), rows)
    return jnp.sum(rows, axis=0, keepdims=True)
