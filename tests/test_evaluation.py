"""Held-out metrics are of the rows alone: of each once, whatever the batch size, of nothing that fills a batch up."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like.batch import EXAMPLE_IDS
from t5like.evaluation import held_out_loss, unigram_entropy
from t5like.mesh import MeshShape
from t5like.models.transformer import Transformer
from t5like.placement import place
from t5like.sharding import AxisRules
from tests.tiny_models import ours

ON_ONE = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
NUM_ROWS, LENGTH, VOCAB = 11, 9, 32


def rows_of(model: Transformer) -> list[dict[str, np.ndarray]]:
    """Returns rows of unequal lengths, one of them without a target."""
    c, rng, rows = model.config, np.random.default_rng(0), []
    for number in range(NUM_ROWS):
        row: dict[str, np.ndarray] = {}
        for side in ("encoder", "decoder"):
            if getattr(c, f"num_{side}_layers"):
                is_real = np.arange(LENGTH) < rng.integers(1, LENGTH + 1)
                row[f"{side}_input_tokens"] = np.where(is_real, rng.integers(2, VOCAB, LENGTH), 0).astype(
                    np.int32
                )
                row[f"{side}_segment_ids"] = is_real.astype(np.int32)
        side = c.last_stack
        row[f"{side}_target_tokens"] = rng.integers(2, VOCAB, LENGTH).astype(np.int32)
        row[f"{side}_loss_weights"] = row[f"{side}_segment_ids"].astype(np.float32) * (number != 4)
        if c.predicts_next_sentence:
            row["next_sentence_labels"] = np.array(number % 2, np.int32)
        rows.append({**row, EXAMPLE_IDS: np.array(number)})
    return rows


@pytest.mark.parametrize("name", ["t5-1.1", "bert-next-sentence", "gpt2"])
def test_metrics_are_the_same_for_every_batch_size_and_in_chunks(name: str) -> None:
    model, params, _ = ours(name)
    rows = rows_of(model)
    params = jax.tree.map(np.asarray, params)
    on_all = place(model.config, MeshShape(), AxisRules(), batch_size=16).batch
    measured = [
        held_out_loss(model, rows, batch_size=batch_size, sharding=sharding)(params)
        for batch_size, sharding in ((1, ON_ONE), (3, ON_ONE), (7, ON_ONE), (16, ON_ONE), (16, on_all))
    ]
    measured += [
        held_out_loss(model, rows, batch_size=3, sharding=ON_ONE, loss_chunks=num)(params) for num in (2, 5)
    ]
    for metrics in measured:
        assert metrics == pytest.approx(measured[0], rel=1e-6)
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0] if key != EXAMPLE_IDS}
    logits = model.apply({"params": params}, batch)
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    side = model.config.last_stack
    own = np.take_along_axis(log_p, batch[f"{side}_target_tokens"][..., None], axis=-1)[..., 0]
    weights = batch[f"{side}_loss_weights"]
    assert measured[0]["nats_per_token"] == pytest.approx(-(own * weights).sum() / weights.sum(), rel=1e-6)
    expected = {"nats_per_token", "token_accuracy"}
    if model.config.predicts_next_sentence:
        expected |= {"next_sentence_nats", "next_sentence_accuracy"}
    assert set(measured[0]) == expected


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_unigram_entropy_is_of_the_targets_that_count(side: str) -> None:
    rows = [
        {f"{side}_target_tokens": np.array([5, 5, 9]), f"{side}_loss_weights": np.array([1.0, 1.0, 0.0])},
        {f"{side}_target_tokens": np.array([7, 7, 9]), f"{side}_loss_weights": np.array([1.0, 1.0, 0.0])},
    ]
    assert unigram_entropy(rows) == pytest.approx(np.log(2))


def test_a_run_of_nothing_but_padding_costs_nothing() -> None:
    model, params, _ = ours("t5-1.1")
    rows = rows_of(model)[4:5]
    assert not rows[0]["decoder_loss_weights"].any()
    metrics = held_out_loss(model, rows, batch_size=2, sharding=ON_ONE)(params)
    assert metrics == {"nats_per_token": 0.0, "token_accuracy": 0.0}
