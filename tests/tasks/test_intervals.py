"""Bootstrap intervals: coverage, groups, determinism; and counted measures, which equal those of repeated examples."""

import dataclasses
import random
import time

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.tasks import TASKS, summarisation, translation
from t5like.tasks.base import Example, Metric
from t5like.tasks.intervals import interval
from t5like.tasks.measures import CountedMeasure, MeanMeasure, SumMeasure
from t5like.tasks.metrics import (
    ACCURACY,
    ALL_RIGHT,
    F1,
    GENDER_PARITY,
    MACRO_F1_OF_3,
    MATTHEWS,
    PEARSON,
    SPEARMAN,
)
from t5like.tasks.tagging import ENTITY_F1

HITS_BY_WORDS = Metric(
    "hits_by_words",
    SumMeasure(
        lambda examples, answers: np.array(
            [[e.answer == a, 1 + e.answer] for e, a in zip(examples, answers, strict=True)], np.int64
        ),
        lambda sums: float(sums[0] / sums[1]),
    ),
)
EXACT = Metric("exact", MeanMeasure(lambda example, answer: float(example.answer == answer)))

OF_LABELS = (ACCURACY, F1, MACRO_F1_OF_3, MATTHEWS, EXACT, HITS_BY_WORDS, ALL_RIGHT, GENDER_PARITY)
OF_NUMBERS = (PEARSON, SPEARMAN)
OF_TEXTS = (translation.bleu(), translation.CHRF, *summarisation.METRICS)
METRICS = (*OF_LABELS, *OF_NUMBERS, *OF_TEXTS)

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=12)
NUMBERS = st.lists(
    st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float)), min_size=1, max_size=12
)
TEXTS = st.lists(
    st.tuples(*[st.lists(st.sampled_from("abcd"), max_size=7).map(" ".join)] * 2), min_size=1, max_size=6
)
TAGS = st.integers(1, 4).flatmap(
    lambda n: st.tuples(*[st.tuples(*[st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])] * n)] * 2)
)


