"""Laws of denoising: targets are the text, and what an encoder reads is its sentences in any order, words hidden."""

import collections

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.bart_denoising import BartDenoising, draw_spans, infill, shuffle_sentences
from t5like.objectives.chunks import Chunks, sentence_ends
from t5like.objectives.masking import count_chosen
from tests.objectives.fakes import (
    FIRST_ID,
    NUM_TOKENS,
    TINY,
    FakeVocabulary,
    check_features,
    documents,
    flat,
    is_the_same,
    num_rows,
    real_tokens,
    seeds,
)

BART = FakeVocabulary(target_begin_ids=(2,), decoder_start_id=1)
MASK = 4
quick = settings(deadline=None, max_examples=150)
objectives = st.builds(
    BartDenoising,
    length=st.integers(3, 40),
    noise_density=st.floats(0.01, 1.0),
    mean_span_length=st.floats(0.1, 6.0),
    permutes_sentences=st.booleans(),
    joins_documents=st.booleans(),
)
distinct_texts = st.lists(
    st.lists(st.integers(FIRST_ID, NUM_TOKENS - 1), unique=True, max_size=40).map(
        lambda ids: np.array(ids, np.int32)
    ),
    max_size=4,
)


def rows_of(objective, texts, seed=0, vocabulary=BART):
    objective.check(vocabulary)
    return objective(texts, np.random.default_rng(seed), vocabulary)


def pieces(tokens: list[int], begins) -> list[list[int]]:
    """Returns the tokens parted before each that begins something, given its number."""
    parts = []
    for number, token in enumerate(tokens):
        if number == 0 or begins(number):
            parts.append([])
        parts[-1].append(token)
    return parts


def sentences_of(text: list[int]) -> list[list[int]]:
    ends = [bool(TINY.ends_sentence[token]) for token in text]
    return pieces(text, lambda i: ends[i - 1] and not ends[i])


def words_of(text: list[int]) -> list[tuple[int, ...]]:
    return [tuple(word) for word in pieces(text, lambda i: TINY.starts_word[text[i]])]


def test_worked_example():
    objective = BartDenoising(length=7, noise_density=0.4)
    expected = {
        "encoder_input_tokens": [[2, 20, 4, 12, 18, 1, 0]],
        "decoder_target_tokens": [[2, 10, 12, 18, 20, 28, 1]],
        "decoder_input_tokens": [[1, 2, 10, 12, 18, 20, 28]],
    }
    drawn = [rows_of(objective, [np.array([10, 12, 18, 20, 28])], seed) for seed in range(500)]
    assert expected in [{name: rows[name].tolist() for name in expected} for rows in drawn]


