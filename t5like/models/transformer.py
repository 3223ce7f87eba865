"""The one transformer: an encoder and a decoder over a shared embedding.

`Transformer(config)` is a Linen module; what callers use is pure functions of its parameters:
`model.apply({"params": params}, batch, dropout_key)` and, for decoding, `encode`, `start_cache`, `decode_step`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from t5like.models.attend import KeyValue
from t5like.models.attention import Attention, RelativeBias, causal_mask, segment_mask
from t5like.models.config import TransformerConfig
from t5like.models.layers import MLP, Dense, Embedding, RMSNorm, dropout, fan_in_truncated_normal, split_key
from t5like.sharding import AxisRules

REMAT_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "save_matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class LayerCache(NamedTuple):
    """What one decoder layer remembers while decoding."""

    own: KeyValue  # of the tokens decoded so far, [batch, max_length, heads, head_dim]
    encoded: KeyValue  # of the encoder's output, computed once


class PerLayer(NamedTuple):
    """What differs between the layers of a stack; a leading `layers` axis when they are scanned."""

    dropout_key: jax.Array | None
    cache: LayerCache | None = None


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each normed before and added after."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self, x: jax.Array, per_layer: PerLayer, bias: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, None]:
        c = self.config
        keys = split_key(per_layer.dropout_key, 4)
        x = self.rules.constrain(x, "batch", "length", "embed")
        y = RMSNorm(c.norm_epsilon, name="pre_attention_layer_norm")(x)
        attention = Attention(c, name="attention")
        y = attention(y, attention.key_value(y), bias, mask, keys[0])
        x = x + dropout(y, c.dropout_rate, keys[1], broadcast_axes=(-2,))
        y = RMSNorm(c.norm_epsilon, name="pre_mlp_layer_norm")(x)
        y = MLP(c, name="mlp")(y, keys[2])
        return x + dropout(y, c.dropout_rate, keys[3], broadcast_axes=(-2,)), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder, and MLP."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        per_layer: PerLayer,
        encoded: jax.Array | None,
        position: jax.Array | None,
        bias: jax.Array,
        own_mask: jax.Array,
        encoded_mask: jax.Array,
    ) -> tuple[jax.Array, LayerCache | None]:
        c, cache = self.config, per_layer.cache
        keys = split_key(per_layer.dropout_key, 6)
        x = self.rules.constrain(x, "batch", "length", "embed")
        y = RMSNorm(c.norm_epsilon, name="pre_self_attention_layer_norm")(x)
        attention = Attention(c, name="self_attention")
        own = attention.key_value(y)
        if cache is not None:
            assert position is not None
            own = KeyValue(
                *(
                    jax.lax.dynamic_update_slice_in_dim(past, new, position, axis=1)
                    for past, new in zip(cache.own, own, strict=True)
                )
            )
        y = attention(y, own, bias, own_mask, keys[0])
        x = x + dropout(y, c.dropout_rate, keys[1], broadcast_axes=(-2,))

        y = RMSNorm(c.norm_epsilon, name="pre_cross_attention_layer_norm")(x)
        cross = Attention(c, name="encoder_decoder_attention")
        if encoded is not None:
            cross_key_value = cross.key_value(encoded)
        else:
            assert cache is not None
            cross_key_value = cache.encoded
        y = cross(y, cross_key_value, None, encoded_mask, keys[2])
        x = x + dropout(y, c.dropout_rate, keys[3], broadcast_axes=(-2,))

        y = RMSNorm(c.norm_epsilon, name="pre_mlp_layer_norm")(x)
        y = MLP(c, name="mlp")(y, keys[4])
        x = x + dropout(y, c.dropout_rate, keys[5], broadcast_axes=(-2,))
        return x, None if cache is None else LayerCache(own, cross_key_value)


def apply_layers(
    layer: type[nn.Module],
    config: TransformerConfig,
    rules: AxisRules,
    num_layers: int,
    x: jax.Array,
    per_layer: PerLayer,
    *shared: Any,
) -> tuple[jax.Array, Any]:
    """Returns x after `num_layers` layers, and what each of them gave beside it, stacked.

    Scanned layers hold their parameters as `layers/...` with a leading axis, unrolled ones as `layers_0/...`;
    both compute the same, dropout included, because each layer's key is given and not drawn inside.
    """
    if config.remat != "none":
        layer = nn.remat(layer, policy=REMAT_POLICIES[config.remat], prevent_cse=not config.scans_layers)
    if config.scans_layers:
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, *(nn.broadcast,) * len(shared)),
            length=num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scanned(config, rules, name="layers")(x, per_layer, *shared)
    outputs = []
    for i in range(num_layers):
        this_layer = jax.tree.map(lambda leaf, i=i: leaf[i], per_layer)
        x, output = layer(config, rules, name=f"layers_{i}")(x, this_layer, *shared)
        outputs.append(output)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def layer_keys(key: jax.Array | None, num_layers: int) -> jax.Array | None:
    """Returns one dropout key a layer, [layers], or None where there is no dropout."""
    return None if key is None else jax.random.split(key, num_layers)


class Encoder(nn.Module):
    """Turns embedded inputs into the sequence the decoder attends to."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(self, x: jax.Array, segment_ids: jax.Array, dropout_key: jax.Array | None) -> jax.Array:
        c = self.config
        first, within, last = split_key(dropout_key, 3)
        bias = RelativeBias(c, is_bidirectional=True, name="relpos_bias")(x.shape[1], x.shape[1])
        x = dropout(x, c.dropout_rate, first, broadcast_axes=(-2,))
        per_layer = PerLayer(layer_keys(within, c.num_encoder_layers))
        mask = segment_mask(segment_ids, segment_ids)
        x, _ = apply_layers(EncoderLayer, c, self.rules, c.num_encoder_layers, x, per_layer, bias, mask)
        x = RMSNorm(c.norm_epsilon, name="encoder_norm")(x)
        return dropout(x, c.dropout_rate, last)  # T5 draws this one for every position


