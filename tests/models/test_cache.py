"""A beam remembers its own past, whoever said it, and parameters made ready for decoding say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.models.cache import expand_rows, reorder_rows
from t5like.models.layers import TURNED_TABLE
from t5like.models.prepared import prepare
from t5like.models.transformer import Transformer, for_decoding
from tests.tiny_models import VOCAB, ours

NAMES = ["t5-1.0", "t5-1.1", "umt5", "bart", "gpt2"]
EXAMPLES, BEAMS, STEPS, PROMPT, INPUTS = 2, 3, 6, 4, 5


def made_ready(name, *, turns_table):
    model, params, _ = ours(name)
    prepared = jax.jit(lambda params: prepare(params, model.config, turns_table=turns_table))(params)
    return Transformer(for_decoding(model.config)), prepared


def prompts_of(name, rng):
    """Returns features of inputs and prompts, those of a decoder alone with padding before the second."""
    if name == "gpt2":
        segment_ids = np.ones((EXAMPLES, PROMPT), np.int32)
        segment_ids[1, :2] = 0
        tokens = rng.integers(5, VOCAB, (EXAMPLES, PROMPT), np.int32) * segment_ids
        return {"decoder_input_tokens": tokens, "decoder_segment_ids": segment_ids}
    segment_ids = np.ones((EXAMPLES, INPUTS), np.int32)
    segment_ids[1, 3:] = 0
    return {
        "encoder_input_tokens": rng.integers(5, VOCAB, (EXAMPLES, INPUTS), np.int32),
        "encoder_segment_ids": segment_ids,
        "decoder_input_tokens": np.zeros((EXAMPLES, 1), np.int32),
        "decoder_segment_ids": np.ones((EXAMPLES, 1), np.int32),
    }


@pytest.mark.parametrize("name", NAMES)
def test_beams_that_change_places_go_on_from_what_they_have_become(name: str) -> None:
    rng = np.random.default_rng(0)
    (model, params), batch = made_ready(name, turns_table=False), prompts_of(name, rng)
    max_length = batch["decoder_input_tokens"].shape[1] + STEPS
    start = jax.jit(
        lambda batch: model.apply({"params": params}, batch, max_length, method=Transformer.start_decoding)
    )
    step = jax.jit(
        lambda tokens, state: model.apply({"params": params}, tokens, state, method=Transformer.decode_step)
    )
    state = expand_rows(start(batch)[1], BEAMS)
    said = np.zeros((EXAMPLES * BEAMS, 0), np.int32)
    for _ in range(STEPS):
        parents = rng.integers(0, BEAMS, (EXAMPLES, BEAMS))
        rows = (np.arange(EXAMPLES)[:, None] * BEAMS + parents).reshape(-1)
        tokens = rng.integers(5, VOCAB, EXAMPLES * BEAMS, np.int32)
        logits, state = step(tokens, reorder_rows(state, jnp.asarray(rows)))
        said = np.concatenate([said[rows], tokens[:, None]], axis=1)

    alone = start({name: np.repeat(array, BEAMS, axis=0) for name, array in batch.items()})[1]
    for tokens in said.T:
        expected, alone = step(tokens, alone)
    assert len({row.tobytes() for row in np.asarray(expected)}) > BEAMS, "all beams say the same"
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("turns_table", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_ready_says_the_same(name: str, turns_table: bool) -> None:
    batch = prompts_of(name, np.random.default_rng(1))
    model, params, _ = ours(name)
    # Padding before a prompt is no position; a pass over it all has to be told.
    positions = np.maximum(np.cumsum(batch["decoder_segment_ids"], axis=1) - 1, 0)
    expected = model.apply({"params": params}, {**batch, "decoder_positions": positions})[:, -1]
    ready, prepared = made_ready(name, turns_table=turns_table)
    logits, _ = ready.apply({"params": prepared}, batch, 8, method=Transformer.start_decoding)
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
    assert (TURNED_TABLE in prepared["token_embedder"]) == (turns_table and model.config.head_is_tied)
    attention = prepared["decoder"]["layers_0"]["self_attention"]
    assert set(attention) == {"query_key_value", "out"}


def test_no_step_of_beams_moves_a_cache() -> None:
    model, params = made_ready("t5-1.1", turns_table=False)
    batch = prompts_of("t5-1.1", np.random.default_rng(2))
    max_length = 1 + STEPS

    def step(batch, tokens, rows):
        _, state = model.apply({"params": params}, batch, max_length, method=Transformer.start_decoding)
        state = reorder_rows(expand_rows(state, BEAMS), rows)
        return model.apply({"params": params}, tokens, state, method=Transformer.decode_step)[1]

    rows = jnp.arange(EXAMPLES * BEAMS)
    before = jax.eval_shape(step, batch, rows, rows)
    assert before.cache[0].own.value.shape[2] == BEAMS * max_length
    # What is gathered by row is whole numbers alone: who has said what, and token ids.
    jaxpr = jax.make_jaxpr(reorder_rows)(before, rows)
    gathered = [e.outvars[0].aval.dtype for e in jaxpr.jaxpr.eqns if e.primitive.name == "gather"]
    assert gathered == [jnp.int32]
