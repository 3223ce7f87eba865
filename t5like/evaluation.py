"""What is measured of a model: its loss on held-out rows, and its answers to a task.

Each evaluation is a function of the parameters, so that the training loop and `t5like evaluate` share it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from t5like.batch import EXAMPLE_IDS, Features, without_ids
from t5like.data.pipeline import evaluation_batches
from t5like.data.vocabulary import Vocabulary
from t5like.decode import greedy_decode
from t5like.losses import TokenLoss, token_cross_entropy
from t5like.models.transformer import Transformer
from t5like.scores import Sample, Score
from t5like.sharding import put_batch
from t5like.tasks.base import Example, Task, majority_label, score

NUM_SAMPLES = 8

PyTree = Any
Evaluation = Callable[[PyTree], dict[str, float]]


def unigram_entropy(rows: Sequence[Features]) -> float:
    """Returns the entropy, in nats per token, of the target tokens of these rows taken one by one.

    It is the least loss any model can reach on them that does not look at the context.
    """
    targets = np.concatenate([row["decoder_target_tokens"][row["decoder_loss_weights"] > 0] for row in rows])
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


def held_out_loss(
    model: Transformer, rows: Sequence[Features], *, batch_size: int, sharding: NamedSharding
) -> Evaluation:
    """Returns the evaluation that gives `nats_per_token` and `token_accuracy` over all targets of the rows."""

    @jax.jit
    def batch_sums(params: PyTree, batch: dict[str, jax.Array]) -> TokenLoss:
        logits = model.apply({"params": params}, batch)
        return token_cross_entropy(logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"])

    def evaluate(params: PyTree) -> dict[str, float]:
        sums = np.zeros(4)
        for batch in evaluation_batches(rows, batch_size=batch_size):
            sums += np.asarray(
                jax.device_get(batch_sums(params, put_batch(without_ids(batch), sharding))), np.float64
            )
        total = TokenLoss(*sums)
        return {
            "nats_per_token": float(total.cross_entropy / total.weight),
            "token_accuracy": float(total.num_correct / total.weight),
        }

    return evaluate


def greedy_decoder(model: Transformer, *, eos_id: int, max_length: int) -> Callable[[PyTree, Any], jax.Array]:
    """Returns the compiled function from (params, batch) to what the model writes, [batch, max_length] int32."""

    @jax.jit
    def decode(params: PyTree, batch: dict[str, jax.Array]) -> jax.Array:
        inputs, segment_ids = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
        return greedy_decode(model, params, inputs, segment_ids, eos_id=eos_id, max_length=max_length)

    return decode


class TaskEvaluation:
    """The evaluation that answers every example of a task by greedy decoding and scores the answers."""

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
    ):
        self._task, self._examples, self._rows = task, examples, rows
        self._vocabulary, self._batch_size, self._sharding = vocabulary, batch_size, sharding
        self._decode = greedy_decoder(
            model, eos_id=vocabulary.special_tokens.eos_id, max_length=len(rows[0]["decoder_target_tokens"])
        )
        self.samples: list[Sample] = []  # every example of the last call

    def __call__(self, params: PyTree) -> dict[str, float]:
        predictions: dict[int, str] = {}
        for batch in evaluation_batches(self._rows, batch_size=self._batch_size):
            decoded = jax.device_get(self._decode(params, put_batch(without_ids(batch), self._sharding)))
            for example_id, ids in zip(batch[EXAMPLE_IDS], decoded, strict=True):
                if example_id >= 0:  # not a row that fills the last batch
                    predictions[int(example_id)] = self._vocabulary.decode(ids)
        self.samples = [
            Sample(inputs=e.inputs, targets=e.targets, prediction=predictions[e.index])
            for e in self._examples
        ]
        return score(self._task, [s.targets for s in self.samples], [s.prediction for s in self.samples])


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


def span_samples(
    model: Transformer,
    params: PyTree,
    rows: Sequence[Features],
    *,
    vocabulary: Vocabulary,
    sharding: NamedSharding,
) -> list[Sample]:
    """Returns what the model writes for the first few rows."""
    rows = rows[:NUM_SAMPLES]
    num_rows = sharding.mesh.size * -(-len(rows) // sharding.mesh.size)  # what the devices can split evenly
    batch = next(iter(evaluation_batches(rows, batch_size=num_rows)))
    max_length = batch["decoder_target_tokens"].shape[1]
    decode = greedy_decoder(model, eos_id=vocabulary.special_tokens.eos_id, max_length=max_length)
    decoded = jax.device_get(decode(params, put_batch(without_ids(batch), sharding)))
    return [
        Sample(
            inputs=vocabulary.decode(row["encoder_input_tokens"]),
            targets=vocabulary.decode(row["decoder_target_tokens"]),
            prediction=vocabulary.decode(ids),
        )
        for row, ids in zip(rows, decoded, strict=False)
    ]
