"""DistilBERT: half of BERT's layers, without segments, under names of its own.

Source: Sanh et al. 2019; sizes and names are those of the released checkpoints.
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
from t5like.families.bert import ENCODER_CLASSES, POST_NORM_ENCODER
from t5like.models.config import Head, TransformerConfig
from t5like.weights.source import TensorSource


def distilbert(size: str = "base") -> TransformerConfig:
    """Returns DistilBERT (base, uncased) with its masked language model."""
    if size != "base":
        raise KeyError(size)
    return dataclasses.replace(POST_NORM_ENCODER, num_encoder_layers=6, num_embeddings=30522, pooler="relu")


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    require(public, "DistilBERT", sinusoidal_pos_embds=False)
    embed_dim, num_heads = number(public, "dim"), number(public, "n_heads")
    return dataclasses.replace(
        POST_NORM_ENCODER,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=number(public, "hidden_dim"),
        num_encoder_layers=number(public, "n_layers"),
        num_embeddings=number(public, "vocab_size"),
        num_positions=public.get("max_position_embeddings", 512),
        mlp_activations=(activation(public, "activation", "DistilBERT"),),
        pooler="relu",
        init_stddev=public.get("initializer_range", 0.02),
        dropout_rate=public.get("dropout", 0.1),
        head=head,
        num_labels=num_labels(public, head),
        label_names=label_names(public, head),
    )


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    return {
        "architectures": [f"DistilBert{ENCODER_CLASSES[config.head][0]}"],
        "model_type": "distilbert",
        "dim": config.embed_dim,
        "n_heads": config.num_heads,
        "hidden_dim": config.mlp_dim,
        "n_layers": config.num_encoder_layers,
        "vocab_size": config.num_embeddings,
        "max_position_embeddings": config.num_positions,
        "sinusoidal_pos_embds": False,
        "activation": public_activation(config.mlp_activations[0]),
        "dropout": config.dropout_rate,
        "attention_dropout": config.dropout_rate,
        "initializer_range": config.init_stddev or 0.02,
        "pad_token_id": special_tokens.pad_id,
    }


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("distilbert." if config.head != "none" else "")
    table.array("embeddings.word_embeddings.weight", "token_embedder/embedding")
    embeddings = "encoder/embeddings"
    table.array("embeddings.position_embeddings.weight", f"{embeddings}/position_embedder/embedding")
    table.norm("embeddings.LayerNorm", f"{embeddings}/embedding_norm", has_bias=True)
    names = {"q_lin": "query", "k_lin": "key", "v_lin": "value", "out_lin": "out"}
    for i in range(config.num_encoder_layers):
        public, ours = f"transformer.layer.{i}", "encoder/layers"
        for name, our_name in names.items():
            table.dense(f"{public}.attention.{name}", f"{ours}/attention/{our_name}", layer=i, has_bias=True)
        norm = f"{ours}/post_attention_layer_norm"
        table.norm(f"{public}.sa_layer_norm", norm, layer=i, has_bias=True)
        table.dense(f"{public}.ffn.lin1", f"{ours}/mlp/wi", layer=i, has_bias=True)
        table.dense(f"{public}.ffn.lin2", f"{ours}/mlp/wo", layer=i, has_bias=True)
        table.norm(f"{public}.output_layer_norm", f"{ours}/post_mlp_layer_norm", layer=i, has_bias=True)
    if config.head == "language_model":
        table.head_dense("vocab_transform", "logits_transform")
        table.head_norm("vocab_layer_norm", "logits_transform_norm")
        table.head_array("vocab_projector.bias", "logits_bias")
    if config.head == "sequence_classification":
        table.head_dense("pre_classifier", "pooler")
    if config.head in ("sequence_classification", "token_tagging"):
        table.head_dense("classifier", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


DISTILBERT = Family(
    name="DistilBERT",
    model_types=("distilbert",),
    classes=ENCODER_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="distilbert.",
    aliases={r"vocab_projector\.weight": "embeddings.word_embeddings.weight"},
    ignored=(r"embeddings\.position_ids",),
)
