"""Metrics of classification tasks, as fractions, over label ids in which -1 stands for a text that is no label."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Metric(NamedTuple):
    """A measure of predictions against targets, under the name that reports give it."""

    name: str
    measure: Callable[[np.ndarray, np.ndarray], float]


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


ACCURACY = Metric("accuracy", accuracy)
F1 = Metric("f1", binary_f1)
MATTHEWS = Metric("matthews_corrcoef", matthews_correlation)
