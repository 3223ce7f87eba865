"""What a task is: examples in splits, what is asked of each, and the metrics of the answers.

One example serves every kind of model. An encoder-decoder reads `inputs` and writes `targets`; an encoder with a head
reads `texts` and gives an answer of the task's kind. What was written is parsed to an answer as well, so that both are
scored alike. Where a task has `choice_texts`, an encoder judges the choices of each example one by one instead.

    kind      an answer is                          head of an encoder                  for example
    label     a class id, -1 for no label           one logit a label                   entailment
    number    a number                              one logit                           similarity of sentences
    tags      a tag for each word                   one logit a tag, for each token     named entities
    span      a text that stands in the second one  first and last token                question answering
    text      a text                                none: encoder-decoders only         translation
"""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np

from t5like.errors import UserError

NO_LABEL = "<unk>"  # the target of an example whose label is not published
NO_CLASS = -1  # the class of a text that is no label
NO_NUMBER = -1.0  # the number of a text that is none, where numbers start at 0

Kind = Literal["label", "number", "tags", "span", "text"]
Answer = Any
"""int, float, tuple[str, ...], str or str, by the kind of the task as listed above."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example of a task.

    Attributes:
      index: its place in the list of its split, from 0.
      inputs: what an encoder-decoder reads.
      targets: what it should write; `NO_LABEL` where that is not published, of GLUE's numbers -1.0, as in T5.
      texts: what an encoder reads, a text or a pair; of `tags` a text of words with single spaces between them. Empty:
        the task has no form for encoders.
      answer: the right one; None where it is not published.
      accepted: of `span` and `text`, all answers that are as good; a span task's empty tuple says: no answer.
      starts: of `span`, at which character of the second text each accepted answer starts.
      choices: of a task with `choice_texts`, the texts to choose from.
      group: examples with the same group are one to some metrics: the options of a question, the two of a pair. None:
        it is a group of its own.
      row_id: what names it in a file of predictions; None: its index.
    """

    index: int
    inputs: str
    targets: str
    texts: tuple[str, ...] = ()
    answer: Answer = None
    accepted: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()
    group: Hashable = None
    row_id: Any = None


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measure of answers, under the name that reports give it.

    Attributes:
      measure: (examples, their answers) -> a fraction; 1 is perfect. See measures.py for the kinds that there are.
      by_group: whether examples of one group count together, so that a resample must draw groups.
    """

    name: str
    measure: Callable[[Sequence[Example], Sequence[Answer]], float]
    by_group: bool = False


def exact_label(labels: tuple[str, ...]) -> Callable[[str, Example], Answer]:
    """Returns what parses a written label: its class id where it is one letter for letter, else `NO_CLASS`."""
    ids = {label: number for number, label in enumerate(labels)}
    return lambda text, _: ids.get(text, NO_CLASS)


def as_written(text: str, _: Example) -> Answer:
    """Returns the text: what parses a written answer that is a text."""
    return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
      name: `suite/task`, as the command line gives it.
      kind: what is asked.
      labels: the label texts by class id, or the tags by tag id; empty for other kinds.
      metrics: what is reported; their mean tells checkpoints apart.
      splits: names of the splits, those with published labels and those without.
      read: (split, data_dir or None) -> its examples; called through `load`, which checks the split.
      may_have_no_answer: of `span`, whether an example may have none, so that '' is an answer too.
      parse: (what an encoder-decoder wrote, the example) -> an answer; None: `exact_label` or `as_written`.
      no_number: of `number`, what `parse` gives for a text that is none; the right answers are above it.
      choice_texts: (example, number of one of its choices) -> the text or pair by which an encoder judges that choice;
        the one that is likeliest to be right is its answer. None: an encoder reads `texts` once.
    """

    name: str
    kind: Kind = "label"
    labels: tuple[str, ...] = ()
    metrics: tuple[Metric, ...]
    splits: tuple[str, ...]
    may_have_no_answer: bool = False
    read: Callable[[str, pathlib.Path | None], list[Example]] = dataclasses.field(repr=False)
    parse: Callable[[str, Example], Answer] | None = dataclasses.field(default=None, repr=False)
    no_number: float = NO_NUMBER
    choice_texts: Callable[[Example, int], tuple[str, ...]] | None = dataclasses.field(
        default=None, repr=False
    )

    def parsed(self, text: str, example: Example) -> Answer:
        """Returns the answer that a written text is."""
        if self.parse is not None:
            return self.parse(text, example)
        return (exact_label(self.labels) if self.kind == "label" else as_written)(text, example)

    def choice_answer(self, number: int, example: Example) -> Answer:
        """Returns the answer that a choice is: its number where the task asks for a label, else its text."""
        return number if self.kind == "label" else example.choices[number]

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


def score(task: Task, examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """Returns every metric of the task in percent; for a task of labels or numbers `invalid_rate` too.

    `invalid_rate` is the percentage of answers that are no label, or no number.

    Raises:
      UserError: there is nothing to score, or an example's answer is not published, as in a test split.
      ValueError: there are not as many answers as examples.
    """
    if len(examples) != len(answers):
        raise ValueError(f"{len(examples)} examples but {len(answers)} answers")
    if not examples:
        raise UserError(f"{task.name}: there are no examples to score: choose a split that has some.")
    if hidden := next((example for example in examples if example.answer is None), None):
        raise UserError(
            f"{task.name}: the answer to example {hidden.index} is not published: score a split whose answers are."
        )
    scores = {metric.name: 100.0 * metric.measure(examples, answers) for metric in task.metrics}
    if (invalid := {"label": NO_CLASS, "number": task.no_number}.get(task.kind)) is not None:
        scores["invalid_rate"] = 100.0 * float(np.mean([answer == invalid for answer in answers]))
    return scores


def task_score(task: Task, scores: dict[str, float]) -> float:
    """Returns the one figure that tells checkpoints apart: the mean of the task's metrics, as in the suites' averages."""
    return float(np.mean([scores[metric.name] for metric in task.metrics]))


def constant_answer(task: Task, examples: Sequence[Example]) -> Answer | None:
    """Returns the best answer that looks at no input, None where there is no such thing.

    Of labels the most frequent, of equals the one whose text is first in the alphabet; of numbers their mean.

    Raises:
      UserError: there are no examples.
    """
    if not examples:
        raise UserError("There are no examples, so there is no majority label: choose a split that has some.")
    if task.kind == "label":
        counts = collections.Counter(example.answer for example in examples)
        return min(counts, key=lambda label: (-counts[label], task.labels[label]))
    if task.kind == "number":
        return float(np.mean([example.answer for example in examples]))
    return None
