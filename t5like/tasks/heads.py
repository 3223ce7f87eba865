"""How an encoder with a head is asked a task's examples, and how its logits are read as answers."""

import abc
from collections.abc import Sequence
from typing import Literal

import numpy as np

from t5like.batch import Features
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.classification import text_rows
from t5like.tasks.base import Answer, Example, Task

HeadName = Literal["sequence_classification", "token_tagging", "span_extraction"]


class TaskHead(abc.ABC):
    """One kind of head.

    Attributes:
      name: what `TransformerConfig.head` calls it.
      num_labels: its logits, of a row or of each token; 0 where the kind decides.
    """

    name: HeadName
    num_labels: int

    @abc.abstractmethod
    def rows(self, examples: Sequence[Example], vocabulary: Vocabulary, *, length: int) -> Features:
        """Returns what the model reads and, of examples with published answers, is to predict, [num_rows, ...].

        There is at least one row an example, in their order.

        Raises:
          UserError: they do not fit.
        """

    @abc.abstractmethod
    def answers(self, examples: Sequence[Example], outputs: Sequence[np.ndarray]) -> list[Answer]:
        """Returns the answer to each example.

        Args:
          examples: those that `rows` was last given.
          outputs: what `Transformer.predictions` gives for each row, float32; of tokens as many as were not trimmed.
        """


class LabelHead(TaskHead):
    """A label for each row."""

    name = "sequence_classification"

    def __init__(self, task: Task) -> None:
        """Takes the labels of a task."""
        self.num_labels = len(task.labels)

    def rows(self, examples: Sequence[Example], vocabulary: Vocabulary, *, length: int) -> Features:
        """Returns one row an example, with `label_ids`."""
        labels = [0 if example.answer is None else example.answer for example in examples]
        rows = text_rows([example.texts for example in examples], vocabulary, length=length)
        return {**rows, "label_ids": np.array(labels, np.int32)}

    def answers(self, examples: Sequence[Example], outputs: Sequence[np.ndarray]) -> list[Answer]:
        """Returns the likeliest label of each, of equals the first."""
        return [int(label) for label in np.argmax(np.stack(outputs), axis=-1)]


class NumberHead(TaskHead):
    """A number for each row."""

    name, num_labels = "sequence_classification", 1

    def rows(self, examples: Sequence[Example], vocabulary: Vocabulary, *, length: int) -> Features:
        """Returns one row an example, with `scores`."""
        numbers = [0.0 if example.answer is None else example.answer for example in examples]
        rows = text_rows([example.texts for example in examples], vocabulary, length=length)
        return {**rows, "scores": np.array(numbers, np.float32)}

    def answers(self, examples: Sequence[Example], outputs: Sequence[np.ndarray]) -> list[Answer]:
        """Returns the numbers as they are."""
        return [float(number) for number in outputs]


def head_of(task: Task) -> TaskHead:
    """Returns the head that a task needs of an encoder.

    Raises:
      UserError: it is a task of writing, or its examples have no form for encoders.
    """
    if task.kind == "label":
        return LabelHead(task)
    if task.kind == "number":
        return NumberHead()
    raise UserError(
        f"{task.name} asks for a text that an encoder alone cannot write: give a model with a decoder."
    )
