"""An n-gram model with interpolated modified Kneser-Ney smoothing: the floor under the loss of every trained model.

It is our own because KenLM estimates in programs apart from its Python package, and the models of NLTK are dictionaries
of strings with a single discount.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import Features, trained_stack
from t5like.errors import UserError

# Of the only discount there is where counts say nothing about it.
_UNKNOWN_DISCOUNT = 0.5


class _Order(NamedTuple):
    """The n-grams of one order that were seen, numbered by their keys.

    A key is the number of the context, among the n-grams one token shorter, times `num_tokens + 1`, plus the token: no
    two n-grams share one.
    """

    keys: np.ndarray  # [num_ngrams] int64, ascending
    shares: (
        np.ndarray
    )  # [num_ngrams] float64: of its context's probability, what discounting leaves the n-gram
    backoffs: np.ndarray  # [num_contexts] float64: what it takes away, for the order below to spread


class NgramModel:
    """Probabilities of a token after those before it, up to `order - 1` of them, none of them ever 0.

    Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3, but
    for three things. A sequence begins with one mark, not with `order - 1`, so its first tokens have shorter contexts;
    n-grams that begin with the mark keep their own counts, for nothing comes before it (so does Heafield et al. 2013).
    The order 1 is interpolated with the uniform distribution over all ids.
    """

    def __init__(self, orders: Sequence[_Order], *, num_tokens: int) -> None:
        """Holds what `fit` has counted; make models with that."""
        self._orders = tuple(orders)
        self.num_tokens = num_tokens

    @property
    def order(self) -> int:
        """Tokens in the longest n-grams."""
        return len(self._orders)

    @classmethod
    def fit(cls, sequences: Iterable[np.ndarray], *, num_tokens: int, order: int = 5) -> "NgramModel":
        """Returns the model of some sequences; no n-gram reaches from one into the next.

        Args:
          sequences: [any] integer ids each, end marks included where they are to be predicted.
          num_tokens: ids there are; all get some probability.
          order: tokens in the longest n-grams.

        Raises:
          UserError: there are no tokens, or an id is none of the `num_tokens`, or `order` is below 1.
        """
        if order < 1:
            raise UserError(f"order is {order}; an n-gram has at least 1 token.")
        tokens, places = _join(sequences, num_tokens)
        if not places.any():
            raise UserError("There are no tokens to fit an n-gram model on; give it text.")
        orders: list[_Order] = []
        numbers = np.zeros(
            len(tokens), np.int64
        )  # of the n-gram that ends in each token; of order 0 there is one
        keys, counts = np.zeros((2, 0), np.int64)
        for size in range(1, order + 1):
            ends = np.flatnonzero(places >= size - 1)
            below = keys, counts
            keys, ngrams, counts = np.unique(
                numbers[ends - 1] * (num_tokens + 1) + tokens[ends], return_inverse=True, return_counts=True
            )
            if size == 1:
                counts[keys == num_tokens] = 0  # the mark is a context and never predicted
            else:
                suffixes = np.empty(len(keys), np.int64)
                suffixes[ngrams] = numbers[ends]
                orders.append(_discount(*_continuations(*below, suffixes), orders, num_tokens))
            numbers = np.full(len(tokens), -1, np.int64)
            numbers[ends] = ngrams
        orders.append(_discount(keys, counts, orders, num_tokens))
        return cls(orders, num_tokens=num_tokens)

    def log_probabilities(self, sequences: Iterable[np.ndarray]) -> np.ndarray:
        """Returns the log probability [tokens of all sequences, one after another] float64 of each, in nats.

        Raises:
          UserError: an id is none of the `num_tokens`.
        """
        tokens, places = _join(sequences, self.num_tokens)
        probabilities = np.full(len(tokens), 1 / self.num_tokens)
        numbers = np.zeros(len(tokens), np.int64)
        for size, (keys, shares, backoffs) in enumerate(self._orders, start=1):
            ends = np.flatnonzero(places >= size - 1)
            ends = ends[numbers[ends - 1] >= 0]  # after a context never seen, the order below has the word
            contexts = numbers[ends - 1]
            ngrams = _find(keys, contexts * (self.num_tokens + 1) + tokens[ends])
            probabilities[ends] *= backoffs[contexts]
            is_seen = ngrams >= 0
            probabilities[ends[is_seen]] += shares[ngrams[is_seen]]
            numbers = np.full(len(tokens), -1, np.int64)
            numbers[ends] = ngrams
        return np.log(probabilities[places > 0])


class CountedSequences(NamedTuple):
    """Token sequences of rows, and which of their tokens the loss counts."""

    sequences: list[np.ndarray]  # [any] int32 each
    is_counted: list[np.ndarray]  # of the same lengths, bool


def sequences_of_rows(rows: Iterable[Features]) -> CountedSequences:
    """Returns the sequence of each segment of rows: what is learnt from it, in the order of the text.

    Of a decoder that is its targets. Of an encoder alone it is the text without its masks:

        encoder_input_tokens   [7 4 9 0]     encoder_loss_weights  [0 1 0 0]
        encoder_target_tokens  [0 8 0 0]     encoder_segment_ids   [1 1 1 0]   ->   [7 8 9], counted [0 1 0]

    Args:
      rows: features [length] each.
    """
    sequences, is_counted = [], []
    for row in rows:
        stack = trained_stack(row)
        tokens, counts = row[f"{stack}_target_tokens"], row[f"{stack}_loss_weights"] > 0
        if stack == "encoder":
            tokens = np.where(counts, tokens, row["encoder_input_tokens"])
        segments = row[f"{stack}_segment_ids"]
        starts = np.flatnonzero(np.diff(segments, prepend=0))
        for start, end in itertools.pairwise([*starts, len(segments)]):
            if segments[start] > 0:
                sequences.append(tokens[start:end])
                is_counted.append(counts[start:end])
    return CountedSequences(sequences, is_counted)


def floor_nats_per_token(model: NgramModel, rows: Iterable[Features]) -> float:
    """Returns the mean of what the model gives the counted tokens of rows, in nats: a loss to compare losses with.

    Raises:
      UserError: the loss counts no token of these rows.
    """
    sequences, is_counted = sequences_of_rows(rows)
    counted = np.concatenate([np.zeros(0, bool), *is_counted])
    if not counted.any():
        raise UserError("The loss counts no token of these rows; there is nothing to measure.")
    return float(-model.log_probabilities(sequences)[counted].mean())


def _join(sequences: Iterable[np.ndarray], num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all sequences in one, each after a begin mark, and the place of each token in its sequence from 1 on.

    With num_tokens=9:  [7 8] [6]  ->  [9 7 8 9 6], [0 1 2 0 1]

    Raises:
      UserError: an id is none of the `num_tokens`.
    """
    parts = list(sequences)
    lengths = np.array([len(part) + 1 for part in parts], np.int64)
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens = np.full(len(places), num_tokens, np.int64)
    ids = np.concatenate([np.zeros(0, np.int64), *parts])
    if len(ids) and (ids.min() < 0 or ids.max() >= num_tokens):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise UserError(
            f"The sequences hold the id {wrong}, which is none of {num_tokens}; raise num_tokens."
        )
    tokens[places > 0] = ids
    return tokens, places


