"""Laws of span corruption, among them agreement with 240 examples that the reference pipeline made."""

import collections
import functools
import itertools
import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.objectives.chunks import Chunks
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.spans import corrupt, count_noise, noise_masks, rebuild

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
VECTORS = SHARED / "t5_span_corruption_vectors"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="shared data not in this checkout: agreement with 240 reference examples"
)

EOS = 1
SENTINELS = np.arange(32099, 31999, -1, dtype=np.int32)
SPECIAL = SpecialTokens(EOS, SENTINELS)


class _Vocabulary(NamedTuple):
    special_tokens: SpecialTokens


MANY_SENTINELS = np.arange(60000, 50000, -1, dtype=np.int32)

objectives = st.builds(
    SpanCorruption,
    noise_density=st.one_of(st.just(0.5), st.floats(0.01, 0.95)),
    mean_span_length=st.floats(1.0, 40.0),
    inputs_length=st.integers(4, 300),
    random_roll=st.booleans(),
)


def _tokens(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, 32000, length).astype(np.int32)


def _one(length: int) -> np.ndarray:
    """Lengths of one chunk, or none where it would be empty."""
    return np.array([length] if length else [], np.int64)


def _row(
    objective: SpanCorruption, tokens: np.ndarray, rng: np.random.Generator, special: SpecialTokens = SPECIAL
) -> dict[str, np.ndarray]:
    """The single row that a chunk makes."""
    rows = objective([tokens], rng, _Vocabulary(special))
    return {name: row for name, (row,) in rows.items()}


def _mask(objective: SpanCorruption, length: int, rng: np.random.Generator) -> np.ndarray:
    """The mask of one chunk."""
    lengths = _one(length)
    counts = count_noise(lengths, objective.noise_density, objective.mean_span_length)
    return noise_masks(lengths, counts, rng, random_roll=objective.random_roll)


