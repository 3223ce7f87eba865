"""Laws of UL2: each row is what its denoiser makes of so many tokens, and the text can be rebuilt from the rows."""

import collections

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.spans import rebuild
from t5like.objectives.ul2 import DENOISERS, UL2, Denoiser
from tests.objectives.fakes import (
    FakeVocabulary,
    check_features,
    flat,
    is_the_same,
    num_rows,
    real_tokens,
    seeds,
)

SENTINELS = np.arange(199, 99, -1, dtype=np.int32)
VOCABULARY = FakeVocabulary(begin_ids=(), sentinel_ids=SENTINELS)
quick = settings(deadline=None, max_examples=100)

# Modes are made of ids below 74, text of those above.
documents = st.lists(
    st.lists(st.integers(80, 99), max_size=60).map(lambda ids: np.array(ids, np.int32)), max_size=5
)
MODES = {"a": "a", "b": "bcd", "-": None}


def denoiser(mode: str, **values) -> Denoiser:
    return Denoiser(
        **{"mean_span_length": 3.0, "noise_density": 0.3, "rate": 1.0, **values, "mode": MODES[mode]}
    )


spans = {
    "mean_span_length": st.floats(1.0, 20.0),
    "noise_density": st.one_of(st.just(0.5), st.floats(0.05, 0.9)),
}
some_denoisers = st.tuples(
    st.builds(denoiser, st.just("a"), rate=st.floats(0.1, 3.0), **spans),
    st.builds(denoiser, st.just("b"), mean_span_length=st.none(), noise_density=st.floats(0.01, 0.5)),
    st.builds(denoiser, st.just("-"), **spans),
)


def rows_of(objective, texts, seed=0, vocabulary=VOCABULARY):
    objective.check(vocabulary)
    return objective(texts, np.random.default_rng(seed), vocabulary)


