"""T5 and its relatives: presets of the transformer's knobs, by public size.

Parameter counts, head sizes and vocabulary rows are those of the released checkpoints.
Source: Raffel et al. 2020 (T5), Xue et al. 2021 (mT5), Xue et al. 2022 (ByT5), Chung et al. 2023 (UMT5), Tay et al.
2023 (UL2), and the T5 1.1 release notes.
"""

import dataclasses
from typing import Any

import numpy as np

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.families.base import (
    Family,
    NameTable,
    PublicConfig,
    PublicTensor,
    activation,
    label_names,
    num_labels,
    number,
    public_activation,
)
from t5like.models.config import Activation, Head, TransformerConfig
from t5like.weights.source import TensorSource

Sizes = dict[str, tuple[int, int, int, int, int, int]]
"""By name: embed_dim, num_heads, head_dim, mlp_dim, encoder layers, decoder layers."""

_SIZES_V1_0: Sizes = {
    "small": (512, 8, 64, 2048, 6, 6),
    "base": (768, 12, 64, 3072, 12, 12),
    "large": (1024, 16, 64, 4096, 24, 24),
    "3b": (1024, 32, 128, 16384, 24, 24),
    "11b": (1024, 128, 128, 65536, 24, 24),
}
_SIZES_V1_1: Sizes = {
    "small": (512, 6, 64, 1024, 8, 8),
    "base": (768, 12, 64, 2048, 12, 12),
    "large": (1024, 16, 64, 2816, 24, 24),
    "xl": (2048, 32, 64, 5120, 24, 24),
    "xxl": (4096, 64, 64, 10240, 24, 24),
}
_SIZES_BYT5: Sizes = {
    "small": (1472, 6, 64, 3584, 12, 4),
    "base": (1536, 12, 64, 3968, 18, 6),
    "large": (1536, 16, 64, 3840, 36, 12),
    "xl": (2560, 32, 64, 6720, 36, 12),
    "xxl": (4672, 64, 64, 12352, 36, 12),
}
_SIZES_UMT5: Sizes = {
    "small": (512, 6, 64, 1024, 8, 8),
    "base": (768, 12, 64, 2048, 12, 12),
    "xl": (2048, 32, 64, 5120, 24, 24),
    "xxl": (4096, 64, 64, 10240, 24, 24),
}
_SIZES_UL2: Sizes = {"20b": (4096, 16, 256, 16384, 32, 32)}

_MT5_EMBEDDINGS = 250112
_DEEPEST = 64
_CLASS_NAMES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
_CLASSES: dict[Head, tuple[str, ...]] = {
    "language_model": ("ForConditionalGeneration", "Model", "WithLMHeadModel"),
    "sequence_classification": ("ForSequenceClassification",),
    "token_tagging": ("ForTokenClassification",),
    "span_extraction": ("ForQuestionAnswering",),
    "none": ("EncoderModel",),
}
_EMBEDDING_NAMES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def _preset(sizes: Sizes, size: str, num_embeddings: int) -> TransformerConfig:
    embed_dim, num_heads, head_dim, mlp_dim, num_encoder_layers, num_decoder_layers = sizes[size]
    return TransformerConfig(
        num_embeddings=num_embeddings,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=head_dim,
        mlp_dim=mlp_dim,
        num_encoder_layers=num_encoder_layers,
        num_decoder_layers=num_decoder_layers,
    )


def t5_1_0(size: str) -> TransformerConfig:
    """Returns T5 1.0 (small, base, large, 3b, 11b): ReLU MLP, head tied to the embedding."""
    config = _preset(_SIZES_V1_0, size, 32128)
    return dataclasses.replace(config, mlp_activations=("relu",), head_is_tied=True, dropout_rate=0.1)


def t5_1_1(size: str) -> TransformerConfig:
    """Returns T5 1.1 (small, base, large, xl, xxl): gated GELU, own head; Flan-T5 and LM-adapted T5 share it.

    Pretrained without dropout; turn it on for fine-tuning.
    """
    return _preset(_SIZES_V1_1, size, 32128)


def mt5(size: str) -> TransformerConfig:
    """Returns mT5 (small to xxl): T5 1.1 over the 250,112 rows of the multilingual vocabulary."""
    return _preset(_SIZES_V1_1, size, _MT5_EMBEDDINGS)


