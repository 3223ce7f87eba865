"""Metrics against numbers worked out by hand, and scoring of texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks import TASKS, find_task
from t5like.tasks.base import Example, Task, majority_label, score
from t5like.tasks.metrics import ACCURACY, F1, MATTHEWS, accuracy, binary_f1, matthews_correlation

pairs = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([-1, 0, 1])), min_size=1, max_size=30)


def _ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _task(labels: tuple[str, ...], *metrics) -> Task:
    return Task(name="suite/task", labels=labels, metrics=metrics, splits=("train",), read=lambda *_: [])


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


# --- scores of texts


def test_scores_are_percentages_and_name_the_invalid():
    task = _task(("not_equivalent", "equivalent"), F1, ACCURACY)
    targets = ["equivalent", "equivalent", "not_equivalent", "not_equivalent"]
    predictions = ["equivalent", "Equivalent", "", "not_equivalent"]
    assert score(task, targets, predictions) == {
        "f1": pytest.approx(50.0),
        "accuracy": pytest.approx(50.0),
        "invalid_rate": pytest.approx(50.0),
    }
    assert task.primary_metric == "f1"


def test_scores_of_free_text_have_no_invalid_rate():
    assert score(_task((), ACCURACY), ["a", "b c"], ["a", "b d"]) == {"accuracy": pytest.approx(50.0)}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_perfect_predictions_score_100(task):
    targets = list(task.labels) * 2
    scores = score(task, targets, targets)
    assert scores == {"invalid_rate": 0.0} | {metric.name: pytest.approx(100.0) for metric in task.metrics}


def test_what_cannot_be_scored_is_refused():
    task = _task(("no", "yes"), MATTHEWS)
    with pytest.raises(UserError, match="no examples to score"):
        score(task, [], [])
    with pytest.raises(UserError, match="target '<unk>' of example 1 is none of no, yes"):
        score(task, ["no", "<unk>"], ["no", "yes"])
    with pytest.raises(ValueError, match="2 targets but 1"):
        score(task, ["no", "yes"], ["no"])


# --- tasks as such


def test_majority_label_is_the_most_frequent_target():
    examples = [Example("", label, i) for i, label in enumerate(["b", "a", "b", "a", "c"])]
    assert majority_label(examples) == "a"  # as frequent as b
    assert majority_label([*examples, Example("", "b", 5)]) == "b"
    with pytest.raises(UserError, match="no examples"):
        majority_label([])


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
