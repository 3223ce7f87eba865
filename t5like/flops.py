"""How much a model computes: the matrix products of its stacks, and what share of the hardware's peak a run reaches.

Counted are the products that the model's definition asks for, twice as much backward as forward, each multiplication and
addition as two operations. What is computed again to save memory, the embedding's look-up, norms and softmax are not.
An encoder's tokens see the encoder alone and a decoder's the decoder alone, so that six operations for each parameter
and token, the usual rule, would be about twice too many for an encoder-decoder.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from t5like.chips import Chip
from t5like.models.config import TransformerConfig

TRAINING = 3
"""Training computes this many times the forward pass."""


class Work(NamedTuple):
    """What the slots of a batch cost to train on, and how many there are; a slot holds a token or padding."""

    encoder_flops: float = (
        0.0  # of all that grows with the encoder's tokens: keys and values for the decoder too
    )
    decoder_flops: float = 0.0
    encoder_slots: int = 0
    decoder_slots: int = 0

    @property
    def flops(self) -> float:
        """Operations of both stacks, heads included."""
        return self.encoder_flops + self.decoder_flops

    def useful_flops(self, encoder_tokens: float, decoder_tokens: float) -> float:
        """Returns the share of the operations that real tokens asked for; what they attended to counts in full."""
        of_encoder = self.encoder_flops * encoder_tokens / max(self.encoder_slots, 1)
        return of_encoder + self.decoder_flops * decoder_tokens / max(self.decoder_slots, 1)


def training_work(config: TransformerConfig, shapes: Mapping[str, tuple[int, ...]]) -> Work:
    """Returns the work of one update on a batch.

    Args:
      shapes: of the features by name; see `t5like.batch`.
    """
    rows, inputs_length = shapes.get("encoder_input_tokens", (0, 0))
    rows, targets_length = shapes.get("decoder_input_tokens", (rows, 0))
    num_examples = shapes.get("example_starts", (rows,))[0]
    per_row = forward_flops(config, inputs_length=inputs_length, targets_length=targets_length)
    pooled = num_examples * _pooled_flops(config)
    encoder, decoder = (TRAINING * rows * flops for flops in per_row)
    if config.last_stack == "encoder":
        encoder += TRAINING * pooled
    else:
        decoder += TRAINING * pooled
    return Work(encoder, decoder, rows * inputs_length, rows * targets_length)


def forward_flops(
    config: TransformerConfig, *, inputs_length: int = 0, targets_length: int = 0
) -> tuple[float, float]:
    """Returns the operations of a row forward that grow with the encoder's and with the decoder's tokens.

    Without what is computed once for a whole text.
    """
    c = config
    width = c.num_heads * c.head_dim
    projection = 2 * c.embed_dim * width  # of one token: queries, keys, values or the output
    layer = 4 * projection + 2 * (len(c.mlp_activations) + 1) * c.embed_dim * c.mlp_dim
    to_key = 4 * width  # of a query and one key: the logit, and the value's share
    encoder = c.num_encoder_layers * inputs_length * (layer + inputs_length * to_key)
    decoder = c.num_decoder_layers * targets_length * (layer + targets_length * to_key)
    if c.num_encoder_layers and c.num_decoder_layers:
        encoder += c.num_decoder_layers * inputs_length * 2 * projection  # keys and values
        decoder += c.num_decoder_layers * targets_length * (2 * projection + inputs_length * to_key)
    head = _token_head_flops(c)
    if c.last_stack == "encoder":
        return encoder + inputs_length * head, decoder
    return encoder, decoder + targets_length * head


def _token_head_flops(c: TransformerConfig) -> float:
    """Returns the operations of the head for each token of the last stack."""
    if c.head == "language_model":
        assert c.num_embeddings is not None
        transform = 2 * c.embed_dim**2 if c.transforms_head else 0
        return transform + 2 * c.embed_dim * c.num_embeddings
    num_labels = {"token_tagging": c.num_labels, "span_extraction": 2}.get(c.head, 0)
    return 2 * c.embed_dim * num_labels


def _pooled_flops(c: TransformerConfig) -> float:
    """Returns the operations of what is computed once for a whole text."""
    is_used = c.head == "sequence_classification" or c.predicts_next_sentence
    pooler = 2 * c.embed_dim**2 if c.has_pooler and is_used else 0
    num_labels = c.num_labels if c.head == "sequence_classification" else 2 * c.predicts_next_sentence
    return pooler + 2 * c.embed_dim * num_labels


class FlopMeter:
    """From the batches of a run to its rates of computing."""

    def __init__(self, config: TransformerConfig, chip: Chip | None, num_devices: int):
        """Measures a model on devices of a kind; None where their peak is not known, which leaves shares of it out."""
        self._config, self._num_devices = config, num_devices
        self._peak = None if chip is None else chip.peak_flops
        self._work: dict[Any, Work] = {}

    def work(self, batch: Mapping[str, Any]) -> Work:
        """Returns the work of one update on a batch of arrays."""
        shapes = {name: tuple(array.shape) for name, array in batch.items()}
        key = tuple(sorted(shapes.items()))
        if key not in self._work:
            self._work[key] = training_work(self._config, shapes)
        return self._work[key]

    def rates(self, updates: Sequence[tuple[Work, float, float]], seconds: float) -> dict[str, float]:
        """Returns what is logged of the updates of an interval.

        model_flops_per_second: of all devices, slots of padding included. slot_mfu_percent: that, as a share of the
        devices' peak ("model FLOPs utilization"); useful_mfu_percent: the share that real tokens asked for.

        Args:
          updates: of each its work, and the real tokens of the encoder and of the decoder.
        """
        flops = sum(work.flops for work, _, _ in updates)
        rates = {"model_flops_per_second": flops / seconds}
        if self._peak is not None:
            of_peak = 100 / (self._peak * self._num_devices * seconds)
            useful = sum(work.useful_flops(encoder, decoder) for work, encoder, decoder in updates)
            rates |= {"slot_mfu_percent": of_peak * flops, "useful_mfu_percent": of_peak * useful}
        return rates
