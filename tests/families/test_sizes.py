"""The presets have the parameters of the released checkpoints, to the last one."""

import dataclasses
import functools

import numpy as np
import pytest

from t5like.batch import SpecialTokens
from t5like.families import family_of
from t5like.families.bart import bart
from t5like.families.bert import bert
from t5like.families.distilbert import distilbert
from t5like.families.gpt2 import gpt2
from t5like.families.roberta import roberta
from t5like.families.t5 import byt5, mt5, t5_1_0, t5_1_1, ul2, umt5
from t5like.interchange import shapes_of
from t5like.models.config import TransformerConfig

COUNTED = [
    (t5_1_0, "small", 60_506_624),
    (t5_1_0, "base", 222_903_552),
    (t5_1_0, "large", 737_668_096),
    (t5_1_1, "small", 76_961_152),
    (t5_1_1, "base", 247_577_856),
    (t5_1_1, "large", 783_150_080),
    (bert, "base", 110_106_428),
    (roberta, "base", 124_697_433),
    (gpt2, "small", 124_439_808),
    (bart, "base", 139_420_416),
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


SPECIAL_TOKENS = SpecialTokens(eos_id=1, sentinel_ids=np.zeros(0, np.int32))
SAME_IN_PUBLIC_CONFIGS = {
    "activation", "activation_function", "d_ff", "d_kv", "d_model", "decoder_attention_heads", "decoder_ffn_dim",
    "decoder_layers", "dim", "encoder_ffn_dim", "feed_forward_proj", "hidden_act", "hidden_dim", "hidden_size", "intermediate_size",
    "layer_norm_epsilon", "layer_norm_eps", "max_position_embeddings", "n_embd", "n_head", "n_heads", "n_layer", "n_layers",
    "n_positions", "num_attention_heads", "num_decoder_layers", "num_heads", "num_hidden_layers", "num_layers",
    "relative_attention_max_distance", "relative_attention_num_buckets", "tie_word_embeddings", "type_vocab_size", "vocab_size",
}  # fmt: skip


@functools.cache
def num_parameters(config: TransformerConfig) -> int:
    """Returns how many there are, less the bias of BART's logits, which the released files hold as a constant."""
    is_bart = config.head_has_bias and config.num_decoder_layers > 0
    return sum(
        int(np.prod(shape))
        for (path, _), shape in shapes_of(config).items()
        if not (is_bart and path == "logits_bias")
    )


def preset_id(value) -> str:
    return value[0] if isinstance(value, tuple) else getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("preset", "size", "num"), COUNTED, ids=preset_id)
def test_parameters_are_as_many_as_in_the_released_file(preset, size, num):
    assert num_parameters(preset(size)) == num


@pytest.mark.parametrize(("preset", "size", "printed"), PRINTED, ids=preset_id)
def test_parameters_are_as_many_as_published(preset, size, printed):
    num = num_parameters(preset(size))
    assert printed == (f"{num / 1e9:.2f}B" if num >= 1e9 else f"{num / 1e6:.1f}M")


def public(kind, **sizes):
    """Returns the name of a public class, and its sizes."""
    return kind, sizes


PUBLIC_SIZES = [
    (
        bert,
        "tiny",
        public(
            "BertForPreTraining",
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
        ),
    ),
    (
        bert,
        "large",
        public(
            "BertForPreTraining",
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
        ),
    ),
    (
        bert,
        "minilm-l6",
        public(
            "BertForPreTraining",
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        ),
    ),
    (
        roberta,
        "large",
        public(
            "RobertaForMaskedLM",
            vocab_size=50265,
            max_position_embeddings=514,
            type_vocab_size=1,
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            layer_norm_eps=1e-5,
        ),
    ),
    (distilbert, "base", public("DistilBertForMaskedLM")),
    (gpt2, "medium", public("GPT2LMHeadModel", n_embd=1024, n_layer=24, n_head=16)),
    (gpt2, "xl", public("GPT2LMHeadModel", n_embd=1600, n_layer=48, n_head=25)),
    (bart, "large", public("BartForConditionalGeneration")),
    (umt5, "small", public("UMT5ForConditionalGeneration", vocab_size=256384, tie_word_embeddings=False)),
    (
        byt5,
        "small",
        public(
            "T5ForConditionalGeneration",
            vocab_size=384,
            d_model=1472,
            d_kv=64,
            d_ff=3584,
            num_heads=6,
            num_layers=12,
            num_decoder_layers=4,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        ),
    ),
    (
        ul2,
        "20b",
        public(
            "T5ForConditionalGeneration",
            d_model=4096,
            d_kv=256,
            d_ff=16384,
            num_heads=16,
            num_layers=32,
            feed_forward_proj="gated-silu",
            tie_word_embeddings=False,
        ),
    ),
]


@pytest.mark.parametrize(("preset", "size", "of"), PUBLIC_SIZES, ids=preset_id)
def test_the_preset_is_the_public_model(preset, size, of):
    from tests.public_models import hf, torch

    kind, sizes = getattr(hf, of[0]), of[1]
    config = kind.config_class(**sizes)
    with torch.device("meta"):  # no array is ever made
        expected = kind(config).num_parameters()
    assert num_parameters(preset(size)) == expected
    family = family_of(preset(size))
    assert config.model_type in family.model_types
    ours = family.write_config(preset(size), SPECIAL_TOKENS)
    written = kind.config_class(
        **{name: value for name, value in ours.items() if name not in ("architectures", "model_type")}
    )
    for name in SAME_IN_PUBLIC_CONFIGS & config.to_dict().keys():
        assert getattr(written, name) == getattr(config, name), name


@pytest.mark.parametrize(
    ("preset", "num_rows"),
    [(t5_1_0, 32128), (t5_1_1, 32128), (mt5, 250112), (byt5, 384), (umt5, 256384)],
    ids=preset_id,
)
def test_the_embedding_has_the_rows_of_the_released_vocabulary(preset, num_rows):
    config = preset("small")
    shapes = shapes_of(config)
    assert shapes["token_embedder/embedding", None] == (num_rows, config.embed_dim)
    assert (("logits_dense/kernel", None) in shapes) == (preset is not t5_1_0)
    mlp = {path.split("/")[-2] for path, layer in shapes if layer == 0 and "/mlp/" in path}
    assert mlp == ({"wi", "wo"} if preset is t5_1_0 else {"wi_0", "wi_1", "wo"})


def test_every_preset_names_its_family():
    for preset, size, _ in COUNTED + PRINTED:
        assert family_of(preset(size)) is not None


def test_a_mixture_that_no_public_code_runs_is_of_no_family():
    assert family_of(dataclasses.replace(bert("tiny"), norm="rms")) is None
    assert family_of(dataclasses.replace(t5_1_1("small"), has_biases=True)) is None
    assert family_of(dataclasses.replace(gpt2("small"), norm_placement="after")) is None


def test_dropout_is_off_where_pretraining_had_none():
    assert t5_1_0("base").dropout_rate == 0.1
    assert {preset("base").dropout_rate for preset in (t5_1_1, mt5, byt5)} == {0.0}
