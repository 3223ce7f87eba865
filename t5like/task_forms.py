"""How a model is asked a task: the rows it reads, and how its answers are found.

An encoder-decoder writes its answer, or ranks the task's labels; an encoder alone has a head for the kind of the task.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from t5like.batch import EXAMPLE_IDS, Features, without_ids
from t5like.data.pipeline import evaluation_batches
from t5like.data.vocabulary import Vocabulary
from t5like.distributed import fetch_each
from t5like.errors import UserError
from t5like.generation import Writer, label_scores
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer
from t5like.objectives.text_to_text import TextToText
from t5like.sharding import put_batch
from t5like.tasks.base import Answer, Example, Task
from t5like.tasks.heads import TaskHead, head_of
from t5like.tasks.label_names import are_numbers, head_rows, listed
from t5like.trained_model import Init, load_model
from t5like.trimming import packed, trimmed

PyTree = Any
Answering = Literal["written", "ranked"]
AnswerAll = Callable[[PyTree], list[Answer]]
"""Parameters -> the answer to each example."""
ReadOutputs = Callable[[Sequence[np.ndarray]], list[Answer]]
"""What a head gives for each row -> the answer to each example."""

_LABEL_FEATURES = ("label_ids", "tag_ids")
"""Those that say which row of the head is right."""
_FINE_TUNE_FIRST = (
    "fine-tune it on the task first, a public model with such a head after t5like convert --head none."
)


class Batching(NamedTuple):
    """How rows to be answered come in batches."""

    batch_size: int
    sharding: NamedSharding
    trims: bool  # leaves padding out

    @property
    def packs(self) -> bool:
        """Whether examples share rows: not over several devices, where each has examples of its own."""
        return self.trims and self.sharding.mesh.size == 1


class TaskForm(Protocol):
    """How one model is asked one task.

    Attributes:
      lengths: of its rows, by the field of the objective that says so.
    """

    lengths: dict[str, int]

    def rows(self, examples: Sequence[Example]) -> list[Features]:
        """Returns the rows of examples, at least one for each, in order.

        Raises:
          UserError: an example does not fit.
        """

    def answerer(self, model: Transformer, examples: Sequence[Example], batching: Batching) -> AnswerAll:
        """Returns what answers the examples, given parameters."""


def load_for_task(init: str, task: Task) -> Init:
    """Returns the model that `--init` names, with the head that the task needs where it is an encoder alone.

    Raises:
      UserError: there is none, its files are damaged, or it has no way to answer the task.
    """
    if task.kind == "text":
        return load_model(init)
    head = head_of(task)
    return load_model(init, encoder_head=head.name, num_labels=head.num_labels, label_names=head.labels)


def task_form(
    task: Task,
    model: TransformerConfig,
    vocabulary: Vocabulary,
    objective: TextToText,
    *,
    answers: Answering,
    command: str,
) -> TaskForm:
    """Returns how a model is asked a task.

    Raises:
      UserError: it cannot be: it is a decoder alone, or has a head for something else or for other labels.
    """
    if not model.num_encoder_layers:
        raise UserError(f"{command} is for models with an encoder; this one is a decoder alone.")
    if model.num_decoder_layers:
        if model.head != "language_model":
            raise UserError(
                f"{command} has encoder-decoders write, but this one has the head {model.head}; take one for language."
            )
        return WrittenForm(task, vocabulary, objective, answers)
    head = head_of(task)
    is_named = model.head == head.name and bool(head.labels and model.label_names)
    if not is_named and (model.head, model.num_labels) != (head.name, head.num_labels):
        raise UserError(
            f"{task.name} needs an encoder with the head {head.name}"
            + (f" of {head.num_labels} labels" if head.num_labels else "")
            + f", but this one has {model.head}"
            + (f" of {model.num_labels}" if model.num_labels else "")
            + f"; {_FINE_TUNE_FIRST}"
        )
    rows = rows_of_labels(task, head, model.label_names) if is_named else None
    return HeadForm(task, head, model, vocabulary, objective.inputs_length, rows)


def rows_of_labels(task: Task, head: TaskHead, names: tuple[str, ...]) -> tuple[int, ...]:
    """Returns the row that each label of a task has in a head whose rows have these names.

    Raises:
      UserError: they are other labels, or the names only count.
    """
    rows = head_rows(head.labels, names)
    if rows is not None:
        return rows
    if are_numbers(names) and len(names) == len(head.labels):
        raise UserError(
            f"The head of this model calls its labels {listed(names)}, which does not say which of "
            f"{listed(head.labels)} of {task.name} each is; write these, in the order of the head, into id2label of the "
            "config.json it comes from."
        )
    raise UserError(
        f"{task.name} has the labels {listed(head.labels)}, but the head of this model tells apart "
        f"{listed(names)}; {_FINE_TUNE_FIRST}"
    )


class WrittenForm:
    """Text to text."""

    def __init__(self, task: Task, vocabulary: Vocabulary, objective: TextToText, answers: Answering) -> None:
        """Takes the task, and whether answers are written or ranked.

        Raises:
          UserError: labels are to be ranked, and the task has none.
        """
        if answers == "ranked" and (task.kind != "label" or task.parse is not None):
            raise UserError(
                f"{task.name} is not answered with one of a few labels; its answers can only be written."
            )
        self._task, self._vocabulary, self._objective, self._answers = task, vocabulary, objective, answers
        self.lengths = {
            "inputs_length": objective.inputs_length,
            "targets_length": objective.targets_length,
        }

    def rows(self, examples: Sequence[Example]) -> list[Features]:
        """Returns one row an example: its inputs and targets."""
        inputs = self._vocabulary.encode_batch([example.inputs for example in examples])
        targets = self._vocabulary.encode_batch([example.targets for example in examples])
        return [
            self._objective(i, t, self._vocabulary.special_tokens, example.index)
            for i, t, example in zip(inputs, targets, examples, strict=True)
        ]

    def answerer(self, model: Transformer, examples: Sequence[Example], batching: Batching) -> AnswerAll:
        """Returns what writes the answers greedily, or takes the likeliest labels."""
        batches = Batches(self.rows(examples), batching)
        length = self._objective.targets_length
        if self._answers == "ranked":
            return _ranker(model, self._task, batches, vocabulary=self._vocabulary, length=length)
        prepare, write, read = answer_writer(model, self._vocabulary, length)

        def answer_all(params: PyTree) -> list[Answer]:
            prepared = prepare(params)
            texts = batches.each(lambda batch: write(prepared, batch), read)
            return [self._task.parsed(text, example) for text, example in zip(texts, examples, strict=True)]

        return answer_all


class HeadForm:
    """An encoder with a head."""

    def __init__(
        self,
        task: Task,
        head: TaskHead,
        model: TransformerConfig,
        vocabulary: Vocabulary,
        length: int,
        rows_of_labels: tuple[int, ...] | None,
    ) -> None:
        """Takes the task and the head that the model has for it, and which row each label has there, None: in order."""
        self._rows_of_labels = None if rows_of_labels is None else np.array(rows_of_labels, np.int32)
        self._task, self._head, self._vocabulary, self._length = task, head, vocabulary, length
        # RoBERTa has a table of one type, which has nothing to tell apart.
        self._has_token_types = model.num_token_types > 1
        self.lengths = {"inputs_length": length}

    def rows(self, examples: Sequence[Example]) -> list[Features]:
        """Returns the rows of the head."""
        return self._ask(examples)[0]

    def _ask(self, examples: Sequence[Example]) -> tuple[list[Features], ReadOutputs]:
        if missing := next((example for example in examples if not (example.texts or example.choices)), None):
            raise UserError(f"{self._task.name} has no form for encoders alone (example {missing.index}).")
        features, answers = self._head.ask(examples, self._vocabulary, self._length)
        if (rows := self._rows_of_labels) is not None:
            features |= {name: rows[features[name]] for name in _LABEL_FEATURES if name in features}
            answers = _reordered(answers, rows)
        if not self._has_token_types:
            features.pop("encoder_token_types", None)
        num_rows = len(features["encoder_input_tokens"])
        features[EXAMPLE_IDS] = np.arange(num_rows)
        return [
            {name: feature[row] for name, feature in features.items()} for row in range(num_rows)
        ], answers

    def answerer(self, model: Transformer, examples: Sequence[Example], batching: Batching) -> AnswerAll:
        """Returns what reads the head's logits as answers."""
        rows, answers = self._ask(examples)
        batches = Batches(rows, batching, pad_id=self._vocabulary.pad_id)

        @jax.jit
        def predict(params: PyTree, batch: dict[str, jax.Array]) -> jax.Array:
            (prediction,) = model.apply({"params": params}, batch, method=Transformer.predictions).values()
            return prediction

        return lambda params: answers(batches.each(lambda batch: predict(params, batch)))


