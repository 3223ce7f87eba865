"""RoBERTa: BERT's layers over byte-level pieces, without segments that differ and without next sentences.

Source: Liu et al. 2019; sizes and names are those of the released checkpoints.
"""

import dataclasses
from typing import Any

from t5like.batch import SpecialTokens
from t5like.families.base import Family, NameTable, PublicConfig, PublicTensor, require
from t5like.families.bert import (
    ENCODER_CLASSES,
    POST_NORM_ENCODER,
    encoder_layers,
    post_norm_encoder,
    post_norm_public_config,
)
from t5like.models.config import Head, TransformerConfig
from t5like.weights.source import TensorSource

_SIZES: dict[str, tuple[int, int, int]] = {"base": (768, 12, 12), "large": (1024, 16, 24)}
"""By name: embed_dim, num_heads, layers."""

_POSITION_OFFSET = 2  # the id of padding, 1, and one more


def roberta(size: str) -> TransformerConfig:
    """Returns RoBERTa (base, large) with its masked language model."""
    embed_dim, num_heads, num_layers = _SIZES[size]
    return dataclasses.replace(
        POST_NORM_ENCODER,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        num_encoder_layers=num_layers,
        num_embeddings=50265,
        num_positions=514,
        position_offset=_POSITION_OFFSET,
        positions_skip_padding=True,
        num_token_types=1,
        norm_epsilon=1e-5,
    )


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    if head == "language_model":
        require(public, "RoBERTa", hidden_act="gelu")  # its head has that one, whatever the layers have
    names = set() if source is None else {name.removeprefix("roberta.") for name in source.tensors}
    return dataclasses.replace(
        post_norm_encoder(public, head, "RoBERTa"),
        position_offset=public.get("pad_token_id", 1) + 1,
        positions_skip_padding=True,
        has_pooler_without_head="pooler.dense.weight" in names and head == "none",
    )


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    return {
        "architectures": [f"Roberta{ENCODER_CLASSES[config.head][0]}"],
        "model_type": "roberta",
        **post_norm_public_config(config, special_tokens),
        # By these the public code finds the first position; a tokenizer with another padding would move it.
        "pad_token_id": config.position_offset - 1,
        "bos_token_id": (special_tokens.begin_ids or (0,))[0],
        "eos_token_id": special_tokens.eos_id,
    }


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("roberta." if config.head != "none" else "")
    encoder_layers(table, config)
    if config.head == "none" and config.has_pooler:
        table.dense("pooler.dense", "pooler", has_bias=True, is_head=True)
    if config.head == "language_model":
        table.head_array("lm_head.bias", "logits_bias")
        table.head_dense("lm_head.dense", "logits_transform")
        table.head_norm("lm_head.layer_norm", "logits_transform_norm")
    if config.head == "sequence_classification":
        table.head_dense("classifier.dense", "pooler")
        table.head_dense("classifier.out_proj", "classifier")
    if config.head == "token_tagging":
        table.head_dense("classifier", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


ROBERTA = Family(
    name="RoBERTa",
    model_types=("roberta",),
    classes=ENCODER_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="roberta.",
    aliases={
        r"(.*LayerNorm)\.gamma": r"\1.weight",
        r"(.*LayerNorm)\.beta": r"\1.bias",
        r"lm_head\.decoder\.weight": "embeddings.word_embeddings.weight",
        r"lm_head\.decoder\.bias": "lm_head.bias",
    },
    ignored=(r"embeddings\.(position|token_type)_ids",),
)
