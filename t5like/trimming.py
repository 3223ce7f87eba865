"""Batches without the columns that are padding in every row: a CPU computes what there is, and little else."""

from typing import Any

import numpy as np

from t5like.batch import Features
from t5like.loop import BatchIterator

# Widths are multiples of this, so that few shapes are compiled.
WIDTH_MULTIPLE = 32

_OF_TOKENS = ("encoder_", "tag_")


def trimmed(batch: Features, multiple: int = WIDTH_MULTIPLE) -> Features:
    """Returns a batch of the encoder's features with their common padding on the right cut off.

    With multiple 2:

        encoder_segment_ids  [1 1 1 0 0 0 0]   ->   [1 1 1 0]
                             [1 0 0 0 0 0 0]        [1 0 0 0]
    """
    is_used = (batch["encoder_segment_ids"] > 0).any(axis=0)
    longest = int(np.max(np.flatnonzero(is_used), initial=0)) + 1
    width = -(-longest // multiple) * multiple
    return {
        name: feature[:, :width] if name.startswith(_OF_TOKENS) else feature
        for name, feature in batch.items()
    }


class TrimmedBatches:
    """An endless stream of batches, trimmed; its cursor is that of what it trims."""

    def __init__(self, batches: BatchIterator):
        self._batches = batches

    def __next__(self) -> Features:
        return trimmed(next(self._batches))

    def get_state(self) -> dict[str, Any]:
        """Returns the cursor."""
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a cursor."""
        self._batches.set_state(state)

    def close(self) -> None:
        """Ends the threads."""
        self._batches.close()