def _reordered(read: ReadOutputs, rows: np.ndarray) -> ReadOutputs:
    """Returns what reads outputs whose last axis has the labels in these rows."""
    return lambda outputs: read([logits[..., rows] for logits in outputs])


class Batches:
    """Rows in batches on the devices, each row once; packed, or those of about the same length together."""

    def __init__(self, rows: Sequence[Features], batching: Batching, *, pad_id: int | None = None) -> None:
        """Takes the rows; what is computed of row i is known by its place i.

        Args:
          pad_id: the vocabulary's, where rows may be packed; None: they stay one example each.
        """
        lengths = [int((row["encoder_segment_ids"] > 0).sum()) for row in rows]
        self._pad_id = pad_id if batching.packs else None
        # Batches that hold about as many tokens are of few shapes once packed.
        order = np.argsort(lengths, kind="stable") if self._pad_id is None else np.arange(len(rows))
        self._rows = [{**rows[i], EXAMPLE_IDS: np.asarray(i, np.int64)} for i in order]
        self._batching = batching

    def __iter__(self) -> Iterator[tuple[np.ndarray, dict[str, jax.Array]]]:
        """Yields (the places of the rows [batch], -1 for a row of padding; the batch)."""
        batch_size, sharding, trims = self._batching
        for batch in evaluation_batches(self._rows, batch_size=batch_size):
            places, arrays = batch[EXAMPLE_IDS], without_ids(batch)
            if self._pad_id is not None:
                arrays = packed(arrays, pad_id=self._pad_id)
            elif trims:
                arrays = trimmed(arrays)
            yield places, put_batch(arrays, sharding)

    def each(
        self,
        compute: Callable[[dict[str, jax.Array]], jax.Array],
        read: Callable[[np.ndarray], Sequence[Any]] = list,
    ) -> list[Any]:
        """Returns what `compute` gives for each row of a batch, on the host and as `read` reads it, for all rows in order."""
        results: list[Any] = [None] * len(self._rows)
        for places, outputs in fetch_each((places, compute(batch)) for places, batch in self):
            for place, result in zip(places, read(outputs), strict=True):
                if place >= 0:
                    results[place] = result
        return results


