"""The n-gram model: a distribution in every context, the textbook's own numbers, and what rows it is measured on."""

import collections
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.packing import pack
from t5like.errors import UserError
from t5like.ngram_model import CountedSequences, NgramModel, floor_nats_per_token, sequences_of_rows

Text = Sequence[Sequence[int]]
BEGIN = -1
SHAKESPEARE = Path(__file__).resolve().parents[2] / "shared" / "data" / "tinyshakespeare" / "input.txt"

texts = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=6).filter(any)


def arrays(text: Text) -> list[np.ndarray]:
    """Returns sequences as the model takes them."""
    return [np.array(sequence, np.int32) for sequence in text]


def grammar(num_sequences: int, *, seed: int) -> list[list[int]]:
    """Returns sequences in which a token depends on the two before it, with all small counts of counts."""
    rng = np.random.default_rng(seed)
    table = np.random.default_rng(0).dirichlet(np.full(30, 0.1), size=(30, 30))
    sequences = []
    for length in rng.integers(0, 60, num_sequences):
        sequence = [0, 0]
        for _ in range(length):
            sequence.append(int(rng.choice(30, p=table[sequence[-2], sequence[-1]])))
        sequences.append(sequence[2:])
    return sequences


class Textbook:
    """Interpolated modified Kneser-Ney out of dictionaries, by its formula."""

    def __init__(self, text: Text, *, order: int, num_tokens: int) -> None:
        self.order, self.num_tokens = order, num_tokens
        seen: collections.Counter[tuple[int, ...]] = collections.Counter()
        for sequence in text:
            marked = (BEGIN, *sequence)
            for size in range(1, order + 1):
                seen.update(marked[i : i + size] for i in range(len(marked) - size + 1))
        before: dict[tuple[int, ...], set[int]] = collections.defaultdict(set)
        for ngram in seen:
            before[ngram[1:]].add(ngram[0])
        self.counts = {
            ngram: count if len(ngram) == order or ngram[0] == BEGIN else len(before[ngram])
            for ngram, count in seen.items()
            if ngram != (BEGIN,)
        }
        self.discounts = [self.estimate(size) for size in range(1, order + 1)]
        self.followers: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
        for ngram, count in self.counts.items():
            self.followers[ngram[:-1]].append(count)

    def estimate(self, size: int) -> tuple[float, float, float]:
        n = collections.Counter(count for ngram, count in self.counts.items() if len(ngram) == size)
        if not n[1] or not n[2]:
            return 0.5, 0.5, 0.5
        y = n[1] / (n[1] + 2 * n[2])
        if n[3] and n[4]:
            modified = 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]
            if min(modified) > 0:
                return modified
        return y, y, y

    def discount(self, size: int, count: int) -> float:
        return self.discounts[size - 1][min(count, 3) - 1]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        size = len(context) + 1
        lower = self.probability(context[1:], token) if context else 1 / self.num_tokens
        followers = self.followers.get(context)
        if not followers:
            return lower
        count = self.counts.get((*context, token), 0)
        kept = count - self.discount(size, count) if count else 0.0
        taken = sum(self.discount(size, other) for other in followers)
        return (kept + taken * lower) / sum(followers)

    def log_probabilities(self, text: Text) -> list[float]:
        return [
            math.log(self.probability(marked[max(0, i - self.order + 1) : i], marked[i]))
            for marked in ((BEGIN, *sequence) for sequence in text)
            for i in range(1, len(marked))
        ]


