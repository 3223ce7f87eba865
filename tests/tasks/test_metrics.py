"""Metrics against numbers worked out by hand, and scoring of texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks import TASKS, find_task
from t5like.tasks.base import Example, Task, as_written, constant_answer, score, task_score
from t5like.tasks.metrics import (
    ACCURACY,
    ALL_RIGHT,
    F1,
    GENDER_PARITY,
    MATTHEWS,
    PEARSON,
    SPEARMAN,
    accuracy,
    binary_f1,
    macro_f1,
    matthews_correlation,
    pearson_correlation,
    spearman_correlation,
)
from t5like.tasks.squad_metrics import TOKEN_F1

pairs = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([-1, 0, 1])), min_size=1, max_size=30)


def _ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _task(labels: tuple[str, ...], *metrics, kind="label") -> Task:
    return Task(
        name="suite/task", kind=kind, labels=labels, metrics=metrics, splits=("train",), read=lambda *_: []
    )


def _examples(*answers, groups=None) -> list[Example]:
    groups = groups or [None] * len(answers)
    return [
        Example(index=index, inputs="", targets="", answer=answer, group=group)
        for index, (answer, group) in enumerate(zip(answers, groups, strict=True))
    ]


# --- accuracy


def test_accuracy_counts_equal_pairs():
    assert accuracy(_ids(0, 1, 1, 0), _ids(0, 1, 0, -1)) == 0.5
    assert accuracy(np.array(["a b", "c"], object), np.array(["a b", "C"], object)) == 0.5


# --- F1


def test_f1_worked_example():
    assert binary_f1(_ids(1, 1, 0, 0), _ids(1, -1, -1, 0)) == pytest.approx(1 / 2)


def test_f1_by_hand():
    # 2 hits, 1 false alarm, 1 miss: precision 2/3, recall 2/3.
    assert binary_f1(_ids(1, 1, 1, 0, 0), _ids(1, 1, 0, 1, 0)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("targets", "predictions", "expected"),
    [
        (_ids(1, 1, 0), _ids(1, 1, 1), 0.8),  # always positive: precision 2/3, recall 1
        (_ids(1, 1, 0), _ids(0, 0, 0), 0.0),
        (_ids(0, 0, 0), _ids(0, 0, 0), 0.0),  # no positive anywhere
        (_ids(1, 1, 1), _ids(1, 1, 1), 1.0),
        (_ids(1, 0), _ids(-1, -1), 0.0),
    ],
)
def test_f1_of_constants(targets, predictions, expected):
    assert binary_f1(targets, predictions) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(pairs=pairs)
def test_f1_counts_an_invalid_prediction_as_the_wrong_label(pairs):
    targets, predictions = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    given_predictions = predictions.copy()
    counted = [1 - t if p == -1 else p for t, p in pairs]
    hits = sum(t == p == 1 for t, p in zip(targets, counted, strict=True))
    positives = sum(targets) + sum(counted)
    expected = 2 * hits / positives if positives else 0.0
    assert binary_f1(targets, predictions) == pytest.approx(expected)
    np.testing.assert_array_equal(predictions, given_predictions)  # nothing is written to


# --- Matthews' correlation


def test_matthews_by_hand():
    # 3 true and 1 false positives, 2 true and 1 false negatives: (3*2 - 1*1) / sqrt(4*4*3*3).
    targets, predictions = _ids(1, 1, 1, 0, 0, 0, 1), _ids(1, 1, 1, 1, 0, 0, 0)
    assert matthews_correlation(targets, predictions) == pytest.approx(5 / 12)
    assert matthews_correlation(targets, 1 - predictions) == pytest.approx(-5 / 12)


@pytest.mark.parametrize(
    ("targets", "predictions", "expected"),
    [
        (_ids(1, 0, 1), _ids(1, 0, 1), 1.0),
        (_ids(1, 0, 1), _ids(0, 1, 0), -1.0),
        (_ids(1, 0, 1), _ids(1, 1, 1), 0.0),
        (_ids(1, 1, 1), _ids(1, 0, 1), 0.0),
        (_ids(1, 1, 1), _ids(1, 1, 1), 0.0),
        (_ids(1, 0, 1), _ids(-1, -1, -1), 0.0),
    ],
)
def test_matthews_of_constants_and_extremes(targets, predictions, expected):
    assert matthews_correlation(targets, predictions) == pytest.approx(expected)


def test_matthews_counts_an_invalid_prediction_as_a_class_of_its_own():
    # Four examples, three right; targets 2 + 2, predictions 2 + 1 and one invalid:
    # (3*4 - (2*2 + 2*1)) / sqrt((16 - 4 - 1 - 1) * (16 - 4 - 4)) = 6 / sqrt(80).
    value = matthews_correlation(_ids(1, 1, 0, 0), _ids(1, 1, 0, -1))
    assert value == pytest.approx(6 / np.sqrt(80))


# --- macro F1


def test_macro_f1_worked_example():
    assert macro_f1(_ids(0, 0, 1, 1, 2), _ids(0, 1, 1, -1, 0), num_labels=3) == pytest.approx(1 / 3)


def test_macro_f1_of_constants_and_of_labels_that_do_not_occur():
    targets = _ids(0, 0, 1, 2)
    assert macro_f1(targets, _ids(0, 0, 0, 0), num_labels=3) == pytest.approx(2 / 9)  # 2/3, 0, 0
    assert macro_f1(targets, targets, num_labels=3) == pytest.approx(1.0)
    assert macro_f1(targets, _ids(-1, -1, -1, -1), num_labels=3) == 0.0
    assert macro_f1(_ids(0, 1), _ids(0, 1), num_labels=3) == pytest.approx(2 / 3)


@settings(deadline=None, max_examples=50)
@given(pairs=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([-1, 0, 1, 2])), min_size=1))
def test_macro_f1_is_the_mean_of_one_against_the_rest(pairs):
    values = []
    for label in range(3):
        hits = sum(t == p == label for t, p in pairs)
        num = sum(t == label for t, _ in pairs) + sum(p == label for _, p in pairs)
        values.append(2 * hits / num if num else 0.0)
    targets, predictions = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    assert macro_f1(targets, predictions, num_labels=3) == pytest.approx(sum(values) / 3)


# --- correlations


def test_correlations_by_hand():
    targets, predictions = np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0, 1.0, 4.0, 9.0])
    # Deviations -1.75 -0.75 0.25 2.25 and -2 -3 0 5: 17 / sqrt(8.75 * 38).
    assert pearson_correlation(targets, predictions) == pytest.approx(17 / np.sqrt(8.75 * 38))
    # Ranks 1 2 3 4 and 2 1 3 4: 1 - 6 * 2 / (4 * 15).
    assert spearman_correlation(targets, predictions) == pytest.approx(0.8)


def test_equals_share_their_ranks():
    # Ranks 1 2 3 and 1.5 1.5 3: deviations -1 0 1 and -.5 -.5 1, 1.5 / sqrt(2 * 1.5).
    assert spearman_correlation(np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 7.0])) == pytest.approx(
        1.5 / np.sqrt(3)
    )


@pytest.mark.parametrize("measure", [pearson_correlation, spearman_correlation])
def test_correlation_of_constants_is_zero(measure):
    rising, constant = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    assert measure(rising, rising) == pytest.approx(1.0)
    assert measure(rising, -rising) == pytest.approx(-1.0)
    assert measure(rising, constant) == measure(constant, rising) == measure(constant, constant) == 0.0


# --- groups


def test_a_question_is_right_where_all_its_options_are():
    examples = _examples(1, 0, 1, 1, 0, groups=["a", "a", "b", "c", "a"])
    assert ALL_RIGHT.measure(examples, [1, 0, 1, 1, 0]) == 1.0
    assert ALL_RIGHT.measure(examples, [1, 0, 1, 1, 1]) == pytest.approx(2 / 3)  # wherever its options stand
    assert ALL_RIGHT.measure(examples, [1, 0, -1, 0, 0]) == pytest.approx(1 / 3)
    assert ALL_RIGHT.by_group


def test_parity_asks_for_the_same_label_not_for_the_right_one():
    examples = _examples(1, 1, 0, 0, 1, 1, groups=[0, 0, 1, 1, 2, 2])
    assert GENDER_PARITY.measure(examples, [1, 1, 0, 0, 1, 1]) == 1.0
    assert GENDER_PARITY.measure(examples, [0] * 6) == 1.0  # a constant has full parity
    assert GENDER_PARITY.measure(examples, [0, 0, 0, 1, 1, 1]) == pytest.approx(2 / 3)
    assert GENDER_PARITY.measure(examples, [-1, -1, 0, 0, -1, 1]) == pytest.approx(
        1 / 3
    )  # no label twice is none
    assert GENDER_PARITY.by_group


# --- scores of texts


def test_scores_are_percentages_and_name_the_invalid():
    task = _task(("not_equivalent", "equivalent"), F1, ACCURACY)
    examples = _examples(1, 1, 0, 0)
    written = ["equivalent", "Equivalent", "", "not_equivalent"]
    answers = [task.parsed(text, example) for text, example in zip(written, examples, strict=True)]
    assert answers == [1, -1, -1, 0]
    scores = score(task, examples, answers)
    assert scores == {
        "f1": pytest.approx(50.0),
        "accuracy": pytest.approx(50.0),
        "invalid_rate": pytest.approx(50.0),
    }
    assert task_score(task, scores | {"f1": 30.0}) == pytest.approx(40.0)


def test_what_is_no_number_is_counted():
    task = _task((), PEARSON, SPEARMAN, kind="number")
    assert score(task, _examples(1.0, 2.0, 3.0, 4.0), [1.0, -1.0, 3.0, 4.0])["invalid_rate"] == 25.0


def test_scores_of_free_text_have_no_invalid_rate():
    task = _task((), TOKEN_F1, kind="text")
    example = Example(index=0, inputs="", targets="a b", answer="a b", accepted=("a b",))
    assert as_written("b", example) == "b"
    assert score(task, [example], ["b"]) == {"f1": pytest.approx(100.0)}


def test_what_cannot_be_scored_is_refused():
    task = _task(("no", "yes"), MATTHEWS)
    with pytest.raises(UserError, match="no examples to score"):
        score(task, [], [])
    with pytest.raises(UserError, match="the answer to example 1 is not published"):
        score(task, _examples(0, None), [0, 1])
    with pytest.raises(ValueError, match="2 examples but 1"):
        score(task, _examples(0, 1), [0])


# --- tasks as such


def test_constant_answer_is_the_most_frequent_label_or_the_mean():
    task = _task(("b", "a", "c"), ACCURACY)
    assert constant_answer(task, _examples(0, 1, 0, 1, 2)) == 1  # as frequent as b
    assert constant_answer(task, _examples(0, 1, 0, 1, 2, 0)) == 0
    assert constant_answer(_task((), PEARSON, kind="number"), _examples(1.0, 4.0)) == 2.5
    assert constant_answer(_task((), TOKEN_F1, kind="text"), _examples("a")) is None
    with pytest.raises(UserError, match="no examples"):
        constant_answer(task, [])


def test_a_choice_is_its_number_or_its_text():
    example = Example(index=0, inputs="", targets="", answer="b", choices=("a", "b"))
    of_text, of_label = _task((), TOKEN_F1, kind="text"), _task(("first", "second"), ACCURACY)
    assert (of_text.choice_answer(1, example), of_label.choice_answer(1, example)) == ("b", 1)


def test_tasks_are_found_by_name():
    for name, task in TASKS.items():
        assert task.name == name
        assert find_task(name) is task


@pytest.mark.parametrize(
    ("name", "nearest"), [("glue/mrcp", "glue/mrpc"), ("docstrings", "embedded/docstrings"), ("", "")]
)
def test_unknown_task_is_answered_with_the_nearest_and_all(name, nearest):
    with pytest.raises(UserError) as caught:
        find_task(name)
    assert f"did you mean '{nearest}" in str(caught.value)
    assert all(known in str(caught.value) for known in TASKS)


def test_unknown_split_is_answered_with_all():
    with pytest.raises(UserError, match="no split 'dev': choose one of train, validation, test"):
        find_task("glue/rte").load("dev")
