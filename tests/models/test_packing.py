"""Packed equals unpacked: loss and gradients, for every family's knobs and both ways of attention."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from t5like.batch import EXAMPLE_IDS, without_ids
from t5like.data.packing import pack
from t5like.losses import TOKEN, summed_losses
from t5like.models.transformer import Transformer
from tests.tiny_models import LANGUAGE_MODELS, ours

FAMILIES = ["t5-1.0", "t5-1.1", "umt5", "bert", "roberta", "distilbert", "gpt2", "bart-scaled"]
ATTENTION = ["at_once", "per_example"]
LENGTH, VOCAB = 12, 40
NUM_TOKENS = {"encoder": (5, 3, 4, 7, 2, 1), "decoder": (4, 4, 3, 6, 1, 2)}


@functools.cache
def examples_of(name, *, prefixes=False):
    """Returns examples, one a row, with the padding id among their tokens."""
    config = ours(name)[0].config
    pad_id = LANGUAGE_MODELS[name].get("pad_token_id", 0)
    rng, rows = np.random.default_rng(0), {}
    for side in ("encoder", "decoder"):
        if not getattr(config, f"num_{side}_layers"):
            continue
        is_real = np.arange(LENGTH) < np.array(NUM_TOKENS[side])[:, None]
        tokens = rng.integers(3, VOCAB, is_real.shape).astype(np.int32)
        tokens[:, 1] = pad_id
        rows[f"{side}_input_tokens"] = np.where(is_real, tokens, pad_id)
        rows[f"{side}_segment_ids"] = is_real.astype(np.int32)
        if side == config.last_stack:
            rows[f"{side}_target_tokens"] = np.where(is_real, rng.integers(0, VOCAB, is_real.shape), pad_id)
            rows[f"{side}_loss_weights"] = (is_real & (rng.random(is_real.shape) < 0.8)).astype(np.float32)
        if side == "encoder" and config.num_token_types > 1:
            rows["encoder_token_types"] = (is_real & (np.arange(LENGTH) >= 2)).astype(np.int32)
        if side == "decoder" and prefixes:
            rows["decoder_causal_attention"] = (is_real & (np.arange(LENGTH) < 2)).astype(np.int32)
    return {**rows, EXAMPLE_IDS: np.arange(len(is_real))}, pad_id


def losses(config, params, batch):
    """Returns the summed loss over the tokens of a batch."""
    model = Transformer(config)
    logits = model.apply({"params": params}, without_ids(batch), method=Transformer.predictions)
    return summed_losses(logits, batch, z_loss=1e-2)[TOKEN].total


def assert_packed_is_unpacked(name, config, params, *, prefixes=False):
    examples, pad_id = examples_of(name, prefixes=prefixes)
    packed = pack(examples, pad_id=pad_id)
    assert len(packed[EXAMPLE_IDS]) < len(examples[EXAMPLE_IDS])
    assert packed[EXAMPLE_IDS].shape[1] > 2
    evaluate = jax.jit(jax.value_and_grad(functools.partial(losses, config)))
    loss, gradients = evaluate(params, without_ids(packed))
    expected, expected_gradients = evaluate(params, without_ids(examples))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradients))
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        np.testing.assert_allclose(
            leaf, other, rtol=0, atol=1e-5 * largest, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_loss_and_the_gradients_of_their_examples(name, attention):
    model, params, _ = ours(name)
    assert_packed_is_unpacked(
        name, dataclasses.replace(model.config, attention=attention, shares_dropout=True), params
    )


@pytest.mark.parametrize(
    ("name", "attention"), [*itertools.product(["gpt2", "t5-1.1"], ATTENTION), ("t5-1.1", "chunked")]
)
def test_prefixes_of_packed_rows_see_themselves_alone(name, attention):
    model, params, _ = ours(name)
    config = dataclasses.replace(model.config, attention=attention, shares_dropout=True)
    assert_packed_is_unpacked(name, config, params, prefixes=True)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_one_segment_says_changes_no_other(name, attention):
    model, params, _ = ours(name)
    examples, pad_id = examples_of(name)
    packed = pack(examples, pad_id=pad_id)
    transformer = Transformer(dataclasses.replace(model.config, attention=attention, shares_dropout=True))
    logits_of = jax.jit(
        lambda batch: transformer.apply({"params": params}, batch, method=Transformer.predictions)[TOKEN]
    )
    last = f"{model.config.last_stack}_segment_ids"
    before = logits_of(without_ids(packed))
    other = dict(packed)
    for side in ("encoder", "decoder"):
        if (tokens := f"{side}_input_tokens") in packed:
            is_second = packed[f"{side}_segment_ids"] == 2
            other[tokens] = np.where(is_second, (packed[tokens] + 7) % VOCAB, packed[tokens])
    after = logits_of(without_ids(other))
    is_other = (packed[last] > 0) & (packed[last] != 2)
    np.testing.assert_array_equal(before[is_other], after[is_other])
    assert np.abs(before[packed[last] == 2] - after[packed[last] == 2]).max() > 1e-3
