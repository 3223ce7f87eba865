"""The encoder and the decoder: embeddings, layers one after another, and what the layers of a stack share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from t5like.errors import UserError
from t5like.models.attention import Attention, laid_out
from t5like.models.cache import LayerCache, append_to_cache, by_examples, cached
from t5like.models.config import TransformerConfig
from t5like.models.layers import MLP, Norm, Table, drop, dropout, split_key
from t5like.models.masks import Mask
from t5like.models.relative_bias import Diagonals, RelativeBias
from t5like.sharding import AxisRules


def remat_policy(c: TransformerConfig) -> Callable[..., Any]:
    """Returns what JAX asks of each result in a layer, whether to keep it for the backward pass."""
    policies = jax.checkpoint_policies
    match c.remat:
        case "save_matmuls":
            return policies.dots_with_no_batch_dims_saveable
        case "save_named":
            return policies.save_only_these_names(*c.remat_names)
        case "offload_named":
            return policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=list(c.remat_names),
                offload_src="device",
                offload_dst="pinned_host",
            )
    return policies.nothing_saveable


class PerLayer(NamedTuple):
    """What differs between the layers of a stack; a leading `layers` axis when they are scanned."""

    dropout_key: jax.Array | None
    cache: LayerCache | None = None  # never of scanned layers


class Sublayers:
    """The residual stream through one layer: each sublayer is normed before or after, and added."""

    def __init__(self, config: TransformerConfig, x: jax.Array, key: jax.Array | None, num_sublayers: int):
        """Starts from x [batch, length, embed], with a dropout key within and after each sublayer."""
        self._config, self.x = config, x
        self._keys = iter(split_key(key, 2 * num_sublayers))

    def begin(self, name: str) -> tuple[jax.Array, jax.Array | None]:
        """Returns the input of the next sublayer, and the key for dropout within it."""
        c = self._config
        x = Norm(c, name=f"pre_{name}_layer_norm")(self.x) if c.norm_placement == "before" else self.x
        return x, next(self._keys)

    def end(self, name: str, y: jax.Array) -> None:
        """Adds the output y of the sublayer to the stream."""
        c = self._config
        self.x = self.x + drop(c, "residual", y, next(self._keys))
        if c.norm_placement == "after":
            self.x = Norm(c, name=f"post_{name}_layer_norm")(self.x)


class EncoderLayer(nn.Module):
    """Self-attention and MLP."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self, x: jax.Array, per_layer: PerLayer, bias: Diagonals | jax.Array | None, mask: Mask | jax.Array
    ) -> tuple[jax.Array, None]:
        c = self.config
        x = self.rules.constrain(x, "batch", "length", "embed")
        if c.positions == "relative_per_layer":
            bias = RelativeBias(c, is_bidirectional=True, name="relpos_bias")(x.shape[1], x.shape[1])
            bias = laid_out(c, bias)
        stream = Sublayers(c, x, per_layer.dropout_key, 2)
        y, key = stream.begin("attention")
        attention = Attention(c, self.rules, name="attention")
        stream.end("attention", attention(y, attention.key_value(y), bias, mask, key))
        y, key = stream.begin("mlp")
        stream.end("mlp", MLP(c, name="mlp")(y, key))
        return stream.x, None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder where there is one, and MLP."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        per_layer: PerLayer,
        encoded: jax.Array | None,
        position: jax.Array | None,
        bias: Diagonals | jax.Array | None,
        own_mask: Mask | jax.Array,
        encoded_mask: Mask | jax.Array | None,
    ) -> tuple[jax.Array, LayerCache | None]:
        c, cache = self.config, per_layer.cache
        x = self.rules.constrain(x, "batch", "length", "embed")
        if c.positions == "relative_per_layer":
            num_keys = x.shape[1] if cache is None else cache.num_positions(x)
            bias = RelativeBias(c, is_bidirectional=False, name="relpos_bias")(x.shape[1], num_keys, position)
            bias = laid_out(c, bias)
        stream = Sublayers(c, x, per_layer.dropout_key, 3)
        y, key = stream.begin("self_attention")
        attention = Attention(c, self.rules, name="self_attention")
        own = None
        if cache is None:
            y = attention(y, attention.key_value(y), bias, own_mask, key)
        else:
            assert not isinstance(bias, Diagonals)
            assert not isinstance(own_mask, Mask)
            # Beams of one example attend to what they have all said, as if they were positions of one row; the mask says
            # what of it is their own past. So nothing is moved when beams change places.
            queries, new = attention.own(by_examples(y, cache.own))
            own = append_to_cache(cache.own, new, position, num_beams=cache.num_beams(x))
            if bias is not None:
                bias = jnp.tile(bias, cache.num_beams(x))  # [1, heads, query, beams * key]
            y = attention.to_cache(queries, own, bias, own_mask).reshape(y.shape)
        stream.end("self_attention", y)

        of_encoded = None if cache is None else cache.encoded
        if c.num_encoder_layers:
            assert encoded_mask is not None
            y, key = stream.begin("cross_attention")
            cross = Attention(c, self.rules, name="encoder_decoder_attention")
            if cache is None:
                assert encoded is not None
                y = cross(y, cross.key_value(encoded), None, encoded_mask, key)
            else:
                of_encoded = cache.encoded if encoded is None else cached(cross.key_value(encoded))
                assert of_encoded is not None
                assert not isinstance(encoded_mask, Mask)
                queries = cross.queries(by_examples(y, of_encoded))
                y = cross.to_cache(queries, of_encoded, None, encoded_mask).reshape(y.shape)
            stream.end("cross_attention", y)

        y, key = stream.begin("mlp")
        stream.end("mlp", MLP(c, name="mlp")(y, key))
        return stream.x, None if own is None else LayerCache(own, of_encoded)


