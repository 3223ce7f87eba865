"""What the backward pass computes again: more or less of a layer, with the same result."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from t5like.errors import UserError
from t5like.models.config import REMAT_NAMES, TransformerConfig
from tests.models.test_transformer import assert_trees_close, draw_params, loss_of

MODEL = TransformerConfig(
    num_embeddings=40,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=0,
    num_decoder_layers=2,
    dropout_rate=0.2,
)
POLICIES = {
    "none": {},
    "full": {"remat": "full"},
    "save_matmuls": {"remat": "save_matmuls"},
    "save_named": {"remat": "save_named"},
    "save_all_names": {"remat": "save_named", "remat_names": REMAT_NAMES},
    "offload_named": {"remat": "offload_named"},
}
NUM_AGAIN = {
    "none": 0,
    "full": 8,
    "save_matmuls": 2,
    "save_named": 2,
    "save_all_names": 1,
    "offload_named": 2,
}
"""Of the nine products of a layer those that the backward pass repeats: it never needs the last; the two within attention
are no projections, and have no names; their result, the attended values, has one."""


@functools.cache
def lowered(policy, platform="cpu"):
    """Returns the program of loss and gradients, not compiled."""
    config = dataclasses.replace(MODEL, **POLICIES[policy])
    program = jax.jit(jax.value_and_grad(functools.partial(loss_of, config)))
    return program.trace(draw_params(MODEL), batch(), key()).lower(lowering_platforms=(platform,))


@functools.cache
def compiled(policy):
    return lowered(policy).compile()


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    is_real = np.arange(8) < np.array([8, 5, 1])[:, None]
    return {
        "decoder_input_tokens": rng.integers(2, 40, is_real.shape).astype(np.int32),
        "decoder_segment_ids": is_real.astype(np.int32),
        "decoder_target_tokens": rng.integers(2, 40, is_real.shape).astype(np.int32),
        "decoder_loss_weights": is_real.astype(np.float32),
    }


def key():
    """Returns a key of the kind that compiles fastest."""
    return jax.random.key(5, impl="unsafe_rbg")


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_no_policy_changes_the_loss_or_a_gradient(policy):
    loss, gradients = compiled(policy)(draw_params(MODEL), batch(), key())
    expected_loss, expected = compiled("none")(draw_params(MODEL), batch(), key())
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(gradients, expected, 1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_backward_pass_computes_again_what_was_not_kept(policy):
    def num_products(policy):
        return lowered(policy).as_text().count("stablehlo.dot_general")

    assert num_products(policy) - num_products("none") == NUM_AGAIN[policy]


def test_the_less_is_kept_the_more_the_compiled_program_computes():
    policies = ("none", "save_named", "full")
    none, save_named, full = (len(re.findall(r" dot\(", compiled(name).as_text())) for name in policies)
    assert none < save_named < full


def test_what_is_named_goes_to_the_host_and_comes_back():
    """Queries, keys, values, their projection, and the two branches of the MLP."""
    text = lowered("offload_named", "tpu").as_text()
    moved = re.findall(r'annotate_device_placement.*?_xla_buffer_placement = "(\w+)"', text)
    assert sorted(moved) == ["device"] * 6 + ["pinned_host"] * 6
    assert "annotate_device_placement" not in lowered("save_named", "tpu").as_text()


@pytest.mark.parametrize("name", ["mlp_wo", "qvk"])
def test_a_name_that_is_none_is_an_error_with_the_nearest(name):
    nearest = {"mlp_wo": "mlp_wi", "qvk": "qkv"}[name]
    with pytest.raises(UserError, match=f"'{name}': did you mean '{nearest}'"):
        dataclasses.replace(MODEL, remat="save_named", remat_names=("attended", name))


def test_keeping_nothing_by_name_is_an_error():
    with pytest.raises(UserError, match="remat_names"):
        dataclasses.replace(MODEL, remat="save_named", remat_names=())
    assert dataclasses.replace(MODEL, remat="full", remat_names=()).remat == "full"
