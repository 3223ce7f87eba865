"""Metrics of labels and numbers, as fractions; an answer that is no label is -1."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from t5like.tasks.base import NO_CLASS, Answer, Example, Metric
from t5like.tasks.measures import ArrayMeasure, GroupMeanMeasure, OfCounts


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

    counted = _as_labels(targets, predictions)
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

    if _is_constant(targets) or _is_constant(predictions):
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


def all_right(examples: Sequence[Example], answers: Sequence[Answer]) -> bool:
    """Returns whether every answer of a group is right: of MultiRC, all options of a question judged right."""
    return all(example.answer == answer for example, answer in zip(examples, answers, strict=True))


def parity(examples: Sequence[Example], answers: Sequence[Answer]) -> bool:
    """Returns whether the answers of a group are all the same label, be it right or wrong; no label twice is none.

    Of AX-g, pairs that differ in the gender of a pronoun alone. Whoever gives one label to all scores 1, so this means
    nothing without the accuracy beside it.
    """
    return len(set(answers)) == 1 and NO_CLASS not in answers


def counted_f1(targets: np.ndarray, predictions: np.ndarray) -> OfCounts:
    """Returns `binary_f1` as a function of counts: twice the hits by the positives of both sides."""
    counted = _as_labels(targets, predictions)
    hits, positives = (targets == 1) & (counted == 1), targets + counted

    def of_counts(counts: np.ndarray) -> float:
        num_positives = counts @ positives
        return float(2 * (counts @ hits) / num_positives) if num_positives else 0.0

    return of_counts


def counted_macro_f1(targets: np.ndarray, predictions: np.ndarray, *, num_labels: int) -> OfCounts:
    """Returns `macro_f1` as a function of counts, by the confusion matrix."""
    confusion_of, labels = _confusion(targets, predictions)

    def of_counts(counts: np.ndarray) -> float:
        confusion = confusion_of(counts)
        sizes = confusion.sum(0) + confusion.sum(1)
        is_counted = (sizes > 0) & (labels >= 0) & (labels < num_labels)
        return float(np.sum(2 * np.diag(confusion)[is_counted] / sizes[is_counted]) / num_labels)

    return of_counts


def counted_matthews(targets: np.ndarray, predictions: np.ndarray) -> OfCounts:
    """Returns `matthews_correlation` as a function of counts, by the confusion matrix.

    Source: Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient, eq. 8.
    """
    confusion_of, _ = _confusion(targets, predictions)

    def of_counts(counts: np.ndarray) -> float:
        confusion = confusion_of(counts)
        of_targets, of_predictions, total = confusion.sum(1), confusion.sum(0), confusion.sum()
        spread = (total**2 - of_targets @ of_targets) * (total**2 - of_predictions @ of_predictions)
        covariance = np.trace(confusion) * total - of_targets @ of_predictions
        return float(covariance / np.sqrt(spread)) if spread else 0.0

    return of_counts


def counted_spearman(targets: np.ndarray, predictions: np.ndarray) -> OfCounts:
    """Returns `spearman_correlation` as a function of counts: values are sorted once, ranks counted each time.

    values [30 10 20 10], counts [1 2 0 1]  ->  ranks [4 2 - 2]: 10 is drawn three times and has ranks 1 to 3.
    """
    places = [np.unique(values, return_inverse=True)[1] for values in (targets, predictions)]

    def of_counts(counts: np.ndarray) -> float:
        ranks = []
        for place in places:
            num_drawn = np.bincount(place, counts)
            ranks.append((np.cumsum(num_drawn) - (num_drawn - 1) / 2)[place])
        return pearson_correlation(np.repeat(ranks[0], counts), np.repeat(ranks[1], counts))

    return of_counts


def _confusion(
    targets: np.ndarray, predictions: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Returns (counts -> the confusion matrix, targets down, predictions across; the label of each row and column)."""
    labels, numbers = np.unique(np.stack([targets, predictions]), return_inverse=True)
    num_labels = len(labels)
    cells = numbers[0] * num_labels + numbers[1]
    return lambda counts: np.bincount(cells, counts, num_labels**2).reshape(num_labels, num_labels), labels


def _as_labels(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Returns the predictions, what is neither 0 nor 1 turned to the label that the target is not."""
    return np.where((predictions == 0) | (predictions == 1), predictions, 1 - targets)


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]))


ACCURACY = Metric("accuracy", ArrayMeasure(accuracy, np.int64))
F1 = Metric("f1", ArrayMeasure(binary_f1, np.int64, counted_f1))
MACRO_F1_OF_3 = Metric(
    "macro_f1",
    ArrayMeasure(
        functools.partial(macro_f1, num_labels=3), np.int64, functools.partial(counted_macro_f1, num_labels=3)
    ),
)
MATTHEWS = Metric("matthews_corrcoef", ArrayMeasure(matthews_correlation, np.int64, counted_matthews))
PEARSON = Metric("pearson", ArrayMeasure(pearson_correlation, np.float64))
SPEARMAN = Metric("spearman", ArrayMeasure(spearman_correlation, np.float64, counted_spearman))
ALL_RIGHT = Metric("exact_match", GroupMeanMeasure(all_right), by_group=True)
GENDER_PARITY = Metric("gender_parity", GroupMeanMeasure(parity), by_group=True)
