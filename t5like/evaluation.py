"""What is measured of a language model: its loss on held-out rows, beside that of models of counts.

An evaluation is a function of the parameters, so that the training loop and `t5like evaluate` share it.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from t5like.batch import EXAMPLE_IDS, Features, trained_stack, without_ids
from t5like.data.pipeline import evaluation_batches
from t5like.distributed import fetch_each
from t5like.losses import LossSums, loss_metrics
from t5like.models.transformer import Transformer
from t5like.ngram_model import NgramModel, floor_nats_per_token, sequences_of_rows
from t5like.scores import Score
from t5like.sharding import put_batch

PyTree = Any
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
    model: Transformer,
    rows: Sequence[Features],
    *,
    batch_size: int,
    sharding: NamedSharding,
    loss_chunks: int = 1,
) -> Evaluation:
    """Returns the evaluation that gives the means of `t5like.losses.loss_metrics` over all the rows.

    Each row is summed on the device and the rows on the host, in float64 and in their order: so the means are the same
    whatever the batch size, but for the rounding of a row.
    """

    @jax.jit
    def row_sums(params: PyTree, batch: dict[str, jax.Array]) -> dict[str, LossSums]:
        method = Transformer.row_losses
        return model.apply({"params": params}, batch, num_chunks=loss_chunks, method=method)

    def evaluate(params: PyTree) -> dict[str, float]:
        sums: dict[str, list[np.ndarray]] = collections.defaultdict(list)  # [4, rows of a batch] each
        computed = (
            (batch[EXAMPLE_IDS] >= 0, row_sums(params, put_batch(without_ids(batch), sharding)))
            for batch in evaluation_batches(rows, batch_size=batch_size)
        )
        for is_row, losses in fetch_each(computed):
            for name, loss in losses.items():
                sums[name].append(np.stack(loss)[:, is_row])
        totals = {
            name: LossSums(*np.concatenate(parts, axis=1).astype(np.float64).sum(axis=1))
            for name, parts in sums.items()
        }
        return {name: float(value) for name, value in loss_metrics(totals).items()}

    return evaluate
