"""The knobs of the one transformer."""

import dataclasses
from typing import Literal

from t5like.errors import UserError

Activation = Literal["relu", "gelu", "silu", "linear"]
RematPolicy = Literal["none", "full", "save_matmuls"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """An encoder-decoder with relative position biases, T5's way.

    Source: Raffel et al. 2020 (section 2.1) for T5 1.0; Shazeer 2020 for the gated MLP of T5 1.1.
    `t5like.families` holds the public presets of these knobs.
    """

    embed_dim: int
    """Width of the residual stream."""
    num_heads: int
    head_dim: int
    """Width of one attention head; num_heads * head_dim need not equal embed_dim."""
    mlp_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    num_embeddings: int | None = None
    """Rows of the embedding table; None takes the vocabulary's size rounded up to a multiple of 128."""
    mlp_activations: tuple[Activation, ...] = ("gelu", "linear")
    """One activation for each input projection of the MLP; their product is the hidden layer.
    ("relu",) is T5 1.0, ("gelu", "linear") is the gated GELU of T5 1.1."""
    head_is_tied: bool = False
    """True shares the embedding with the output head and scales its input by embed_dim**-0.5 (T5 1.0)."""
    num_relative_buckets: int = 32
    max_relative_distance: int = 128
    norm_epsilon: float = 1e-6
    dropout_rate: float = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of activations and of matrix products; parameters, norms, softmax and logits stay float32."""
    attention: Literal["at_once", "per_example"] = "at_once"
    """Whether attention is computed for the whole batch at once, or one example after another, which is faster and
    smaller on a single CPU and cannot be split over devices. The results are the same."""
    scans_layers: bool = True
    """True stacks the layers' parameters and runs them in a loop: compile time stays flat in depth."""
    remat: RematPolicy = "none"
    """What the backward pass computes again: nothing, whole layers, or all but the matrix products."""

    def __post_init__(self) -> None:
        for name in (
            "embed_dim",
            "num_heads",
            "head_dim",
            "mlp_dim",
            "num_encoder_layers",
            "num_decoder_layers",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}, but must be at least 1.")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"model.dropout_rate is {self.dropout_rate}, but must lie in [0, 1).")
        if not self.mlp_activations:
            raise UserError("model.mlp_activations is empty; give one activation, or two for a gated MLP.")
        if self.num_relative_buckets < 4 or self.num_relative_buckets % 2:
            raise UserError(
                f"model.num_relative_buckets is {self.num_relative_buckets}, but must be even and at least 4."
            )
        if self.max_relative_distance <= self.num_relative_buckets // 2:
            raise UserError(
                f"model.max_relative_distance is {self.max_relative_distance}, but must exceed half of "
                f"model.num_relative_buckets ({self.num_relative_buckets // 2})."
            )
