"""Pairs of texts for predicting whether the second follows the first."""

import bisect
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from t5like.objectives.chunks import Chunks, gather, sentence_ends

SecondText = Literal["next_sentence", "sentence_order"]


class Pairs(NamedTuple):
    """Two texts of each row, and whether the second is something else than what follows the first."""

    first: Chunks
    second: Chunks
    labels: np.ndarray  # [num_pairs] int32, 0: it follows


def make_pairs(
    documents: Sequence[np.ndarray],
    *,
    longest: int,
    ends_sentence: np.ndarray,
    second_text: SecondText,
    rng: np.random.Generator,
) -> Pairs:
    """Returns pairs of neighbouring texts, about half of them spoilt.

    Args:
      longest: tokens that a text of a pair may have.
      ends_sentence: [num_tokens of the vocabulary] bool.
      second_text: spoilt pairs have their second text from another document, or their texts the wrong way round.
    """
    texts = gather(documents, joins_documents=False)
    pieces, neighbours, of_document = split_in_pairs(texts, longest, ends_sentence)
    first, second = neighbours[0::2], neighbours[1::2].copy()
    is_spoilt = rng.random(len(first)) < 0.5
    if second_text == "sentence_order":
        first, second = np.where(is_spoilt, second, first), np.where(is_spoilt, first, second)
    else:
        (spoilt,) = np.nonzero(is_spoilt)
        spoilt, partners = exchange(spoilt, of_document[spoilt], rng)
        is_spoilt = np.zeros(len(first), bool)
        is_spoilt[spoilt], second[spoilt] = True, second[partners]
    return Pairs(pieces.take(first), pieces.take(second), is_spoilt.astype(np.int32))


def split_in_pairs(
    texts: Chunks, longest: int, ends_sentence: np.ndarray
) -> tuple[Chunks, np.ndarray, np.ndarray]:
    """Returns (all pieces of the texts; those that make pairs, first, second, first, second, ...; each pair's text).

    A piece ends with the last sentence that ends within `longest` tokens, or after so many. Where an odd number of
    pieces comes of a text, the last one is split, after the sentence that ends closest to its middle or else there; if
    it is a single token, it is in no pair. With `longest` 4, and 19 and 29 that end sentences:

        [11 19 12 13 29 14 15]         ->   [11 19] [12 13 29], and [14] [15]
        [11 12 13 14 15 16 17 18 19]   ->   [11 12 13 14] [15 16 17 18], and [19] in no pair
    """
    ends: list[int] = (np.flatnonzero(sentence_ends(texts, ends_sentence)) + 1).tolist()
    stops: list[int] = []
    neighbours: list[int] = []
    of_document: list[int] = []
    stop = 0
    for number, length in enumerate(texts.lengths.tolist()):
        start, stop = stop, stop + length
        before = len(stops)
        while start < stop:
            limit = min(start + longest, stop)
            last = bisect.bisect_right(ends, limit) - 1
            last_start = start
            start = ends[last] if limit < stop and last >= 0 and ends[last] > start else limit
            stops.append(start)
        if (len(stops) - before) % 2 and stop - last_start > 1:
            stops.insert(-1, _middle(last_start, stop, ends))
        num_pairs = (len(stops) - before) // 2
        neighbours += range(before, before + 2 * num_pairs)
        of_document += [number] * num_pairs
    lengths = np.diff(np.array(stops, np.int64), prepend=0)
    return Chunks(texts.tokens, lengths), np.array(neighbours, np.int64), np.array(of_document, np.int64)


def _middle(start: int, stop: int, ends: list[int]) -> int:
    """Returns the place strictly between two others that is best to part a text at."""
    middle = (start + stop) // 2
    place = bisect.bisect_left(ends, middle)
    inside = [end for end in ends[max(place - 1, 0) : place + 1] if start < end < stop]
    return min(inside, key=lambda end: abs(end - middle), default=middle)


def exchange(
    pairs: np.ndarray, of_document: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (pairs, partners), which are the same pairs in another order: no partner is of a pair's own document.

    Where more than half of the pairs are of one document, some of its pairs are left out.

    Args:
      pairs: [num_pairs] int64.
      of_document: [num_pairs] int64, the document of each.
    """
    order = np.lexsort((rng.random(len(pairs)), of_document))
    pairs, of_document = pairs[order], of_document[order]
    _, firsts, counts = np.unique(of_document, return_index=True, return_counts=True)
    largest = int(np.argmax(counts)) if len(counts) else 0
    excess = max(2 * int(np.max(counts, initial=0)) - len(pairs), 0)
    if excess:
        pairs = np.delete(pairs, firsts[largest] + np.arange(excess))
    # Documents lie side by side, so a shift by the most pairs of one leads out of each.
    most = min(int(np.max(counts, initial=0)), len(pairs) // 2)
    shift = int(rng.integers(most, len(pairs) - most + 1)) if len(pairs) else 0
    return pairs, np.roll(pairs, shift)
