"""What a task is: pairs of texts in splits, a label space and metrics."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from t5like.errors import UserError
from t5like.tasks.metrics import Metric

NO_LABEL = "<unk>"  # the target of an example whose label is not published


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One pair of texts; `index` is its place in the list of its split."""

    inputs: str
    targets: str
    index: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task in T5's text-to-text form.

    Attributes:
      name: `suite/task`, as the command line gives it.
      labels: the label texts by class id; empty where targets are free text.
      metrics: what is reported; the first is the one that tells checkpoints apart.
      splits: names of the splits, those with published labels and those without.
      read: (split, data_dir or None) -> its examples; called through `load`, which checks the split.
    """

    name: str
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    splits: tuple[str, ...]
    read: Callable[[str, pathlib.Path | None], list[Example]] = dataclasses.field(repr=False)

    @property
    def primary_metric(self) -> str:
        """Name of the metric that tells checkpoints apart."""
        return self.metrics[0].name

    def load(self, split: str, data_dir: pathlib.Path | None = None) -> list[Example]:
        """Returns the examples of a split, `index` running from 0.

        Args:
          split: one of `splits`.
          data_dir: the folder of the data, None for the task's own source.

        Raises:
          UserError: there is no such split, or its data are missing or broken.
        """
        if split not in self.splits:
            raise UserError(f"{self.name} has no split {split!r}: choose one of {', '.join(self.splits)}.")
        return self.read(split, data_dir)


def majority_label(examples: Sequence[Example]) -> str:
    """Returns the most frequent target, of equals the first in the alphabet.

    Raises:
      UserError: there are no examples.
    """
    if not examples:
        raise UserError("There are no examples, so there is no majority label: choose a split that has some.")
    counts = collections.Counter(example.targets for example in examples)
    return min(counts, key=lambda label: (-counts[label], label))


def score(task: Task, targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Returns every metric of the task in percent; for a task with labels `invalid_rate` too.

    `invalid_rate` is the percentage of predictions that are no label, letter for letter.

    Args:
      task: whose metrics.
      targets: [num_examples] target texts.
      predictions: [num_examples] predicted texts.

    Raises:
      UserError: there is nothing to score, or a target is no label, as in a test split.
      ValueError: there are not as many predictions as targets.
    """
    if len(targets) != len(predictions):
        raise ValueError(f"{len(targets)} targets but {len(predictions)} predictions")
    if not targets:
        raise UserError(f"{task.name}: there are no examples to score: choose a split that has some.")
    if not task.labels:
        return _percentages(task, np.array(targets, object), np.array(predictions, object))
    target_ids, predicted_ids = _label_ids(task, targets), _label_ids(task, predictions)
    if np.any(target_ids < 0):
        row = int(np.argmax(target_ids < 0))
        raise UserError(
            f"{task.name}: target {targets[row]!r} of example {row} is none of {', '.join(task.labels)}: "
            "score a split whose labels are published."
        )
    return {
        **_percentages(task, target_ids, predicted_ids),
        "invalid_rate": 100.0 * float(np.mean(predicted_ids < 0)),
    }


def _label_ids(task: Task, texts: Sequence[str]) -> np.ndarray:
    """Returns [num_texts] int64 class ids, -1 for a text that is no label."""
    ids = {label: i for i, label in enumerate(task.labels)}
    return np.array([ids.get(text, -1) for text in texts], np.int64)


def _percentages(task: Task, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    return {metric.name: 100.0 * metric.measure(targets, predictions) for metric in task.metrics}
