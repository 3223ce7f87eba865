"""GPT-2: a decoder alone, with layer norms before each sublayer.

Source: Radford et al. 2019; sizes and names are those of the released checkpoints.
"""

import dataclasses
from typing import Any

from t5like.batch import SpecialTokens
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
    require,
)
from t5like.models.config import Head, TransformerConfig
from t5like.weights.source import TensorSource

_SIZES: dict[str, tuple[int, int, int]] = {
    "small": (768, 12, 12),
    "medium": (1024, 16, 24),
    "large": (1280, 20, 36),
    "xl": (1600, 25, 48),
}
"""By name: embed_dim, num_heads, layers."""

_GPT2 = TransformerConfig(
    embed_dim=768,
    num_heads=12,
    head_dim=64,
    mlp_dim=3072,
    num_encoder_layers=0,
    num_decoder_layers=12,
    num_embeddings=50257,
    positions="learned",
    num_positions=1024,
    norm="layer",
    norm_epsilon=1e-5,
    has_biases=True,
    scales_attention=True,
    mlp_activations=("gelu",),
    head_is_tied=True,
    scales_tied_head=False,
    pooler=None,
    init_stddev=0.02,
    dropout_rate=0.1,
    dropout_spots=("embeddings", "attention", "residual"),
    shares_dropout=False,
)

_CLASSES: dict[Head, tuple[str, ...]] = {
    "language_model": ("LMHeadModel", "Model"),
    "sequence_classification": ("ForSequenceClassification",),
    "token_tagging": ("ForTokenClassification",),
    "span_extraction": ("ForQuestionAnswering",),
    "none": ("Model",),
}


def gpt2(size: str) -> TransformerConfig:
    """Returns GPT-2 (small, medium, large, xl)."""
    embed_dim, num_heads, num_layers = _SIZES[size]
    return dataclasses.replace(
        _GPT2,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        num_decoder_layers=num_layers,
    )


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    require(
        public,
        "GPT-2",
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    embed_dim, num_heads = number(public, "n_embd"), number(public, "n_head")
    return dataclasses.replace(
        _GPT2,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=public.get("n_inner") or 4 * embed_dim,
        num_decoder_layers=number(public, "n_layer"),
        num_embeddings=number(public, "vocab_size"),
        num_positions=public.get("n_positions", 1024),
        norm_epsilon=public.get("layer_norm_epsilon", 1e-5),
        mlp_activations=(
            activation({"activation_function": "gelu_new", **public}, "activation_function", "GPT-2"),
        ),
        init_stddev=public.get("initializer_range", 0.02),
        dropout_rate=public.get("resid_pdrop", 0.1),
        head=head,
        num_labels=num_labels(public, head),
        label_names=label_names(public, head),
    )


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    return {
        "architectures": [f"GPT2{_CLASSES[config.head][0]}"],
        "model_type": "gpt2",
        "n_embd": config.embed_dim,
        "n_head": config.num_heads,
        "n_inner": config.mlp_dim,
        "n_layer": config.num_decoder_layers,
        "vocab_size": config.num_embeddings,
        "n_positions": config.num_positions,
        "layer_norm_epsilon": config.norm_epsilon,
        "activation_function": public_activation(config.mlp_activations[0]),
        "resid_pdrop": config.dropout_rate,
        "embd_pdrop": config.dropout_rate,
        "attn_pdrop": config.dropout_rate,
        "initializer_range": config.init_stddev or 0.02,
        "bos_token_id": special_tokens.eos_id,
        "eos_token_id": special_tokens.eos_id,
        # A classifier finds a text's last token by the padding after it.
        "pad_token_id": special_tokens.pad_id,
    }


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("transformer." if config.head != "none" else "")
    table.array("wte.weight", "token_embedder/embedding")
    table.array("wpe.weight", "decoder/embeddings/position_embedder/embedding")
    for i in range(config.num_decoder_layers):
        public, ours = f"h.{i}", "decoder/layers"
        attention = f"{ours}/self_attention"
        norm = f"{ours}/pre_self_attention_layer_norm"
        table.norm(f"{public}.ln_1", norm, layer=i, has_bias=True)
        # One kernel [inputs, 3 * outputs] for query, key and value, and none of them transposed.
        fused = (f"{attention}/query", f"{attention}/key", f"{attention}/value")
        table.dense(f"{public}.attn.c_attn", *fused, layer=i, has_bias=True, is_conv=True)
        table.dense(f"{public}.attn.c_proj", f"{attention}/out", layer=i, has_bias=True, is_conv=True)
        table.norm(f"{public}.ln_2", f"{ours}/pre_mlp_layer_norm", layer=i, has_bias=True)
        table.dense(f"{public}.mlp.c_fc", f"{ours}/mlp/wi", layer=i, has_bias=True, is_conv=True)
        table.dense(f"{public}.mlp.c_proj", f"{ours}/mlp/wo", layer=i, has_bias=True, is_conv=True)
    table.norm("ln_f", "decoder/decoder_norm", has_bias=True)
    if config.head == "sequence_classification":
        table.head_dense("score", "classifier", has_bias=False)
    if config.head == "token_tagging":
        table.head_dense("classifier", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


GPT2 = Family(
    name="GPT-2",
    model_types=("gpt2",),
    classes=_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="transformer.",
    aliases={r"lm_head\.weight": "wte.weight"},
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
)
