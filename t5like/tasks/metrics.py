"""Metrics of labels and numbers, as fractions; an answer that is no label is -1."""

import collections
import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from t5like.tasks.base import NO_CLASS, Answer, Example, Metric


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the share of predictions that equal their target.

    Args:
      targets: [num_examples] label ids, or any texts.
      predictions: [num_examples] likewise.
    """
    return float(np.mean(targets == predictions))


def binary_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the F1 of label 1, and 0 where neither side holds it; a prediction that is no label is a mistake.

    As in T5, such a prediction counts as the label that the target is not, so it is a miss on a positive and a
    false alarm on a negative:

        targets      [1  1  0  0]
        predictions  [1 -1 -1  0]
        counted as   [1  0  1  0]    F1 = 1/2

    Args:
      targets: [num_examples] int, 0 or 1.
      predictions: [num_examples] int, 0 or 1 or anything else for no label.
    """
    import sklearn.metrics  # takes seconds, and most commands score nothing

    is_label = (predictions == 0) | (predictions == 1)
    counted = np.where(is_label, predictions, 1 - targets)
    return float(sklearn.metrics.f1_score(targets, counted, zero_division=0.0))


def macro_f1(targets: np.ndarray, predictions: np.ndarray, *, num_labels: int) -> float:
    """Returns the plain mean over labels of the F1 of each against the rest, which is 0 where neither side holds it.

    A prediction that is no label is a miss, and a false alarm to no label. As in SuperGLUE's CB, with three labels:

        targets      [0  0  1  1  2]
        predictions  [0  1  1 -1  0]    F1 = 1/2, 1/2, 0; their mean 1/3

    Args:
      targets: [num_examples] label ids from 0.
      predictions: [num_examples] label ids, -1 for no label.
      num_labels: of the task, whether they occur or not.
    """
    import sklearn.metrics  # as above

    return float(
        sklearn.metrics.f1_score(
            targets, predictions, labels=range(num_labels), average="macro", zero_division=0.0
        )
    )


def matthews_correlation(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Matthews' correlation, -1 to 1, and 0 where either side is constant.

    A prediction that is no label is a class of its own, as in T5.

    Args:
      targets: [num_examples] label ids.
      predictions: [num_examples] label ids, -1 for no label.
    """
    import sklearn.metrics  # takes seconds, and most commands score nothing

    if len(np.unique(targets)) == 1 or len(np.unique(predictions)) == 1:
        return 0.0
    return float(sklearn.metrics.matthews_corrcoef(targets, predictions))


def pearson_correlation(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the linear correlation, -1 to 1, and 0 where either side is constant.

    Args:
      targets: [num_examples] float.
      predictions: [num_examples] float.
    """
    import scipy.stats  # as above

    if _is_constant(targets) or _is_constant(predictions):
        return 0.0
    return float(scipy.stats.pearsonr(targets, predictions).statistic)


def spearman_correlation(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the linear correlation of ranks, equals sharing theirs; 0 where either side is constant."""
    import scipy.stats  # as above

    if _is_constant(targets) or _is_constant(predictions):
        return 0.0
    return float(scipy.stats.spearmanr(targets, predictions).statistic)


def all_right(examples: Sequence[Example], answers: Sequence[Answer]) -> float:
    """Returns the share of groups whose every answer is right: of MultiRC, questions with all options judged right."""
    groups = _groups(examples, answers)
    return float(np.mean([all(example.answer == answer for example, answer in group) for group in groups]))


def parity(examples: Sequence[Example], answers: Sequence[Answer]) -> float:
    """Returns the share of groups whose answers are all the same label, be it right or wrong.

    Of AX-g, pairs that differ in the gender of a pronoun alone. Whoever gives one label to all scores 1, so this means
    nothing without the accuracy beside it. No label twice is no parity.
    """
    given = [{answer for _, answer in group} for group in _groups(examples, answers)]
    return float(np.mean([len(labels) == 1 and NO_CLASS not in labels for labels in given]))


def _groups(examples: Sequence[Example], answers: Sequence[Answer]) -> Iterable[list[tuple[Example, Answer]]]:
    """Returns the examples with their answers by group, wherever they stand."""
    groups: dict[Hashable, list[tuple[Example, Answer]]] = collections.defaultdict(list)
    for example, answer in zip(examples, answers, strict=True):
        groups[example.group].append((example, answer))
    return groups.values()


def of_answers(
    measure: Callable[[np.ndarray, np.ndarray], float], dtype: Any
) -> Callable[[Sequence[Example], Sequence[Answer]], float]:
    """Returns a measure of examples made of one of arrays (targets, predictions), both of a dtype."""
    return lambda examples, answers: measure(
        np.array([example.answer for example in examples], dtype), np.array(answers, dtype)
    )


def _is_constant(values: np.ndarray) -> bool:
    return len(np.unique(values)) == 1


ACCURACY = Metric("accuracy", of_answers(accuracy, np.int64))
F1 = Metric("f1", of_answers(binary_f1, np.int64))
MACRO_F1_OF_3 = Metric("macro_f1", of_answers(functools.partial(macro_f1, num_labels=3), np.int64))
MATTHEWS = Metric("matthews_corrcoef", of_answers(matthews_correlation, np.int64))
PEARSON = Metric("pearson", of_answers(pearson_correlation, np.float64))
SPEARMAN = Metric("spearman", of_answers(spearman_correlation, np.float64))
ALL_RIGHT = Metric("exact_match", all_right, by_group=True)
GENDER_PARITY = Metric("gender_parity", parity, by_group=True)
