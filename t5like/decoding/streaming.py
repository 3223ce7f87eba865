"""Tokens as they are made, for a terminal."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from t5like.decoding.options import BeamSearch, Decoding, Sampling
from t5like.decoding.sampling import next_tokens, row_seeds
from t5like.decoding.step import State, Step
from t5like.errors import UserError


def stream(
    step: Step,
    state: State,
    first_logits: jax.Array,
    options: Decoding,
    *,
    max_length: int,
    eos_id: int,
    pad_id: int = 0,
    num_tokens: int | None = None,
    has_ended: jax.Array | None = None,
    seeds: jax.Array | None = None,
) -> Iterator[np.ndarray]:
    """Returns an iterator over the tokens of each position, [rows] int32, made when asked for.

    They are the columns of what `decode_rows` returns for the same arguments, up to the last row's end mark.

    Args:
      step: compiled once for each function; a model's parameters belong in a `jax.tree_util.Partial(function,
        params)`, or they become constants of the compiled program.
      state: is used up, as its memory holds the next one.

    Raises:
      UserError: for beam search, which knows its first token when it knows the last.
    """
    if isinstance(options, BeamSearch):
        raise UserError(
            "Beam search cannot be streamed, as it settles on its first token last; use Greedy or Sampling."
        )
    rows = first_logits.shape[0]
    seeds = row_seeds(options, rows) if seeds is None else seeds
    if isinstance(options, Sampling):
        options = dataclasses.replace(options, seed=0)  # or another seed would compile again
    choose = functools.partial(
        _choose, seeds=seeds, options=options, eos_id=eos_id, pad_id=pad_id, num_tokens=num_tokens
    )
    # A Partial in a Partial would hide its parameters.
    advance = functools.partial(_advance, step if isinstance(step, Partial) else Partial(step))
    has_ended = jnp.zeros(rows, bool) if has_ended is None else has_ended
    return _tokens_of_each_position(advance, choose, state, first_logits, has_ended, max_length)


def _tokens_of_each_position(
    advance: Step,
    choose: Callable[[jax.Array, np.int32, jax.Array], tuple[jax.Array, jax.Array]],
    state: State,
    logits: jax.Array,
    has_ended: jax.Array,
    max_length: int,
) -> Iterator[np.ndarray]:
    if jax.device_get(has_ended).all():
        return
    tokens, has_ended = choose(logits, np.int32(0), has_ended)
    yield jax.device_get(tokens)
    for position in range(1, max_length):
        if jax.device_get(has_ended).all():
            return
        logits, state = advance(state, tokens)
        tokens, has_ended = choose(logits, np.int32(position), has_ended)
        yield jax.device_get(tokens)


@functools.partial(jax.jit, donate_argnames="state")
def _advance(step: Step, state: State, tokens: jax.Array) -> tuple[jax.Array, State]:
    return step(state, tokens)


# Apart from the step, whose compilation takes long and does not depend on the options.
_choose = jax.jit(next_tokens, static_argnames=("options", "eos_id", "pad_id", "num_tokens"))
