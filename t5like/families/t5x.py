"""T5's own checkpoints, as T5X saves them: our names but for the layers, which are apart, and the head.

They come without a config, so that sizes are read off the arrays.
"""

from typing import Any

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.families.base import Family, NameTable, PublicConfig, PublicTensor
from t5like.models.config import Head, TransformerConfig
from t5like.weights.source import TensorSource


def _read_config(public: PublicConfig, head: Head, source: TensorSource | None) -> TransformerConfig:
    assert source is not None, "sizes come from the arrays"

    def shape(name: str) -> tuple[int, ...]:
        if name not in source.tensors:
            raise UserError(
                f"{source.origin} lacks {name}; it is no T5 checkpoint of T5X with its layers apart."
            )
        return tuple(source.tensors[name].shape)

    def num_layers(stack: str) -> int:
        return sum(
            name.startswith(f"{stack}/layers_") and name.endswith("/mlp/wo/kernel") for name in source.tensors
        )

    num_embeddings, embed_dim = shape("token_embedder/embedding")
    num_heads, num_buckets = shape("encoder/relpos_bias/rel_embedding")
    is_gated = "encoder/layers_0/mlp/wi_0/kernel" in source.tensors
    is_tied = "decoder/logits_dense/kernel" not in source.tensors
    return TransformerConfig(
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=shape("encoder/layers_0/attention/query/kernel")[1] // num_heads,
        mlp_dim=shape("encoder/layers_0/mlp/wo/kernel")[0],
        num_encoder_layers=num_layers("encoder"),
        num_decoder_layers=num_layers("decoder"),
        num_embeddings=num_embeddings,
        num_relative_buckets=num_buckets,
        mlp_activations=("gelu", "linear") if is_gated else ("relu",),
        head_is_tied=is_tied,
        dropout_rate=0.1 if is_tied else 0.0,
    )


def _write_config(config: TransformerConfig, special_tokens: SpecialTokens) -> dict[str, Any]:
    raise UserError("t5like reads T5X's checkpoints and does not write them; use --format hf.")


def _tensors(config: TransformerConfig) -> list[PublicTensor]:
    table = NameTable()
    table.array("token_embedder/embedding", "token_embedder/embedding")
    mlp = ["wi", "wo"] if len(config.mlp_activations) == 1 else ["wi_0", "wi_1", "wo"]
    for stack, num_layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        attentions = {"attention": "attention"}
        if stack == "decoder":
            attentions = {
                "self_attention": "self_attention",
                "cross_attention": "encoder_decoder_attention",
            }
        table.array(f"{stack}/relpos_bias/rel_embedding", f"{stack}/relpos_bias/rel_embedding")
        for i in range(num_layers):
            arrays = [
                f"{name}/{part}/kernel"
                for name in attentions.values()
                for part in ("query", "key", "value", "out")
            ]
            arrays += [f"mlp/{part}/kernel" for part in mlp]
            arrays += [f"pre_{name}_layer_norm/scale" for name in (*attentions, "mlp")]
            for name in arrays:
                table.array(f"{stack}/layers_{i}/{name}", f"{stack}/layers/{name}", layer=i)
        table.array(f"{stack}/{stack}_norm/scale", f"{stack}/{stack}_norm/scale")
    if not config.head_is_tied:
        table.array("decoder/logits_dense/kernel", "logits_dense/kernel")
    return table.tensors


T5X = Family(
    name="T5X",
    model_types=(),
    classes={"language_model": ()},
    read_config=_read_config,
    write_config=_write_config,
    tensors=_tensors,
)
