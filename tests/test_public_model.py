"""Folders that leave here are Transformers' own, and its folders come in: every tiny model, both ways, bit for bit."""

import dataclasses
import functools
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn

from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.errors import UserError
from t5like.families.base import NOT_PUBLIC
from t5like.interchange import flatten
from t5like.models.transformer import Transformer, init_params
from t5like.public_model import check_vocabulary, load_public_model, save_public_model
from t5like.trained_model import load_model
from t5like.weights import open_weights, write_safetensors
from tests.public_models import hf, logits_of, oracle, public_batch, torch
from tests.tiny_models import MODELS, abstract_params, batch_of, is_real, ours, vocabulary_of

TEXT = "the lamb is amongst a bleaking"


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Returns a function from the name of a model to the folder it is exported to, once."""
    folders = {}

    def export(name):
        if name not in folders:
            folder = tmp_path_factory.mktemp("exported") / name
            transformer, params, _ = ours(name)
            save_public_model(folder, transformer.config, vocabulary_of(name), params)
            folders[name] = folder
        return folders[name]

    return export


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def restored(model):
    """Returns the parameters of a planned import."""
    return model.restore(abstract_params(Transformer(model.config)))


def assert_same_bits(params, expected):
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for (path, array), (_, other) in zip(flatten(params), flatten(expected), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=path, strict=True)


# --- Out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_what_is_exported_and_computes_the_same(name, exported):
    (architecture,) = config_of(exported(name))["architectures"]
    model, report = getattr(hf, architecture).from_pretrained(exported(name), output_loading_info=True)
    assert not any(report.values()), report
    public = public_batch(name)
    with torch.no_grad():
        expected, logits = logits_of(oracle(name)[0](**public)), logits_of(model.eval()(**public))
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_exported_comes_in_again_as_it_was(name, exported):
    transformer, params, family = ours(name)
    loaded = load_public_model(exported(name))
    assert loaded.family is family
    assert loaded.vocabulary.sha256 == vocabulary_of(name).sha256
    unsaid = {key: getattr(transformer.config, key) for key in NOT_PUBLIC}
    assert dataclasses.replace(loaded.config, **unsaid) == transformer.config
    for key in ("predicts_next_sentence", "has_pooler_without_head"):  # told by the arrays
        assert getattr(loaded.config, key) == getattr(transformer.config, key)
    assert {line.fate for line in loaded.plan.lines} == {"loaded"}
    assert_same_bits(restored(loaded), params)


@pytest.mark.parametrize("name", MODELS)
def test_the_config_says_what_the_public_code_would_guess(name, exported):
    public, config = config_of(exported(name)), ours(name)[0].config
    assert isinstance(public["model_type"], str)
    if config.num_encoder_layers and config.num_decoder_layers:
        assert public["decoder_start_token_id"] == vocabulary_of(name).special_tokens.decoder_start_id
    if config.head == "language_model" and not config.head_is_tied:
        assert public["tie_word_embeddings"] is False
    if config.num_labels:
        assert len(public["id2label"]) == len(public["label2id"]) == config.num_labels
    # Generic classes find their own class by it, and the sizes in it.
    automatic = hf.AutoConfig.from_pretrained(exported(name))
    assert automatic.vocab_size == config.num_embeddings


@pytest.mark.parametrize("name", ["t5-1.1", "bert", "distilbert", "gpt2", "roberta", "bart"])
def test_transformers_loads_the_tokenizer_of_an_exported_model(name, exported):
    vocabulary = vocabulary_of(name)
    marks = vocabulary.special_tokens
    expected = vocabulary.encode(TEXT).tolist()
    if name != "gpt2":
        expected = [*marks.begin_ids, *expected, marks.eos_id]
    tokenizer = hf.AutoTokenizer.from_pretrained(exported(name))
    assert tokenizer(TEXT).input_ids == expected
    if ours(name)[0].config.max_length is not None:
        assert tokenizer.model_max_length == ours(name)[0].config.max_length


UNUSUAL = {
    "t5-1.0": {"norm_epsilon": 0.02, "max_relative_distance": 20, "mlp_activations": ("silu",)},
    "umt5": {"norm_epsilon": 0.02, "max_relative_distance": 20, "mlp_activations": ("silu", "linear")},
    "bert": {"norm_epsilon": 0.02, "mlp_activations": ("relu",)},
    "roberta": {"norm_epsilon": 0.02},
    "roberta-tagger": {"norm_epsilon": 0.02, "mlp_activations": ("silu",)},
    "distilbert": {"mlp_activations": ("relu",)},
    "gpt2": {"norm_epsilon": 0.02, "mlp_activations": ("gelu_exact",)},
    "bart": {"mlp_activations": ("gelu",), "scales_embeddings": True},
}
"""By model: values that are nobody's default, of knobs that change no shape."""


