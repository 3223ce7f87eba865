"""Greedy decoding equals the argmax of one pass over its own output, and does no step too many."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from t5like.decode import greedy_decode
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer

CONFIG = TransformerConfig(
    num_embeddings=24,
    embed_dim=16,
    num_heads=2,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_relative_buckets=8,
    max_relative_distance=7,
)
TIED = dataclasses.replace(
    CONFIG, mlp_activations=("relu",), head_is_tied=True, scans_layers=False, attention="per_example"
)
SEED = 25
NEVER = -1
"""An end mark that no row meets."""
NUM_INPUTS = (10, 1, 6, 3, 8)


@functools.cache
def draw_params(config):
    """Returns parameters large enough that rows say different things and do not repeat themselves."""
    batch = dict.fromkeys(
        ("encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens", "decoder_segment_ids"),
        np.ones((1, 2), np.int32),
    )
    abstract = nn.unbox(jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"])
    rng = np.random.default_rng(SEED)

    def draw(path, leaf):
        x = rng.normal(size=leaf.shape).astype(np.float32)
        name = jax.tree_util.keystr(path)
        # Small embeddings, or a tied head would repeat what it is given.
        return np.abs(x) if "scale" in name else 0.3 * x if "embedder" in name else x

    return jax.tree_util.tree_map_with_path(draw, abstract)


@functools.cache
def compiled_decode(config, eos_id, max_length):
    return jax.jit(
        functools.partial(greedy_decode, Transformer(config), eos_id=eos_id, max_length=max_length)
    )


def decode(config, inputs, *, eos_id, max_length):
    tokens, segment_ids = inputs
    return np.asarray(compiled_decode(config, eos_id, max_length)(draw_params(config), tokens, segment_ids))


@pytest.fixture(scope="module")
def inputs(random_batch):
    """Rows of several lengths, and one of pure padding as the last."""
    batch = random_batch([*((num, 1) for num in NUM_INPUTS), (0, 0)], vocab=24)
    return batch["encoder_input_tokens"], batch["encoder_segment_ids"]


def common_end_mark(decoded):
    """Returns an id that one row writes early, another later, and a third not at all."""
    for token in np.unique(decoded[:-1]):
        first = [row.tolist().index(token) if token in row else None for row in decoded[:-1]]
        times = {position for position in first if position is not None}
        if None in first and len(times) > 1 and max(times) > 0:
            return int(token)
    raise AssertionError("the random model says the same thing everywhere; draw another")


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["gated-scanned", "tied-unrolled"])
def test_decoding_is_the_argmax_of_a_teacher_forced_pass_over_its_own_output(config, inputs):
    decoded = decode(config, inputs, eos_id=NEVER, max_length=9)
    assert decoded.shape == (6, 9)
    assert decoded.dtype == np.int32
    assert len(np.unique(decoded[:-1], axis=0)) == len(NUM_INPUTS), "every row says the same"
    shifted = np.pad(decoded, ((0, 0), (1, 0)))[:, :-1]
    batch = {
        "encoder_input_tokens": inputs[0],
        "encoder_segment_ids": inputs[1],
        "decoder_input_tokens": shifted,
        "decoder_segment_ids": np.ones_like(shifted),
    }
    logits = jax.jit(Transformer(config).apply)({"params": draw_params(config)}, batch)
    np.testing.assert_array_equal(decoded[:-1], np.argmax(logits, -1)[:-1])


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["gated-scanned", "tied-unrolled"])
def test_zeros_follow_the_end_mark_and_rows_do_not_wait_for_each_other(config, inputs):
    endless = decode(config, inputs, eos_id=NEVER, max_length=9)
    eos_id = common_end_mark(endless)
    expected = endless.copy()
    for row in expected[:-1]:
        if eos_id in row:
            row[row.tolist().index(eos_id) + 1 :] = 0
    np.testing.assert_array_equal(decode(config, inputs, eos_id=eos_id, max_length=9), expected)


def test_a_row_of_padding_says_nothing(inputs):
    assert (decode(CONFIG, inputs, eos_id=NEVER, max_length=9)[-1] == 0).all()


@pytest.mark.parametrize("max_length", [1, 14])
def test_another_max_length_only_cuts_or_goes_on(max_length, inputs):
    decoded = decode(CONFIG, inputs, eos_id=NEVER, max_length=9)
    other = decode(CONFIG, inputs, eos_id=NEVER, max_length=max_length)
    shorter = min(max_length, 9)
    np.testing.assert_array_equal(decoded[:, :shorter], other[:, :shorter])


def test_more_padding_of_the_inputs_changes_nothing(inputs):
    wider = tuple(np.pad(array, ((0, 0), (0, 5))) for array in inputs)
    np.testing.assert_array_equal(
        decode(CONFIG, inputs, eos_id=NEVER, max_length=9), decode(CONFIG, wider, eos_id=NEVER, max_length=9)
    )


def test_bfloat16_decodes_as_its_own_teacher_forced_pass(inputs):
    config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    decoded = decode(config, inputs, eos_id=NEVER, max_length=9)
    shifted = np.pad(decoded, ((0, 0), (1, 0)))[:, :-1]
    batch = {
        "encoder_input_tokens": inputs[0],
        "encoder_segment_ids": inputs[1],
        "decoder_input_tokens": shifted,
        "decoder_segment_ids": np.ones_like(shifted),
    }
    logits = np.asarray(jax.jit(Transformer(config).apply)({"params": draw_params(config)}, batch))
    said = np.take_along_axis(logits, decoded[..., None], -1)[..., 0]
    # Rounding may settle a near tie either way.
    assert (logits.max(-1) - said <= 0.05 * np.abs(logits).max())[:-1].all()


class CountedSteps(Transformer):
    """Calls back once for every position whose logits are computed."""

    def head(self, x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: steps.append(1))
        return super().head(x)


steps: list[int] = []


@functools.cache
def counted_decode(eos_id, max_length):
    return jax.jit(
        functools.partial(greedy_decode, CountedSteps(CONFIG), eos_id=eos_id, max_length=max_length)
    )


def num_steps(inputs, *, eos_id, max_length):
    steps.clear()
    decoded = np.asarray(counted_decode(eos_id, max_length)(draw_params(CONFIG), *inputs))
    jax.effects_barrier()
    return len(steps), decoded


def test_decoding_computes_one_step_a_token_and_stops_when_every_row_has_ended(inputs):
    num, endless = num_steps(inputs, eos_id=NEVER, max_length=9)
    assert num == 9
    row = next(i for i, row in enumerate(endless) if row[2] not in row[:2])
    eos_id = int(endless[row, 2])
    with_padding = tuple(array[[row, -1]] for array in inputs)  # which is not waited for
    num, decoded = num_steps(with_padding, eos_id=eos_id, max_length=9)
    assert num == 3
    np.testing.assert_array_equal(decoded[0], [*endless[row, :3], *[0] * 6])
    num, decoded = num_steps(tuple(array[[-1, -1]] for array in inputs), eos_id=eos_id, max_length=9)
    assert num == 1
    assert (decoded == 0).all()
