"""The largest logits of a row and whose they are, without a look at each of a vocabulary."""

import functools

import jax
import jax.numpy as jnp

BLOCK = 128
"""Ids that are looked at together: T5's embedding tables are multiples of it."""

Found = tuple[jax.Array, jax.Array]
"""Logits and their ids, each [rows, num], the largest first, and of equals the first."""


def largest(logits: jax.Array, num: int) -> Found:
    """Returns the `num` largest logits of each row, as `jax.lax.top_k` does; on a CPU, where that is slow, by blocks.

    Args:
      logits: [rows, vocab] float32, -inf for what is never to be chosen.
    """
    by_blocks, of_all = (functools.partial(find, num=num) for find in (largest_by_blocks, largest_of_all))
    return jax.lax.platform_dependent(logits, cpu=by_blocks, default=of_all)


def largest_of_all(logits: jax.Array, num: int) -> Found:
    """Returns what `largest` says, of all logits at once."""
    if num == 1:  # where a vocabulary is split over devices, each reduces its part, and no logits are moved
        return jnp.max(logits, axis=-1, keepdims=True), jnp.argmax(logits, axis=-1, keepdims=True)
    values, ids = jax.lax.top_k(logits, num)
    return values, ids


def largest_by_blocks(logits: jax.Array, num: int) -> Found:
    """Returns what `largest` says, looking into the blocks of ids alone that have the largest maxima.

    Whatever is larger than the last of the answer is in one of them, and of what equals it, the first:

        num 2, blocks of 3:  [1 2 0 | 5 1 4 | 0 3 2]   maxima 2 5 3   ->   [5 1 4 | 0 3 2]   ->   5 4
    """
    num_blocks = -(-logits.shape[-1] // BLOCK)
    if num_blocks < 2 * num:
        return largest_of_all(logits, num)
    padding = num_blocks * BLOCK - logits.shape[-1]
    padded = jnp.pad(logits, ((0, 0), (0, padding)), constant_values=-jnp.inf) if padding else logits
    blocks = padded.reshape(len(logits), num_blocks, BLOCK)
    _, chosen = jax.lax.top_k(jnp.max(blocks, axis=-1), num)
    chosen = jnp.sort(chosen, axis=-1)  # so that the first of equals stays it
    # [rows, num_blocks, block] -> [rows, num * block]
    candidates = jnp.take_along_axis(blocks, chosen[:, :, None], axis=1).reshape(len(logits), -1)
    values, places = jax.lax.top_k(candidates, num)
    ids = jnp.take_along_axis(chosen, places // BLOCK, axis=1) * BLOCK + places % BLOCK
    return values, ids
