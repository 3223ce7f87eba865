"""The one transformer: an encoder, a decoder or both over one embedding, and a head.

`Transformer(config)` is a Linen module; what callers use is pure functions of its parameters:
`model.apply({"params": params}, batch, dropout_key)` and, for decoding, `start_decoding` and `decode_step`.
The features of a batch are described in `t5like.batch`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from t5like.batch import EXAMPLE_LENGTHS, EXAMPLE_STARTS
from t5like.chunked_loss import VocabularyHead, chunked_cross_entropy, chunked_row_losses
from t5like.errors import UserError
from t5like.losses import (
    LABEL,
    NEXT_SENTENCE,
    SCORE,
    SPAN,
    TAG,
    TOKEN,
    LossSums,
    summed_losses,
    targets_of,
    token_cross_entropy,
)
from t5like.models.cache import DecodingState, LayerCache, empty_cache, of_beams
from t5like.models.config import TransformerConfig
from t5like.models.layers import (
    ACTIVATIONS,
    Dense,
    Embedding,
    Initializer,
    Norm,
    dropout,
    fan_in_normal,
    fan_in_truncated_normal,
    split_key,
)
from t5like.models.masks import Mask, prefix_mask
from t5like.models.stacks import Decoder, Encoder, count_positions
from t5like.sharding import AxisRules

Batch = Mapping[str, jax.Array]
NEXT_SENTENCE_LABELS = 2
_NEVER = -1e9  # a logit; finite, so that a row of padding alone has a softmax


def for_decoding(config: TransformerConfig) -> TransformerConfig:
    """Returns the config of the same model as it is decoded: layer by layer, so that each cache is written in place."""
    return dataclasses.replace(config, scans_layers=False, attention="at_once", remat="none")


class Transformer(nn.Module):
    """A transformer of one stack or two; see `TransformerConfig` for its knobs."""

    config: TransformerConfig
    rules: AxisRules = AxisRules()

    def setup(self) -> None:
        c = self.config
        self.token_embedder = Embedding(c, self.rules)
        if c.num_encoder_layers:
            self.encoder = Encoder(c, self.rules)
        if c.num_decoder_layers:
            self.decoder = Decoder(c, self.rules)
        if c.head == "language_model":
            self._set_up_language_model()
        if c.has_pooler:
            self.pooler = self._dense(c.embed_dim, ("embed", "hidden"))
        if c.predicts_next_sentence:
            self.next_sentence = self._dense(NEXT_SENTENCE_LABELS, ("embed", "labels"))
        if c.head in ("sequence_classification", "token_tagging", "span_extraction"):
            num_labels = 2 if c.head == "span_extraction" else c.num_labels
            # As in the public decoder-only classifiers, logits straight from the residual stream have no bias.
            has_bias = c.head != "sequence_classification" or c.has_pooler
            self.classifier = self._dense(num_labels, ("embed", "labels"), has_bias=has_bias)

    def _set_up_language_model(self) -> None:
        c = self.config
        assert c.num_embeddings is not None
        if c.transforms_head:
            self.logits_transform = self._dense(c.embed_dim, ("embed", "hidden"))
            self.logits_transform_norm = Norm(c)
        if not c.head_is_tied:
            init = self._init(fan_in_truncated_normal)
            axes = ("embed", "vocab")
            self.logits_dense = Dense(c.num_embeddings, axes, init, c.compute_dtype, output_dtype="float32")
        if c.head_has_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("vocab",))
            self.logits_bias = self.param("logits_bias", zeros, (c.num_embeddings,), jnp.float32)

    def _init(self, t5_init: Initializer) -> Initializer:
        stddev = self.config.init_stddev
        return t5_init if stddev is None else nn.initializers.normal(stddev)

    def _dense(self, num_outputs: int, axes: tuple[str, str], *, has_bias: bool = True) -> Dense:
        return Dense(num_outputs, axes, self._init(fan_in_normal), self.config.compute_dtype, has_bias)

    def __call__(self, batch: Batch, dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns what the head makes of a batch, float32; of packed rows what a classifier makes of each example.

        language_model: [batch, length, vocab]; sequence_classification: [batch, labels]; token_tagging:
        [batch, length, labels]; span_extraction: [batch, length, 2], the logits of being the answer's first and last
        token; none: the hidden states [batch, length, embed]. The length is that of the last stack.
        """
        hidden_key, head_key = split_key(dropout_key, 2)
        x = self.hidden_states(batch, hidden_key)
        c = self.config
        if c.head == "language_model":
            if c.predicts_next_sentence and self.is_initializing():
                self.next_sentence(self.pool(x, batch))
            return self.rules.constrain(self.logits(x), "batch", "length", "vocab")
        if c.head == "none":
            if c.has_pooler and self.is_initializing():
                self.pool(x, batch)
            return x
        if c.head == "sequence_classification":
            x = self.pool(x, batch)
        # Where the public code has dropout before a classifier: not before spans, nor where nothing was pooled.
        if c.head == "token_tagging" or c.has_pooler:
            x = dropout(x, c.dropout_rate, head_key)
        return self.classifier(x).astype(jnp.float32)

    def predictions(self, batch: Batch, dropout_key: jax.Array | None = None) -> dict[str, jax.Array]:
        """Returns what the model predicts, float32, by the names of `t5like.losses.targets_of`.

        token: logits [batch, length, vocab]; next_sentence, where the model predicts it: logits [batch, 2], of the
        second text following the first or not. Of the other heads, label: logits [batch, labels]; score, where there
        is a single label: [batch]; tag: logits [batch, length, labels]; span: logits [batch, 2, length] of being the
        answer's first and last token, which no padding is. Of packed rows, batch and length are those of the examples.
        """
        c = self.config
        if c.head == "sequence_classification":
            logits = self(batch, dropout_key)
            return {SCORE: logits[:, 0]} if c.num_labels == 1 else {LABEL: logits}
        if c.head == "token_tagging":
            return {TAG: by_example(self(batch, dropout_key), batch)}
        if c.head == "span_extraction":
            logits = by_example(self(batch, dropout_key), batch).swapaxes(1, 2)
            if EXAMPLE_LENGTHS in batch:
                is_real = jnp.arange(logits.shape[2]) < batch[EXAMPLE_LENGTHS][:, None]
            else:
                is_real = batch[f"{c.last_stack}_segment_ids"] > 0
            return {SPAN: jnp.where(is_real[:, None], logits, _NEVER)}
        x = self.hidden_states(batch, split_key(dropout_key, 2)[0])  # the same draws as in __call__
        logits_of = {TOKEN: self.rules.constrain(self.logits(x), "batch", "length", "vocab")}
        if c.predicts_next_sentence:
            logits_of[NEXT_SENTENCE] = self._follows(x, batch)
        return logits_of

    def _follows(self, x: jax.Array, batch: Batch) -> jax.Array:
        """Returns logits [batch, 2] float32, of the second text following the first or not."""
        return self.next_sentence(self.pool(x, batch)).astype(jnp.float32)

    def hidden_states(self, batch: Batch, dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns the output of the last stack [batch, length, embed]."""
        c = self.config
        encoder_key, decoder_key = split_key(dropout_key, 2)
        encoded = None
        if c.num_encoder_layers:
            encoded = self.encode(
                batch["encoder_input_tokens"],
                batch["encoder_segment_ids"],
                encoder_key,
                token_types=batch.get("encoder_token_types"),
                positions=batch.get("encoder_positions"),
            )
        if not c.num_decoder_layers:
            assert encoded is not None
            return encoded
        return self.decode(batch, encoded, decoder_key)

    def decode(
        self, batch: Batch, encoded: jax.Array | None, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the decoder's output [batch, length, embed], all targets at once.

        Args:
          batch: the decoder's features, and the encoder's segment ids where there is an encoder.
          encoded: the encoder's output [batch, inputs_length, embed], None without one.
        """
        c, segment_ids = self.config, batch["decoder_segment_ids"]
        own_mask = Mask(
            query_segments=segment_ids,
            key_segments=segment_ids,
            is_causal=True,
            is_prefix=batch.get("decoder_causal_attention"),
        )
        encoded_mask = None
        if encoded is not None:
            encoded_mask = Mask(query_segments=segment_ids, key_segments=batch["encoder_segment_ids"])
        positions = batch.get("decoder_positions")
        x, _ = self.decoder(
            self.token_embedder(batch["decoder_input_tokens"]),
            encoded,
            own_mask,
            encoded_mask,
            count_positions(c, segment_ids) if positions is None else positions,
            dropout_key=dropout_key,
        )
        return x

    def encode(
        self,
        tokens: jax.Array,
        segment_ids: jax.Array,
        dropout_key: jax.Array | None = None,
        *,
        token_types: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the encoder's output [batch, inputs_length, embed]."""
        if positions is None:
            positions = count_positions(self.config, segment_ids)
        mask = Mask(query_segments=segment_ids, key_segments=segment_ids)
        return self.encoder(self.token_embedder(tokens), mask, positions, token_types, dropout_key)

    def losses(
        self,
        batch: Batch,
        dropout_key: jax.Array | None = None,
        *,
        z_loss: float = 0.0,
        label_smoothing: float = 0.0,
        num_chunks: int = 1,
    ) -> dict[str, LossSums]:
        """Returns by name the sums over all that is predicted from a batch; z-loss and smoothing are of tokens alone.

        With several chunks the logits of the vocabulary are computed a chunk at a time and are never all there, as
        `chunked_cross_entropy` says; the other heads have few logits, and always compute them at once.
        """
        settings: dict[str, Any] = {"z_loss": z_loss, "label_smoothing": label_smoothing}
        if num_chunks == 1 or self.config.head != "language_model":
            return summed_losses(self.predictions(batch, dropout_key), batch, **settings)
        x, targets = self.hidden_states(batch, split_key(dropout_key, 2)[0]), targets_of(batch)
        token = self._head_input(x), self._vocabulary_head(), targets[TOKEN]
        losses = {TOKEN: chunked_cross_entropy(*token, num_chunks=num_chunks, rules=self.rules, **settings)}
        if NEXT_SENTENCE in targets:
            losses[NEXT_SENTENCE] = token_cross_entropy(self._follows(x, batch), *targets[NEXT_SENTENCE])
        return losses

    def row_losses(self, batch: Batch, *, num_chunks: int = 1) -> dict[str, LossSums]:
        """Returns what `losses` does, [rows] each, of every row apart and without z-loss, smoothing and dropout."""
        if num_chunks == 1 or self.config.head != "language_model":
            return jax.vmap(summed_losses)(self.predictions(batch), batch)
        x, targets = self.hidden_states(batch), targets_of(batch)
        token = self._head_input(x), self._vocabulary_head(), targets[TOKEN]
        losses = {TOKEN: chunked_row_losses(*token, num_chunks=num_chunks, rules=self.rules)}
        if NEXT_SENTENCE in targets:
            logits = self._follows(x, batch)
            losses[NEXT_SENTENCE] = jax.vmap(token_cross_entropy)(logits, *targets[NEXT_SENTENCE])
        return losses

    def logits(self, x: jax.Array) -> jax.Array:
        """Returns logits [batch, length, vocab] float32 of final hidden states [batch, length, embed]."""
        x = self._head_input(x)
        logits = self.token_embedder.attend(x) if self.config.head_is_tied else self.logits_dense(x)
        return logits + self.logits_bias if self.config.head_has_bias else logits

    def _head_input(self, x: jax.Array) -> jax.Array:
        """Returns what the kernel of the vocabulary's logits is multiplied with, of final hidden states."""
        c = self.config
        if c.transforms_head:
            x = self.logits_transform_norm(ACTIVATIONS[c.mlp_activations[0]](self.logits_transform(x)))
        return x * c.embed_dim**-0.5 if c.head_is_tied and c.scales_tied_head else x

    def _vocabulary_head(self) -> VocabularyHead:
        c = self.config
        if c.head_is_tied:
            kernel = self.token_embedder.embedding.T
        else:
            kernel = self.logits_dense.get_variable("params", "kernel")
        # Cast where it lies: else it may be gathered in float32 and cast then.
        kernel = self.rules.constrain(kernel.astype(c.compute_dtype), "fsdp_embed", "vocab")
        return VocabularyHead(kernel, self.logits_bias if c.head_has_bias else None)

    def pool(self, x: jax.Array, batch: Batch) -> jax.Array:
        """Returns one vector a row [batch, embed]: of an encoder's first token, or of a decoder's last real one.

        Of the packed rows of an encoder, it is one vector an example.

        Args:
          x: hidden states [batch, length, embed].
        """
        c = self.config
        if EXAMPLE_STARTS in batch:
            pooled = x[batch[EXAMPLE_STARTS][:, 0], batch[EXAMPLE_STARTS][:, 1]]
        elif c.last_stack == "encoder":
            pooled = x[:, 0]
        else:
            is_real = batch["decoder_segment_ids"] > 0
            last = jnp.max(jnp.where(is_real, jnp.arange(x.shape[1]), 0), axis=1)
            pooled = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        return pooled if not c.has_pooler else ACTIVATIONS[c.pooler or "linear"](self.pooler(pooled))

    def start_decoding(self, batch: Batch, max_length: int) -> tuple[jax.Array, DecodingState]:
        """Encodes the inputs, reads the prompts, and makes room for `max_length` tokens, prompts included.

        Args:
          batch: the encoder's features where there is one, and the prompts: `decoder_input_tokens` and
            `decoder_segment_ids` [rows, prompt_length], padded on the left, so that all rows end together. The prompt
            of an encoder-decoder is its start token. With `decoder_causal_attention`, a prompt's prefix sees itself whole.

        Returns:
          The logits of the first new token [rows, vocab], and the state from which `decode_step` goes on.

        Raises:
          UserError: if `max_length` is more than the model has positions for.
        """
        c, tokens = self.config, batch["decoder_input_tokens"]
        if c.max_length is not None and max_length > c.max_length:
            raise UserError(
                f"Prompt and answer of {max_length} tokens are longer than the {c.max_length} positions this model has; "
                "shorten them."
            )
        encoded = encoder_segment_ids = cross = None
        if c.num_encoder_layers:
            encoder_segment_ids = batch["encoder_segment_ids"]
            encoded = self.encode(batch["encoder_input_tokens"], encoder_segment_ids)
            cross = empty_cache(c, tokens.shape[0], encoded.shape[1])
        empty = empty_cache(c, tokens.shape[0], max_length)
        num_padding = jnp.sum(batch["decoder_segment_ids"] == 0, axis=1, dtype=jnp.int32)
        cache = (LayerCache(empty, cross),) * c.num_decoder_layers
        state = DecodingState(cache, num_padding, encoder_segment_ids, jnp.zeros((), jnp.int32))
        return self._decode(
            tokens, state, encoded, is_prompt=True, is_prefix=batch.get("decoder_causal_attention")
        )

    def decode_step(self, tokens: jax.Array, state: DecodingState) -> tuple[jax.Array, DecodingState]:
        """Returns the logits [rows, vocab] after the given tokens [rows], and the next state."""
        return self._decode(tokens[:, None], state, None, is_prompt=False)

    def _decode(
        self,
        tokens: jax.Array,
        state: DecodingState,
        encoded: jax.Array | None,
        *,
        is_prompt: bool,
        is_prefix: jax.Array | None = None,
    ) -> tuple[jax.Array, DecodingState]:
        """Returns the logits [rows, vocab] after the last of the tokens [rows, num], and the next state."""
        c, num = self.config, tokens.shape[1]
        cache_length = state.cache[0].num_positions(tokens)
        position = jnp.arange(num) + (0 if is_prompt else state.position)
        key = jnp.arange(cache_length)
        # [rows, 1, num, key]: from the row's first token up to the query
        own_mask = (key <= position[:, None])[None, None] & (key >= state.num_padding[:, None, None, None])
        if is_prefix is not None:
            is_real = (key[:num] >= state.num_padding[:, None])[:, None, None]
            own_mask = own_mask.at[..., :num].set(prefix_mask(is_prefix) & is_real)
        if state.said_by is not None:
            state, own_mask = of_beams(state, own_mask)
        encoded_mask = None
        if state.encoder_segment_ids is not None:
            # Inputs come one row a segment, so that segment 1 is all there is to see.
            encoded_mask = (state.encoder_segment_ids == 1)[:, None, None]
        positions = None
        if c.positions == "learned":
            positions = jnp.maximum(position[None] - state.num_padding[:, None], 0)
        x, cache = self.decoder(
            self.token_embedder(tokens),
            encoded,
            own_mask,
            encoded_mask,
            positions,
            cache=state.cache,
            position=None if is_prompt else state.position,
        )
        assert cache is not None
        logits = self.logits(x[:, -1:])[:, 0]  # [rows, num, embed] -> [rows, vocab]
        return logits, state._replace(cache=cache, position=state.position + num)


def by_example(x: jax.Array, batch: Batch) -> jax.Array:
    """Returns x [rows, length, ...] of packed rows as [examples, length, ...], where each begins at column 0.

    What comes behind an example's own tokens is of no meaning. Of rows that are not packed, it is x itself.
    """
    if EXAMPLE_STARTS not in batch:
        return x
    rows, first_columns = batch[EXAMPLE_STARTS][:, :1], batch[EXAMPLE_STARTS][:, 1:]
    columns = jnp.minimum(first_columns + jnp.arange(x.shape[1]), x.shape[1] - 1)
    return x[rows, columns]


def init_params(model: Transformer, key: jax.Array) -> Any:
    """Returns freshly drawn parameters, each boxed with the names of its axes."""
    tokens, segment_ids = (
        np.zeros((1, 2), np.int32),
        np.ones((1, 2), np.int32),
    )  # shapes of parameters need no more
    batch = {
        f"{stack}_{name}": array
        for stack in ("encoder", "decoder")
        for name, array in (("input_tokens", tokens), ("segment_ids", segment_ids))
    }
    return model.init(key, batch)["params"]