def byt5(size: str) -> TransformerConfig:
    """Returns ByT5 (small to xxl): T5 1.1's layers over bytes, with the deeper encoder."""
    return _preset(_SIZES_BYT5, size, 384)


def umt5(size: str) -> TransformerConfig:
    """Returns UMT5 (small, base, xl, xxl): mT5 with a table of position biases in every layer."""
    return dataclasses.replace(_preset(_SIZES_UMT5, size, 256384), positions="relative_per_layer")


def ul2(size: str = "20b") -> TransformerConfig:
    """Returns UL2 (20b): T5 1.1's layers with a SiLU gate."""
    return dataclasses.replace(_preset(_SIZES_UL2, size, 32128), mlp_activations=("silu", "linear"))


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    num_layers = number(public, "num_layers")
    is_encoder = head in ("none", "token_tagging")  # the public classes of these have no decoder
    # The public class of T5 has other defaults than those of mT5 and UMT5.
    is_t5 = public.get("model_type", "t5") == "t5"
    name = public.get("feed_forward_proj", "relu" if is_t5 else "gated-gelu")
    gate, _, gated = name.partition("-")
    activations: tuple[Activation, ...]
    if gate == "gated":
        # The public code takes this one name for the approximation, although it has another for it.
        activated = "gelu_new" if gated == "gelu" else gated
        activations = (activation({"feed_forward_proj": activated}, "feed_forward_proj", "T5"), "linear")
    else:
        activations = (activation({"feed_forward_proj": name}, "feed_forward_proj", "T5"),)
    config = TransformerConfig(
        embed_dim=number(public, "d_model"),
        num_heads=number(public, "num_heads"),
        head_dim=number(public, "d_kv"),
        mlp_dim=number(public, "d_ff"),
        num_encoder_layers=num_layers,
        num_decoder_layers=0 if is_encoder else public.get("num_decoder_layers") or num_layers,
        num_embeddings=number(public, "vocab_size"),
        positions="relative_per_layer" if public.get("model_type") == "umt5" else "relative",
        num_relative_buckets=public.get("relative_attention_num_buckets", 32),
        max_relative_distance=public.get("relative_attention_max_distance", 128),
        norm_epsilon=public.get("layer_norm_epsilon", 1e-6),
        mlp_activations=activations,
        dropout_rate=public.get("dropout_rate", 0.1),
        head=head,
        num_labels=num_labels(public, head),
        label_names=label_names(public, head),
    )
    is_tied = head == "language_model" and _head_is_tied(public, source)
    # Only the first T5 scales a shared head; later code names the scale apart from the tie.
    is_scaled = public.get("scale_decoder_outputs", is_t5)
    return dataclasses.replace(config, head_is_tied=is_tied, scales_tied_head=bool(is_scaled) or not is_tied)


def _head_is_tied(public: PublicConfig, source: TensorSource | None) -> bool:
    """Returns whether the head is the embedding: by the arrays where there are some, since flags have been wrong.

    A checkpoint of T5 1.1 that some versions of the public code saved says that its head is tied while it holds two
    different arrays.
    """
    has_head = source is not None and "lm_head.weight" in source.tensors
    # A config of mT5 or UMT5 that is silent means whatever its class did when it was written: ask the arrays.
    is_tied_by_default = public.get("model_type", "t5") == "t5" or (source is not None and not has_head)
    says_tied = bool(public.get("tie_word_embeddings", is_tied_by_default))
    if source is None or not has_head:
        return says_tied
    embedding = next((name for name in _EMBEDDING_NAMES if name in source.tensors), None)
    if embedding is None:
        return False
    return says_tied and np.array_equal(source.read("lm_head.weight"), source.read(embedding))


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    model_type = "umt5" if config.positions == "relative_per_layer" else "t5"
    if model_type == "t5" and config.num_embeddings == _MT5_EMBEDDINGS:
        model_type = "mt5"
    if config.head_is_tied and not config.scales_tied_head:
        raise UserError("Transformers 4 scales every tied head of T5, which this model does not.")
    first = config.mlp_activations[0]
    gates = {"gelu": "gated-gelu", "silu": "gated-silu"}
    is_gated = len(config.mlp_activations) == 2
    public = {
        "architectures": [f"{_CLASS_NAMES[model_type]}{_CLASSES[config.head][0]}"],
        "model_type": model_type,
        "d_model": config.embed_dim,
        "num_heads": config.num_heads,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers or config.num_encoder_layers,
        "vocab_size": config.num_embeddings,
        "relative_attention_num_buckets": config.num_relative_buckets,
        "relative_attention_max_distance": config.max_relative_distance,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": gates.get(first, "") if is_gated else public_activation(first),
        "dropout_rate": config.dropout_rate,
        "classifier_dropout": config.dropout_rate,
        "is_encoder_decoder": config.num_decoder_layers > 0,
        "tie_word_embeddings": config.head_is_tied,
        "scale_decoder_outputs": config.head_is_tied,
        "pad_token_id": special_tokens.pad_id,
        "eos_token_id": special_tokens.eos_id,
        "decoder_start_token_id": special_tokens.decoder_start_id,
    }
    return public


