"""The forward pass of attention as one TPU kernel: a block of logits at a time, none of which is ever in memory.

Source: Dao et al. 2022, algorithm 1, with T5's bias looked up within.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from t5like.kernels.flash_blocks import (
    LEAST,
    Inputs,
    Ref,
    Sizes,
    dot,
    lay_out_tiles,
    logits_of,
    read_specs,
)
from t5like.kernels.toeplitz_tiles import TILE

NUM_PRODUCTS = 2


def flash_forward(
    inputs: Inputs[jax.Array], sizes: Sizes, *, is_interpreted: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns the attended values [batch, heads, head_dim, query], and the log of each query's sum of exponentials.

    The latter is [batch, heads, 1, query] float32. A query that sees nothing has attended values of 0.
    """
    s = sizes

    def query_at(query: jax.Array, _: jax.Array) -> jax.Array:
        return query

    def key_at(query: jax.Array, key: jax.Array) -> jax.Array:
        # A block that is left out is not read either: the one before it stays.
        last = jax.lax.div((query + 1) * s.query_block - 1, s.key_block)
        return jnp.minimum(key, last) if s.skips_future else key

    input_specs, row_spec = read_specs(s, query_at, key_at)
    statistic = jax.ShapeDtypeStruct((s.batch, s.heads, 1, s.num_queries), jnp.float32)
    row = pltpu.VMEM((1, s.query_block), jnp.float32)
    scratch = [row, row, pltpu.VMEM((s.head_dim, s.query_block), jnp.float32)]
    if s.has_bias:
        scratch.append(pltpu.VMEM((s.num_tiles, TILE, TILE), jnp.float32))
    num_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((inputs, inputs.query, statistic)))
    return pl.pallas_call(
        functools.partial(_kernel, s),
        out_shape=(jax.ShapeDtypeStruct(inputs.query.shape, inputs.query.dtype), statistic),
        grid=(s.heads, s.batch, s.query_blocks, s.key_blocks),
        in_specs=(input_specs,),
        out_specs=(input_specs.query, row_spec),
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary", "arbitrary"),
            vmem_limit_bytes=s.fast_memory(num_copies_of_tiles=1, resident_bytes=0),
        ),
        cost_estimate=s.cost(num_products=NUM_PRODUCTS, bytes_accessed=num_bytes),
        interpret=is_interpreted,
        name="flash_forward",
    )(inputs)


def _kernel(
    sizes: Sizes,
    inputs: Inputs[Ref],
    attended: Ref,
    log_total: Ref,
    largest: Ref,
    total: Ref,
    weighted: Ref,
    tiles: Ref | None = None,
) -> None:
    """Goes through the keys for a block of queries of a head of an example."""
    example, query, key = (pl.program_id(axis) for axis in (1, 2, 3))
    if tiles is not None:
        pl.when((example == 0) & (query == 0) & (key == 0))(lambda: lay_out_tiles(inputs.bias, tiles))

    @pl.when(key == 0)
    def begin() -> None:
        largest[...] = jnp.full_like(largest, LEAST)
        total[...] = jnp.zeros_like(total)
        weighted[...] = jnp.zeros_like(weighted)

    is_needed = key * sizes.key_block < (query + 1) * sizes.query_block if sizes.skips_future else key >= 0

    @pl.when(is_needed)
    def add_block() -> None:
        logits = logits_of(sizes, inputs, tiles, query, key)
        new_largest = jnp.maximum(largest[...], jnp.max(logits, axis=0, keepdims=True))
        weights = jnp.exp(logits - new_largest)
        scale = jnp.exp(largest[...] - new_largest)
        largest[...] = new_largest
        total[...] = total[...] * scale + jnp.sum(weights, axis=0, keepdims=True)
        value = inputs.value[0, 0]
        # [head_dim, keys] x [keys, queries] -> [head_dim, queries]
        weighted[...] = weighted[...] * scale + dot(value, weights.astype(value.dtype), 1, 0)

    @pl.when(key == sizes.key_blocks - 1)
    def end() -> None:
        some = jnp.where(total[...] == 0.0, 1.0, total[...])
        attended[0, 0] = (weighted[...] / some).astype(attended.dtype)
        log_total[0, 0] = largest[...] + jnp.log(some)
