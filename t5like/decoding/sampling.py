"""Greedy decoding and sampling: one token a row and step, until every row has ended."""

import functools

import jax
import jax.numpy as jnp

from t5like.decoding.largest import BLOCK, largest
from t5like.decoding.options import Greedy, Sampling
from t5like.decoding.step import State, Step, forbid_ids_from

Carry = tuple[jax.Array, jax.Array, State, jax.Array, jax.Array]
"""Tokens in a row so far, the last of each [rows], the state before it, all [rows, max_length], and which rows ended."""

_HIGHEST_BIT = 29  # of a float32 from 0 to 1


def decode_rows(
    step: Step,
    state: State,
    first_logits: jax.Array,
    options: Greedy | Sampling,
    *,
    max_length: int,
    eos_id: int,
    pad_id: int = 0,
    num_tokens: int | None = None,
    has_ended: jax.Array | None = None,
    seeds: jax.Array | None = None,
) -> jax.Array:
    """Returns what each row says, [rows, max_length] int32, padding after its end mark.

    With max_length 5, end mark 1 and padding 0, rows that choose these tokens say
        7 5 1 . .        7 5 1 0 0
        1 . . . .   ->   1 0 0 0 0
        4 6 4 1 .        4 6 4 1 0   and the model was asked three times more, until the last row had ended
    Token t of a row is drawn with its own seed and t, so its neighbours and its place in the batch do not matter.

    Args:
      first_logits: [rows, vocab] float32, the model's answer to the prompt.
      max_length: most tokens to decode, end mark included.
      num_tokens: ids from this one on are never chosen; None allows all.
      has_ended: [rows] bool, rows that say nothing, such as those that fill a batch; None: no row.
      seeds: [rows] uint32; None: `options.seed` for every row, so that rows with the same prompt say the same.
    """
    rows = first_logits.shape[0]
    choose = functools.partial(
        next_tokens,
        seeds=row_seeds(options, rows) if seeds is None else seeds,
        options=options,
        eos_id=eos_id,
        pad_id=pad_id,
        num_tokens=num_tokens,
    )

    def goes_on(carry: Carry) -> jax.Array:
        position, *_, has_ended = carry
        return (position < max_length) & ~jnp.all(has_ended)

    def decode_one(carry: Carry) -> Carry:
        position, tokens, state, decoded, has_ended = carry
        logits, state = step(state, tokens)
        tokens, has_ended = choose(logits, position, has_ended)
        decoded = jax.lax.dynamic_update_slice_in_dim(decoded, tokens[:, None], position, axis=1)
        return position + 1, tokens, state, decoded, has_ended

    position = jnp.zeros((), jnp.int32)
    has_ended = jnp.zeros(rows, bool) if has_ended is None else has_ended
    tokens, has_ended = choose(first_logits, position, has_ended)
    decoded = jnp.full((rows, max_length), pad_id, jnp.int32).at[:, 0].set(tokens)
    return jax.lax.while_loop(goes_on, decode_one, (position + 1, tokens, state, decoded, has_ended))[3]


def row_seeds(options: Greedy | Sampling, rows: int) -> jax.Array:
    """Returns the seed of the options for every row, [rows] uint32; 0 where nothing is drawn."""
    return jnp.full(rows, options.seed if isinstance(options, Sampling) else 0, jnp.uint32)


def next_tokens(
    logits: jax.Array,
    position: jax.Array,
    has_ended: jax.Array,
    seeds: jax.Array,
    *,
    options: Greedy | Sampling,
    eos_id: int,
    pad_id: int,
    num_tokens: int | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the token of each row at a position, [rows] int32, and the rows that have ended with it, [rows] bool.

    Arguments are those of `decode_rows`; `position` is a scalar int32, 0 for the first token.
    """
    logits = forbid_ids_from(num_tokens, logits)
    if isinstance(options, Greedy):
        tokens = largest(logits, 1)[1][:, 0]
    else:
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), position))(seeds)
        tokens = draw(logits, keys, options)
    tokens = jnp.where(has_ended, pad_id, tokens)
    return tokens, has_ended | (tokens == eos_id)


def draw(logits: jax.Array, keys: jax.Array, options: Sampling) -> jax.Array:
    """Returns an id of each row drawn as the options say, [rows] int32.

    Args:
      logits: [rows, vocab] float32, -inf for ids that are never drawn.
      keys: [rows] random keys.
    """
    ids = None
    if options.top_k is not None:
        # [rows, vocab] -> [rows, top_k]
        logits, ids = largest(logits, min(options.top_k, logits.shape[-1]))
    # Largest 0, so that no temperature is too low.
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / options.temperature
    if options.top_p is not None and options.top_p < 1:
        logits = nucleus(logits, options.top_p)
    drawn = jax.vmap(_draw_one)(keys, logits).astype(jnp.int32)
    return drawn if ids is None else jnp.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0]


def nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """Returns the logits [rows, vocab] with -inf outside the smallest set of likeliest ids whose mass is `top_p`.

    Ids as likely as the last one of the set are in it, too:
        probabilities         0.4  0.3  0.1  0.1  0.1
        kept at top_p 0.6       x    x
        kept at top_p 0.75      x    x    x    x    x
    """
    probabilities = jax.nn.softmax(logits, axis=-1)
    # The least probability in the set is the largest number with enough mass at and above it. Floats from 0 up are in
    # the order of their bits, so it is found bit by bit; sorting a vocabulary takes forty times as long.

    def as_float(bits: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(bits, jnp.float32)

    def set_bit(index: jax.Array, least: jax.Array) -> jax.Array:
        larger = least | (1 << (_HIGHEST_BIT - index))
        mass = jnp.sum(
            jnp.where(probabilities >= as_float(larger), probabilities, 0.0), axis=-1, keepdims=True
        )
        return jnp.where(mass >= top_p, larger, least)

    least = jnp.zeros((logits.shape[0], 1), jnp.int32)
    least = jax.lax.fori_loop(0, _HIGHEST_BIT + 1, set_bit, least)
    return jnp.where(probabilities >= as_float(least), logits, -jnp.inf)


def _draw_one(key: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns an index drawn by logits [vocab]: a block of ids by its mass, then an id of the block.

    Two draws from a few hundred rather than one from all, which would need a random number for every id.
    """
    block_key, id_key = jax.random.split(key)
    padding = -logits.shape[0] % BLOCK
    blocks = jnp.pad(logits, (0, padding), constant_values=-jnp.inf).reshape(-1, BLOCK)
    block = jax.random.categorical(block_key, jax.nn.logsumexp(blocks, axis=-1))
    return block * BLOCK + jax.random.categorical(id_key, blocks[block])