class Decoder(nn.Module):
    """Turns embedded decoder inputs into final hidden states, all at once or one position at a time."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        encoded: jax.Array | None,
        own_mask: jax.Array,
        encoded_mask: jax.Array,
        dropout_key: jax.Array | None = None,
        cache: LayerCache | None = None,
        position: jax.Array | None = None,
    ) -> tuple[jax.Array, LayerCache | None]:
        c = self.config
        first, within, last = split_key(dropout_key, 3)
        max_length = own_mask.shape[-1]
        bias = RelativeBias(c, is_bidirectional=False, name="relpos_bias")(max_length, max_length)
        if position is not None:  # [1, heads, max_length, max_length] -> [1, heads, 1, max_length]
            bias = jax.lax.dynamic_slice_in_dim(bias, position, x.shape[1], axis=2)
        x = dropout(x, c.dropout_rate, first, broadcast_axes=(-2,))
        per_layer = PerLayer(layer_keys(within, c.num_decoder_layers), cache)
        shared = (encoded, position, bias, own_mask, encoded_mask)
        x, cache = apply_layers(DecoderLayer, c, self.rules, c.num_decoder_layers, x, per_layer, *shared)
        x = RMSNorm(c.norm_epsilon, name="decoder_norm")(x)
        return dropout(x, c.dropout_rate, last, broadcast_axes=(-2,)), cache


class DecodingState(NamedTuple):
    """All that decoding the next position needs, beside the parameters and the last token."""

    cache: LayerCache  # each leaf with a leading `layers` axis
    encoder_segment_ids: jax.Array  # [batch, inputs_length]
    position: jax.Array  # scalar int32: how many tokens have been decoded


class Transformer(nn.Module):
    """Encoder-decoder transformer; see `TransformerConfig` for its knobs."""

    config: TransformerConfig
    rules: AxisRules = AxisRules()

    def setup(self) -> None:
        c = self.config
        assert c.num_embeddings is not None, "resolve num_embeddings from the vocabulary first"
        self.token_embedder = Embedding(c.num_embeddings, c.embed_dim, c.compute_dtype, self.rules)
        self.encoder = Encoder(c, self.rules)
        self.decoder = Decoder(c, self.rules)
        if not c.head_is_tied:
            axes = ("embed", "vocab")
            self.logits_dense = Dense(c.num_embeddings, axes, fan_in_truncated_normal, c.compute_dtype)

    def __call__(self, batch: dict[str, jax.Array], dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns logits [batch, targets_length, vocab] float32 for an encoder-decoder batch (`t5like.batch`)."""
        encoder_key, decoder_key = split_key(dropout_key, 2)
        encoder_segment_ids = batch["encoder_segment_ids"]
        encoded = self.encode(batch["encoder_input_tokens"], encoder_segment_ids, encoder_key)
        segment_ids = batch["decoder_segment_ids"]
        own_mask = segment_mask(segment_ids, segment_ids) & causal_mask(segment_ids.shape[1])
        encoded_mask = segment_mask(segment_ids, encoder_segment_ids)
        x = self.token_embedder(batch["decoder_input_tokens"])
        x, _ = self.decoder(x, encoded, own_mask, encoded_mask, decoder_key)
        return self.rules.constrain(self.head(x), "batch", "length", "vocab")

    def encode(
        self, tokens: jax.Array, segment_ids: jax.Array, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the encoder's output [batch, inputs_length, embed]."""
        return self.encoder(self.token_embedder(tokens), segment_ids, dropout_key)

    def head(self, x: jax.Array) -> jax.Array:
        """Returns logits [batch, length, vocab] float32 of final hidden states [batch, length, embed]."""
        if self.config.head_is_tied:
            return self.token_embedder.attend(x * self.config.embed_dim**-0.5)
        return self.logits_dense(x).astype(jnp.float32)

    def start_decoding(
        self, tokens: jax.Array, segment_ids: jax.Array, max_length: int
    ) -> tuple[jax.Array, DecodingState]:
        """Encodes the inputs and decodes the start token (id 0).

        Returns:
          The logits of the first target [batch, vocab], and the state from which `decode_step` goes on.
        """
        c, batch = self.config, tokens.shape[0]
        encoded = self.encode(tokens, segment_ids)
        shape = (c.num_decoder_layers, batch, max_length, c.num_heads, c.head_dim)
        own = KeyValue(jnp.zeros(shape, c.compute_dtype), jnp.zeros(shape, c.compute_dtype))
        cross_shape = (c.num_decoder_layers, batch, tokens.shape[1], c.num_heads, c.head_dim)
        cross = KeyValue(jnp.zeros(cross_shape, c.compute_dtype), jnp.zeros(cross_shape, c.compute_dtype))
        state = DecodingState(LayerCache(own, cross), segment_ids, jnp.zeros((), jnp.int32))
        return self.decode_step(jnp.zeros(batch, jnp.int32), state, encoded)

    def decode_step(
        self, tokens: jax.Array, state: DecodingState, encoded: jax.Array | None = None
    ) -> tuple[jax.Array, DecodingState]:
        """Returns the logits [batch, vocab] after the given tokens [batch], and the next state.

        `encoded` is given at the first step only, which fills the cache with its keys and values.
        """
        max_length = state.cache.own.key.shape[2]
        own_mask = (np.arange(max_length) <= state.position)[None, None, None]
        # Targets decoded one row a segment: segment 1 of the encoder is all they may see.
        encoded_mask = segment_mask(jnp.ones_like(tokens)[:, None], state.encoder_segment_ids)
        x = self.token_embedder(tokens[:, None])  # [batch] -> [batch, 1, embed]
        x, cache = self.decoder(
            x, encoded, own_mask, encoded_mask, cache=state.cache, position=state.position
        )
        assert cache is not None
        logits = self.head(x)[:, 0]  # [batch, 1, vocab] -> [batch, vocab]
        return logits, DecodingState(cache, state.encoder_segment_ids, state.position + 1)
