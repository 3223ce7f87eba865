"""Cutting documents into the chunks that rows are made of, all chunks side by side in one array."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import with_marks


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

    def take(self, numbers: np.ndarray) -> "Chunks":
        """Returns the chunks of these numbers, in this order: of those above, [1 0] -> [14 15] and [11 12 13]."""
        lengths = self.lengths[numbers]
        places = np.repeat(self.starts[numbers], lengths) + positions_in(lengths)
        return Chunks(self.tokens[places], lengths)


def gather(documents: Sequence[np.ndarray], *, joins_documents: bool, end_ids: Sequence[int] = ()) -> Chunks:
    """Returns the documents that hold tokens, each with `end_ids` after it, or a single text of all of them.

    With the end 1:  [7 8] [] [9]  ->  [7 8 1] [9 1], or joined [7 8 1 9 1]
    """
    lengths = np.array([len(document) for document in documents if len(document)], np.int64)
    tokens = np.concatenate([*documents, np.zeros(0, np.int32)]).astype(np.int32, copy=False)
    if end_ids:
        tokens, lengths = with_marks(tokens, lengths, before=(), after=end_ids)
    if joins_documents:
        lengths = np.array([len(tokens)] if len(tokens) else [], np.int64)
    return Chunks(tokens, lengths)


def cut(texts: Chunks, length: int) -> Chunks:
    """Returns texts cut into chunks of `length` tokens; only the last of a text is shorter.

    With length 3:  [1 2 3 4] [5]  ->  [1 2 3] [4] [5]
    """
    num_chunks = -(-texts.lengths // length)
    lengths = np.full(int(num_chunks.sum()), length, np.int64)
    lengths[np.cumsum(num_chunks) - 1] = texts.lengths - (num_chunks - 1) * length
    return Chunks(texts.tokens, lengths)


def sentence_ends(texts: Chunks, ends_sentence: np.ndarray) -> np.ndarray:
    """Returns which tokens are the last of a sentence, [num_tokens] bool; of several in a row that end one, the last.

    Args:
      ends_sentence: [num_tokens of the vocabulary] bool.
    """
    ends = ends_sentence[texts.tokens]
    ends[:-1] &= ~ends[1:]
    return ends


def positions_in(lengths: np.ndarray) -> np.ndarray:
    """Returns the place of each item in its run: lengths [3 2] -> [0 1 2 0 1]."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)
