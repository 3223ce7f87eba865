"""Columns of padding can be left out: nothing that is computed of a batch changes."""

import jax
import numpy as np
import pytest

from t5like.losses import summed_losses
from t5like.models.transformer import Transformer
from t5like.trimming import TrimmedBatches, trimmed
from tests.tiny_models import VOCAB, ours

LENGTH, REAL = 16, (3, 7, 5)


def padded_batch(name):
    """Returns a batch of short rows with what the head of a model is to predict."""
    config, rng = ours(name)[0].config, np.random.default_rng(0)
    is_real = np.arange(LENGTH) < np.array(REAL)[:, None]
    batch = {
        "encoder_input_tokens": np.where(is_real, rng.integers(5, VOCAB, is_real.shape), 0).astype(np.int32),
        "encoder_segment_ids": is_real.astype(np.int32),
    }
    if config.head == "token_tagging":
        tags = rng.integers(0, config.num_labels, is_real.shape).astype(np.int32)
        return {**batch, "tag_ids": tags, "tag_weights": is_real.astype(np.float32)}
    if config.head == "span_extraction":
        return {**batch, "span_ends": np.array([[0, 2], [3, 6], [1, 1]], np.int32)}
    return {**batch, "label_ids": np.array([0, 2, 1], np.int32)}


def test_worked_example():
    segment_ids = np.array([[1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], np.int32)
    batch = trimmed({"encoder_segment_ids": segment_ids, "scores": np.zeros(2)}, 2)
    assert batch["encoder_segment_ids"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert batch["scores"].shape == (2,)
    nothing = trimmed({"encoder_segment_ids": np.zeros((2, 7), np.int32)}, 2)
    assert nothing["encoder_segment_ids"].shape == (2, 2)


@pytest.mark.parametrize("name", ["bert-classifier", "bert-tagger", "bert-spans", "roberta-classifier"])
def test_losses_and_gradients_are_those_of_whole_rows(name):
    model, params, _ = ours(name)
    batch = padded_batch(name)

    def loss(params, batch):
        (sums,) = summed_losses(
            model.apply({"params": params}, batch, method=Transformer.predictions), batch
        ).values()
        return sums.cross_entropy / sums.weight

    whole, of_whole = jax.value_and_grad(loss)(params, batch)
    short = trimmed(batch, 4)
    assert short["encoder_input_tokens"].shape[1] == 8
    value, gradients = jax.value_and_grad(loss)(params, short)
    assert value == pytest.approx(float(whole), rel=1e-5)
    for (path, ours_), theirs in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(of_whole), strict=True
    ):
        scale = max(float(np.abs(theirs).max()), 1e-6)
        np.testing.assert_allclose(ours_, theirs, rtol=0, atol=1e-4 * scale, err_msg=str(path))


def test_the_cursor_is_that_of_what_is_trimmed():
    class Numbers:
        number, is_closed = 0, False

        def __next__(self):
            self.number += 1
            return {"encoder_segment_ids": np.ones((1, self.number), np.int32)}

        def get_state(self):
            return {"number": self.number}

        def set_state(self, state):
            self.number = state["number"]

        def close(self):
            self.is_closed = True

    inner = Numbers()
    batches = TrimmedBatches(inner)
    next(batches)
    state = batches.get_state()
    second = next(batches)
    batches.set_state(state)
    np.testing.assert_array_equal(next(batches)["encoder_segment_ids"], second["encoder_segment_ids"])
    batches.close()
    assert inner.is_closed
