"""Laws of masked language modelling: what is hidden, how much of it, and that the text can be read back."""

import collections
import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.chunks import gather
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.masking import choose_tokens, choose_words, count_chosen, hide
from t5like.objectives.pairs import exchange, split_in_pairs
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

quick = settings(deadline=None, max_examples=100)
objectives = st.builds(
    MaskedLM,
    length=st.integers(6, 40),
    noise_density=st.floats(0.01, 1.0),
    mask_rate=st.sampled_from([0.8, 1.0, 0.0]),
    random_rate=st.just(0.0),
    whole_word=st.booleans(),
    second_text=st.sampled_from([None, "next_sentence", "sentence_order"]),
    joins_documents=st.booleans(),
)


def rows_of(objective: MaskedLM, texts: list[np.ndarray], seed: int = 0, vocabulary=TINY):
    objective.check(vocabulary)
    return objective(texts, np.random.default_rng(seed), vocabulary)


# --- rows


def test_worked_example():
    objective = MaskedLM(length=7, noise_density=0.4)
    text = [np.array([11, 12, 13, 14, 15])]
    for seed in itertools.count():
        rows = rows_of(objective, text, seed)
        assert rows["encoder_target_tokens"].tolist() == [[2, 11, 12, 13, 14, 15, 1]]
        if rows["encoder_loss_weights"].tolist() == [[0, 0, 1, 0, 1, 0, 0]]:
            read = rows["encoder_input_tokens"][0].tolist()
            if read[2] == 4 and read[4] not in (4, 14):
                assert read == [2, 11, 4, 13, read[4], 15, 1]
                assert read[4] >= FIRST_ID
                return


@quick
@given(objective=objectives, texts=documents, seed=seeds)
def test_only_what_is_asked_for_is_changed(objective, texts, seed):
    rows = rows_of(objective, texts, seed)
    check_features(rows, {"encoder": objective.length})
    asked = rows["encoder_loss_weights"] > 0
    read, written = rows["encoder_input_tokens"], rows["encoder_target_tokens"]
    np.testing.assert_array_equal(read[~asked], written[~asked])
    assert not TINY.is_special[written[asked]].any()
    assert set(read[asked & (read != written)]) <= {4}
    assert is_the_same(rows, rows_of(objective, texts, seed))


@quick
@given(objective=objectives, texts=documents, seed=seeds)
def test_how_much_is_asked_for(objective, texts, seed):
    rows = rows_of(objective, texts, seed)
    asked = rows["encoder_loss_weights"] > 0
    tokens = rows["encoder_target_tokens"]
    is_text = ~TINY.is_special[tokens]
    expected = count_chosen(is_text.sum(axis=1), objective.noise_density)
    if not objective.whole_word:
        np.testing.assert_array_equal(asked.sum(axis=1), expected)
        return
    for row in range(num_rows(rows)):
        words = []  # as [places]
        for place in np.flatnonzero(is_text[row]):
            if place == 0 or not is_text[row, place - 1] or TINY.starts_word[tokens[row, place]]:
                words.append([])
            words[-1].append(place)
        chosen = [word for word in words if asked[row, word].any()]
        left = [len(word) for word in words if not asked[row, word].any()]
        assert all(asked[row, word].all() for word in chosen)
        number = sum(map(len, chosen))
        if number > expected[row]:  # no word fits
            assert len(chosen) == 1
            assert min(map(len, words)) > expected[row]
        else:
            assert expected[row] - number < min(left, default=10**9)  # nothing more would have fitted


