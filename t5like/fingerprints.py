"""Digests of arrays, computed where the arrays lie: the same on any mesh, another if a single bit differs.

Beside each comes whether all its numbers are finite, for which they need not be read again.

Each element is mixed with its place and all are added up, in 32 bits that wrap around: the order of adding, and so how
the array is split over devices, does not matter.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

PyTree = Any


class Fingerprint(NamedTuple):
    """What is known of an array."""

    digest: str  # 16 hexadecimal digits
    is_finite: bool


# Two odd numbers that spread the places, one for each half of a digest.
_SPREADS = (0x9E3779B1, 0x85EBCA77)
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def fingerprints(tree: PyTree) -> dict[str, Fingerprint]:
    """Returns a fingerprint by the path of each array; all hosts call it.

    Source: the mixing of 32-bit words is that of MurmurHash3's last step (Appleby, 2011), which is one-to-one, so that
      a change of one element always changes the sum.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if not leaves:
        return {}
    sharding = next(iter(leaves.values())).sharding
    everywhere = (
        NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else None
    )
    digests = _jitted(everywhere)(list(leaves.values()))
    return {
        name: Fingerprint("".join(f"{int(half):08x}" for half in words[:2]), int(words[2]) == 0)
        for name, words in zip(leaves, np.asarray(digests), strict=True)
    }


@functools.lru_cache(maxsize=8)
def _jitted(everywhere: NamedSharding | None) -> Any:
    return jax.jit(lambda leaves: jnp.stack([_digest(leaf) for leaf in leaves]), out_shardings=everywhere)


@jax.jit  # arrays of one shape are traced once
def _digest(array: jax.Array) -> jax.Array:
    """Returns [3] uint32: two words of the digest, and 1 where a number is not finite."""
    words = _words(array)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    halves = (_mixed(words ^ _mixed(place * jnp.uint32(spread) + jnp.uint32(1))) for spread in _SPREADS)
    is_finite = jnp.all(jnp.isfinite(array)) if jnp.issubdtype(array.dtype, jnp.floating) else True
    return jnp.stack(
        [*(jnp.sum(half, dtype=jnp.uint32) for half in halves), jnp.uint32(1) - jnp.uint32(is_finite)]
    )


def _words(array: jax.Array) -> jax.Array:
    """Returns the bits of each element, uint32."""
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(array, _WORDS[array.dtype.itemsize]).astype(jnp.uint32)


def _mixed(word: jax.Array) -> jax.Array:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * jnp.uint32(factor)
    return word ^ (word >> 16)
