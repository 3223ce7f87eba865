"""What the forward and the backward kernel of attention share: how they cut their arrays, and the logits of a block.

Positions lie along the lanes of a TPU's registers everywhere, [..., head_dim, positions], so that a head of 64 fills
them; logits lie keys by queries, so that what is one number a query, such as its largest logit, is a row of lanes.
"""

import dataclasses
import math
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from t5like.kernels.toeplitz_tiles import TILE, lay_out_tile

LARGEST_BLOCK = 512
HIDDEN = -1e10  # the logit of what is not attended to
WORKING_BYTES = 8 * 2**20  # of fast memory, for blocks and what is made of them
USUAL_BYTES = 16 * 2**20  # what a kernel may use of fast memory without being told, and all that a TPU v4 has
LEAST = (
    -1e9
)  # what a largest logit is at least: far above HIDDEN, so that what is hidden weighs 0 in every row

Ref = Any  # what a kernel reads and writes
T = TypeVar("T")  # an array, or within a kernel a reference, or how a block of it is found


class Inputs(NamedTuple, Generic[T]):
    """What both kernels read; lengths are multiples of the blocks."""

    query: T
    """[batch, heads, head_dim, query]."""
    key: T
    """[batch, heads, head_dim, key]."""
    value: T
    query_marks: T
    """[batch, 1 or 2, query] int32: a query sees keys with the same first mark. Where there are two marks, it sees
    those that come after it only if the second marks are the same as well."""
    key_marks: T
    """[batch, 1 or 2, key] int32."""
    bias: T | None
    """As `toeplitz_tiles.bias_rows` lays it out, or None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of one attention, and how its positions are cut into blocks."""

    batch: int
    heads: int
    head_dim: int
    num_queries: int
    num_keys: int
    num_marks: int
    has_bias: bool
    is_causal: bool
    """Whether queries see no key after them, except where second marks say so."""

    @property
    def query_block(self) -> int:
        """Queries in a block."""
        return block_of(self.num_queries)

    @property
    def key_block(self) -> int:
        """Keys in a block."""
        return block_of(self.num_keys)

    @property
    def query_blocks(self) -> int:
        """How many blocks the queries make."""
        return self.num_queries // self.query_block

    @property
    def key_blocks(self) -> int:
        """How many blocks the keys make."""
        return self.num_keys // self.key_block

    @property
    def num_tiles(self) -> int:
        """Different tiles in the bias of a head."""
        return (self.num_queries + self.num_keys) // TILE - 1

    @property
    def skips_future(self) -> bool:
        """Whether blocks of keys that come after all queries of theirs are left out."""
        return self.is_causal and self.num_marks == 1

    @property
    def num_blocks(self) -> int:
        """Pairs of blocks whose logits are computed, for each head of each example."""
        return sum(
            not self.skips_future or self.key_block * key < self.query_block * (query + 1)
            for query in range(self.query_blocks)
            for key in range(self.key_blocks)
        )

    def fast_memory(self, *, num_copies_of_tiles: int, resident_bytes: int) -> int:
        """Returns how much of a chip's fast memory a kernel is to be given, in bytes.

        Args:
          num_copies_of_tiles: how often it holds the tiles of a head's bias, or as much.
          resident_bytes: what else it holds of a head.
        """
        tiles = num_copies_of_tiles * self.num_tiles * TILE * TILE * 4 if self.has_bias else 0
        return max(USUAL_BYTES, WORKING_BYTES + tiles + resident_bytes)

    def cost(self, *, num_products: int, bytes_accessed: int) -> pl.CostEstimate:
        """Returns what a kernel costs that makes so many matrix products of every block."""
        logits = self.batch * self.heads * self.num_blocks * self.query_block * self.key_block
        return pl.CostEstimate(
            flops=2 * self.head_dim * num_products * logits,
            transcendentals=logits,
            bytes_accessed=bytes_accessed,
        )


def block_of(length: int) -> int:
    """Returns the size of the blocks that a padded length is cut into: at most 512, a multiple of 128."""
    return length // math.ceil(length / LARGEST_BLOCK)


def padded(length: int) -> int:
    """Returns the least length that blocks of at most 512 divide: 1 -> 128, 600 -> 768, 2048 -> 2048."""
    num_blocks = math.ceil(length / LARGEST_BLOCK)
    return num_blocks * TILE * math.ceil(length / (num_blocks * TILE))