def _continuations(
    keys: np.ndarray, counts: np.ndarray, suffixes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns n-grams with the number of tokens, begin mark included, that were seen before each.

    Args:
      keys: of the n-grams, returned as they are.
      counts: how often each was seen, kept by those that begin with the mark.
      suffixes: of all n-grams one longer, the number of the n-gram that each ends with.
    """
    continuations = np.bincount(suffixes, minlength=len(keys))
    return keys, np.where(continuations > 0, continuations, counts)


def _discount(keys: np.ndarray, counts: np.ndarray, below: Sequence[_Order], num_tokens: int) -> _Order:
    """Returns an order by its n-grams and their counts, and the orders below it."""
    num_contexts = len(below[-1].keys) if below else 1
    contexts = keys // (num_tokens + 1)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
    taken = np.bincount(contexts, weights=discounts, minlength=num_contexts)
    backoffs = np.divide(taken, totals, out=np.ones(num_contexts), where=totals > 0)
    return _Order(keys, (counts - discounts) / totals[contexts], backoffs)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Returns what is taken off a count of [0, 1, 2, 3 or more], [4] float64.

    Source: Chen and Goodman 1999, equation 26. Where too few n-grams have small counts for it, as where nothing was
    seen three times, the single discount of Kneser and Ney 1995 is taken off all, which needs two of the numbers.
    """
    n1, n2, n3, n4 = (float(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (n1 and n2):
        return np.array([0.0, *[_UNKNOWN_DISCOUNT] * 3])
    single = n1 / (n1 + 2 * n2)
    if n3:
        two, more = 2 - 3 * single * n3 / n2, 3 - 4 * single * n4 / n3
        if n4 and two > 0 and more > 0:
            return np.array([0.0, single, two, more])
    return np.array([0.0, *[single] * 3])


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the number of each wanted key among ascending ones, int64, -1 where it is not there."""
    numbers = np.searchsorted(keys, wanted)
    numbers[numbers == len(keys)] = -1
    if len(keys):
        numbers[keys[numbers] != wanted] = -1
    return numbers
