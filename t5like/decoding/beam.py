"""Beam search: the best sequences among those that begin with the likeliest beginnings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5like.decoding.largest import largest
from t5like.decoding.options import BeamSearch
from t5like.decoding.step import Reorder, State, Step, forbid_ids_from


class _Sequences(NamedTuple):
    tokens: jax.Array  # [batch, num, max_length] int32, padding at the end
    scores: jax.Array  # [batch, num] float32, best first; -inf where there is no sequence


class _Search(NamedTuple):
    """All that the search keeps from one token to the next."""

    length: jax.Array  # scalar int32: tokens in each running sequence
    running: _Sequences  # by log-probability
    finished: _Sequences  # by log-probability over the power of the length
    rows: jax.Array  # [batch * num_beams] int32: the row of the state that each running sequence goes on from
    is_open: jax.Array  # [batch] bool: examples whose finished sequences may change


def beam_search(
    step: Step,
    reorder: Reorder,
    state: State,
    first_logits: jax.Array,
    options: BeamSearch,
    *,
    max_length: int,
    eos_id: int,
    pad_id: int = 0,
    num_tokens: int | None = None,
    has_ended: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the best sequences of each example, best first, and their scores.

    They are [batch, num_best, max_length] int32, padding after the end mark, and [batch, num_best] float32. What an
    example lacks of `num_best` sequences is padding with a score of -inf. Probabilities are those among all ids
    of the model, whatever `num_tokens` allows. An example's answer does not depend on the others.

    The state is reordered once a step. Rows stay within their example, so what is the same for all beams of one,
    such as the encoder's output, may be left as it is:
        row of the new state    0  1  2  3  4  5     2 examples with 3 beams each
        is row of the old one   0  0  2  4  3  4

    Args:
      state: has batch * num_beams rows, the beams of an example side by side and alike.
      first_logits: [batch, vocab] float32, the model's answer to the prompt.
      max_length: most tokens to decode, end mark included; a sequence this long needs none.
      num_tokens: ids from this one on are never chosen; None allows all.
      has_ended: [batch] bool, examples that say nothing, such as those that fill a batch; None: no example.

    Source: `_beam_search` of Transformers 4.57, for its rules. Where fewer than 2 * num_beams ids may be chosen, it
    can count a sequence twice, and we do not.
    """
    power = jnp.asarray(np.arange(1, max_length + 1, dtype=np.float64) ** options.length_penalty, jnp.float32)

    def extend(search: _Search, logits: jax.Array) -> _Search:
        candidates, parents = _candidates(search, logits, num_tokens)
        return _choose(search, candidates, parents, power, eos_id=eos_id, options=options)

    def goes_on(carry: tuple[_Search, State]) -> jax.Array:
        return jnp.any(carry[0].is_open)

    def decode_one(carry: tuple[_Search, State]) -> tuple[_Search, State]:
        search, state = carry
        last = jax.lax.dynamic_index_in_dim(search.running.tokens, search.length - 1, axis=2, keepdims=False)
        logits, state = step(reorder(state, search.rows), last.reshape(-1))
        return extend(search, logits), state

    nothing = _nothing_said((first_logits.shape[0], options.num_beams, max_length), pad_id, has_ended)
    first = extend(nothing, jnp.repeat(first_logits, options.num_beams, axis=0))
    best = jax.lax.while_loop(goes_on, decode_one, (first, state))[0].finished
    return best.tokens[:, : options.num_best], best.scores[:, : options.num_best]


def _nothing_said(shape: tuple[int, int, int], pad_id: int, has_ended: jax.Array | None) -> _Search:
    """Returns the search before the first token, for `shape` [batch, num_beams, max_length]."""
    batch, num_beams, _ = shape
    none = _Sequences(jnp.full(shape, pad_id, jnp.int32), jnp.full((batch, num_beams), -jnp.inf))
    return _Search(
        length=jnp.zeros((), jnp.int32),
        # All beams begin alike: only the first may speak, or they would all say the same.
        running=none._replace(scores=none.scores.at[:, 0].set(0.0)),
        finished=none,
        rows=jnp.arange(batch * num_beams, dtype=jnp.int32),
        is_open=jnp.ones(batch, bool) if has_ended is None else ~has_ended,
    )


