"""Cutting documents into the chunks that rows are made of, all chunks side by side in one array."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Chunks(NamedTuple):
    """Pieces of text, one after another.

    tokens   [11 12 13 14 15]
    lengths  [3 2]               the chunks [11 12 13] and [14 15]
    """

    tokens: np.ndarray  # [num_tokens] int32
    lengths: np.ndarray  # [num_chunks] int64, each at least 1

    @property
    def starts(self) -> np.ndarray:
        """Where each chunk begins, [num_chunks] int64."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def positions(self) -> np.ndarray:
        """The place of each token in its chunk, [num_tokens] int64."""
        return positions_in(self.lengths)


def cut(documents: Sequence[np.ndarray], length: int, *, joins_documents: bool) -> Chunks:
    """Returns the documents cut into chunks of `length` tokens; only the last of a text is shorter.

    With length 3, joined and not:

        [1 2 3 4] [5]   ->   [1 2 3] [4 5]
                        ->   [1 2 3] [4] [5]
    """
    tokens = np.concatenate([*documents, np.zeros(0, np.int32)]).astype(np.int32, copy=False)
    if joins_documents:
        sizes = np.array([len(tokens)])
    else:
        sizes = np.array([len(document) for document in documents], np.int64)
    num_chunks = -(-sizes // length)
    lengths = np.full(int(num_chunks.sum()), length, np.int64)
    has_chunks = sizes > 0
    lengths[np.cumsum(num_chunks)[has_chunks] - 1] = (sizes - (num_chunks - 1) * length)[has_chunks]
    return Chunks(tokens, lengths)


def positions_in(lengths: np.ndarray) -> np.ndarray:
    """Returns the place of each item in its run: lengths [3 2] -> [0 1 2 0 1]."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)
