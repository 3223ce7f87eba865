"""Measures that can count each example any number of times: of a resample of answers they are had at once.

What an example adds to a measure is worked out once, and a resample only says how often each of them counts. A plain
function of (examples, answers) is a measure too, which must start anew for each resample, see intervals.py.
"""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from t5like.tasks.base import Answer, Example

OfCounts = Callable[[np.ndarray], float]
"""How often each example counts, [num_examples] int of which some is not 0 -> the measure."""


class CountedMeasure(abc.ABC):
    """A measure of answers, as `Metric.measure` has it."""

    def __call__(self, examples: Sequence[Example], answers: Sequence[Answer]) -> float:
        """Returns the measure where each example counts once."""
        return self.of_counts(examples, answers)(np.ones(len(examples), np.int64))

    @abc.abstractmethod
    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the measure of these answers as a function of how often each example counts."""


def group_numbers(examples: Sequence[Example]) -> np.ndarray:
    """Returns the number of each example's group, [num_examples] int, from 0 as they come: no group is one of its own."""
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(
                ("alone", place) if example.group is None else ("group", example.group), len(numbers)
            )
            for place, example in enumerate(examples)
        ]
    )


@dataclasses.dataclass(frozen=True)
class MeanMeasure(CountedMeasure):
    """The mean of a score that each example has: an exact match, a summary's ROUGE.

    Attributes:
      score: (an example, its answer) -> its score.
    """

    score: Callable[[Example, Answer], float]

    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the mean as a function of how often each example counts."""
        scores = np.array([self.score(*pair) for pair in zip(examples, answers, strict=True)], np.float64)
        return lambda counts: float(counts @ scores / counts.sum())


@dataclasses.dataclass(frozen=True)
class GroupMeanMeasure(CountedMeasure):
    """The mean over groups of a score that each has: the questions whose options are all right.

    The examples of a group must count equally often, which they do where `Metric.by_group` says so.

    Attributes:
      score: (the examples of a group, their answers) -> its score. An example without a group is one of its own.
    """

    score: Callable[[Sequence[Example], Sequence[Answer]], float]

    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the mean as a function of how often each example counts."""
        numbers = group_numbers(examples)
        members: list[list[int]] = [[] for _ in range(numbers.max() + 1)]
        for place, number in enumerate(numbers):
            members[number].append(place)
        scores = np.array(
            [self.score([examples[i] for i in group], [answers[i] for i in group]) for group in members],
            np.float64,
        )
        first = np.array([group[0] for group in members])
        return lambda counts: float(counts[first] @ scores / counts[first].sum())


@dataclasses.dataclass(frozen=True)
class SumMeasure(CountedMeasure):
    """A function of sums of what each example adds: a corpus BLEU, a micro-averaged F1.

    Attributes:
      statistics: (examples, their answers) -> what each adds, [num_examples, num_statistics].
      of_sums: [num_statistics] -> the measure.
    """

    statistics: Callable[[Sequence[Example], Sequence[Answer]], np.ndarray]
    of_sums: Callable[[np.ndarray], float]

    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the measure as a function of how often each example counts."""
        statistics = self.statistics(examples, answers)
        return lambda counts: self.of_sums(counts @ statistics)


@dataclasses.dataclass(frozen=True)
class ArrayMeasure(CountedMeasure):
    """A measure of two arrays, the right answers and those given.

    Attributes:
      measure: (targets, predictions), each [num_examples] -> the measure.
      dtype: of both arrays.
      counted: (targets, predictions) -> the same measure as a function of counts, where that is faster than to repeat
        what counts several times; None: it is not.
    """

    measure: Callable[[np.ndarray, np.ndarray], float]
    dtype: Any
    counted: Callable[[np.ndarray, np.ndarray], OfCounts] | None = None

    def __call__(self, examples: Sequence[Example], answers: Sequence[Answer]) -> float:
        """Returns the measure where each example counts once."""
        return self.measure(*self._arrays(examples, answers))

    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the measure as a function of how often each example counts."""
        targets, predictions = self._arrays(examples, answers)
        if self.counted is not None:
            return self.counted(targets, predictions)
        return lambda counts: self.measure(np.repeat(targets, counts), np.repeat(predictions, counts))

    def _arrays(
        self, examples: Sequence[Example], answers: Sequence[Answer]
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.array([example.answer for example in examples], self.dtype), np.array(answers, self.dtype)