class AnswerWriter(NamedTuple):
    """How a model writes its answers, greedily."""

    prepare: Callable[[PyTree], PyTree]  # of the parameters, once
    write: Callable[[PyTree, Any], jax.Array]  # prepared parameters and a batch -> tokens [batch, 1, length]
    read: Callable[[np.ndarray], list[str]]


def answer_writer(model: Transformer, vocabulary: Vocabulary, max_length: int) -> AnswerWriter:
    """Returns how a model answers batches in texts of so many tokens."""
    writer = Writer(model, vocabulary.special_tokens, num_tokens=vocabulary.num_tokens, max_length=max_length)
    return AnswerWriter(
        writer.prepare,
        lambda prepared, batch: writer(prepared, batch).tokens,
        lambda tokens: [vocabulary.decode(ids) for ids in tokens[:, 0]],
    )


def _ranker(
    model: Transformer, task: Task, batches: Batches, *, vocabulary: Vocabulary, length: int
) -> AnswerAll:
    """Returns what takes the likeliest of the task's labels for each example."""
    objective = TextToText(inputs_length=1, targets_length=length)
    nothing = np.zeros(0, np.int32)
    labels = [
        objective(nothing, ids, vocabulary.special_tokens, 0)
        for ids in vocabulary.encode_batch(list(task.labels))
    ]
    targets = {
        name: np.stack([row[name] for row in labels]) for name in labels[0] if name.startswith("decoder_")
    }
    score_labels = jax.jit(functools.partial(label_scores, model, targets=targets))

    def answer_all(params: PyTree) -> list[Answer]:
        scores = batches.each(lambda batch: score_labels(params, batch))
        return [int(np.argmax(row)) for row in scores]

    return answer_all