def _attention(table: NameTable, public: str, ours: str, layer: int) -> None:
    for name, our_name in {"q": "query", "k": "key", "v": "value", "o": "out"}.items():
        table.dense(f"{public}.{name}", f"{ours}/{our_name}", layer=layer, has_bias=False)


def _layer(table: NameTable, config: TransformerConfig, stack: str, i: int) -> None:
    own = "attention" if stack == "encoder" else "self_attention"
    block, ours = f"{stack}.block.{i}.layer", f"{stack}/layers"
    _attention(table, f"{block}.0.SelfAttention", f"{ours}/{own}", i)
    bias = f"{block}.0.SelfAttention.relative_attention_bias.weight"
    if config.positions == "relative_per_layer":
        table.array(bias, f"{ours}/relpos_bias/rel_embedding", layer=i, is_transposed=True)
    elif i == 0:
        # One table for all layers, kept by the first.
        table.array(bias, f"{stack}/relpos_bias/rel_embedding", is_transposed=True)
    table.norm(f"{block}.0.layer_norm", f"{ours}/pre_{own}_layer_norm", layer=i, has_bias=False)
    if stack == "decoder":
        _attention(table, f"{block}.1.EncDecAttention", f"{ours}/encoder_decoder_attention", i)
        norm = f"{ours}/pre_cross_attention_layer_norm"
        table.norm(f"{block}.1.layer_norm", norm, layer=i, has_bias=False)
    last = 1 if stack == "encoder" else 2
    names = ("wi", "wo") if len(config.mlp_activations) == 1 else ("wi_0", "wi_1", "wo")
    for name in names:
        table.dense(f"{block}.{last}.DenseReluDense.{name}", f"{ours}/mlp/{name}", layer=i, has_bias=False)
    table.norm(f"{block}.{last}.layer_norm", f"{ours}/pre_mlp_layer_norm", layer=i, has_bias=False)


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("transformer." if config.head in ("sequence_classification", "token_tagging") else "")
    table.array("shared.weight", "token_embedder/embedding")
    for stack, num_layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        for i in range(num_layers):
            _layer(table, config, stack, i)
        if num_layers:
            table.norm(f"{stack}.final_layer_norm", f"{stack}/{stack}_norm", has_bias=False)
    if config.head == "language_model" and not config.head_is_tied:
        table.head_dense("lm_head", "logits_dense", has_bias=False)
    if config.head == "sequence_classification":
        table.head_dense("classification_head.dense", "pooler")
        table.head_dense("classification_head.out_proj", "classifier")
    if config.head == "token_tagging":
        table.head_dense("classifier", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


def _with_decoder(config: TransformerConfig) -> TransformerConfig:
    """Returns the config with a decoder, where a head leaves it out as deep as any."""
    return dataclasses.replace(config, num_decoder_layers=config.num_decoder_layers or _DEEPEST)


T5 = Family(
    name="T5",
    model_types=("t5", "mt5", "umt5"),
    classes=_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="transformer.",
    aliases={
        r"(encoder|decoder)\.embed_tokens\.weight": "shared.weight",
        r"lm_head\.weight": "shared.weight",  # where it is tied
    },
    # Early files have a table of biases for the attention to the encoder, which nothing ever read.
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    with_all_stacks=_with_decoder,
)