@quick
@given(objective=objectives.filter(lambda o: not o.makes_pairs), texts=documents, seed=seeds)
def test_every_token_is_in_one_row_in_the_order_of_the_text(objective, texts, seed):
    rows = rows_of(objective, texts, seed)
    texts = [text for text in texts if len(text)]
    real = real_tokens(rows, "encoder_target_tokens")
    assert all(row[0] == 2 and row[-1] == 1 for row in real)
    inside = [row[1:-1] for row in real]
    room = objective.length - 2
    if objective.joins_documents:
        joined = flat([*text.tolist(), 1] for text in texts)[:-1]
        assert flat(inside) == joined
        assert all(len(row) == room for row in inside[:-1])
    else:
        assert flat(inside) == flat(texts)
        assert len(inside) == sum(-(-len(text) // room) for text in texts)


def test_a_vocabulary_without_marks_has_rows_without():
    vocabulary = FakeVocabulary(begin_ids=(), mask_id=None)
    rows = rows_of(
        MaskedLM(length=4, noise_density=1.0, mask_rate=1.0, random_rate=0.0),
        [np.arange(11, 14)],
        0,
        vocabulary,
    )
    assert rows["encoder_target_tokens"].tolist() == [[11, 12, 13, 1]]
    assert rows["encoder_input_tokens"].tolist() == [[6, 6, 6, 1]]  # the first sentinel


def test_the_unknown_token_is_never_asked_for():
    rows = rows_of(MaskedLM(length=6, noise_density=1.0), [np.array([5, 5]), np.array([11])])
    assert rows["encoder_target_tokens"].tolist() == [[2, 5, 5, 1, 11, 1]]
    assert rows["encoder_loss_weights"].tolist() == [[0, 0, 0, 0, 1, 0]]
    rows = rows_of(MaskedLM(length=6, noise_density=1.0, whole_word=True), [np.array([5, 5])])
    assert not rows["encoder_loss_weights"].any()


# --- what is chosen, and what becomes of it


def test_counts():
    assert count_chosen(np.array([0, 1, 10, 70, 90]), 0.15).tolist() == [0, 1, 2, 10, 14]


def test_every_choice_is_equally_likely():
    rng = np.random.default_rng(0)
    is_candidate = np.tile(np.array([0, 1, 1, 1, 0, 1, 1, 0], bool), (5000, 1))
    chosen = choose_tokens(is_candidate, 0.4, rng)
    counts = collections.Counter(map(bytes, chosen))
    assert len(counts) == 10
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_every_choice_of_words_of_one_length_is_equally_likely():
    rng = np.random.default_rng(0)
    starts = np.tile(np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0], bool), (5000, 1))
    is_candidate = np.tile(np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 0], bool), (5000, 1))
    chosen = choose_words(is_candidate, starts, 0.5, rng)
    counts = collections.Counter(map(bytes, chosen))
    assert len(counts) == 6
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_eight_of_ten_become_the_mask_one_a_random_token_and_one_stays():
    rng = np.random.default_rng(0)
    tokens = np.full((100, 400), 10, np.int32)
    random_ids = np.array([20, 21, 22, 23], np.int32)
    chosen = rng.random(tokens.shape) < 0.5
    hidden = hide(tokens, chosen, mask=4, mask_rate=0.8, random_rate=0.1, random_ids=random_ids, rng=rng)
    assert (hidden[~chosen] == 10).all()
    counts = [np.count_nonzero(hidden[chosen] == token) for token in (4, 10, 20, 21, 22, 23)]
    number = chosen.sum()
    assert sum(counts) == number
    expected = number * np.array([0.8, 0.1, *[0.025] * 4])
    assert scipy.stats.chisquare(counts, expected).pvalue > 0.001


def test_random_tokens_are_text():
    objective = MaskedLM(length=202, noise_density=1.0, mask_rate=0.0, random_rate=1.0)
    rows = rows_of(objective, [np.full(20000, 11)])
    drawn = rows["encoder_input_tokens"][:, 1:-1]
    assert set(drawn.ravel()) == set(range(FIRST_ID, NUM_TOKENS))


# --- pairs


def halves(rows) -> list[tuple[list[int], list[int]]]:
    """Returns the two texts of each row, by their marks and types."""
    pairs = []
    for tokens, types, real in zip(
        rows["encoder_target_tokens"], rows["encoder_token_types"], rows["encoder_segment_ids"], strict=True
    ):
        first, second = tokens[(types == 0) & (real > 0)].tolist(), tokens[types == 1].tolist()
        assert first[0] == 2
        assert first[-1] == 3
        assert second[-1] == 1
        pairs.append((first[1:-1], second[:-1]))
    return pairs


def numbered(lengths: list[int]) -> list[np.ndarray]:
    """Returns texts that tell by each token where it is from: FIRST_ID, FIRST_ID + 1, ... over all of them."""
    ids = np.arange(FIRST_ID, FIRST_ID + sum(lengths), dtype=np.int32)
    return np.split(ids, np.cumsum(lengths)[:-1]) if lengths else []


text_lengths = st.lists(st.integers(0, 40), max_size=8).filter(lambda ls: sum(ls) <= NUM_TOKENS - FIRST_ID)


@quick
@given(lengths=text_lengths, seed=seeds, kind=st.sampled_from(["next_sentence", "sentence_order"]))
def test_every_token_is_in_one_pair_but_for_a_last_one(lengths, seed, kind):
    texts = numbered(lengths)
    rows = rows_of(MaskedLM(length=15, second_text=kind), texts, seed)
    check_features(rows, {"encoder": 15})
    assert set(rows["next_sentence_labels"]) <= {0, 1}
    pairs = halves(rows)
    assert all(1 <= len(text) <= 6 for pair in pairs for text in pair)
    seen = flat(text for pair in pairs for text in pair)
    assert len(seen) == len(set(seen))
    left = set(flat(texts)) - set(seen)
    assert left <= {text[-1] for text in texts if len(text)}


