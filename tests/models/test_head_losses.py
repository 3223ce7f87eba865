"""The loss of every head is that of the public code for the same batch."""

import jax
import numpy as np
import pytest

from t5like.losses import LABEL, SCORE, SPAN, TAG, loss_metrics, summed_losses
from t5like.models.transformer import Transformer
from tests.public_models import oracle, torch
from tests.tiny_models import BATCH, INPUTS, MODELS, batch_of, ours

RNG_LABELS = np.array([0, 2, 1])
NAMES = [
    name for name in MODELS if name.split("-")[-1] in ("classifier", "tagger", "spans") and "bart" not in name
]
ENCODERS = [name for name in NAMES if ours(name)[0].config.num_decoder_layers == 0]


def asked(name):
    """Returns (what the loss is called, our features, the public code's arguments)."""
    head = ours(name)[0].config.head
    rng = np.random.default_rng(1)
    if head == "sequence_classification":
        return LABEL, {"label_ids": RNG_LABELS.astype(np.int32)}, {"labels": RNG_LABELS}
    if head == "token_tagging":
        is_asked = batch_of(name)["encoder_segment_ids"] > 0
        tags = rng.integers(0, 3, (BATCH, INPUTS))
        ours_ = {"tag_ids": tags.astype(np.int32), "tag_weights": is_asked.astype(np.float32)}
        return TAG, ours_, {"labels": np.where(is_asked, tags, -100)}
    ends = np.array([[0, 1], [2, 4], [1, 1]])
    theirs = {"start_positions": ends[:, 0], "end_positions": ends[:, 1]}
    return SPAN, {"span_ends": ends.astype(np.int32)}, theirs


@pytest.mark.parametrize("name", ENCODERS)
def test_losses_are_those_of_the_public_code(name):
    public, _ = oracle(name)
    model, params, _ = ours(name)
    loss_name, features, theirs = asked(name)
    batch = batch_of(name)
    if loss_name == SPAN:  # the public code lets padding take part
        is_real, tokens = batch["encoder_segment_ids"], batch["encoder_input_tokens"]
        batch = {
            "encoder_input_tokens": np.where(is_real, tokens, 7).astype(np.int32),
            "encoder_segment_ids": np.ones_like(is_real),
        }
    predictions = model.apply({"params": params}, {**batch, **features}, method=Transformer.predictions)
    (loss,) = summed_losses(predictions, {**batch, **features}).values()
    with torch.no_grad():
        expected = public(
            input_ids=torch.from_numpy(batch["encoder_input_tokens"]).long(),
            attention_mask=torch.from_numpy(batch["encoder_segment_ids"]),
            **{key: torch.from_numpy(value) for key, value in theirs.items()},
        ).loss
    assert float(loss.cross_entropy / loss.weight) == pytest.approx(float(expected), rel=1e-5)
    assert set(loss_metrics({loss_name: loss})) == {f"{loss_name}_nats", f"{loss_name}_accuracy"}


def means(losses):
    return {name: float(value) for name, value in loss_metrics(losses).items()}


def test_no_padding_is_an_end_of_an_answer():
    model, params, _ = ours("bert-spans")
    batch = batch_of("bert-spans")
    logits = model.apply({"params": params}, batch, method=Transformer.predictions)[SPAN]
    is_real = np.broadcast_to(batch["encoder_segment_ids"][:, None] > 0, logits.shape)
    probabilities = jax.nn.softmax(logits, axis=-1)
    assert probabilities[~is_real].max() == 0.0
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-6)


def test_a_single_label_is_a_number_and_its_loss_the_squared_error():
    batch = {**batch_of("bert-classifier"), "scores": np.array([0.5, 5.0, 2.5], np.float32)}
    predictions = {SCORE: np.array([1.0, 4.0, 2.5], np.float32)}
    losses = summed_losses(predictions, batch)
    assert means(losses) == {"squared_error": pytest.approx((0.25 + 1.0) / 3)}
    padding = {**batch, "encoder_segment_ids": batch["encoder_segment_ids"] * np.array([[1], [0], [1]])}
    assert means(summed_losses(predictions, padding)) == {"squared_error": pytest.approx(0.125)}