def _candidates(search: _Search, logits: jax.Array, num_tokens: int | None) -> tuple[_Sequences, jax.Array]:
    """Returns the 2 * num_beams likeliest running sequences with one more token, and the beam each goes on from.

    At most num_beams of them end with the end mark, which leaves as many to go on with.

    Args:
      logits: [batch * num_beams, vocab] float32.
    """
    batch, num_beams, _ = search.running.tokens.shape
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    # No beam has more than all the candidates: [batch * num_beams, vocab] -> [batch * num_beams, num_each]
    num_each = min(2 * num_beams, logits.shape[-1])
    chosen_logits, ids = largest(forbid_ids_from(num_tokens, logits), num_each)
    log_probs = chosen_logits - total
    scores = search.running.scores[:, :, None] + log_probs.reshape(batch, num_beams, num_each)
    scores, chosen = jax.lax.top_k(scores.reshape(batch, num_beams * num_each), 2 * num_beams)
    parents = chosen // num_each
    ids = jnp.take_along_axis(ids.reshape(batch, num_beams * num_each), chosen, axis=1)
    tokens = jnp.take_along_axis(search.running.tokens, parents[:, :, None], axis=1)
    tokens = jax.lax.dynamic_update_slice_in_dim(tokens, ids[:, :, None], search.length, axis=2)
    return _Sequences(tokens, scores), parents


def _choose(
    search: _Search,
    candidates: _Sequences,
    parents: jax.Array,
    power: jax.Array,
    *,
    eos_id: int,
    options: BeamSearch,
) -> _Search:
    """Returns the search after one more token: which candidates run on, which have finished, who is done.

    Args:
      parents: [batch, num_candidates] int32, the beam that each candidate goes on from.
      power: [max_length] float32, what the score of a sequence of 1, 2, ... tokens is divided by.
    """
    batch, num_beams, max_length = search.running.tokens.shape
    last = jax.lax.dynamic_index_in_dim(candidates.tokens, search.length, axis=2, keepdims=False)
    has_ended = (last == eos_id) | (search.length + 1 == max_length)

    running, chosen = _best(
        candidates._replace(scores=jnp.where(has_ended, -jnp.inf, candidates.scores)), num_beams
    )
    parents = jnp.take_along_axis(parents, chosen, axis=1)
    rows = (jnp.arange(batch)[:, None] * num_beams + parents).reshape(-1)

    # A sequence that ends must be among the num_beams best candidates; the others are there to run on.
    is_finished = has_ended[:, :num_beams] & search.is_open[:, None]
    scores = candidates.scores[:, :num_beams] / power[search.length]
    finished, _ = _best(
        _Sequences(
            jnp.concatenate([search.finished.tokens, candidates.tokens[:, :num_beams]], axis=1),
            jnp.concatenate([search.finished.scores, jnp.where(is_finished, scores, -jnp.inf)], axis=1),
        ),
        num_beams,
    )

    worst = finished.scores[:, -1]
    favours_length = options.early_stopping == "never" and options.length_penalty > 0
    hoped = running.scores[:, 0] / (power[-1] if favours_length else power[search.length])
    is_open = search.is_open & (hoped > worst)
    if options.early_stopping is True:
        is_open &= worst == -jnp.inf
    return _Search(search.length + 1, running, finished, rows, is_open)


def _best(sequences: _Sequences, num: int) -> tuple[_Sequences, jax.Array]:
    """Returns the `num` sequences with the best scores, best first, and their indices [batch, num]."""
    scores, chosen = jax.lax.top_k(sequences.scores, num)
    return _Sequences(jnp.take_along_axis(sequences.tokens, chosen[:, :, None], axis=1), scores), chosen
