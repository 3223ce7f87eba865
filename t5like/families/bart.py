"""BART: an encoder and a decoder with BERT's layers, positions learned from the third row of their tables on.

Source: Lewis et al. 2020; sizes and names are those of the released checkpoints.
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

_SIZES: dict[str, tuple[int, int, int]] = {"base": (768, 12, 6), "large": (1024, 16, 12)}
"""By name: embed_dim, num_heads, layers of each stack."""

_POSITION_OFFSET = 2

_BART = TransformerConfig(
    embed_dim=768,
    num_heads=12,
    head_dim=64,
    mlp_dim=3072,
    num_encoder_layers=6,
    num_decoder_layers=6,
    num_embeddings=50265,
    positions="learned",
    num_positions=1024 + _POSITION_OFFSET,
    position_offset=_POSITION_OFFSET,
    norm="layer",
    norm_placement="after",
    norms_embeddings=True,
    norm_epsilon=1e-5,
    has_biases=True,
    scales_attention=True,
    mlp_activations=("gelu_exact",),
    head_is_tied=True,
    scales_tied_head=False,
    head_has_bias=True,
    init_stddev=0.02,
    dropout_rate=0.1,
    dropout_spots=("embeddings", "attention", "residual"),
    shares_dropout=False,
)

_CLASSES: dict[Head, tuple[str, ...]] = {
    "language_model": ("ForConditionalGeneration", "Model"),
    "sequence_classification": ("ForSequenceClassification",),
    "span_extraction": ("ForQuestionAnswering",),
    "none": ("Model",),
}


def bart(size: str) -> TransformerConfig:
    """Returns BART (base, large)."""
    embed_dim, num_heads, num_layers = _SIZES[size]
    return dataclasses.replace(
        _BART,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
    )


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    require(
        public,
        "BART",
        normalize_before=False,
        add_final_layer_norm=False,
        static_position_embeddings=False,
        tie_word_embeddings=True,
    )
    embed_dim, num_heads = number(public, "d_model"), number(public, "encoder_attention_heads")
    require(public, "BART", decoder_attention_heads=num_heads)
    mlp_dim = number(public, "encoder_ffn_dim")
    require(public, "BART", decoder_ffn_dim=mlp_dim)
    return dataclasses.replace(
        _BART,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=mlp_dim,
        num_encoder_layers=number(public, "encoder_layers"),
        num_decoder_layers=number(public, "decoder_layers"),
        num_embeddings=number(public, "vocab_size"),
        num_positions=public.get("max_position_embeddings", 1024) + _POSITION_OFFSET,
        scales_embeddings=bool(public.get("scale_embedding", False)),
        mlp_activations=(activation(public, "activation_function", "BART"),),
        init_stddev=public.get("init_std", 0.02),
        dropout_rate=public.get("dropout", 0.1),
        head=head,
        num_labels=num_labels(public, head),
        label_names=label_names(public, head),
    )


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    return {
        "architectures": [f"Bart{_CLASSES[config.head][0]}"],
        "model_type": "bart",
        "d_model": config.embed_dim,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.mlp_dim,
        "decoder_ffn_dim": config.mlp_dim,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
        "vocab_size": config.num_embeddings,
        "max_position_embeddings": config.num_positions - config.position_offset,
        "scale_embedding": config.scales_embeddings,
        "activation_function": public_activation(config.mlp_activations[0]),
        "dropout": config.dropout_rate,
        "attention_dropout": config.dropout_rate,
        "activation_dropout": 0.0,
        "init_std": config.init_stddev or 0.02,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "bos_token_id": (special_tokens.begin_ids or (0,))[0],
        "eos_token_id": special_tokens.eos_id,
        "pad_token_id": special_tokens.pad_id,
        "decoder_start_token_id": special_tokens.decoder_start_id,
        "forced_bos_token_id": next(iter(special_tokens.target_begin_ids), None),
        "forced_eos_token_id": special_tokens.eos_id,
    }


def _attention(table: NameTable, public: str, ours: str, layer: int) -> None:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    for name, our_name in names.items():
        table.dense(f"{public}.{name}", f"{ours}/{our_name}", layer=layer, has_bias=True)


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("model." if config.head != "none" else "")
    table.array("shared.weight", "token_embedder/embedding")
    for stack, num_layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        table.array(f"{stack}.embed_positions.weight", f"{stack}/embeddings/position_embedder/embedding")
        table.norm(f"{stack}.layernorm_embedding", f"{stack}/embeddings/embedding_norm", has_bias=True)
        own = "attention" if stack == "encoder" else "self_attention"
        for i in range(num_layers):
            public, ours = f"{stack}.layers.{i}", f"{stack}/layers"
            _attention(table, f"{public}.self_attn", f"{ours}/{own}", i)
            norm = f"{ours}/post_{own}_layer_norm"
            table.norm(f"{public}.self_attn_layer_norm", norm, layer=i, has_bias=True)
            if stack == "decoder":
                _attention(table, f"{public}.encoder_attn", f"{ours}/encoder_decoder_attention", i)
                norm = f"{ours}/post_cross_attention_layer_norm"
                table.norm(f"{public}.encoder_attn_layer_norm", norm, layer=i, has_bias=True)
            table.dense(f"{public}.fc1", f"{ours}/mlp/wi", layer=i, has_bias=True)
            table.dense(f"{public}.fc2", f"{ours}/mlp/wo", layer=i, has_bias=True)
            # The public name says final; it is the norm after the MLP, and no stack has one at its end.
            norm = f"{ours}/post_mlp_layer_norm"
            table.norm(f"{public}.final_layer_norm", norm, layer=i, has_bias=True)
    if config.head == "language_model":
        table.head_array("final_logits_bias", "logits_bias", has_leading_axis=True)
    if config.head == "sequence_classification":
        table.head_dense("classification_head.dense", "pooler")
        table.head_dense("classification_head.out_proj", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


BART = Family(
    name="BART",
    model_types=("bart",),
    classes=_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="model.",
    aliases={
        r"(encoder|decoder)\.embed_tokens\.weight": "shared.weight",
        r"lm_head\.weight": "shared.weight",
    },
    ignored=(r"(encoder|decoder)\.version",),
)