def parted(rows) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Returns (mode, inputs, targets) of each row, marks taken off."""
    parts = []
    for inputs, targets in zip(
        real_tokens(rows, "encoder_input_tokens"), real_tokens(rows, "decoder_target_tokens"), strict=True
    ):
        assert inputs[-1] == targets[-1] == 1
        mode = "-"
        for name, text in MODES.items():
            ids = [] if text is None else VOCABULARY.encode(text).tolist()
            if ids and inputs[: len(ids)] == ids:
                mode, inputs = name, inputs[len(ids) :]
        assert all(token >= 80 for token in inputs[:-1])
        parts.append((mode, np.array(inputs[:-1], np.int32), np.array(targets[:-1], np.int32)))
    return parts


def test_worked_example():
    vocabulary = FakeVocabulary(begin_ids=(), sentinel_ids=(99, 98, 97))
    (mode,) = vocabulary.encode("C")
    expected = [
        ([mode, 11, 99, 13, 14, 98, 1], [99, 12, 98, 15, 16, 1]),
        ([mode, 11, 12, 13, 14, 99, 1], [99, 15, 16, 1]),
    ]
    both = (
        Denoiser(mean_span_length=1.5, noise_density=0.5, mode="C", rate=1.0),
        Denoiser(mean_span_length=None, noise_density=0.3, mode="C", rate=1.0),
    )
    drawn = []
    for seed in range(300):
        rows = rows_of(UL2(denoisers=both, inputs_length=8), [np.arange(11, 17)], seed, vocabulary)
        drawn += zip(
            real_tokens(rows, "encoder_input_tokens"), real_tokens(rows, "decoder_target_tokens"), strict=True
        )
    assert all(row in drawn for row in expected)


@quick
@given(denoisers=some_denoisers, length=st.integers(7, 40), joins=st.booleans(), texts=documents, seed=seeds)
def test_the_text_can_be_rebuilt_and_each_row_follows_its_denoiser(denoisers, length, joins, texts, seed):
    objective = UL2(denoisers=denoisers, inputs_length=length, joins_documents=joins)
    rows = rows_of(objective, texts, seed)
    check_features(rows, {"encoder": length, "decoder": objective.targets_length})
    by_mode = dict(zip(MODES, denoisers, strict=True))
    chunks = []
    for mode, inputs, targets in parted(rows):
        chunk = rebuild(inputs, targets, SENTINELS)
        chunks.append(chunk.tolist())
        drawn = by_mode[mode]
        num_noise = np.count_nonzero(~np.isin(targets, SENTINELS))
        if drawn.mean_span_length is None:
            if len(chunk) > 1:
                assert inputs.tolist() == [*chunk[: len(chunk) - num_noise], SENTINELS[0]]
                assert 1 <= num_noise <= max(2 * round(drawn.noise_density * len(chunk)) - 1, 1)
        elif len(chunk) > 1:
            law = SpanCorruption(
                noise_density=drawn.noise_density, mean_span_length=drawn.mean_span_length, inputs_length=60
            )
            assert (num_noise, len(targets) - num_noise) == law.noise_counts(len(chunk))
    if joins:
        assert flat(chunks) == flat(texts)
    else:
        rest = list(chunks)
        for text in texts:
            whole: list[int] = []
            while len(whole) < len(text):
                whole += rest.pop(0)
            assert whole == text.tolist()
        assert not rest
    assert is_the_same(rows, rows_of(objective, texts, seed))


def test_each_denoiser_fills_its_rows():
    rows = rows_of(
        UL2(denoisers=(denoiser("a"), denoiser("b", mean_span_length=None)), inputs_length=40),
        [np.full(20000, 80)],
    )
    full = parted(rows)[:-1]
    lengths = collections.defaultdict(set)
    for mode, inputs, targets in full:
        lengths[mode].add(
            (len(rebuild(inputs, targets, SENTINELS)), len(inputs) + len(VOCABULARY.encode(MODES[mode])) + 1)
        )
    expected = SpanCorruption(noise_density=0.3, inputs_length=39)
    assert lengths["a"] == {(expected.tokens_length, 40)}
    assert {tokens for tokens, _ in lengths["b"]} == {36}  # 40, less three of the mode and one mark
    assert max(used for _, used in lengths["b"]) == 40


def test_denoisers_are_drawn_by_their_rates_and_ends_uniformly():
    objective = UL2(
        denoisers=(denoiser("a", rate=3.0), denoiser("b", mean_span_length=None, noise_density=0.25)),
        inputs_length=28,
    )
    parts = parted(rows_of(objective, [np.full(100000, 80)]))[:-1]
    modes = collections.Counter(mode for mode, _, _ in parts)
    assert scipy.stats.chisquare([modes["a"], modes["b"]], np.array([0.75, 0.25]) * len(parts)).pvalue > 0.001
    ends = collections.Counter(len(targets) - 1 for mode, _, targets in parts if mode == "b")
    assert set(ends) == set(range(1, 12))  # 24 tokens, 6 of them on average
    assert scipy.stats.chisquare(list(ends.values())).pvalue > 0.001


def test_the_default_denoisers_are_those_of_the_paper():
    assert [(d.mean_span_length, d.noise_density) for d in DENOISERS] == [
        *((3, 0.15), (8, 0.15)),
        *((3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)),
        (None, 0.25),
    ]
    shares = collections.Counter()
    for each in DENOISERS:
        shares[each.mode] += each.rate
    assert shares == pytest.approx({"[NLU]": 0.4, "[NLG]": 0.4, "[S2S]": 0.2})
    assert UL2().lengths == {"inputs_length": 512, "targets_length": 512}
    assert (UL2().stacks, UL2().makes_pairs) == ("encoder_decoder", False)


def test_no_text_makes_no_rows():
    for texts in ([], [np.zeros(0, np.int32)]):
        assert num_rows(rows_of(UL2(inputs_length=40), texts)) == 0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"noise_density": 0.0}, "noise_density must lie between 0 and 1"),
        ({"noise_density": 1.0}, "noise_density must lie between 0 and 1"),
        ({"noise_density": 0.6, "mean_span_length": None}, "noise_density must lie between 0 and 0.5"),
        ({"mean_span_length": 0.5}, "mean_span_length must be at least 1"),
        ({"rate": 0.0}, "rate must be above 0"),
    ],
)
def test_values_out_of_range_are_refused(values, named):
    with pytest.raises(UserError, match=named):
        denoiser("a", **values)


class Uncased(FakeVocabulary):
    def encode(self, text):
        """Returns a token for each letter, big or small, and the unknown token for what is none."""
        ids = super().encode(text.lower().strip())
        return np.where([letter.isalpha() for letter in text.strip()], ids, 5).astype(np.int32)


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        (("R", "r"), "modes 'R' and 'r' are the same tokens"),
        ((None, " "), "modes None and ' ' are the same tokens"),
        (("[", "]"), r"modes '\[' and '\]' are the same tokens"),
        (("R", "[x]", "R", None, None), None),
    ],
)
def test_modes_that_a_vocabulary_cannot_tell_apart_are_refused(modes, words):
    denoisers = tuple(
        Denoiser(mean_span_length=3.0, noise_density=0.3, rate=1.0, mode=mode) for mode in modes
    )
    objective = UL2(denoisers=denoisers, inputs_length=40)
    vocabulary = Uncased(begin_ids=(), sentinel_ids=SENTINELS)
    if words is None:
        objective.check(vocabulary)
        return
    with pytest.raises(UserError, match=words):
        objective.check(vocabulary)


def test_rows_too_short_and_too_few_sentinels_are_refused():
    with pytest.raises(UserError, match="denoisers is empty"):
        UL2(denoisers=())
    with pytest.raises(UserError, match="inputs_length must be at least 3"):
        UL2(inputs_length=2)
    with pytest.raises(UserError, match="inputs_length must be at least 6"):
        UL2(denoisers=(denoiser("b"),), inputs_length=5).check(VOCABULARY)
    UL2(denoisers=(denoiser("b"),), inputs_length=6).check(VOCABULARY)
    with pytest.raises(
        UserError, match=r"mean_span_length 3.0 and noise_density 0.5 .* 126 spans, .* 100 sentinels"
    ):
        UL2().check(VOCABULARY)
    UL2().check(FakeVocabulary(sentinel_ids=np.arange(1000, 1126)))