def _corrupt(
    tokens: np.ndarray, mask: np.ndarray, sentinels: np.ndarray = SENTINELS
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of one chunk."""
    inputs, targets = corrupt(Chunks(tokens, _one(len(tokens))), mask, sentinels)
    return inputs.tokens, targets.tokens


def _runs(mask: np.ndarray) -> list[tuple[bool, int]]:
    return [(value, len(list(run))) for value, run in itertools.groupby(mask.tolist())]


# --- lengths


@pytest.mark.parametrize(
    ("inputs_length", "mean_span_length", "noise_density", "tokens_length", "targets_length"),
    [
        (128, 3, 0.15, 141, 29),
        (256, 3, 0.15, 284, 58),
        (512, 3, 0.15, 568, 114),
        (1024, 3, 0.15, 1137, 229),
        (2048, 3, 0.15, 2274, 456),
        (1024, 20, 0.15, 1193, 189),
        (512, 8, 0.15, 588, 100),
        (512, 3, 0.5, 766, 512),  # one more token would fit the inputs, but not targets of their length
        (512, 8, 0.5, 908, 512),
        (512, 64, 0.15, 600, 92),
        (512, 64, 0.5, 1006, 512),
        (512, 20, 0.15, 597, 95),
    ],
)
def test_lengths_are_those_of_t5(
    inputs_length, mean_span_length, noise_density, tokens_length, targets_length
):
    objective = SpanCorruption(
        noise_density=noise_density, mean_span_length=mean_span_length, inputs_length=inputs_length
    )
    assert (objective.tokens_length, objective.targets_length) == (tokens_length, targets_length)


@settings(deadline=None, max_examples=50)
@given(objective=objectives)
def test_full_row_is_the_longest_that_fits(objective):
    special = SpecialTokens(EOS, MANY_SENTINELS)
    longest = 0
    for seed in range(10):
        row = _row(objective, _tokens(objective.tokens_length), np.random.default_rng(seed), special)
        assert np.count_nonzero(row["encoder_input_tokens"] == EOS) == 1  # so nothing was trimmed
        assert np.count_nonzero(row["decoder_target_tokens"] == EOS) == 1
        longest = max(longest, int(row["encoder_segment_ids"].sum()))
    # The rule for a density of one half gives up one token, and a rolled mask may use a sentinel less.
    spare = 1 + 2 * objective.random_roll + (objective.noise_density == 0.5)
    assert objective.inputs_length - spare <= longest <= objective.inputs_length


@settings(deadline=None, max_examples=50)
@given(objective=objectives, share=st.floats(0.0, 1.0))
def test_shorter_chunks_fit_too(objective, share):
    length = max(1, round(share * objective.tokens_length))
    tokens = _tokens(length)
    special = SpecialTokens(EOS, MANY_SENTINELS)
    row = _row(objective, tokens, np.random.default_rng(0), special)
    sides = []
    for tokens_name, segments_name in (
        ("encoder_input_tokens", "encoder_segment_ids"),
        ("decoder_target_tokens", "decoder_segment_ids"),
    ):
        side = row[tokens_name][row[segments_name] == 1]
        assert side[-1] == EOS
        sides.append(side[:-1])
    np.testing.assert_array_equal(rebuild(*sides, MANY_SENTINELS), tokens)


def test_documents_are_joined_or_cut_each_for_itself():
    documents = [_tokens(5, 1), _tokens(0), _tokens(40, 2), _tokens(1, 3)]
    for joins, expected in ((True, [22, 22, 2]), (False, [5, 22, 18, 1])):
        objective = SpanCorruption(inputs_length=20, noise_density=0.2, joins_documents=joins)
        assert objective.tokens_length == 22
        rows = objective(documents, np.random.default_rng(0), _Vocabulary(SPECIAL))
        chunks = []
        for row in range(len(expected)):
            inputs, targets = (
                rows[tokens][row][rows[is_real][row] == 1][:-1]
                for tokens, is_real in (
                    ("encoder_input_tokens", "encoder_segment_ids"),
                    ("decoder_target_tokens", "decoder_segment_ids"),
                )
            )
            chunks.append(rebuild(inputs, targets, SENTINELS))
        assert [len(chunk) for chunk in chunks] == expected
        assert len(rows["encoder_input_tokens"]) == len(expected)
        np.testing.assert_array_equal(np.concatenate(chunks), np.concatenate(documents))


@pytest.mark.parametrize("documents", [[], [_tokens(0)], [_tokens(0), _tokens(0)]])
@pytest.mark.parametrize("joins", [True, False])
def test_no_tokens_make_no_rows(documents, joins):
    objective = SpanCorruption(inputs_length=20, joins_documents=joins)
    rows = objective(documents, np.random.default_rng(0), _Vocabulary(SPECIAL))
    assert {name: feature.shape for name, feature in rows.items()} == {
        name: (0, 20 if name.startswith("encoder") else objective.targets_length) for name in rows
    }


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"noise_density": 0.0}, "noise_density"),
        ({"noise_density": 1.0}, "noise_density"),
        ({"noise_density": float("nan")}, "noise_density"),
        ({"mean_span_length": 0.9}, "mean_span_length"),
        ({"inputs_length": 2}, "inputs_length must be at least 3"),
        ({"inputs_length": 3, "random_roll": True}, "inputs_length must be at least 4"),
    ],
)
def test_values_out_of_range_are_refused(values, named):
    with pytest.raises(UserError, match=named):
        SpanCorruption(**values)


# --- the mask


@settings(deadline=None, max_examples=50)
@given(objective=objectives, length=st.integers(2, 400), seed=st.integers(0, 2**32 - 1))
def test_mask_has_the_counts_of_the_law(objective, length, seed):
    mask = _mask(objective, length, np.random.default_rng(seed))
    num_noise, num_spans = objective.noise_counts(length)
    assert mask.shape == (length,)
    assert mask.dtype == bool
    assert 1 <= num_noise == mask.sum() <= length - 1
    runs = _runs(mask)
    if objective.random_roll:
        assert len(runs) in (2 * num_spans, 2 * num_spans + 1)  # the cut may part a run in two
    else:
        assert len(runs) == 2 * num_spans
        assert not mask[0]
        assert mask[-1]


def test_worked_example_of_a_mask_is_one_of_those_drawn():
    rng = np.random.default_rng(0)
    plain = SpanCorruption(noise_density=0.4, mean_span_length=2.0)
    rolled = SpanCorruption(noise_density=0.4, mean_span_length=2.0, random_roll=True)
    assert plain.noise_counts(10) == (4, 2)
    assert [0, 0, 0, 0, 1, 0, 0, 1, 1, 1] in [_mask(plain, 10, rng).tolist() for _ in range(500)]
    assert [1, 1, 0, 0, 0, 0, 1, 0, 0, 1] in [_mask(rolled, 10, rng).tolist() for _ in range(2000)]


def test_noise_counts_round_halves_to_even():
    objective = SpanCorruption(noise_density=0.5, mean_span_length=2.0)
    assert objective.noise_counts(5)[0] == 2  # 2.5
    assert objective.noise_counts(7)[0] == 4  # 3.5
    assert objective.noise_counts(10) == (5, 2)  # 2.5 spans
    assert objective.noise_counts(14) == (7, 4)  # 3.5 spans
    assert SpanCorruption().noise_counts(568) == (85, 28)


@pytest.mark.parametrize("length", [0, 1])
def test_shortest_masks_are_cut_from_that_of_two(length):
    mask = _mask(SpanCorruption(), length, np.random.default_rng(0))
    np.testing.assert_array_equal(mask, [False, True][:length])


def test_every_mask_is_equally_likely():
    # 8 tokens, 4 of them noise in 2 spans: 3 ways to part the noise times 3 to part the rest.
    objective = SpanCorruption(noise_density=0.5, mean_span_length=2.0)
    rng = np.random.default_rng(0)
    counts = collections.Counter(_mask(objective, 8, rng).tobytes() for _ in range(9000))
    assert len(counts) == 9
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_noise_and_rest_are_parted_independently():
    # 12 tokens, 6 of them noise in 3 spans: 10 x 10 equally likely masks.
    objective = SpanCorruption(noise_density=0.5, mean_span_length=2.0)
    rng = np.random.default_rng(1)
    counts = collections.Counter(_mask(objective, 12, rng).tobytes() for _ in range(20000))
    assert len(counts) == 100
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_rolled_mask_hides_every_place_equally_often():
    objective = SpanCorruption(noise_density=0.25, mean_span_length=2.0, random_roll=True)
    rng = np.random.default_rng(0)
    hidden = sum(_mask(objective, 16, rng).astype(int) for _ in range(8000))
    expected = 8000 * 4 / 16
    # The places of one mask depend on one another; four standard deviations of a place suffice.
    assert np.all(np.abs(hidden - expected) < 4 * np.sqrt(8000 * 0.25 * 0.75))


# --- corruption and its inverse


def test_worked_example():
    tokens = np.arange(11, 19, dtype=np.int32)
    mask = np.array([0, 0, 1, 1, 0, 0, 0, 1], bool)
    sentinels = np.array([99, 98, 97], np.int32)
    inputs, targets = _corrupt(tokens, mask, sentinels)
    assert inputs.tolist() == [11, 12, 99, 15, 16, 17, 98]
    assert targets.tolist() == [99, 13, 14, 98, 18]
    assert inputs.dtype == targets.dtype == np.int32
    assert rebuild(inputs, targets, sentinels).tolist() == tokens.tolist()


def test_noise_may_come_first():
    tokens = np.arange(11, 17, dtype=np.int32)
    sentinels = np.array([99, 98, 97], np.int32)
    inputs, targets = _corrupt(tokens, np.array([1, 1, 0, 0, 1, 0], bool), sentinels)
    assert inputs.tolist() == [99, 13, 14, 98, 16]
    assert targets.tolist() == [11, 12, 99, 15, 98]
    assert rebuild(inputs, targets, sentinels).tolist() == tokens.tolist()


@settings(deadline=None, max_examples=50)
@given(mask=st.lists(st.booleans(), max_size=40))
def test_any_mask_can_be_undone(mask):
    tokens = _tokens(len(mask))
    inputs, targets = _corrupt(tokens, np.array(mask, bool), SENTINELS)
    np.testing.assert_array_equal(rebuild(inputs, targets, SENTINELS), tokens)
    for side, value in ((inputs, True), (targets, False)):
        used = side[np.isin(side, SENTINELS)]
        assert len(used) == sum(run_value == value for run_value, _ in _runs(np.array(mask, bool)))
        np.testing.assert_array_equal(used, SENTINELS[: len(used)])


@settings(deadline=None, max_examples=50)
@given(objective=objectives, length=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_corruption_can_be_undone(objective, length, seed):
    tokens = _tokens(length, seed)
    untouched = tokens.copy()
    mask = _mask(objective, length, np.random.default_rng(seed))
    inputs, targets = _corrupt(tokens, mask, MANY_SENTINELS)
    np.testing.assert_array_equal(rebuild(inputs, targets, MANY_SENTINELS), tokens)
    np.testing.assert_array_equal(tokens, untouched)


@pytest.mark.parametrize(
    ("inputs", "targets", "reason"),
    [
        ([11, 99, 12, 98], [99, 13], "do not alternate"),
        ([11, 99], [12, 99], "do not alternate"),
        ([11, 98], [98, 12], "out of order"),
    ],
)
def test_sides_that_do_not_belong_together_are_refused(inputs, targets, reason):
    with pytest.raises(ValueError, match=reason):
        rebuild(np.array(inputs), np.array(targets), np.array([99, 98, 97]))


@settings(deadline=None, max_examples=200)
@example(inputs=[99, 7], targets=[99, 8])  # neither side has the first token
@given(
    inputs=st.lists(st.sampled_from([7, 99, 98]), max_size=4),
    targets=st.lists(st.sampled_from([8, 99, 98]), max_size=4),
)
def test_rebuilding_inverts_corruption_and_refuses_the_rest(inputs, targets):
    sentinels = np.array([99, 98], np.int32)
    origins = []
    for order in set(itertools.permutations([7] * inputs.count(7) + [8] * targets.count(8))):
        tokens = np.array(order, np.int32)
        num_runs = max(len(_runs(tokens == 8)) // 2, 1)
        sides = _corrupt(tokens, tokens == 8, np.arange(99, 99 - num_runs - 1, -1, dtype=np.int32))
        if [side.tolist() for side in sides] == [inputs, targets]:
            origins.append(tokens.tolist())
    try:
        tokens = rebuild(np.array(inputs, np.int32), np.array(targets, np.int32), sentinels)
    except ValueError:
        assert origins == []
    else:
        assert origins == [tokens.tolist()]


# --- a whole row


def test_row_is_a_function_of_tokens_and_generator():
    objective = SpanCorruption(inputs_length=64)
    tokens = _tokens(objective.tokens_length)
    first, again, other = (_row(objective, tokens, np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["encoder_input_tokens"], other["encoder_input_tokens"])


def test_row_ends_both_sides_with_the_end_mark():
    objective = SpanCorruption(inputs_length=128)
    row = _row(objective, _tokens(objective.tokens_length), np.random.default_rng(0))
    assert row["encoder_input_tokens"].shape == (128,)
    assert row["decoder_target_tokens"].shape == (29,)
    assert row["encoder_input_tokens"][-1] == EOS
    assert row["decoder_target_tokens"][-1] == EOS
    assert row["decoder_target_tokens"][0] == SENTINELS[0]
    assert row["encoder_segment_ids"].all()
    assert row["decoder_loss_weights"].all()


def test_too_few_sentinels_are_reported_at_start_up():
    objective = SpanCorruption(inputs_length=2048)
    assert objective.num_sentinels_needed == 114
    with pytest.raises(UserError, match="up to 114 spans, but the vocabulary has 100 sentinels"):
        objective.check(_Vocabulary(SPECIAL))
    objective.check(_Vocabulary(SpecialTokens(EOS, MANY_SENTINELS[:114])))
    SpanCorruption(inputs_length=1024).check(_Vocabulary(SPECIAL))


def test_too_few_sentinels_are_reported_by_the_row():
    objective = SpanCorruption(inputs_length=64)
    special = SpecialTokens(EOS, SENTINELS[: objective.num_sentinels_needed - 1])
    with pytest.raises(UserError, match="sentinels"):
        _row(objective, _tokens(objective.tokens_length), np.random.default_rng(0), special)


@settings(deadline=None, max_examples=50)
@given(objective=objectives, seed=st.integers(0, 2**32 - 1))
def test_checked_vocabulary_is_large_enough(objective, seed):
    special = SpecialTokens(EOS, MANY_SENTINELS[: objective.num_sentinels_needed])
    objective.check(_Vocabulary(special))
    _row(objective, _tokens(objective.tokens_length), np.random.default_rng(seed), special)


# --- the reference pipeline


@functools.cache
def _documents() -> np.ndarray:
    (path,) = VECTORS.glob("c4_tokenized_*.jsonl")
    with path.open(encoding="utf-8") as lines:
        return np.concatenate([np.array(json.loads(line)["targets"], np.int32) for line in lines])


@functools.cache
def _reference_examples() -> list[tuple[np.ndarray, np.ndarray]]:
    (path,) = VECTORS.glob("c4_span_corruption_*.jsonl")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(np.array(row["inputs"], np.int32), np.array(row["targets"], np.int32)) for row in rows]


def _our_examples(objective: SpanCorruption, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Our rows over the same documents, end marks taken off."""
    rows = objective([_documents()], np.random.default_rng(seed), _Vocabulary(SPECIAL))
    examples = []
    for row in range(len(rows["encoder_input_tokens"])):
        inputs = rows["encoder_input_tokens"][row][rows["encoder_segment_ids"][row] == 1]
        targets = rows["decoder_target_tokens"][row][rows["decoder_segment_ids"][row] == 1]
        assert inputs[-1] == targets[-1] == EOS
        examples.append((inputs[:-1], targets[:-1]))
    return examples


def _follows_the_law(inputs: np.ndarray, targets: np.ndarray, objective: SpanCorruption) -> int:
    """Asserts counts and order of sentinels in one example, and returns its raw length."""
    length = len(rebuild(inputs, targets, SENTINELS))
    num_noise, num_spans = objective.noise_counts(length)
    for side, num_raw in ((inputs, length - num_noise), (targets, num_noise)):
        used = side[np.isin(side, SENTINELS)]
        np.testing.assert_array_equal(used, SENTINELS[:num_spans])
        assert len(side) == num_raw + num_spans
    assert inputs[0] not in SENTINELS
    assert inputs[-1] == targets[targets >= SENTINELS.min()][-1]  # the last token is noise
    return length


def _span_and_gap_lengths(examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """All span lengths and all gap lengths of the full examples."""
    spans, gaps = [], []
    for inputs, targets in examples:
        if len(inputs) == 1023:
            spans.append(np.diff(np.append(np.nonzero(np.isin(targets, SENTINELS))[0], len(targets))) - 1)
            gaps.append(np.diff(np.nonzero(np.isin(inputs, SENTINELS))[0], prepend=-1) - 1)
    return np.concatenate(spans), np.concatenate(gaps)


def _agreement(first: np.ndarray, second: np.ndarray, edges: list[int]) -> float:
    """p-value of the claim that two samples of lengths have one distribution."""
    bins = [-np.inf, *edges, np.inf]
    table = [np.histogram(sample, bins)[0] for sample in (first, second)]
    return float(scipy.stats.chi2_contingency(table).pvalue)


@needs_vectors
def test_reference_examples_follow_our_law():
    objective = SpanCorruption(inputs_length=1024)
    lengths = [_follows_the_law(inputs, targets, objective) for inputs, targets in _reference_examples()]
    assert len(lengths) == 240
    assert {i: length for i, length in enumerate(lengths) if length != objective.tokens_length} == {
        53: 1126,
        115: 383,
        172: 1101,
        239: 127,
    }
    full = [example for example, length in zip(_reference_examples(), lengths, strict=True) if length == 1137]
    assert {(len(inputs), len(targets)) for inputs, targets in full} == {(1023, 228)}


@needs_vectors
def test_reference_examples_rebuild_the_documents():
    chunks = [rebuild(inputs, targets, SENTINELS) for inputs, targets in _reference_examples()]
    np.testing.assert_array_equal(np.concatenate(chunks), _documents())


@needs_vectors
@pytest.mark.parametrize("random_roll", [False, True])
def test_our_examples_rebuild_the_documents(random_roll):
    objective = SpanCorruption(inputs_length=1024, random_roll=random_roll)
    examples = _our_examples(objective, seed=0)
    if not random_roll:
        lengths = [_follows_the_law(inputs, targets, objective) for inputs, targets in examples]
        assert lengths == [1137] * 238 + [463]
        assert {(len(i), len(t)) for i, t in examples[:-1]} == {(1023, 228)}
    chunks = [rebuild(inputs, targets, SENTINELS) for inputs, targets in examples]
    np.testing.assert_array_equal(np.concatenate(chunks), _documents())


@needs_vectors
def test_span_and_gap_lengths_are_distributed_as_in_the_reference():
    span_edges, gap_edges = list(range(2, 12)), [*range(2, 40, 3), 50, 60, 80]
    spans, gaps = _span_and_gap_lengths(_reference_examples())
    our_spans, our_gaps = _span_and_gap_lengths(_our_examples(SpanCorruption(inputs_length=1024), seed=0))
    assert len(spans) == len(gaps) == 236 * 57
    assert _agreement(spans, our_spans, span_edges) > 0.01
    assert _agreement(gaps, our_gaps, gap_edges) > 0.01
    # The test can tell: throwing the tokens into the spans one by one gives the same mean and fails it.
    thrown = 1 + np.random.default_rng(0).multinomial(171 - 57, np.full(57, 1 / 57), size=236).ravel()
    assert thrown.mean() == spans.mean()
    assert _agreement(spans, thrown, span_edges) < 1e-9
