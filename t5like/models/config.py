"""The knobs of the one transformer."""

import dataclasses
import difflib
from typing import Literal

from t5like.errors import UserError

Activation = Literal["relu", "gelu", "gelu_exact", "silu", "linear"]
DropoutSpot = Literal["embeddings", "attention", "residual", "mlp", "output"]
Head = Literal["language_model", "sequence_classification", "token_tagging", "span_extraction", "none"]
AttentionWay = Literal["at_once", "per_example", "chunked", "flash"]
RematPolicy = Literal["none", "full", "save_matmuls", "save_named", "offload_named"]

ALL_SPOTS: tuple[DropoutSpot, ...] = ("embeddings", "attention", "residual", "mlp", "output")
REMAT_NAMES = ("qkv", "attended", "attention_out", "mlp_wi", "mlp_out")
"""What a layer computes that can be kept for the backward pass: queries, keys and values; the attended values, and their
projection onto the residual stream; what the MLP's input projections give, and what its output projection does."""

# More is a slip: no array has a longer axis, and as many layers are longer traced than any run takes.
_LARGEST_SIZE, _MOST_LAYERS = 2**31 - 1, 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A transformer of one stack or two; with the defaults, T5's.

    Source: Raffel et al. 2020 (section 2.1) for T5 1.0; Shazeer 2020 for the gated MLP of T5 1.1; for the other
    families see `t5like.families`, which holds the public presets of these knobs.
    """

    embed_dim: int
    """Width of the residual stream."""
    num_heads: int
    head_dim: int
    """Width of one attention head; num_heads * head_dim need not equal embed_dim."""
    mlp_dim: int
    num_encoder_layers: int
    """0 leaves the encoder out: a decoder-only model, such as GPT-2."""
    num_decoder_layers: int
    """0 leaves the decoder out: an encoder-only model, such as BERT."""
    num_embeddings: int | None = None
    """Rows of the embedding table; None takes the vocabulary's size rounded up to a multiple of 128."""

    positions: Literal["relative", "relative_per_layer", "learned"] = "relative"
    """Where order comes from: a bias of attention by distance, one table for all layers of a stack (T5) or one for
    each (UMT5), or a learned vector added to each embedding."""
    num_relative_buckets: int = 32
    max_relative_distance: int = 128
    num_positions: int = 512
    """Rows of a table of learned positions, its first `position_offset` among them."""
    position_offset: int = 0
    """Row of the first position: 2 in RoBERTa and BART, whose first rows were kept for special ids."""
    positions_skip_padding: bool = False
    """True counts real tokens alone (RoBERTa), and gives padding the row before the first position."""
    num_token_types: int = 0
    """Rows of the table that tells the texts of a pair apart: 2 in BERT, 1 in RoBERTa, which has but one to add."""

    norm: Literal["rms", "layer"] = "rms"
    """Root-mean-square norm with a scale, or layer norm with a scale and a bias."""
    norm_placement: Literal["before", "after"] = "before"
    """Whether each sublayer's input is normed, and the stack's output once more, or the residual stream after each."""
    norms_embeddings: bool = False
    """True norms what the first layer is given (BERT, BART)."""
    norm_epsilon: float = 1e-6
    scales_embeddings: bool = False
    """True multiplies token embeddings by the square root of embed_dim."""
    has_biases: bool = False
    """Whether the layers' projections add a bias."""
    scales_attention: bool = False
    """True divides the logits of attention by the square root of head_dim; T5 folds that into the initial query."""
    mlp_activations: tuple[Activation, ...] = ("gelu", "linear")
    """One activation for each input projection of the MLP; their product is the hidden layer.
    ("relu",) is T5 1.0, ("gelu", "linear") is the gated GELU of T5 1.1. "gelu" is the tanh approximation,
    "gelu_exact" the GELU itself."""

    head: Head = "language_model"
    """What is made of the last stack's output: logits over the vocabulary (of an encoder, masked language modelling),
    of one label for a text, of one label for each token, of the first and last token of an answer, or nothing."""
    num_labels: int = 0
    """Labels of a classifier or tagger."""
    label_names: tuple[str, ...] = ()
    """What they are called, by their number; empty: nobody has said."""
    head_is_tied: bool = False
    """True shares the embedding with the output head."""
    scales_tied_head: bool = True
    """Whether a tied head's input is multiplied by embed_dim**-0.5, as in T5 1.0."""
    head_has_bias: bool = False
    """Whether each logit of the vocabulary has a bias (BERT, BART)."""
    transforms_head: bool = False
    """Whether one more projection, activation and norm come before the vocabulary's logits (BERT)."""
    predicts_next_sentence: bool = False
    """Whether a masked language model also tells if its second text follows its first."""
    pooler: Literal["tanh", "relu"] | None = "tanh"
    """Activation of the projection before a classifier of texts; None leaves that out (GPT-2). An encoder is pooled at
    its first token, a decoder at its last."""
    has_pooler_without_head: bool = False
    """Whether a model with no head has the pooler all the same, as public BERT encoders do."""

    init_stddev: float | None = None
    """Standard deviation of all new kernels and tables; None takes T5's, which depend on the sizes."""
    dropout_rate: float = 0.0
    dropout_spots: tuple[DropoutSpot, ...] = ALL_SPOTS
    """Where dropout acts: after the embeddings, on attention weights, before each residual sum, within the MLP, and
    on the stack's output."""
    shares_dropout: bool = True
    """Whether one draw serves all positions of a row, as in T5, or each position has its own."""

    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of activations and of matrix products, to which kernels are cast once a step; the parameters themselves, norms,
    softmax and logits stay float32."""
    attention: AttentionWay = "at_once"
    """How attention is computed, with the same results: for the whole batch at once; one example after another, in
    logits that stay near the core, and so faster on a CPU and with less traffic on a TPU; some keys at a time, in memory
    that grows with the length and not its square; or likewise by a TPU kernel, of which other devices make the former."""
    scans_layers: bool = True
    """True stacks the layers' parameters and runs them in a loop: compile time stays flat in depth."""
    unrolls_scan: bool = False
    """Whether that loop is written out: faster on a CPU, where it copies each layer's parameters, but more to compile."""
    remat: RematPolicy = "none"
    """What the backward pass computes again: nothing; whole layers; all but the matrix products; all but what
    `remat_names` names, which is kept on the device, or in the memory of its host."""
    remat_names: tuple[str, ...] = ("qkv", "attention_out", "mlp_wi")
    """Any of REMAT_NAMES; read by the policies save_named and offload_named alone."""

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_positions()
        self._check_head()
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"model.dropout_rate is {self.dropout_rate}, but must lie in [0, 1).")
        if not self.mlp_activations:
            raise UserError("model.mlp_activations is empty; give one activation, or two for a gated MLP.")
        if self.attention != "at_once" and not self.shares_dropout and "attention" in self.dropout_spots:
            raise UserError(
                f"model.attention {self.attention} draws one dropout for all positions of a row; set "
                "model.shares_dropout, or use model.attention at_once."
            )
        # What is no number is told of where types are checked.
        if isinstance(self.norm_epsilon, int | float) and not 0 < self.norm_epsilon < 1:
            raise UserError(f"model.norm_epsilon is {self.norm_epsilon}, but must lie between 0 and 1.")
        if self.init_stddev is not None and not 0 < self.init_stddev < 1e9:
            raise UserError(f"model.init_stddev is {self.init_stddev}, but must be above 0, or None.")
        for name in self.remat_names:
            if name not in REMAT_NAMES:
                nearest = difflib.get_close_matches(name, REMAT_NAMES, n=1, cutoff=0.0)[0]
                raise UserError(
                    f"model.remat_names has {name!r}: did you mean {nearest!r}? The names are {', '.join(REMAT_NAMES)}."
                )
        if not self.remat_names and self.remat in ("save_named", "offload_named"):
            raise UserError(
                f"model.remat {self.remat} keeps what model.remat_names names, which is nothing; name something, or use "
                "model.remat full."
            )

    def _check_sizes(self) -> None:
        for field in dataclasses.fields(self):
            size = getattr(self, field.name)
            most = _MOST_LAYERS if field.name.endswith("_layers") else _LARGEST_SIZE
            if type(size) is int and size > most:
                raise UserError(f"model.{field.name} is {str(size)[:20]}, but must be at most {most}.")
        for name in ("embed_dim", "num_heads", "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}, but must be at least 1.")
        for name in ("num_encoder_layers", "num_decoder_layers", "num_token_types", "num_labels"):
            if getattr(self, name) < 0:
                raise UserError(f"model.{name} is {getattr(self, name)}, but must be at least 0.")
        if self.num_embeddings is not None and self.num_embeddings < 1:
            raise UserError(
                f"model.num_embeddings is {self.num_embeddings}, but must be at least 1, or None."
            )
        if not self.num_encoder_layers and not self.num_decoder_layers:
            raise UserError(
                "model.num_encoder_layers and model.num_decoder_layers are both 0; give one of them."
            )

    def _check_positions(self) -> None:
        if self.positions == "learned":
            if not 0 <= self.position_offset < self.num_positions:
                raise UserError(
                    f"model.position_offset is {self.position_offset}, but must lie in [0, {self.num_positions}), the "
                    "rows of model.num_positions."
                )
            if self.positions_skip_padding and not self.position_offset:
                raise UserError(
                    "model.positions_skip_padding needs a row for padding; set model.position_offset to 1 or more."
                )
            return
        if self.num_relative_buckets < 4 or self.num_relative_buckets % 2:
            raise UserError(
                f"model.num_relative_buckets is {self.num_relative_buckets}, but must be even and at least 4."
            )
        if self.max_relative_distance <= self.num_relative_buckets // 2:
            raise UserError(
                f"model.max_relative_distance is {self.max_relative_distance}, but must exceed half of "
                f"model.num_relative_buckets ({self.num_relative_buckets // 2})."
            )

    def _check_head(self) -> None:
        has_labels = self.head in ("sequence_classification", "token_tagging")
        if has_labels and self.num_labels < 1:
            raise UserError(f"model.head {self.head} needs model.num_labels, how many labels there are.")
        if self.label_names and len(self.label_names) != self.num_labels:
            raise UserError(
                f"model.label_names gives {len(self.label_names)} names, but model.num_labels is {self.num_labels}; "
                "name each label, or none."
            )
        if self.predicts_next_sentence and (self.head != "language_model" or self.num_decoder_layers):
            raise UserError("model.predicts_next_sentence is for a masked language model, an encoder alone.")

    @property
    def last_stack(self) -> Literal["encoder", "decoder"]:
        """The stack whose output the head is given, and the prefix of the features it is trained on."""
        return "decoder" if self.num_decoder_layers else "encoder"

    @property
    def has_pooler(self) -> bool:
        """Whether there is a projection of a whole text."""
        needed = self.head == "sequence_classification" or self.predicts_next_sentence
        return self.pooler is not None and (needed or (self.head == "none" and self.has_pooler_without_head))

    @property
    def max_length(self) -> int | None:
        """The longest sequence a table of learned positions has rows for; None where there is none."""
        return self.num_positions - self.position_offset if self.positions == "learned" else None

    def dropout_at(self, spot: DropoutSpot) -> float:
        """Returns the dropout rate at one of the spots, 0 where there is none."""
        return self.dropout_rate if spot in self.dropout_spots else 0.0
