"""BERT and what has its layers: MiniLM, and the sentence encoders made from it.

Source: Devlin et al. 2019; Wang et al. 2020 (MiniLM); sizes and names are those of the released checkpoints.
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
    "tiny": (128, 2, 2),
    "mini": (256, 4, 4),
    "small": (512, 8, 4),
    "medium": (512, 8, 8),
    "base": (768, 12, 12),
    "large": (1024, 16, 24),
    "minilm-l6": (384, 12, 6),
    "minilm-l12": (384, 12, 12),
}
"""By name: embed_dim, num_heads, layers."""

ENCODER_CLASSES: dict[Head, tuple[str, ...]] = {
    "language_model": ("ForMaskedLM", "ForPreTraining"),
    "sequence_classification": ("ForSequenceClassification",),
    "token_tagging": ("ForTokenClassification",),
    "span_extraction": ("ForQuestionAnswering",),
    "none": ("Model",),
}

POST_NORM_ENCODER = TransformerConfig(
    embed_dim=768,
    num_heads=12,
    head_dim=64,
    mlp_dim=3072,
    num_encoder_layers=12,
    num_decoder_layers=0,
    positions="learned",
    norm="layer",
    norm_placement="after",
    norms_embeddings=True,
    norm_epsilon=1e-12,
    has_biases=True,
    scales_attention=True,
    mlp_activations=("gelu_exact",),
    head_is_tied=True,
    scales_tied_head=False,
    head_has_bias=True,
    transforms_head=True,
    init_stddev=0.02,
    dropout_rate=0.1,
    dropout_spots=("embeddings", "attention", "residual"),
    shares_dropout=False,
)
"""What BERT, RoBERTa and DistilBERT have in common."""


def bert(size: str) -> TransformerConfig:
    """Returns BERT (tiny, mini, small, medium, base, large) or MiniLM (minilm-l6, minilm-l12), uncased.

    With the heads it was trained with: masked language modelling and next-sentence prediction.
    """
    embed_dim, num_heads, num_layers = _SIZES[size]
    return dataclasses.replace(
        POST_NORM_ENCODER,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        num_encoder_layers=num_layers,
        num_embeddings=30522,
        num_token_types=2,
        predicts_next_sentence=True,
    )


def post_norm_encoder(public: PublicConfig, head: Head, family: str) -> TransformerConfig:
    """Returns the config that a public BERT or RoBERTa config stands for, special positions left out."""
    require(public, family, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    embed_dim, num_heads = number(public, "hidden_size"), number(public, "num_attention_heads")
    return dataclasses.replace(
        POST_NORM_ENCODER,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=number(public, "intermediate_size"),
        num_encoder_layers=number(public, "num_hidden_layers"),
        num_embeddings=number(public, "vocab_size"),
        num_positions=public.get("max_position_embeddings", 512),
        num_token_types=number({"type_vocab_size": 2, **public}, "type_vocab_size"),
        norm_epsilon=public.get("layer_norm_eps", 1e-12),
        mlp_activations=(activation(public, "hidden_act", family),),
        init_stddev=public.get("initializer_range", 0.02),
        dropout_rate=public.get("hidden_dropout_prob", 0.1),
        head=head,
        num_labels=num_labels(public, head),
        label_names=label_names(public, head),
    )


def post_norm_public_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    """Returns the public config of BERT and RoBERTa."""
    return {
        "hidden_size": config.embed_dim,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_encoder_layers,
        "vocab_size": config.num_embeddings,
        "max_position_embeddings": config.num_positions,
        "type_vocab_size": config.num_token_types,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": public_activation(config.mlp_activations[0]),
        "hidden_dropout_prob": config.dropout_rate,
        "attention_probs_dropout_prob": config.dropout_rate,
        "initializer_range": config.init_stddev or 0.02,
        "pad_token_id": special_tokens.pad_id,
        "position_embedding_type": "absolute",
    }


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    config = post_norm_encoder(public, head, "BERT")
    names = set() if source is None else {name.removeprefix("bert.") for name in source.tensors}
    # The released files carry the next-sentence head although their configs name only the masked language model.
    return dataclasses.replace(
        config,
        predicts_next_sentence=head == "language_model" and "cls.seq_relationship.weight" in names,
        has_pooler_without_head="pooler.dense.weight" in names and head == "none",
    )


def encoder_layers(table: NameTable, config: TransformerConfig) -> None:
    """Adds the embeddings and the layers of BERT and RoBERTa."""
    table.array("embeddings.word_embeddings.weight", "token_embedder/embedding")
    embeddings = "encoder/embeddings"
    table.array("embeddings.position_embeddings.weight", f"{embeddings}/position_embedder/embedding")
    table.array("embeddings.token_type_embeddings.weight", f"{embeddings}/token_type_embedder/embedding")
    table.norm("embeddings.LayerNorm", f"{embeddings}/embedding_norm", has_bias=True)
    for i in range(config.num_encoder_layers):
        public, ours = f"encoder.layer.{i}", "encoder/layers"
        for name in ("query", "key", "value"):
            table.dense(f"{public}.attention.self.{name}", f"{ours}/attention/{name}", layer=i, has_bias=True)
        table.dense(f"{public}.attention.output.dense", f"{ours}/attention/out", layer=i, has_bias=True)
        norm = f"{ours}/post_attention_layer_norm"
        table.norm(f"{public}.attention.output.LayerNorm", norm, layer=i, has_bias=True)
        table.dense(f"{public}.intermediate.dense", f"{ours}/mlp/wi", layer=i, has_bias=True)
        table.dense(f"{public}.output.dense", f"{ours}/mlp/wo", layer=i, has_bias=True)
        table.norm(f"{public}.output.LayerNorm", f"{ours}/post_mlp_layer_norm", layer=i, has_bias=True)


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable("bert." if config.head != "none" else "")
    encoder_layers(table, config)
    if config.has_pooler:
        table.dense("pooler.dense", "pooler", has_bias=True, is_head=True)
    if config.head == "language_model":
        table.head_array("cls.predictions.bias", "logits_bias")
        table.head_dense("cls.predictions.transform.dense", "logits_transform")
        table.head_norm("cls.predictions.transform.LayerNorm", "logits_transform_norm")
    if config.predicts_next_sentence:
        table.head_dense("cls.seq_relationship", "next_sentence")
    if config.head in ("sequence_classification", "token_tagging"):
        table.head_dense("classifier", "classifier")
    if config.head == "span_extraction":
        table.head_dense("qa_outputs", "classifier")
    return table.tensors


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    head_class = "ForPreTraining" if config.predicts_next_sentence else ENCODER_CLASSES[config.head][0]
    shared = post_norm_public_config(config, special_tokens)
    return {"architectures": [f"Bert{head_class}"], "model_type": "bert", **shared}


BERT = Family(
    name="BERT",
    model_types=("bert",),
    classes=ENCODER_CLASSES,
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
    prefix="bert.",
    aliases={
        r"(.*LayerNorm)\.gamma": r"\1.weight",  # the names of the first release
        r"(.*LayerNorm)\.beta": r"\1.bias",
        r"cls\.predictions\.decoder\.weight": "embeddings.word_embeddings.weight",
        r"cls\.predictions\.decoder\.bias": "cls.predictions.bias",
    },
    ignored=(r"embeddings\.(position|token_type)_ids",),
)
