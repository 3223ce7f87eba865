"""How an encoder with a head is asked a task's examples, and how its logits are read as answers."""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from t5like.batch import Features
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.answer_spans import AnswerReader, AnswerSpans, Span
from t5like.objectives.classification import text_rows
from t5like.objectives.tagging import tagging_rows, tags_of_words
from t5like.tasks.base import Answer, Example, Task

HeadName = Literal["sequence_classification", "token_tagging", "span_extraction"]

_JUDGEMENTS = ("wrong", "right")  # of a choice


class Asked(NamedTuple):
    """Examples as an encoder reads them.

    Attributes:
      features: [num_rows, ...], at least one row an example and in their order; with what is to be predicted, which of
        examples whose answers are not published is nothing in particular.
      answers: from what `Transformer.predictions` gives for each row, of tokens as many as were not trimmed, to the
        answer to each example.
    """

    features: Features
    answers: Callable[[Sequence[np.ndarray]], list[Answer]]


class TaskHead(NamedTuple):
    """A head for a task.

    Attributes:
      name: what `TransformerConfig.head` calls it.
      num_labels: its logits, of a row or of each token; 0 where the kind decides.
      ask: (examples, vocabulary, length of the rows) -> rows and the way back. It raises UserError where a row has no
        room for text.
      labels: what the logits stand for, in the order in which `ask` counts them; empty where that is no label.
    """

    name: HeadName
    num_labels: int
    ask: Callable[[Sequence[Example], Vocabulary, int], Asked]
    labels: tuple[str, ...] = ()


def head_of(task: Task) -> TaskHead:
    """Returns the head that a task needs of an encoder.

    Raises:
      UserError: it is a task of writing.
    """
    if task.choice_texts is not None:
        ask = functools.partial(_ask_choices, task)
        return TaskHead("sequence_classification", len(_JUDGEMENTS), ask, _JUDGEMENTS)
    if task.kind == "label":
        return TaskHead("sequence_classification", len(task.labels), _ask_labels, task.labels)
    if task.kind == "number":
        return TaskHead("sequence_classification", 1, _ask_numbers)
    if task.kind == "tags":
        ask = functools.partial(_ask_tags, task)
        return TaskHead("token_tagging", len(task.labels), ask, task.labels)
    if task.kind == "span":
        return TaskHead("span_extraction", 0, functools.partial(_ask_spans, task))
    raise UserError(
        f"{task.name} asks for a text that an encoder alone cannot write: give a model with a decoder."
    )


def _ask_labels(examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> Asked:
    """Asks for the likeliest label of each row, of equals the first."""
    labels = [0 if example.answer is None else example.answer for example in examples]
    rows = text_rows([example.texts for example in examples], vocabulary, length=length)
    features = {**rows, "label_ids": np.array(labels, np.int32)}
    return Asked(features, lambda outputs: [int(np.argmax(logits)) for logits in outputs])


def _ask_numbers(examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> Asked:
    """Asks for a number for each row."""
    numbers = [0.0 if example.answer is None else example.answer for example in examples]
    rows = text_rows([example.texts for example in examples], vocabulary, length=length)
    features = {**rows, "scores": np.array(numbers, np.float32)}
    return Asked(features, lambda outputs: [float(number) for number in outputs])


def _ask_choices(task: Task, examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> Asked:
    """Asks of each choice of an example whether it is right; the answer is the one that most likely is."""
    assert task.choice_texts is not None
    numbers = [range(len(example.choices)) for example in examples]
    texts = [
        task.choice_texts(example, n) for example, own in zip(examples, numbers, strict=True) for n in own
    ]
    is_right = [
        task.choice_answer(n, example) == example.answer or example.choices[n] in example.accepted
        for example, own in zip(examples, numbers, strict=True)
        for n in own
    ]
    rows = text_rows(texts, vocabulary, length=length)

    def answers(outputs: Sequence[np.ndarray]) -> list[Answer]:
        leads = iter([float(right - wrong) for wrong, right in outputs])
        best = [int(np.argmax([next(leads) for _ in own])) for own in numbers]
        return [task.choice_answer(n, example) for n, example in zip(best, examples, strict=True)]

    return Asked({**rows, "label_ids": np.array(is_right, np.int32)}, answers)


def _ask_tags(task: Task, examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> Asked:
    """Asks for the tag of the first token of each word."""
    tag_ids = {tag: number for number, tag in enumerate(task.labels)}
    asked = [
        [0] * len(example.texts[0].split(" "))
        if example.answer is None
        else [tag_ids[t] for t in example.answer]
        for example in examples
    ]
    rows = tagging_rows([example.texts[0] for example in examples], asked, vocabulary, length=length)

    def answers(outputs: Sequence[np.ndarray]) -> list[Answer]:
        return [
            tags_of_words(np.argmax(logits, axis=-1), places, task.labels)
            for logits, places in zip(outputs, rows.places, strict=True)
        ]

    return Asked(rows.features, answers)


def _ask_spans(task: Task, examples: Sequence[Example], vocabulary: Vocabulary, length: int) -> Asked:
    """Asks for the first and last token of the answer in each window of a context."""
    spans = [Span(example.accepted[0], example.starts[0]) if example.starts else None for example in examples]
    questions, contexts = ([example.texts[side] for example in examples] for side in (0, 1))
    rows = AnswerSpans()(questions, contexts, spans, vocabulary, length=length)
    read = AnswerReader()

    def answers(outputs: Sequence[np.ndarray]) -> list[Answer]:
        of_question: list[list[int]] = [[] for _ in examples]
        for row, window in enumerate(rows.windows):
            of_question[window.question].append(row)
        return [
            read(
                context,
                [rows.windows[row] for row in own],
                [outputs[row] for row in own],
                may_be_none=task.may_have_no_answer,
            )
            for context, own in zip(contexts, of_question, strict=True)
        ]

    return Asked(rows.features, answers)
