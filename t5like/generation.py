"""A model that writes: prompts in, answers out, by any way of decoding, compiled once for each bucket of lengths."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5like.batch import SpecialTokens
from t5like.decoding.beam import beam_search
from t5like.decoding.options import BeamSearch, Decoding, Greedy, Sampling
from t5like.decoding.sampling import decode_rows, row_seeds
from t5like.decoding.scoring import sequence_scores
from t5like.decoding.streaming import stream
from t5like.models.cache import DecodingState, expand_rows, reorder_rows
from t5like.models.prepared import prepare
from t5like.models.transformer import Batch, Transformer, for_decoding

PyTree = Any
SHORTEST_BUCKET = 16


class Answers(NamedTuple):
    """What a model writes on a batch."""

    tokens: jax.Array  # [batch, num_best, max_length] int32, padding after the end mark
    scores: jax.Array  # [batch, num_best] float32; 0 where the way of decoding gives none


def bucket_length(length: int, max_length: int) -> int:
    """Returns the length that rows of this many tokens are padded to: 16, 32, 64, ... up to `max_length`.

    One program is compiled for each, so that a hundred lengths cost a handful of compilations:

        max_length 100:   5 -> 16   16 -> 16   17 -> 32   70 -> 100
    """
    bucket = SHORTEST_BUCKET
    while bucket < length:
        bucket *= 2
    return min(bucket, max_length)


def prompt_rows(prompts: Sequence[np.ndarray], length: int, *, pad_id: int) -> dict[str, np.ndarray]:
    """Returns prompts as the decoder reads them, padded on the left so that all end together.

    length 4:  [5 6 7]  ->  decoder_input_tokens [0 5 6 7], decoder_segment_ids [0 1 1 1]
    """
    tokens = np.full((len(prompts), length), pad_id, np.int32)
    segment_ids = np.zeros((len(prompts), length), np.int32)
    for row, prompt in enumerate(prompts):
        if len(prompt):
            tokens[row, -len(prompt) :] = prompt
            segment_ids[row, -len(prompt) :] = 1
    return {"decoder_input_tokens": tokens, "decoder_segment_ids": segment_ids}


def has_nothing_to_say(batch: Batch) -> jax.Array:
    """Returns which rows are padding alone, the filling of a last batch, [batch] bool: nobody waits for them."""
    stack = "encoder" if "encoder_segment_ids" in batch else "decoder"
    return jnp.all(batch[f"{stack}_segment_ids"] == 0, axis=1)


class Writer:
    """A model made ready to write; `prepare` its parameters once, then call it on batches."""

    def __init__(
        self,
        model: Transformer,
        special_tokens: SpecialTokens,
        *,
        num_tokens: int,
        max_length: int,
        decoding: Decoding | None = None,
    ):
        """Compiles nothing yet.

        Args:
          num_tokens: ids the vocabulary has; the embedding's further rows are never chosen.
          max_length: most tokens of an answer, begin and end marks included.
          decoding: None: greedily.
        """
        self._model = type(model)(for_decoding(model.config), model.rules)
        self._special_tokens, self._num_tokens = special_tokens, num_tokens
        # What every answer begins with is part of its length, and given.
        self._max_length = max(1, max_length - len(special_tokens.target_begin_ids))
        self._decoding = decoding or Greedy()
        turns_table = jax.default_backend() == "cpu"
        self.prepare: Callable[[PyTree], PyTree] = jax.jit(
            functools.partial(prepare, c=model.config, turns_table=turns_table)
        )
        self._answer = jax.jit(self._answer_batch)

    def __call__(
        self, prepared: PyTree, batch: Batch, seeds: jax.Array | np.ndarray | None = None
    ) -> Answers:
        """Returns what the model writes on a batch.

        Args:
          prepared: the parameters as `prepare` gives them.
          batch: the encoder's features where there is an encoder, else the prompts, see `prompt_rows`. Rows of
            padding alone are answered with padding.
          seeds: [batch] uint32, of sampling; None takes the one of the options for each.
        """
        seeds = self._seeds(batch) if seeds is None else jnp.asarray(seeds)
        return self._answer(prepared, self._with_prompt(batch), seeds)

    def stream(
        self, prepared: PyTree, batch: Batch, seeds: jax.Array | np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yields the next token of each row, [batch] int32, as it is chosen; greedily or sampled."""
        assert not isinstance(self._decoding, BeamSearch), "beams change their minds"
        logits, state = self._start(prepared, self._with_prompt(batch))
        return stream(
            jax.tree_util.Partial(self._step, prepared),
            state,
            logits,
            self._decoding,
            max_length=self._max_length,
            eos_id=self._special_tokens.eos_id,
            pad_id=self._special_tokens.pad_id,
            num_tokens=self._num_tokens,
            has_ended=has_nothing_to_say(batch),
            seeds=self._seeds(batch) if seeds is None else jnp.asarray(seeds),
        )

    def _seeds(self, batch: Batch) -> jax.Array:
        rows = len(next(iter(batch.values())))
        options = self._decoding if isinstance(self._decoding, Sampling) else Greedy()
        return row_seeds(options, rows)

    def _with_prompt(self, batch: Batch) -> Batch:
        if "encoder_input_tokens" not in batch:
            return batch
        rows, marks = len(batch["encoder_input_tokens"]), self._special_tokens
        # What every target begins with is no more in question than the start.
        prompt = jnp.array([marks.decoder_start_id, *marks.target_begin_ids], jnp.int32)
        start = jnp.broadcast_to(prompt, (rows, len(prompt)))
        features = {name: batch[name] for name in ("encoder_input_tokens", "encoder_segment_ids")}
        return {**features, "decoder_input_tokens": start, "decoder_segment_ids": jnp.ones_like(start)}

    @functools.partial(jax.jit, static_argnums=0)
    def _start(self, params: PyTree, batch: Batch) -> tuple[jax.Array, DecodingState]:
        # What is written last is not read any more, so that an answer may fill all positions.
        length = batch["decoder_input_tokens"].shape[1] + self._max_length - 1
        return self._model.apply({"params": params}, batch, length, method=Transformer.start_decoding)

    def _step(
        self, params: PyTree, state: DecodingState, tokens: jax.Array
    ) -> tuple[jax.Array, DecodingState]:
        return self._model.apply({"params": params}, tokens, state, method=Transformer.decode_step)

    def _answer_batch(self, params: PyTree, batch: Batch, seeds: jax.Array) -> Answers:
        logits, state = self._start(params, batch)
        step = functools.partial(self._step, params)
        common: dict[str, Any] = {
            "max_length": self._max_length,
            "eos_id": self._special_tokens.eos_id,
            "pad_id": self._special_tokens.pad_id,
            "num_tokens": self._num_tokens,
            "has_ended": has_nothing_to_say(batch),
        }
        if isinstance(self._decoding, BeamSearch):
            state = expand_rows(state, self._decoding.num_beams)
            tokens, scores = beam_search(step, reorder_rows, state, logits, self._decoding, **common)
            return Answers(tokens, scores)
        tokens = decode_rows(step, state, logits, self._decoding, **common, seeds=seeds)
        return Answers(tokens[:, None], jnp.zeros((len(tokens), 1), jnp.float32))


def label_scores(
    model: Transformer, params: PyTree, batch: Batch, *, targets: dict[str, np.ndarray]
) -> jax.Array:
    """Returns how likely each label is as the answer to each row, in nats, [batch, labels] float32.

    Inputs are read once, whatever the number of labels.

    Args:
      batch: the encoder's features.
      targets: the decoder's features of the labels, [labels, length].
    """
    variables = {"params": params}
    segment_ids = batch["encoder_segment_ids"]
    encoded = model.apply(variables, batch["encoder_input_tokens"], segment_ids, method=Transformer.encode)
    num_rows, num_labels = len(encoded), len(targets["decoder_target_tokens"])
    pairs = {name: jnp.tile(array, (num_rows, 1)) for name, array in targets.items()}
    pairs["encoder_segment_ids"] = jnp.repeat(segment_ids, num_labels, axis=0)
    x = model.apply(variables, pairs, jnp.repeat(encoded, num_labels, axis=0), method=Transformer.decode)
    logits = model.apply(variables, x, method=Transformer.logits)
    scores = sequence_scores(logits, pairs["decoder_target_tokens"], pairs["decoder_loss_weights"])
    return scores.reshape(num_rows, num_labels)