@given(text=texts, order=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_every_context_has_a_distribution_over_all_ids(text: Text, order: int) -> None:
    num_tokens = 5  # the last is never seen
    model = NgramModel.fit(arrays(text), num_tokens=num_tokens, order=order)
    for size in range(3):
        for context in itertools.product(range(num_tokens), repeat=size):
            continued = arrays([[*context, token] for token in range(num_tokens)])
            last = model.log_probabilities(continued).reshape(num_tokens, size + 1)[:, -1]
            assert math.isclose(np.exp(last).sum(), 1.0, rel_tol=1e-12)
            assert np.isfinite(last).all()


@given(text=texts, held_out=texts, order=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_it_is_the_formula_of_the_textbook_on_small_texts(text: Text, held_out: Text, order: int) -> None:
    check_against_the_textbook(text, held_out, order=order, num_tokens=4)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_the_formula_of_the_textbook_where_all_discounts_are_estimated(order: int) -> None:
    text = grammar(100, seed=1)
    discounts = Textbook(text, order=order, num_tokens=31).discounts
    assert len(set(discounts[-1])) == 3 or order == 1
    check_against_the_textbook(text, grammar(30, seed=2), order=order, num_tokens=31)


def check_against_the_textbook(text: Text, held_out: Text, *, order: int, num_tokens: int) -> None:
    model = NgramModel.fit(arrays(text), num_tokens=num_tokens, order=order)
    textbook = Textbook(text, order=order, num_tokens=num_tokens)
    for scored in (text, held_out):
        expected = textbook.log_probabilities(scored)
        np.testing.assert_allclose(model.log_probabilities(arrays(scored)), expected, rtol=1e-12, atol=1e-12)


def test_order_one_is_discounted_shares_and_the_uniform_distribution() -> None:
    model = NgramModel.fit(arrays([[0, 0, 0, 1], [2, 1, 3]]), num_tokens=5, order=1)
    discount = 2 / (2 + 2 * 1)  # two ids are seen once, one twice
    spread = 4 * discount / 7
    expected = [(count - discount) / 7 + spread / 5 for count in (3, 2, 1, 1)] + [spread / 5]
    np.testing.assert_allclose(
        model.log_probabilities(arrays([[0, 1, 2, 3, 4]])), np.log(expected), rtol=1e-12
    )


def test_a_context_never_seen_leaves_the_word_to_a_shorter_one() -> None:
    text = arrays(grammar(60, seed=1))
    model = NgramModel.fit(text, num_tokens=40, order=4)
    unseen = model.log_probabilities([np.array([35, 5, 6, 7])])
    other = model.log_probabilities([np.array([38, 5, 6, 7])])
    np.testing.assert_array_equal(unseen[1:], other[1:])
    bigrams = NgramModel.fit(text, num_tokens=40, order=2)
    beyond = np.array(
        [3, 35, 5]
    )  # after an id never seen there is order 1 alone: continuations, as below bigrams
    assert model.log_probabilities([beyond])[2] != bigrams.log_probabilities([np.array([3, 5])])[1]
    expected = Textbook(grammar(60, seed=1), order=4, num_tokens=40).probability((), 5)
    assert math.isclose(math.exp(model.log_probabilities([beyond])[2]), expected, rel_tol=1e-12)


def test_longer_contexts_help_where_tokens_depend_on_them_and_never_on_what_was_fitted() -> None:
    text, held_out = arrays(grammar(800, seed=1)), arrays(grammar(100, seed=2))
    models = [NgramModel.fit(text, num_tokens=30, order=order) for order in (1, 2, 3)]
    assert [model.order for model in models] == [1, 2, 3]
    for scored in (text, held_out):
        losses = [-model.log_probabilities(scored).mean() for model in models]
        assert losses[0] > losses[1] + 0.1 > losses[2] + 0.2


@given(text=texts, scored=texts, order=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_sequences_are_apart_and_their_order_is_of_no_account(text: Text, scored: Text, order: int) -> None:
    model = NgramModel.fit(arrays(text), num_tokens=4, order=order)
    one_by_one = [model.log_probabilities(arrays([sequence])) for sequence in scored]
    np.testing.assert_array_equal(model.log_probabilities(iter(arrays(scored))), np.concatenate(one_by_one))
    turned = NgramModel.fit(iter(arrays(text[::-1])), num_tokens=4, order=order)
    np.testing.assert_array_equal(
        turned.log_probabilities(arrays(scored)), model.log_probabilities(arrays(scored))
    )


@pytest.mark.parametrize(
    ("sequences", "keywords", "message"),
    [
        ([], {}, "no tokens to fit"),
        ([[], []], {}, "no tokens to fit"),
        ([[1, 7]], {}, "the id 7, which is none of 5"),
        ([[1, -2]], {}, "the id -2, which is none of 5"),
        ([[1, 5]], {}, "the id 5, which is none of 5"),  # the number that the begin mark has inside
        ([[1]], {"order": 0}, "order is 0; an n-gram has at least 1 token"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_sentence(
    sequences: Text, keywords: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        NgramModel.fit(arrays(sequences), num_tokens=5, **keywords)


def test_an_id_beyond_the_vocabulary_cannot_be_scored() -> None:
    model = NgramModel.fit(arrays([[1, 2]]), num_tokens=5)
    with pytest.raises(UserError, match="the id 5, which is none of 5"):
        model.log_probabilities(arrays([[5]]))
    assert len(model.log_probabilities([])) == 0


def same_sequences(made: CountedSequences, sequences: Text, is_counted: Sequence[Sequence[int]]) -> bool:
    return [list(s) for s in made.sequences] == list(map(list, sequences)) and [
        list(c) for c in made.is_counted
    ] == [list(map(bool, c)) for c in is_counted]


def test_the_sequences_of_an_encoder_are_the_text_without_its_masks() -> None:
    row = {
        "encoder_input_tokens": np.array([7, 4, 9, 0]),
        "encoder_target_tokens": np.array([0, 8, 0, 0]),
        "encoder_loss_weights": np.array([0, 1, 0, 0], np.float32),
        "encoder_segment_ids": np.array([1, 1, 1, 0]),
    }
    assert same_sequences(sequences_of_rows([row]), [[7, 8, 9]], [[0, 1, 0]])


def test_the_sequences_of_a_decoder_are_its_targets_padding_and_the_other_segments_apart() -> None:
    row = {
        "encoder_input_tokens": np.array([3, 3]),
        "encoder_segment_ids": np.array([1, 2]),
        "decoder_target_tokens": np.array([5, 0, 6, 7, 0, 0]),  # an id may be that of padding
        "decoder_loss_weights": np.array([1, 1, 0, 1, 0, 0], np.float32),
        "decoder_segment_ids": np.array([1, 1, 2, 2, 0, 0]),
    }
    empty = {name: np.zeros_like(feature) for name, feature in row.items()}
    made = sequences_of_rows([row, empty, row])
    assert same_sequences(made, [[5, 0], [6, 7]] * 2, [[1, 1], [0, 1]] * 2)


def test_packing_rows_changes_nothing(random_batch: functools.partial) -> None:
    batch = random_batch([(4, 3), (2, 5), (3, 2), (1, 1)]) | {"example_ids": np.arange(4)}
    packed = pack(batch, pad_id=0)
    assert len(packed["decoder_target_tokens"]) < 4

    def rows_of(features: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        return [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]

    apart, together = (sequences_of_rows(rows_of(features)) for features in (batch, packed))
    assert sorted(map(tuple, apart.sequences)) == sorted(map(tuple, together.sequences))
    model = NgramModel.fit(apart.sequences, num_tokens=40)
    floors = [floor_nats_per_token(model, rows_of(features)) for features in (batch, packed)]
    assert math.isclose(*floors, rel_tol=1e-12)


def test_the_floor_is_the_mean_over_what_the_loss_counts_and_sees_all_before_it() -> None:
    row = {
        "decoder_target_tokens": np.array([1, 2, 3, 0]),
        "decoder_loss_weights": np.array([0, 0, 1, 0], np.float32),
        "decoder_segment_ids": np.array([1, 1, 1, 0]),
    }
    model = NgramModel.fit(arrays([[1, 2, 3], [2, 1], [3, 3]]), num_tokens=4, order=3)
    expected = -model.log_probabilities(arrays([[1, 2, 3]]))[2]
    assert math.isclose(floor_nats_per_token(model, [row]), expected, rel_tol=1e-12)
    uncounted = row | {"decoder_loss_weights": np.zeros(4, np.float32)}
    with pytest.raises(UserError, match="counts no token of these rows"):
        floor_nats_per_token(model, [uncounted])


@pytest.mark.skipif(
    not SHAKESPEARE.is_file(), reason="needs ../shared/data/tinyshakespeare beside the checkout"
)
def test_on_shakespeare_each_order_up_to_five_is_better_on_text_it_has_not_seen() -> None:
    vocabulary = ByteVocabulary()
    ids = vocabulary.encode(SHAKESPEARE.read_text(encoding="utf-8"))
    train, held_out = ids[:-100_000], ids[-100_000:]
    losses = [
        -NgramModel.fit([train], num_tokens=vocabulary.num_tokens, order=order)
        .log_probabilities([held_out])
        .mean()
        for order in range(1, 6)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 3.2  # nats a byte; the entropy of single letters
    assert losses[4] < 1.65
