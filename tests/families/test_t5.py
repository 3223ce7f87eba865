"""The presets have the parameters of the released checkpoints, to the last one."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from t5like.batch import encoder_decoder_row
from t5like.families.t5 import byt5, mt5, t5_1_0, t5_1_1
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer

COUNTED = [
    (t5_1_0, "small", 60_506_624),
    (t5_1_0, "base", 222_903_552),
    (t5_1_0, "large", 737_668_096),
    (t5_1_1, "small", 76_961_152),
    (t5_1_1, "base", 247_577_856),
    (t5_1_1, "large", 783_150_080),
]
"""Counted in the released files."""
PRINTED = [
    (t5_1_0, "small", "60.5M"),
    (t5_1_0, "base", "222.9M"),
    (t5_1_0, "large", "737.7M"),
    (t5_1_0, "3b", "2.85B"),
    (t5_1_0, "11b", "11.31B"),
    (t5_1_1, "small", "77.0M"),
    (t5_1_1, "base", "247.6M"),
    (t5_1_1, "large", "783.2M"),
    (t5_1_1, "xl", "2.85B"),
    (t5_1_1, "xxl", "11.14B"),
    (mt5, "small", "300.2M"),
    (mt5, "base", "582.4M"),
    (mt5, "large", "1.23B"),
    (mt5, "xl", "3.74B"),
    (mt5, "xxl", "12.92B"),
    (byt5, "small", "299.6M"),
    (byt5, "base", "581.7M"),
    (byt5, "large", "1.23B"),
    (byt5, "xl", "3.74B"),
    (byt5, "xxl", "12.91B"),
]
"""As published."""


def abstract_params(config: TransformerConfig):
    row = encoder_decoder_row(np.zeros(0), np.zeros(0), inputs_length=2, targets_length=2)
    batch = {name: array[None] for name, array in row.items()}
    return nn.unbox(jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"])


@functools.cache
def num_parameters(config: TransformerConfig) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def preset_id(value) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("preset", "size", "num"), COUNTED, ids=preset_id)
def test_parameters_are_as_many_as_in_the_released_file(preset, size, num):
    assert num_parameters(preset(size)) == num


@pytest.mark.parametrize(("preset", "size", "printed"), PRINTED, ids=preset_id)
def test_parameters_are_as_many_as_published(preset, size, printed):
    num = num_parameters(preset(size))
    assert printed == (f"{num / 1e9:.2f}B" if num >= 1e9 else f"{num / 1e6:.1f}M")


@pytest.mark.parametrize(
    ("preset", "num_rows"), [(t5_1_0, 32128), (t5_1_1, 32128), (mt5, 250112), (byt5, 384)], ids=preset_id
)
def test_the_embedding_has_the_rows_of_the_released_vocabulary(preset, num_rows):
    config = preset("small")
    params = abstract_params(config)
    assert params["token_embedder"]["embedding"].shape == (num_rows, config.embed_dim)
    assert ("logits_dense" in params) == (preset is not t5_1_0)
    mlp = params["encoder"]["layers"]["mlp"]
    assert sorted(mlp) == (["wi", "wo"] if preset is t5_1_0 else ["wi_0", "wi_1", "wo"])


def test_dropout_is_off_where_pretraining_had_none():
    assert t5_1_0("base").dropout_rate == 0.1
    assert {preset("base").dropout_rate for preset in (t5_1_1, mt5, byt5)} == {0.0}
