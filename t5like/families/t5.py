"""T5 and its relatives: presets of the transformer's knobs, by public size.

Parameter counts, head sizes and vocabulary rows are those of the released checkpoints.
Source: Raffel et al. 2020 (T5), Xue et al. 2021 (mT5), Xue et al. 2022 (ByT5), and the T5 1.1 release notes.
"""

import dataclasses

from t5like.models.config import TransformerConfig

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
    return _preset(_SIZES_V1_1, size, 250112)


def byt5(size: str) -> TransformerConfig:
    """Returns ByT5 (small to xxl): T5 1.1's layers over bytes, with the deeper encoder."""
    return _preset(_SIZES_BYT5, size, 384)
