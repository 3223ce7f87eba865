"""Batches with little padding: a CPU computes what there is, and no more."""

from collections.abc import Callable

import numpy as np

from t5like.batch import EXAMPLE_IDS, BatchIterator, DerivedBatches, Features
from t5like.data.packing import pack, pack_encoder

# Widths are multiples of this, so that few shapes are compiled.
WIDTH_MULTIPLE = 32
# Packed rows are no shorter: there, attention costs little yet.
_PACKED_WIDTH = 128

_OF_ENCODER_TOKENS = ("encoder_", "tag_")


def trimmed(batch: Features, multiple: int = WIDTH_MULTIPLE) -> Features:
    """Returns a batch with the padding cut off that all its rows have on the right of the encoder's features.

    With multiple 2:

        encoder_segment_ids  [1 1 1 0 0 0 0]   ->   [1 1 1 0]
                             [1 0 0 0 0 0 0]        [1 0 0 0]
    """
    width = -(-_longest(batch) // multiple) * multiple
    return _cut(batch, width)


def packed(batch: Features, *, pad_id: int) -> Features:
    """Returns the examples of a batch in as few rows as they fit in; losses and predictions of examples stay the same.

    That is without dropout: where a model draws one for all positions of a row, the examples in it share that.

    How many rows and columns there are has few values, each of which is compiled: of 32 examples with 12 tokens each,

        encoder_segment_ids [32, 512]   ->   [4, 128]

    Args:
      batch: of an encoder-decoder, or of an encoder with a head.
      pad_id: the vocabulary's.
    """
    num_examples, length = batch["encoder_segment_ids"].shape
    width = _PACKED_WIDTH
    while width < _longest(batch):
        width *= 2
    batch = _cut(batch, min(width, length))
    if "decoder_input_tokens" in batch:
        has_ids = EXAMPLE_IDS in batch
        batch = pack({EXAMPLE_IDS: np.zeros(num_examples, np.int64), **batch}, pad_id=pad_id)
        if not has_ids:
            del batch[EXAMPLE_IDS]
    else:
        batch = pack_encoder(batch, pad_id=pad_id)
    num_rows = min(_few_values(len(batch["encoder_segment_ids"])), num_examples)
    return {
        name: _with_rows(feature, num_rows, pad_id if name.endswith("_tokens") else 0)
        if name.startswith(("encoder_", "decoder_"))
        else feature
        for name, feature in batch.items()
    }


def _longest(batch: Features) -> int:
    is_used = (batch["encoder_segment_ids"] > 0).any(axis=0)
    return int(np.max(np.flatnonzero(is_used), initial=0)) + 1


def _cut(batch: Features, width: int) -> Features:
    return {
        name: feature[:, :width] if name.startswith(_OF_ENCODER_TOKENS) else feature
        for name, feature in batch.items()
    }


def _few_values(num: int) -> int:
    """Returns the next number with at most three digits before its zeros in binary: 7 -> 7, 9 -> 10, 17 -> 20."""
    multiple = 1 << max(num.bit_length() - 3, 0)
    return -(-num // multiple) * multiple


def _with_rows(feature: np.ndarray, num_rows: int, fill: int) -> np.ndarray:
    more = np.full((num_rows - len(feature), *feature.shape[1:]), fill, feature.dtype)
    return np.concatenate([feature, more])


class ShrunkBatches(DerivedBatches):
    """An endless stream of batches with less padding; its cursor is that of what it shrinks."""

    def __init__(self, batches: BatchIterator, shrink: Callable[[Features], Features]):
        super().__init__(batches)
        self._shrink = shrink

    def __next__(self) -> Features:
        return self._shrink(next(self._batches))
