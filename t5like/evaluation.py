"""What is measured of a model: its loss on held-out rows, and its answers to a task.

Each evaluation is a function of the parameters, so that the training loop and `t5like evaluate` share it.
"""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding

from t5like.batch import EXAMPLE_IDS, Features, trained_stack, without_ids
from t5like.data.pipeline import evaluation_batches
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.generation import Writer, label_scores
from t5like.losses import LossSums, loss_metrics, summed_losses
from t5like.models.transformer import Transformer
from t5like.ngram_model import NgramModel, floor_nats_per_token, sequences_of_rows
from t5like.objectives.text_to_text import TextToText
from t5like.scores import Sample, Score
from t5like.sharding import put_batch
from t5like.tasks.base import Example, Task, majority_label, score

NUM_SAMPLES = 8

PyTree = Any
Answering = Literal["written", "ranked"]
Evaluation = Callable[[PyTree], dict[str, float]]


def unigram_entropy(rows: Sequence[Features]) -> float:
    """Returns the entropy, in nats per token, of the target tokens of these rows taken one by one.

    It is the least loss any model can reach on them that does not look at the context.
    """
    stack = trained_stack(rows[0])
    targets = np.concatenate(
        [row[f"{stack}_target_tokens"][row[f"{stack}_loss_weights"] > 0] for row in rows]
    )
    _, counts = np.unique(targets, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def unigram_score(metrics: Mapping[str, float], rows: Sequence[Features]) -> Score:
    """Returns a held-out loss beside the unigram entropy of the same tokens."""
    return Score(
        name="held-out nats per token",
        value=metrics["nats_per_token"],
        unit="nats",
        baseline=unigram_entropy(rows),
        baseline_name="unigram entropy of the same tokens",
        higher_is_better=False,
    )


def ngram_score(
    metrics: Mapping[str, float],
    rows: Sequence[Features],
    training_rows: Sequence[Features],
    *,
    num_tokens: int,
) -> Score:
    """Returns a held-out loss beside that of an n-gram model of the same targets, fitted on some training rows.

    It is the least a model has to reach that looks further than a few tokens back, or at its inputs.
    """
    sequences = sequences_of_rows(training_rows).sequences
    model = NgramModel.fit(sequences, num_tokens=num_tokens)
    return Score(
        name="held-out nats per token, against n-grams",
        value=metrics["nats_per_token"],
        unit="nats",
        baseline=floor_nats_per_token(model, rows),
        baseline_name=f"{model.order}-gram model of {sum(map(len, sequences)):,} training tokens",
        higher_is_better=False,
    )


def held_out_loss(
    model: Transformer, rows: Sequence[Features], *, batch_size: int, sharding: NamedSharding
) -> Evaluation:
    """Returns the evaluation that gives the means of `t5like.losses.loss_metrics` over all the rows.

    Each row is summed on the device and the rows on the host, in float64 and in their order: so the means are the same
    whatever the batch size, but for the rounding of a row.
    """

    @jax.jit
    def row_sums(params: PyTree, batch: dict[str, jax.Array]) -> dict[str, LossSums]:
        logits = model.apply({"params": params}, batch, method=Transformer.predictions)
        return jax.vmap(summed_losses)(logits, batch)

    def evaluate(params: PyTree) -> dict[str, float]:
        sums: dict[str, list[np.ndarray]] = collections.defaultdict(list)  # [4, rows of a batch] each
        for batch in evaluation_batches(rows, batch_size=batch_size):
            is_row = batch[EXAMPLE_IDS] >= 0
            losses = jax.device_get(row_sums(params, put_batch(without_ids(batch), sharding)))
            for name, loss in losses.items():
                sums[name].append(np.stack(loss)[:, is_row])
        totals = {
            name: LossSums(*np.concatenate(parts, axis=1).astype(np.float64).sum(axis=1))
            for name, parts in sums.items()
        }
        return {name: float(value) for name, value in loss_metrics(totals).items()}

    return evaluate


class TaskEvaluation:
    """The evaluation that answers every example of a task and scores the answers."""

    def __init__(
        self,
        model: Transformer,
        task: Task,
        examples: Sequence[Example],
        rows: Sequence[Features],
        *,
        vocabulary: Vocabulary,
        batch_size: int,
        sharding: NamedSharding,
        answers: Answering = "written",
    ):
        """Compiles nothing yet.

        Args:
          rows: of the examples, in order.
          answers: how they are found: the model writes them greedily, or scores each of the task's labels.

        Raises:
          UserError: labels are to be scored, but the task has none.
        """
        self._examples, self._rows, self._task = examples, rows, task
        self._batch_size, self._sharding = batch_size, sharding
        max_length = len(rows[0]["decoder_target_tokens"])
        self._answer: Callable[[PyTree, Any], list[str]]
        if answers == "ranked":
            self._prepare, self._answer = _label_ranker(model, task, vocabulary, max_length)
        else:
            self._prepare, self._answer = answer_writer(model, vocabulary, max_length)
        self.samples: list[Sample] = []  # every example of the last call

    def __call__(self, params: PyTree) -> dict[str, float]:
        predictions: dict[int, str] = {}
        prepared = self._prepare(params)
        for batch in evaluation_batches(self._rows, batch_size=self._batch_size):
            texts = self._answer(prepared, put_batch(without_ids(batch), self._sharding))
            for example_id, text in zip(batch[EXAMPLE_IDS], texts, strict=True):
                if example_id >= 0:  # not a row that fills the last batch
                    predictions[int(example_id)] = text
        self.samples = [
            Sample(inputs=e.inputs, targets=e.targets, prediction=predictions[e.index])
            for e in self._examples
        ]
        return score(self._task, [s.targets for s in self.samples], [s.prediction for s in self.samples])


def answer_writer(
    model: Transformer, vocabulary: Vocabulary, max_length: int
) -> tuple[Callable[[PyTree], PyTree], Callable[[PyTree, Any], list[str]]]:
    """Returns what is done to the parameters once, and what then answers a batch, writing greedily."""
    writer = Writer(model, vocabulary.special_tokens, num_tokens=vocabulary.num_tokens, max_length=max_length)

    def answer(prepared: PyTree, batch: dict[str, jax.Array]) -> list[str]:
        return [vocabulary.decode(ids) for ids in jax.device_get(writer(prepared, batch).tokens)[:, 0]]

    return writer.prepare, answer


def _label_ranker(
    model: Transformer, task: Task, vocabulary: Vocabulary, max_length: int
) -> tuple[Callable[[PyTree], PyTree], Callable[[PyTree, Any], list[str]]]:
    """Returns what is done to the parameters once, and what then answers a batch with the likeliest label."""
    if not task.labels:
        raise UserError(f"{task.name} has no labels to score; its answers can only be written.")
    special_tokens = vocabulary.special_tokens
    objective = TextToText(inputs_length=1, targets_length=max_length)
    nothing = np.zeros(0, np.int32)
    labels = [
        objective(nothing, ids, special_tokens, 0) for ids in vocabulary.encode_batch(list(task.labels))
    ]
    targets = {
        name: np.stack([row[name] for row in labels]) for name in labels[0] if name.startswith("decoder_")
    }
    score_labels = jax.jit(functools.partial(label_scores, model, targets=targets))

    def answer(params: PyTree, batch: dict[str, jax.Array]) -> list[str]:
        best = np.argmax(jax.device_get(score_labels(params, batch)), axis=1)
        return [task.labels[label] for label in best]

    return lambda params: params, answer


def task_scores(task: Task, examples: Sequence[Example], metrics: Mapping[str, float]) -> list[Score]:
    """Returns the task's metrics beside what answering the majority label always would have scored."""
    scores = []
    baselines: dict[str, float] = {}
    if task.labels:
        targets = [example.targets for example in examples]
        baselines = score(task, targets, [majority_label(examples)] * len(examples))
        scores = [
            Score(name="invalid answers", value=metrics["invalid_rate"], unit="%", higher_is_better=False)
        ]
    return [
        Score(
            name=f"{task.name} {metric.name}",
            value=metrics[metric.name],
            unit="%",
            baseline=baselines.get(metric.name),
            baseline_name="majority class" if task.labels else None,
        )
        for metric in task.metrics
    ] + scores