@pytest.mark.parametrize("name", UNUSUAL)
def test_knobs_that_the_public_code_would_set_otherwise_go_out_too(name, tmp_path):
    transformer, params, _ = ours(name)
    config = dataclasses.replace(transformer.config, dropout_rate=0.3, **UNUSUAL[name])
    save_public_model(tmp_path / "to", config, vocabulary_of(name), params)
    assert load_public_model(tmp_path / "to").config == config
    public, batch = public_batch(name), batch_of(name)
    model = type(oracle(name)[0]).from_pretrained(tmp_path / "to").eval()
    with torch.no_grad():
        expected = logits_of(model(**public)).numpy()
    logits = np.asarray(jax.jit(Transformer(config).apply)({"params": params}, batch))
    real = is_real(name)
    np.testing.assert_allclose(logits[real], expected[real], rtol=0, atol=1e-5)
    assert np.abs(expected - logits_of(oracle(name)[0](**public)).detach().numpy())[real].max() > 1e-3


def test_scanned_and_unrolled_parameters_give_the_same_files(exported, tmp_path):
    for name in ("t5-1.0", "bart-classifier"):
        transformer, params, _ = ours(name, False)
        save_public_model(tmp_path / name, transformer.config, vocabulary_of(name), params)
        assert contents(tmp_path / name) == contents(exported(name))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_as_many_bytes_are_every_array_rounded_once(dtype, tmp_path):
    transformer, params, _ = ours("umt5")
    save_public_model(tmp_path / "half", transformer.config, vocabulary_of("umt5"), params, dtype=dtype)
    assert config_of(tmp_path / "half")["torch_dtype"] == dtype
    rounded = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    with open_weights(tmp_path / "half") as source:
        assert {info.dtype for info in source.tensors.values()} == {rounded}
    once = jax.tree.map(lambda array: np.asarray(array).astype(rounded).astype(np.float32), params)
    assert_same_bits(restored(load_public_model(tmp_path / "half")), once)
    model = hf.UMT5ForConditionalGeneration.from_pretrained(tmp_path / "half", torch_dtype="auto")
    assert model.shared.weight.dtype == getattr(torch, dtype)


def test_a_model_of_bytes_goes_out_as_byt5(tmp_path):
    config = dataclasses.replace(ours("t5-1.1")[0].config, num_embeddings=384)
    params = nn.unbox(jax.jit(functools.partial(init_params, Transformer(config)))(jax.random.key(0)))
    save_public_model(tmp_path / "byt5", config, ByteVocabulary(), params)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "byt5")
    assert type(tokenizer) is hf.ByT5Tokenizer
    assert tokenizer("é").input_ids == [0xC3 + 3, 0xA9 + 3, 1]
    loaded = load_public_model(tmp_path / "byt5")
    assert loaded.vocabulary.sha256 == ByteVocabulary().sha256
    assert_same_bits(restored(loaded), params)