@quick
@given(lengths=text_lengths, seed=seeds)
def test_labels_say_whether_the_second_text_follows(lengths, seed):
    texts = numbered(lengths)
    document_of = {token: number for number, text in enumerate(texts) for token in text.tolist()}
    rows = rows_of(MaskedLM(length=15, second_text="next_sentence"), texts, seed)
    for (first, second), label in zip(halves(rows), rows["next_sentence_labels"], strict=True):
        if label:
            assert document_of[first[0]] != document_of[second[0]]
        else:
            assert second[0] == first[-1] + 1
    rows = rows_of(MaskedLM(length=15, second_text="sentence_order"), texts, seed)
    for (first, second), label in zip(halves(rows), rows["next_sentence_labels"], strict=True):
        before, after = (second, first) if label else (first, second)
        assert after[0] == before[-1] + 1


@pytest.mark.parametrize("kind", ["next_sentence", "sentence_order"])
def test_half_of_the_pairs_are_spoilt(kind):
    rng = np.random.default_rng(0)
    texts = [rng.integers(FIRST_ID, NUM_TOKENS, 60) for _ in range(400)]
    labels = rows_of(MaskedLM(length=23, second_text=kind), texts)["next_sentence_labels"]
    assert len(labels) > 1000
    assert scipy.stats.binomtest(int(labels.sum()), len(labels)).pvalue > 0.001


@quick
@given(counts=st.lists(st.integers(1, 9), max_size=6), seed=seeds)
def test_no_partner_is_of_the_same_document_and_few_are_left_out(counts, seed):
    of_document = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(of_document)) + 100
    pairs, partners = exchange(numbers, of_document, np.random.default_rng(seed))
    assert sorted(pairs) == sorted(partners)
    assert len(set(pairs)) == len(pairs) == len(numbers) - max(2 * max(counts, default=0) - len(numbers), 0)
    assert (of_document[pairs - 100] != of_document[partners - 100]).all()


def test_pieces_end_with_sentences_where_they_can():
    pieces, neighbours, documents = split_in_pairs(
        gather(
            [np.array([11, 19, 12, 13, 29, 14, 15]), np.arange(11, 20)],
            joins_documents=False,
        ),
        4,
        TINY.ends_sentence,
    )
    assert [pieces.take(np.array([number])).tokens.tolist() for number in neighbours] == [
        *([11, 19], [12, 13, 29], [14], [15]),
        *([11, 12, 13, 14], [15, 16, 17, 18]),
    ]
    assert documents.tolist() == [0, 0, 1]


@quick
@given(texts=documents, longest=st.integers(1, 12))
def test_pieces_are_short_and_all_of_the_text(texts, longest):
    gathered = gather(texts, joins_documents=False)
    pieces, neighbours, _ = split_in_pairs(gathered, longest, TINY.ends_sentence)
    np.testing.assert_array_equal(pieces.tokens, gathered.tokens)
    assert pieces.lengths.sum() == len(pieces.tokens)
    assert ((pieces.lengths >= 1) & (pieces.lengths <= longest)).all()
    assert (np.diff(neighbours) > 0).all()
    left = np.setdiff1d(np.arange(len(pieces.lengths)), neighbours)
    assert (pieces.lengths[left] == 1).all()


def test_no_text_makes_no_pairs():
    for texts in ([], [np.zeros(0, np.int32)], [np.array([11])]):
        rows = rows_of(MaskedLM(length=9, second_text="next_sentence"), texts)
        assert rows["encoder_input_tokens"].shape == (0, 9)
        assert rows["next_sentence_labels"].shape == (0,)


# --- what is refused


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"noise_density": 0.0}, "noise_density must be above 0"),
        ({"noise_density": 1.1}, "noise_density must be above 0"),
        ({"noise_density": float("nan")}, "noise_density must be above 0"),
        ({"mask_rate": 0.95}, "mask_rate and random_rate"),
        ({"random_rate": -0.1}, "mask_rate and random_rate"),
    ],
)
def test_values_out_of_range_are_refused(values, named):
    with pytest.raises(UserError, match=named):
        MaskedLM(**values)


def test_rows_too_short_and_vocabularies_without_a_mask_are_refused():
    MaskedLM(length=3).check(TINY)
    MaskedLM(length=5, second_text="next_sentence").check(TINY)
    for objective in (MaskedLM(length=2), MaskedLM(length=4, second_text="sentence_order")):
        with pytest.raises(UserError, match=r"too short for .* and the marks"):
            objective.check(TINY)
    with pytest.raises(UserError, match="neither a mask nor sentinels"):
        MaskedLM().check(FakeVocabulary(mask_id=None, sentinel_ids=()))


def test_it_is_for_an_encoder_alone():
    assert (MaskedLM().stacks, MaskedLM().makes_pairs, MaskedLM().lengths) == (
        "encoder",
        False,
        {"length": 512},
    )
    assert MaskedLM(second_text="sentence_order").makes_pairs