def sizes_of(inputs: Inputs[jax.Array], *, is_causal: bool) -> Sizes:
    """Returns the sizes of an attention, given all that it reads."""
    batch, heads, head_dim, num_queries = inputs.query.shape
    return Sizes(
        batch=batch,
        heads=heads,
        head_dim=head_dim,
        num_queries=num_queries,
        num_keys=inputs.key.shape[-1],
        num_marks=inputs.query_marks.shape[1],
        has_bias=inputs.bias is not None,
        is_causal=is_causal,
    )


def lay_out_tiles(bias: Ref, tiles: Ref) -> None:
    """Writes all tiles of a head's bias.

    Args:
      bias: [1, num_tiles + 1, 128].
      tiles: [num_tiles, 128, 128].
    """

    def write(tile: jax.Array, _: None) -> None:
        window = jnp.concatenate([bias[0, pl.ds(tile + 1, 1)], bias[0, pl.ds(tile, 1)]], axis=1)
        tiles[tile] = lay_out_tile(window)

    jax.lax.fori_loop(0, tiles.shape[0], write, None)


def tile_of(sizes: Sizes, query_block: jax.Array, key_block: jax.Array) -> jax.Array:
    """Returns the number of the bias tile of a block's first keys and last queries, the least of its tiles."""
    keys, queries = sizes.key_block // TILE, sizes.query_block // TILE
    return key_block * keys + (sizes.query_blocks - 1 - query_block) * queries


def logits_of(
    sizes: Sizes, inputs: Inputs[Ref], tiles: Ref | None, query_block: jax.Array, key_block: jax.Array
) -> jax.Array:
    """Returns the logits [keys, queries] float32 of a block, HIDDEN where a query does not see a key.

    Args:
      inputs: of references to the block.
    """
    # [head_dim, keys] x [head_dim, queries] -> [keys, queries]
    logits = dot(inputs.key[0, 0], inputs.query[0, 0], 0, 0)
    keys, queries = logits.shape
    if tiles is not None:
        first, num_rows, num_columns = (
            tile_of(sizes, query_block, key_block),
            keys // TILE,
            queries // TILE,
        )
        apart = [tiles[first + i] for i in range(num_rows + num_columns - 1)]
        # Tiles on a diagonal are the same, and the last tile of a row of them is the one with the least distance.
        logits += jnp.concatenate(
            [jnp.concatenate(apart[row : row + num_columns][::-1], axis=1) for row in range(num_rows)],
            axis=0,
        )
    is_seen = _column(inputs.key_marks[0, :1], queries) == inputs.query_marks[0, :1]
    if sizes.is_causal:
        key = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0)
        query = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
        is_open = key - query <= query_block * queries - key_block * keys
        if sizes.num_marks == 2:
            is_open |= _column(inputs.key_marks[0, 1:], queries) == inputs.query_marks[0, 1:]
        is_seen &= is_open
    return jnp.where(is_seen, logits, HIDDEN)


def _column(row: jax.Array, width: int) -> jax.Array:
    """Returns a row [1, n] as a column, so many times over: [n, width]."""
    column = jnp.broadcast_to(row, (TILE, row.shape[1])).T
    return jnp.concatenate([column] * (width // TILE), axis=1)


def dot(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
    """Returns the product of two matrices over an axis of each, float32."""
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)


def read_specs(sizes: Sizes, query_at: Any, key_at: Any) -> tuple[Inputs[pl.BlockSpec], pl.BlockSpec]:
    """Returns how a kernel reads its inputs, and how any row of numbers by query.

    Args:
      query_at, key_at: from the place in the kernel's grid, beginning with head and example, to the block read there.
    """

    def positions(num_rows: int, block: int, at: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, num_rows, block), lambda h, b, *at_: (b, h, 0, at(*at_)))

    def marks(block: int, at: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, sizes.num_marks, block), lambda _, b, *at_: (b, 0, at(*at_)))

    bias = None
    if sizes.has_bias:
        bias = pl.BlockSpec((1, sizes.num_tiles + 1, TILE), lambda h, *_: (h, 0, 0))
    of_keys = positions(sizes.head_dim, sizes.key_block, key_at)
    return Inputs(
        positions(sizes.head_dim, sizes.query_block, query_at),
        of_keys,
        of_keys,
        marks(sizes.query_block, query_at),
        marks(sizes.key_block, key_at),
        bias,
    ), positions(1, sizes.query_block, query_at)