def _examples(pairs, group_size: int = 2) -> tuple[list[Example], list]:
    examples = [
        Example(index=index, inputs="", targets="", answer=answer, group=index // group_size)
        for index, (answer, _) in enumerate(pairs)
    ]
    return examples, [given for _, given in pairs]


def _plain(metric: Metric) -> Metric:
    """Returns the metric as a plain function, which knows nothing of counts."""
    return dataclasses.replace(metric, measure=lambda examples, answers: metric.measure(examples, answers))


# --- measures of counts


def _assert_counts_are_repeats(metric: Metric, pairs, counts) -> None:
    examples, answers = _examples(pairs)
    counts = np.array([counts.draw(st.integers(0, 3)) for _ in examples])
    if metric.by_group:
        counts = counts[[example.group for example in examples]]
    if not counts.any():
        counts[:] = 1
    repeated = [(i, copy) for i, count in enumerate(counts) for copy in range(count)]
    expected = metric.measure(
        [dataclasses.replace(examples[i], group=(copy, examples[i].group)) for i, copy in repeated],
        [answers[i] for i, _ in repeated],
    )
    assert isinstance(metric.measure, CountedMeasure)
    assert metric.measure.of_counts(examples, answers)(counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", OF_LABELS, ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=60)
@given(pairs=LABELS, counts=st.data())
def test_counts_of_labels_are_repeats(metric, pairs, counts):
    _assert_counts_are_repeats(metric, pairs, counts)


@pytest.mark.parametrize("metric", OF_NUMBERS, ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=60)
@given(pairs=NUMBERS, counts=st.data())
def test_counts_of_numbers_are_repeats(metric, pairs, counts):
    _assert_counts_are_repeats(metric, pairs, counts)


@pytest.mark.parametrize("metric", OF_TEXTS, ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=30)
@given(pairs=TEXTS, counts=st.data())
def test_counts_of_texts_are_repeats(metric, pairs, counts):
    _assert_counts_are_repeats(metric, pairs, counts)


@settings(deadline=None, max_examples=60)
@given(pairs=st.lists(TAGS, min_size=1, max_size=6), counts=st.data())
def test_counts_of_tags_are_repeats_and_seqevals(pairs, counts):
    _assert_counts_are_repeats(ENTITY_F1, pairs, counts)
    targets, predictions = ([list(pair[side]) for pair in pairs] for side in (0, 1))
    expected = seqeval.metrics.f1_score(
        targets, predictions, mode="strict", scheme=seqeval.scheme.IOB2, zero_division=0
    )
    assert ENTITY_F1.measure(*_examples(pairs)) == pytest.approx(expected)


def test_matthews_of_many_classes_counts_as_scikit_learn():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 5, 200)
    predictions = np.where(generator.random(200) < 0.6, targets, generator.integers(-1, 6, 200))
    examples, answers = _examples(list(zip(targets.tolist(), predictions.tolist(), strict=True)))
    counts = generator.integers(0, 3, 200)
    repeated = [i for i, count in enumerate(counts) for _ in range(count)]
    expected = MATTHEWS.measure([examples[i] for i in repeated], [answers[i] for i in repeated])
    assert MATTHEWS.measure.of_counts(examples, answers)(counts) == pytest.approx(expected)


def test_examples_without_a_group_are_groups_of_their_own():
    examples, answers = _examples([(1, 1), (0, 0), (1, 0), (0, 1)])
    alone = [dataclasses.replace(example, group=None) for example in examples]
    assert ALL_RIGHT.measure(examples, answers) == ALL_RIGHT.measure(alone, answers) == 0.5
    assert ALL_RIGHT.measure([*alone[:2], *examples[2:]], answers) == pytest.approx(2 / 3)
    assert interval(ALL_RIGHT, alone, answers) == interval(EXACT, alone, answers)
    assert interval(_plain(ALL_RIGHT), alone, answers) == interval(EXACT, alone, answers)


def test_group_mean_by_hand():
    examples, answers = _examples([(1, 1), (0, 0), (1, 1), (0, 1), (1, 1)])
    assert ALL_RIGHT.measure(examples, answers) == pytest.approx(2 / 3)
    assert ALL_RIGHT.measure.of_counts(examples, answers)(np.array([3, 3, 1, 1, 0])) == pytest.approx(3 / 4)


# --- intervals


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_fast_and_plain_resampling_give_one_interval(metric):
    chance = random.Random(0)
    if metric in OF_TEXTS:
        pairs = [
            (" ".join(chance.choices("abcd", k=8)), " ".join(chance.choices("abcd", k=8))) for _ in range(12)
        ]
    else:
        pairs = [
            (value, value if chance.random() < 0.7 else 1 - value) for value in chance.choices((0, 1), k=40)
        ]
    examples, answers = _examples(pairs)
    low, high = interval(metric, examples, answers, num_resamples=60)
    assert low < high
    assert interval(_plain(metric), examples, answers, num_resamples=60) == pytest.approx((low, high))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_a_binomial_cover_the_truth_as_often_as_they_say(share):
    generator = np.random.default_rng(1)
    num_trials = 250
    for confidence in (0.95, 0.6):
        covered = 0
        for seed in range(num_trials):
            pairs = [(1, int(right)) for right in generator.random(150) < share]
            low, high = interval(
                EXACT, *_examples(pairs), num_resamples=200, seed=seed, confidence=confidence
            )
            covered += low <= share <= high
        # Three standard deviations of the count, and the two in a hundred that percentiles of few examples miss.
        slack = 3 * np.sqrt(confidence * (1 - confidence) / num_trials) + 0.02
        assert abs(covered / num_trials - confidence) < slack


def test_an_interval_of_a_mean_is_as_wide_as_theory_says():
    pairs = [(1, int(number < 800)) for number in range(1000)]
    low, high = interval(ACCURACY, *_examples(pairs), num_resamples=4000)
    half_width = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert low == pytest.approx(0.8 - half_width, abs=0.002)
    assert high == pytest.approx(0.8 + half_width, abs=0.002)


def test_metrics_by_group_draw_groups():
    # In groups of 50 all examples are equally right: there are 20 things to draw, not 1000.
    pairs = [(1, (number // 50) % 2) for number in range(1000)]
    examples, answers = _examples(pairs, group_size=50)
    alone = interval(EXACT, examples, answers)
    grouped = interval(dataclasses.replace(EXACT, by_group=True), examples, answers)
    assert grouped[1] - grouped[0] > 5 * (alone[1] - alone[0])
    assert grouped == pytest.approx(
        (0.5 - 1.96 * 0.5 / np.sqrt(20), 0.5 + 1.96 * 0.5 / np.sqrt(20)), abs=0.04
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_one_example_and_constants_have_intervals_of_no_width(metric):
    target, other = ("a b c d", "a b x y z") if metric in OF_TEXTS else (1, 0)
    for pairs in ([(target, target)], [(target, other)], [(target, target)] * 6, [(target, other)] * 6):
        examples, answers = _examples(pairs)
        value = metric.measure(examples, answers)
        low, high = interval(metric, examples, answers, num_resamples=20)
        assert (low, high) == (pytest.approx(value), pytest.approx(value))


def test_the_seed_alone_decides():
    pairs = [(number % 2, number % 3 % 2) for number in range(100)]
    examples, answers = _examples(pairs)
    first = interval(MATTHEWS, examples, answers, seed=1)
    np.random.seed(7)  # noqa: NPY002 - nothing else may draw
    assert interval(MATTHEWS, examples, answers, seed=1) == first
    assert interval(MATTHEWS, examples, answers, seed=2) != first


def test_more_confidence_is_a_wider_interval():
    examples, answers = _examples([(1, number % 3 % 2) for number in range(100)])
    low, high = zip(
        *(interval(EXACT, examples, answers, confidence=c) for c in (0.5, 0.9, 0.99)), strict=True
    )
    assert low[0] > low[1] > low[2]
    assert high[0] < high[1] < high[2]


def test_what_cannot_be_resampled_is_refused():
    examples, answers = _examples([(1, 1), (0, 1)])
    for bad in (
        lambda: interval(EXACT, [], []),
        lambda: interval(EXACT, examples, answers[:1]),
        lambda: interval(EXACT, examples, answers, num_resamples=0),
        lambda: interval(EXACT, examples, answers, confidence=1.0),
    ):
        with pytest.raises(ValueError, match=r"examples and|num_resamples"):
            bad()


@pytest.mark.parametrize(
    "metric",
    {metric.name: metric for task in TASKS.values() for metric in task.metrics}.values(),
    ids=lambda m: m.name,
)
def test_every_metric_of_every_task_is_counted(metric):
    assert isinstance(metric.measure, CountedMeasure), "an interval would measure a thousand times anew"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_thousand_resamples_of_ten_thousand_examples_take_little_beside_the_metric(metric):
    chance = random.Random(0)
    if metric in OF_TEXTS:
        words = [" ".join(chance.choices("abcdefgh", k=6)) for _ in range(2000)]
        pairs = [(text, text[:-2]) for text in words * 5]
    else:
        pairs = [
            (value, value if chance.random() < 0.7 else 1 - value)
            for value in chance.choices((0, 1), k=10_000)
        ]
    examples, answers = _examples(pairs)
    start = time.process_time()
    metric.measure(examples, answers)
    measured = time.process_time()
    interval(metric, examples, answers)
    assert time.process_time() - measured < 2 * (measured - start) + 3.0