# --- In -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ("model.safetensors", {}),
        ("model.safetensors.index.json", {"max_shard_size": "6KB"}),
        ("pytorch_model.bin", {"safe_serialization": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_saves_comes_in_with_the_same_bits(name, files, options, tmp_path):
    oracle(name)[0].save_pretrained(tmp_path, **options)
    assert (tmp_path / files).exists()
    transformer, params, family = ours(name)
    loaded = load_public_model(tmp_path, vocabulary=vocabulary_of(name))
    assert loaded.family is family
    assert loaded.config == transformer.config
    assert_same_bits(restored(loaded), params)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_one_file_of_weights_stands_for_its_folder(name, exported):
    whole, file = (load_public_model(path) for path in (exported(name), exported(name) / "model.safetensors"))
    assert (file.config, file.plan) == (whole.config, whole.plan)
    assert file.vocabulary.sha256 == whole.vocabulary.sha256


# --- What is refused ------------------------------------------------------------------------------------------


def test_a_model_that_no_public_code_runs_is_not_exported(tmp_path):
    transformer, params, _ = ours("t5-1.1")
    config = dataclasses.replace(transformer.config, norm="layer")
    with pytest.raises(UserError, match="no public family has"):
        save_public_model(tmp_path / "to", config, vocabulary_of("t5-1.1"), params)
    assert not list(tmp_path.iterdir())


def test_a_tied_head_that_is_not_scaled_is_not_exported(tmp_path):
    """Transformers 4 scales every tied head of T5, whatever the config says, and so would compute something else."""
    transformer, params, _ = ours("t5-1.0")
    config = dataclasses.replace(transformer.config, scales_tied_head=False)
    with pytest.raises(UserError, match="no public family has"):
        save_public_model(tmp_path / "to", config, vocabulary_of("t5-1.0"), params)
    assert not list(tmp_path.iterdir())


def test_the_head_of_roberta_has_gelu_alone(tmp_path):
    transformer, params, _ = ours("roberta")
    config = dataclasses.replace(transformer.config, mlp_activations=("silu",))
    with pytest.raises(UserError, match="no public family has"):
        save_public_model(tmp_path / "to", config, vocabulary_of("roberta"), params)
    assert not list(tmp_path.iterdir())
    oracle("roberta")[0].save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_of(tmp_path) | {"hidden_act": "silu"}))
    with pytest.raises(UserError, match="This RoBERTa model has hidden_act 'silu'"):
        load_public_model(tmp_path, vocabulary=vocabulary_of("roberta"))


def test_a_vocabulary_of_another_kind_is_not_exported(tmp_path):
    transformer, params, _ = ours("bert")
    with pytest.raises(UserError, match="A bert model has no sentencepiece vocabulary"):
        save_public_model(tmp_path / "new" / "to", transformer.config, vocabulary_of("t5-1.1"), params)
    assert not list(tmp_path.iterdir())


def test_a_model_that_lacks_its_head_writes_nothing(tmp_path):
    transformer, params, _ = ours("t5-1.1")
    save_public_model(tmp_path / "to", transformer.config, vocabulary_of("t5-1.1"), params)
    with open_weights(tmp_path / "to") as source:
        kept = [
            (name, info.shape, info.dtype, functools.partial(source.read, name))
            for name, info in source.tensors.items()
            if name != "lm_head.weight"
        ]
        write_safetensors(tmp_path / "less", kept)
    for file in (tmp_path / "to").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "less" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"lacks lm_head\.weight, without which"):
        load_model(f"hf:{tmp_path / 'less'}")


def test_a_mask_may_have_no_embedding_but_other_ids_must():
    vocabulary, config = vocabulary_of("bart"), ours("bart")[0].config
    assert vocabulary.special_tokens.mask_id == vocabulary.num_tokens - 1
    check_vocabulary(
        dataclasses.replace(config, num_embeddings=vocabulary.num_tokens - 1), vocabulary, "here"
    )
    with pytest.raises(UserError, match="embeddings"):
        check_vocabulary(
            dataclasses.replace(config, num_embeddings=vocabulary.num_tokens - 2), vocabulary, "here"
        )
