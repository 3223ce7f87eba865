"""The backward pass of attention as one TPU kernel, the gradient of the bias by relative position included.

Every block of logits is computed once more and used for all gradients. Those of keys and values are summed over the
blocks of queries, as these come one after another; that of the queries of a head, and that of its bias over all
examples, stay in the chip's fast memory until they are whole.
"""

import functools
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from t5like.kernels.flash_blocks import (
    Inputs,
    Ref,
    Sizes,
    T,
    dot,
    lay_out_tiles,
    logits_of,
    read_specs,
    tile_of,
)
from t5like.kernels.toeplitz_tiles import TILE, sum_diagonals

NUM_PRODUCTS = 5


class Gradients(NamedTuple, Generic[T]):
    """The gradients of what attention reads, each of the shape and dtype of that, of the bias float32."""

    query: T
    key: T
    value: T
    bias: T | None


class Totals(NamedTuple):
    """What is summed up over blocks, float32."""

    query: Ref
    """[query blocks, head_dim, queries of a block]."""
    key: Ref
    """[head_dim, keys of a block]."""
    value: Ref
    tiles: Ref
    """The bias itself, [tiles, 128, 128], or None."""
    tile_gradients: Ref
    """[tiles, 128, 128], or None."""


class OfAttended(NamedTuple, Generic[T]):
    """What the backward pass knows of the attended values."""

    gradient: T
    """[batch, heads, head_dim, query]."""
    log_total: T
    """As `flash_forward` returns it."""
    weighted_sum: T
    """[batch, heads, 1, query] float32: the attended values times their gradient, summed over head_dim."""


def flash_backward(
    inputs: Inputs, of_attended: OfAttended, sizes: Sizes, *, is_interpreted: bool
) -> Gradients:
    """Returns the gradients of query, key, value and bias."""
    s = sizes

    def query_at(key: jax.Array, query: jax.Array) -> jax.Array:
        # A block that is left out is not read either: the one after it is there early.
        first = jax.lax.div(key * s.key_block, s.query_block)
        return jnp.maximum(query, first) if s.skips_future else query

    def key_at(key: jax.Array, _: jax.Array) -> jax.Array:
        return key

    input_specs, row_spec = read_specs(s, query_at, key_at)
    whole_query = pl.BlockSpec((1, 1, s.head_dim, s.num_queries), lambda h, b, *_: (b, h, 0, 0))
    of_keys = input_specs.key
    tiles = pltpu.VMEM((s.num_tiles, TILE, TILE), jnp.float32) if s.has_bias else None
    per_key = pltpu.VMEM((s.head_dim, s.key_block), jnp.float32)
    per_query = pltpu.VMEM((s.query_blocks, s.head_dim, s.query_block), jnp.float32)
    out_shape = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
        Gradients(inputs.query, inputs.key, inputs.value, inputs.bias),
    )
    # The sum in float32, and the whole result twice, since one is written out while the next is made.
    resident_bytes = s.head_dim * s.num_queries * (4 + 2 * inputs.query.dtype.itemsize)
    arrays = jax.tree.leaves((inputs, of_attended, out_shape))
    (gradients,) = pl.pallas_call(
        functools.partial(_kernel, s),
        out_shape=(out_shape,),
        grid=(s.heads, s.batch, s.key_blocks, s.query_blocks),
        in_specs=(input_specs, OfAttended(input_specs.query, row_spec, row_spec)),
        out_specs=(Gradients(whole_query, of_keys, of_keys, input_specs.bias),),
        scratch_shapes=(Totals(per_query, per_key, per_key, tiles, tiles),),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary", "arbitrary"),
            vmem_limit_bytes=s.fast_memory(num_copies_of_tiles=2, resident_bytes=resident_bytes),
        ),
        cost_estimate=s.cost(
            num_products=NUM_PRODUCTS, bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays)
        ),
        interpret=is_interpreted,
        name="flash_backward",
    )(inputs, of_attended)
    return gradients