def apply_layers(
    layer: type[nn.Module],
    config: TransformerConfig,
    rules: AxisRules,
    num_layers: int,
    x: jax.Array,
    dropout_key: jax.Array | None,
    cache: tuple[LayerCache, ...] | None,
    *shared: Any,
) -> tuple[jax.Array, Any]:
    """Returns x after `num_layers` layers, and what each of them gave beside it.

    Scanned layers hold their parameters as `layers/...` with a leading axis, unrolled ones as `layers_0/...`;
    both compute the same, dropout included, because each layer's key is given and not drawn inside. Caches belong
    to unrolled layers: a loop over layers would copy them whole at every token.
    """
    if config.remat != "none":
        layer = nn.remat(
            layer,
            policy=remat_policy(config),
            prevent_cse=not config.scans_layers or config.unrolls_scan,
        )
    keys = None if dropout_key is None else jax.random.split(dropout_key, num_layers)
    if config.scans_layers:
        assert cache is None
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, *(nn.broadcast,) * len(shared)),
            length=num_layers,
            unroll=num_layers if config.unrolls_scan else 1,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scanned(config, rules, name="layers")(x, PerLayer(keys), *shared)
    outputs = []
    for i in range(num_layers):
        this_layer = PerLayer(None if keys is None else keys[i], None if cache is None else cache[i])
        x, output = layer(config, rules, name=f"layers_{i}")(x, this_layer, *shared)
        outputs.append(output)
    return x, tuple(outputs)