@quick
@given(objective=objectives, texts=documents, seed=seeds)
def test_targets_are_the_text(objective, texts, seed):
    rows = rows_of(objective, texts, seed)
    check_features(rows, {"encoder": objective.length, "decoder": objective.length})
    targets = real_tokens(rows, "decoder_target_tokens")
    assert all(row[0] == 2 and row[-1] == 1 for row in targets)
    chunks = [row[1:-1] for row in targets]
    assert flat(chunks) == flat(texts)
    room = objective.length - 2
    if objective.joins_documents:
        assert all(len(chunk) == room for chunk in chunks[:-1])
    else:
        assert num_rows(rows) == sum(-(-len(text) // room) for text in texts)
    np.testing.assert_array_equal(rows["decoder_loss_weights"], rows["decoder_segment_ids"])
    assert is_the_same(rows, rows_of(objective, texts, seed))


@quick
@given(objective=objectives, texts=distinct_texts, seed=seeds)
def test_what_is_read_is_sentences_in_some_order_with_so_many_words_hidden(objective, texts, seed):
    rows = rows_of(objective, texts, seed)
    for inputs, targets in zip(
        real_tokens(rows, "encoder_input_tokens"), real_tokens(rows, "decoder_target_tokens"), strict=True
    ):
        assert inputs[0] == 2
        assert inputs[-1] == 1
        inputs, text = inputs[1:-1], targets[1:-1]
        assert len(inputs) <= len(text)
        if len(set(text)) < len(text):
            continue  # of joined documents
        sentences = sentences_of(text) if objective.permutes_sentences else [text]
        words = [word for sentence in sentences for word in words_of(sentence)]
        kept = [token for token in inputs if token != MASK]
        hidden = set(text) - set(kept)
        hidden_words = [word for word in words if hidden & set(word)]
        assert set(flat(hidden_words)) == hidden  # whole words
        assert len(hidden_words) == count_chosen(np.array([len(words)]), objective.noise_density)[0]
        assert 1 <= inputs.count(MASK) <= len(hidden_words)
        kept_sentences = [[token for token in sentence if token in set(kept)] for sentence in sentences]
        kept_sentences = [sentence for sentence in kept_sentences if sentence]
        kept_sentences.sort(key=lambda sentence: kept.index(sentence[0]))
        assert kept == flat(kept_sentences)


def test_every_order_of_sentences_is_equally_likely():
    text = [10, 18, 20, 22, 28, 12]  # three sentences, of which the last does not end
    chunks = Chunks(np.array([*text, 14, 18] * 6000), np.array([6, 2] * 6000))
    starts = TINY.starts_word[chunks.tokens]
    shuffled, flags = shuffle_sentences(
        chunks, starts, sentence_ends(chunks, TINY.ends_sentence), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(shuffled.lengths, chunks.lengths)
    np.testing.assert_array_equal(flags, TINY.starts_word[shuffled.tokens])
    rows = shuffled.tokens.reshape(6000, 8)
    assert (rows[:, 6:] == [14, 18]).all()
    counts = collections.Counter(map(bytes, rows[:, :6]))
    assert len(counts) == 6
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_ends_in_a_row_end_one_sentence():
    ends = sentence_ends(Chunks(np.array([10, 18, 19, 20, 28]), np.array([5])), TINY.ends_sentence)
    assert ends.tolist() == [False, False, True, False, True]


# --- spans


@quick
@given(num_hidden=st.lists(st.integers(0, 30), max_size=5), mean=st.floats(0.01, 8.0), seed=seeds)
def test_spans_add_up(num_hidden, mean, seed):
    spans, num_spans = draw_spans(np.array(num_hidden, np.int64), mean, np.random.default_rng(seed))
    assert spans.sum(axis=1).tolist() == num_hidden
    assert (spans >= 0).all()
    assert (num_spans <= num_hidden).all()
    for row, number in zip(spans, num_spans, strict=True):
        assert not row[number:].any()


def test_worked_example_of_lengths():
    class Drawn:
        def poisson(self, mean, shape):
            return np.array([[3, 0, 4, 1, 2]])

        def random(self, shape):
            return np.arange(np.prod(shape)).reshape(shape) / 10

    spans, num_spans = draw_spans(np.array([5]), 3.0, Drawn())
    assert spans.tolist() == [[3, 0, 2]]
    assert num_spans.tolist() == [3]


def test_spans_are_poisson_numbers_in_random_order():
    rng = np.random.default_rng(0)
    spans, num_spans = draw_spans(np.full(300, 400), 3.0, rng)
    is_span = np.arange(spans.shape[1]) < num_spans[:, None]
    counts = np.bincount(np.minimum(spans[is_span], 8), minlength=9)
    shares = np.append(scipy.stats.poisson.pmf(np.arange(8), 3.0), scipy.stats.poisson.sf(7, 3.0))
    # The last span of each row is cut; the rest must fit all the same.
    assert scipy.stats.chisquare(counts, shares * counts.sum()).pvalue > 1e-4
    short, num_short = draw_spans(np.full(4000, 4), 3.0, rng)
    two = short[num_short == 2]
    assert len(two) > 1000
    larger_first = np.count_nonzero(two[:, 0] > two[:, 1]), np.count_nonzero(two[:, 0] < two[:, 1])
    assert scipy.stats.binomtest(larger_first[0], sum(larger_first)).pvalue > 0.001


def test_every_arrangement_of_a_span_is_equally_likely():
    # Two of six words hidden: in one span of two, or in two spans of one, as the draws have it.
    tokens = np.arange(10, 22, 2, dtype=np.int32)
    chunks = Chunks(np.tile(tokens, 20000), np.full(20000, 6))
    infilled = infill(
        chunks,
        np.ones(len(chunks.tokens), bool),
        noise_density=1 / 3,
        mean_span_length=3.0,
        mask=MASK,
        rng=np.random.default_rng(0),
    )
    in_one = np.count_nonzero(infilled.lengths == 5)
    probability = scipy.stats.poisson.sf(1, 3.0)  # a draw of two or more
    starts = infilled.starts
    counts = collections.Counter(
        bytes(infilled.tokens[start : start + 5])
        for start, length in zip(starts, infilled.lengths, strict=True)
        if length == 5
    )
    assert len(counts) == 5
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001
    # 0 then what is left makes a span of none and one of two: as long as the text less one.
    assert infilled.lengths.min() == 5
    assert scipy.stats.binomtest(in_one, 20000, probability).pvalue > 0.001


def test_worked_example_of_spans():
    chunks = Chunks(np.array([10, 12, 14, 16, 18], np.int32), np.array([5]))
    drawn = [
        infill(
            chunks,
            np.ones(5, bool),
            noise_density=0.4,
            mean_span_length=1.0,
            mask=MASK,
            rng=np.random.default_rng(seed),
        ).tokens.tolist()
        for seed in range(500)
    ]
    assert [10, 4, 16, 4, 18] in drawn


@pytest.mark.parametrize("texts", [[], [np.zeros(0, np.int32)]])
def test_no_text_makes_no_rows(texts):
    rows = rows_of(BartDenoising(length=9), texts)
    assert rows["encoder_input_tokens"].shape == rows["decoder_target_tokens"].shape == (0, 9)


def test_a_single_token_is_hidden():
    rows = rows_of(BartDenoising(length=4), [np.array([11])])
    assert rows["encoder_input_tokens"].tolist() == [[2, 4, 1, 0]]
    assert rows["decoder_target_tokens"].tolist() == [[2, 11, 1, 0]]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"noise_density": 0.0}, "noise_density must be above 0"),
        ({"noise_density": 1.5}, "noise_density must be above 0"),
        ({"mean_span_length": 0.0}, "mean_span_length must be above 0"),
        ({"mean_span_length": float("inf")}, "mean_span_length must be above 0"),
        (
            {"mean_span_length": 1e300},
            "mean_span_length must be above 0 and at most 1,000,000 words, not 1e.300",
        ),
    ],
)
def test_values_out_of_range_are_refused(values, named):
    with pytest.raises(UserError, match=named):
        BartDenoising(**values)


def test_rows_too_short_and_vocabularies_without_a_mask_are_refused():
    BartDenoising(length=3).check(BART)
    with pytest.raises(UserError, match="length 2 is too short"):
        BartDenoising(length=2).check(BART)
    with pytest.raises(UserError, match="neither a mask nor sentinels"):
        BartDenoising().check(FakeVocabulary(mask_id=None, sentinel_ids=()))


def test_it_is_for_two_stacks():
    objective = BartDenoising(length=8)
    assert (objective.stacks, objective.makes_pairs, objective.lengths) == (
        "encoder_decoder",
        False,
        {"length": 8},
    )
