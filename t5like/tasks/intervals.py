"""How sure a score is: bootstrap intervals over examples."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5like.tasks.base import Answer, Example, Metric
from t5like.tasks.measures import CountedMeasure, OfCounts, group_numbers


def interval(
    metric: Metric,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Returns (low, high) of a metric, as fractions: percentiles of its values on resamples of the examples.

    A resample draws as many examples as there are, with replacement; of a metric `by_group` it draws groups. It is
    fast, well below a second on 10,000 examples beside what the metric itself takes once, where the measure is a
    `CountedMeasure`. The same seed gives the same interval.

    Args:
      metric: what is measured.
      examples: at least one, all with published answers.
      answers: theirs.
      num_resamples: how many values the percentiles are taken of.
      seed: of the draws.
      confidence: the share of the values that lies between low and high; the rest is half below and half above.

    Raises:
      ValueError: there are no examples, or not as many answers, or `num_resamples` or `confidence` is out of range.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    if not examples or len(examples) != len(answers):
        raise ValueError(f"{len(examples)} examples and {len(answers)} answers")
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"num_resamples {num_resamples}, confidence {confidence}")
    unit_of_example = group_numbers(examples) if metric.by_group else np.arange(len(examples))
    num_units = int(np.max(unit_of_example)) + 1
    if isinstance(metric.measure, CountedMeasure):
        of_counts = metric.measure.of_counts(examples, answers)
    else:
        of_counts = _of_repeats(metric, examples, answers)
    generator = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    for number in range(num_resamples):
        drawn = generator.integers(num_units, size=num_units)
        values[number] = of_counts(np.bincount(drawn, minlength=num_units)[unit_of_example])
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _of_repeats(metric: Metric, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
    """Returns a measure of counts that repeats examples and measures them anew; the copies of a group are groups."""

    def of_counts(counts: np.ndarray) -> float:
        repeated = [(number, copy) for number, count in enumerate(counts) for copy in range(count)]
        return metric.measure(
            [
                dataclasses.replace(examples[number], group=(copy, examples[number].group))
                if metric.by_group and examples[number].group is not None
                else examples[number]
                for number, copy in repeated
            ],
            [answers[number] for number, _ in repeated],
        )

    return of_counts
