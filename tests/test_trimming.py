"""Padding can be left out: nothing that is computed of a batch changes."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5like import trimming
from t5like.batch import ids_of_examples
from t5like.losses import summed_losses
from t5like.models.transformer import Transformer
from t5like.trimming import ShrunkBatches, packed, trimmed
from tests.tiny_models import VOCAB, ours

LENGTH, REAL = 16, (3, 8, 5)


def padded_batch(name):
    """Returns a batch of short rows with what the head of a model is to predict."""
    config, rng = ours(name)[0].config, np.random.default_rng(0)
    is_real = np.arange(LENGTH) < np.array(REAL)[:, None]
    batch = {
        "encoder_input_tokens": np.where(is_real, rng.integers(5, VOCAB, is_real.shape), 0).astype(np.int32),
        "encoder_segment_ids": is_real.astype(np.int32),
    }
    if config.num_decoder_layers:
        targets = np.arange(5, 5 + 3 * 4, dtype=np.int32).reshape(3, 4)
        is_target = (np.arange(4) < np.array([2, 1, 1])[:, None]).astype(np.int32)
        of_decoder = {"input_tokens": targets * is_target, "target_tokens": targets * is_target}
        masks = {"segment_ids": is_target, "loss_weights": is_target.astype(np.float32)}
        return {**batch, **{f"decoder_{name}": value for name, value in (of_decoder | masks).items()}}
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


def test_packed_examples_stand_side_by_side_and_say_where():
    segment_ids = (np.arange(200) < np.array([100, 28, 0, 90])[:, None]).astype(np.int32)
    tokens = np.arange(800, dtype=np.int32).reshape(4, 200) * segment_ids
    batch = packed(
        {"encoder_input_tokens": tokens, "encoder_segment_ids": segment_ids, "label_ids": np.arange(4)},
        pad_id=7,
    )
    assert batch["encoder_input_tokens"].shape == (2, 128)
    assert batch["label_ids"].tolist() == [0, 1, 2, 3]
    assert batch["example_lengths"].tolist() == [100, 28, 0, 90]
    for example, length in enumerate(batch["example_lengths"]):
        row, start = batch["example_starts"][example]
        own = slice(start, start + length)
        np.testing.assert_array_equal(batch["encoder_input_tokens"][row, own], tokens[example, :length])
        np.testing.assert_array_equal(batch["encoder_positions"][row, own], np.arange(length))
    assert (batch["encoder_input_tokens"][batch["encoder_segment_ids"] == 0] == 7).all()


@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=40))
def test_packed_batches_have_few_shapes_and_no_more_rows_than_examples(lengths):
    segment_ids = (np.arange(300) < np.array(lengths)[:, None]).astype(np.int32)
    batch = {"encoder_segment_ids": segment_ids, "encoder_input_tokens": segment_ids * 3}
    num_rows, width = packed(batch, pad_id=0)["encoder_segment_ids"].shape
    assert width in (128, 256, 300)
    assert width < 2 * max(128, *lengths)
    assert num_rows <= len(lengths)
    assert len(bin(num_rows)[2:].rstrip("0")) <= 3 or num_rows == len(lengths)
    assert num_rows * width <= max(width, 2.5 * sum(lengths) + width)


@pytest.mark.parametrize(
    "shrink", [functools.partial(trimmed, multiple=4), functools.partial(packed, pad_id=0)]
)
@pytest.mark.parametrize(
    "name", ["bert-classifier", "bert-tagger", "bert-spans", "roberta-classifier", "t5-1.1"]
)
def test_losses_and_gradients_are_those_of_whole_rows(name, shrink, monkeypatch):
    monkeypatch.setattr(trimming, "_PACKED_WIDTH", 8)
    model, params, _ = ours(name)
    batch = padded_batch(name)

    def loss(params, batch):
        (sums,) = summed_losses(
            model.apply({"params": params}, batch, method=Transformer.predictions), batch
        ).values()
        return sums.cross_entropy / sums.weight

    whole, of_whole = jax.value_and_grad(loss)(params, batch)
    short = shrink(batch)
    assert short["encoder_input_tokens"].size < batch["encoder_input_tokens"].size / 1.9
    value, gradients = jax.value_and_grad(loss)(params, short)
    assert value == pytest.approx(float(whole), rel=1e-5)
    for (path, ours_), theirs in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(of_whole), strict=True
    ):
        scale = max(float(np.abs(theirs).max()), 1e-3)  # a gradient of 0 is rounded
        np.testing.assert_allclose(ours_, theirs, rtol=0, atol=1e-4 * scale, err_msg=str(path))


@pytest.mark.parametrize("name", ["bert-classifier", "bert-tagger", "bert-spans"])
def test_predictions_of_examples_are_those_of_rows_of_their_own(name, monkeypatch):
    monkeypatch.setattr(trimming, "_PACKED_WIDTH", 8)
    model, params, _ = ours(name)
    batch = padded_batch(name)
    (whole,) = model.apply({"params": params}, batch, method=Transformer.predictions).values()
    short = packed(batch, pad_id=0)
    assert len(short["encoder_segment_ids"]) < len(REAL)
    (shared,) = model.apply({"params": params}, short, method=Transformer.predictions).values()
    for example, length in enumerate(REAL):
        own, alone = np.asarray(shared[example]), np.asarray(whole[example])
        if name == "bert-tagger":
            own, alone = own[:length], alone[:length]
        if name == "bert-spans":
            own, alone = own[:, :length], alone[:, :length]
        np.testing.assert_allclose(own, alone, rtol=1e-4, atol=1e-5)


def test_the_cursor_is_that_of_what_is_shrunk():
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
    batches = ShrunkBatches(inner, lambda batch: trimmed(batch, 1))
    next(batches)
    state = batches.get_state()
    second = next(batches)
    batches.set_state(state)
    np.testing.assert_array_equal(next(batches)["encoder_segment_ids"], second["encoder_segment_ids"])
    batches.close()
    assert inner.is_closed


@pytest.mark.parametrize("stacks", ["encoder", "encoder_decoder"])
def test_the_ids_of_examples_stay_with_a_batch_that_is_packed(stacks: str) -> None:
    segments = np.zeros((8, 64), np.int32)
    segments[:, :12] = 1
    batch = {
        "encoder_input_tokens": segments * 5,
        "encoder_segment_ids": segments,
        "example_ids": np.arange(8),
    }
    if stacks == "encoder":
        batch |= {"encoder_token_types": segments * 0, "label_ids": np.zeros(8, np.int32)}
    else:
        targets = segments[:, :16]
        batch |= {f"decoder_{name}_tokens": targets * 3 for name in ("input", "target")}
        batch |= {"decoder_segment_ids": targets, "decoder_loss_weights": targets.astype(np.float32)}
    ids = ids_of_examples(packed(batch, pad_id=0))
    assert sorted(number for row in ids for number in row) == list(range(8))