class Placed(nn.Module):
    """What the first layer is given: embedded tokens, with positions and token types added and normed where learned."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array | None,
        token_types: jax.Array | None,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        """Returns [batch, length, embed].

        Args:
          x: [batch, length, embed], embedded tokens.
          positions: [batch or 1, length] int32, the first being 0; None where they are not learned.
          token_types: [batch, length] int32; None: all 0.
        """
        c = self.config
        if c.num_token_types:
            types = jnp.zeros(x.shape[:2], jnp.int32) if token_types is None else token_types
            x = x + Table(c, self.rules, c.num_token_types, "token_types", name="token_type_embedder")(types)
        if c.positions == "learned":
            assert positions is not None
            rows = positions + c.position_offset
            x = x + Table(c, self.rules, c.num_positions, "positions", name="position_embedder")(rows)
        if c.norms_embeddings:
            x = Norm(c, name="embedding_norm")(x)
        return drop(c, "embeddings", x, dropout_key)


def count_positions(c: TransformerConfig, segment_ids: jax.Array) -> jax.Array | None:
    """Returns the position of each token in its row, int32 and broadcastable to [batch, length], None if not learned.

    Where padding is skipped, as in RoBERTa, it has the position -1:

        segment_ids [1 1 1 0 0]  ->  0 1 2 -1 -1    counting all  ->  0 1 2 3 4
        segment_ids [0 0 1 1 1]  ->  -1 -1 0 1 2                  ->  0 1 2 3 4

    Raises:
      UserError: if the rows are longer than the table.
    """
    length = segment_ids.shape[1]
    if c.max_length is None:
        return None
    if length > c.max_length:
        raise UserError(
            f"Rows of {length} tokens are longer than the {c.max_length} positions this model has; shorten them."
        )
    if not c.positions_skip_padding:
        return jnp.arange(length, dtype=jnp.int32)[None]
    is_real = segment_ids > 0
    return jnp.where(is_real, jnp.cumsum(is_real, axis=1, dtype=jnp.int32) - 1, -1)


class Encoder(nn.Module):
    """Turns embedded inputs into final hidden states, which see one another."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: Mask,
        positions: jax.Array | None,
        token_types: jax.Array | None,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        c = self.config
        first, within, last = split_key(dropout_key, 3)
        bias = None
        if c.positions == "relative":
            bias = RelativeBias(c, is_bidirectional=True, name="relpos_bias")(x.shape[1], x.shape[1])
        x = Placed(c, self.rules, name="embeddings")(x, positions, token_types, first)
        shared = (laid_out(c, bias), laid_out(c, mask))
        x, _ = apply_layers(EncoderLayer, c, self.rules, c.num_encoder_layers, x, within, None, *shared)
        if c.norm_placement == "before":
            x = Norm(c, name="encoder_norm")(x)
        return dropout(x, c.dropout_at("output"), last)  # T5 draws this one for every position


class Decoder(nn.Module):
    """Turns embedded tokens into final hidden states, all at once or, with a cache, some positions at a time."""

    config: TransformerConfig
    rules: AxisRules

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        encoded: jax.Array | None,
        own_mask: Mask | jax.Array,
        encoded_mask: Mask | jax.Array | None,
        positions: jax.Array | None,
        dropout_key: jax.Array | None = None,
        cache: tuple[LayerCache, ...] | None = None,
        position: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None]:
        """Returns the hidden states [batch, length, embed], and the cache after them.

        Args:
          own_mask: with a cache, whose positions are the keys, laid out and broadcastable to [examples, heads, beams * length,
            beams * key].
          position: where in the cache x belongs, for the one token after a prompt; None is at the start.
        """
        c = self.config
        first, within, last = split_key(dropout_key, 3)
        bias = None
        if c.positions == "relative":
            num_keys = x.shape[1] if cache is None else cache[0].num_positions(x)
            bias = RelativeBias(c, is_bidirectional=False, name="relpos_bias")(x.shape[1], num_keys, position)
        x = Placed(c, self.rules, name="embeddings")(x, positions, None, first)
        shared = (encoded, position, *(laid_out(c, x) for x in (bias, own_mask, encoded_mask)))
        x, new_cache = apply_layers(
            DecoderLayer, c, self.rules, c.num_decoder_layers, x, within, cache, *shared
        )
        if c.norm_placement == "before":
            x = Norm(c, name="decoder_norm")(x)
        return drop(c, "output", x, last), None if cache is None else new_cache