def _kernel(
    sizes: Sizes, inputs: Inputs[Ref], of_attended: OfAttended[Ref], gradients: Gradients[Ref], totals: Totals
) -> None:
    """Goes through the queries for each block of keys of a head of an example."""
    example, key, query = (pl.program_id(axis) for axis in (1, 2, 3))
    is_last = (key == sizes.key_blocks - 1) & (query == sizes.query_blocks - 1)

    @pl.when((key == 0) & (query == 0))
    def begin_example() -> None:
        totals.query[...] = jnp.zeros_like(totals.query)

    if totals.tiles is not None:

        @pl.when((example == 0) & (key == 0) & (query == 0))
        def begin_head() -> None:
            lay_out_tiles(inputs.bias, totals.tiles)
            totals.tile_gradients[...] = jnp.zeros_like(totals.tile_gradients)

    @pl.when(query == 0)
    def begin_keys() -> None:
        totals.key[...] = jnp.zeros_like(totals.key)
        totals.value[...] = jnp.zeros_like(totals.value)

    is_needed = key * sizes.key_block < (query + 1) * sizes.query_block if sizes.skips_future else key >= 0
    pl.when(is_needed)(lambda: _add_block(sizes, inputs, of_attended, totals, query, key))

    @pl.when(query == sizes.query_blocks - 1)
    def end_keys() -> None:
        gradients.key[0, 0] = totals.key[...].astype(gradients.key.dtype)
        gradients.value[0, 0] = totals.value[...].astype(gradients.value.dtype)

    @pl.when(is_last)
    def end_example() -> None:
        block = sizes.query_block
        for i in range(sizes.query_blocks):
            gradients.query[0, 0, :, i * block : (i + 1) * block] = totals.query[i].astype(
                gradients.query.dtype
            )

    if totals.tiles is not None:
        pl.when(is_last & (example == sizes.batch - 1))(
            lambda: _sum_tiles(totals.tile_gradients, gradients.bias)
        )


def _add_block(
    sizes: Sizes,
    inputs: Inputs[Ref],
    of_attended: OfAttended[Ref],
    totals: Totals,
    query_block: jax.Array,
    key_block: jax.Array,
) -> None:
    """Adds what one block of keys and one of queries give to all gradients."""
    query, key, gradient = inputs.query[0, 0], inputs.key[0, 0], of_attended.gradient[0, 0]
    logits = logits_of(sizes, inputs, totals.tiles, query_block, key_block)
    weights = jnp.exp(logits - of_attended.log_total[0, 0])
    # [head_dim, queries] x [keys, queries] -> [head_dim, keys]
    totals.value[...] += dot(gradient, weights.astype(gradient.dtype), 1, 1)
    # [head_dim, keys] x [head_dim, queries] -> [keys, queries]
    of_weights = dot(inputs.value[0, 0], gradient, 0, 0)
    of_logits = weights * (of_weights - of_attended.weighted_sum[0, 0])
    if totals.tile_gradients is not None:
        _add_tiles(of_logits, totals.tile_gradients, tile_of(sizes, query_block, key_block))
    of_logits = of_logits.astype(query.dtype)
    # [head_dim, queries] x [keys, queries] -> [head_dim, keys]
    totals.key[...] += dot(query, of_logits, 1, 1)
    # [head_dim, keys] x [keys, queries] -> [head_dim, queries]
    totals.query[query_block] += dot(key, of_logits, 1, 0)


def _add_tiles(of_logits: jax.Array, tile_gradients: Ref, first: jax.Array) -> None:
    """Adds a block's gradient of the logits to the tiles of the bias, which are the same along its diagonals."""
    num_rows, num_columns = (size // TILE for size in of_logits.shape)
    for i in range(num_rows + num_columns - 1):
        # Tile i lies where the row of tiles, less the column counted from the end, is i.
        places = [(row, num_columns - 1 - i + row) for row in range(num_rows)]
        tile_gradients[first + i] += sum(
            of_logits[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            for row, column in places
            if 0 <= column < num_columns
        )


def _sum_tiles(tile_gradients: Ref, bias_gradient: Ref) -> None:
    """Writes the gradient of the bias [1, num_tiles + 1, 128] of a head, given that of its tiles."""
    bias_gradient[...] = jnp.zeros_like(bias_gradient)

    def add(tile: jax.Array, _: None) -> None:
        sums = sum_diagonals(tile_gradients[tile])
        bias_gradient[0, pl.ds(tile + 1, 1)] += sums[:, :TILE]
        bias_gradient[0, pl.ds(tile, 1)] += sums[:, TILE:]

    jax.lax.fori_loop(0, tile_gradients.shape[0], add, None)
