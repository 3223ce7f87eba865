"""The largest logits of a row and whose they are, without a look at each of a vocabulary."""

import jax
import jax.numpy as jnp

BLOCK = 128
"""Ids that are looked at together: T5's embedding tables are multiples of it."""


def largest(logits: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """Returns the `num` largest logits of each row and their ids, as `jax.lax.top_k` does.

    They are [rows, num], the largest first, and of equals the first. On a CPU, where `top_k` is slow, only the blocks of ids
    are looked into that have the largest maxima: whatever is larger than the last of the answer is in one of them, and of
    what equals it, the first.

        num 2, blocks of 3:  [1 2 0 | 5 1 4 | 0 3 2]   maxima 2 5 3   ->   [5 1 4 | 0 3 2]   ->   5 4

    Args:
      logits: [rows, vocab] float32, -inf for what is never to be chosen.
    """
    num_blocks = -(-logits.shape[-1] // BLOCK)
    if num_blocks < 2 * num:
        return jax.lax.top_k(logits, num)

    def in_blocks(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
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

    def plainly(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, ids = jax.lax.top_k(logits, num)
        return values, ids

    return jax.lax.platform_dependent(logits, cpu=in_blocks, default=plainly)
