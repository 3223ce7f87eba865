"""What an import does with each array of a checkpoint: claimed, renamed, drawn anew, dropped or refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from t5like.errors import UserError
from t5like.families import find_family
from t5like.interchange import plan_import
from t5like.models.stacks import count_positions
from t5like.models.transformer import Transformer
from tests.public_models import logits_of, oracle, public_batch, public_config, torch
from tests.tiny_models import BATCH, InMemory, batch_of, load, ours


def plan_of(name, arrays, *, head=None, **public):
    """Returns the plan for other arrays, or another config, than the oracle's."""
    public = public_config(name) | public
    family, source = find_family(public, "memory"), InMemory(arrays)
    return plan_import(family, family.read_config(public, head or family.head_of(public), source), source)


def arrays_of(name):
    return dict(oracle(name)[1])


def by_fate(plan):
    """Returns the public names by fate."""
    fates = {"loaded": set(), "renamed": set(), "initialised": set(), "dropped": set()}
    for line in plan.lines:
        fates[line.fate].add(line.public)
    return fates


def logits_from(name, arrays, **public):
    """Returns our logits for other arrays than the oracle's."""
    transformer, params, _ = load(public_config(name) | public, arrays)
    return np.asarray(jax.jit(transformer.apply)({"params": params}, batch_of(name)))


def logits_as_they_are(name):
    transformer, params, _ = ours(name)
    return np.asarray(jax.jit(transformer.apply)({"params": params}, batch_of(name)))


# --- Traps of public checkpoints ------------------------------------------------------------------------------


def test_a_head_that_differs_from_the_embedding_is_untied_and_not_scaled_whatever_the_config_says():
    np.testing.assert_array_equal(
        logits_from("t5-1.1", arrays_of("t5-1.1"), tie_word_embeddings=True), logits_as_they_are("t5-1.1")
    )
    config = load(public_config("t5-1.1") | {"tie_word_embeddings": True}, arrays_of("t5-1.1"))[0].config
    assert not config.head_is_tied


def test_a_head_that_equals_the_embedding_is_tied_and_scaled():
    arrays = arrays_of("t5-1.0")
    np.testing.assert_array_equal(arrays["lm_head.weight"], arrays["shared.weight"])
    config = ours("t5-1.0")[0].config
    assert (config.head_is_tied, config.scales_tied_head) == (True, True)
    del arrays["lm_head.weight"]
    np.testing.assert_array_equal(logits_from("t5-1.0", arrays), logits_as_they_are("t5-1.0"))


def test_a_tied_head_of_mt5_is_never_scaled_and_later_configs_name_the_scale_themselves():
    arrays = arrays_of("mt5")
    arrays["lm_head.weight"] = arrays["shared.weight"]
    for public, is_scaled in (
        ({}, False),
        ({"model_type": "t5"}, True),
        ({"model_type": "t5", "scale_decoder_outputs": False}, False),
        ({"scale_decoder_outputs": True}, True),
    ):
        config = load(public_config("mt5") | {"tie_word_embeddings": True} | public, arrays)[0].config
        assert (config.head_is_tied, config.scales_tied_head) == (True, is_scaled)


@pytest.mark.parametrize("kept", ["shared", "encoder.embed_tokens", "decoder.embed_tokens"])
def test_one_copy_of_the_embedding_is_enough(kept):
    arrays = {name: array for name, array in arrays_of("t5-1.1").items() if "embed_tokens" not in name}
    arrays[f"{kept}.weight"] = arrays.pop("shared.weight")
    assert by_fate(plan_of("t5-1.1", arrays))["renamed"] == {f"{kept}.weight"} - {"shared.weight"}
    np.testing.assert_array_equal(logits_from("t5-1.1", arrays), logits_as_they_are("t5-1.1"))


def test_a_copy_that_differs_is_refused():
    arrays = arrays_of("t5-1.1")
    arrays["encoder.embed_tokens.weight"] = arrays["encoder.embed_tokens.weight"] + 1
    with pytest.raises(
        UserError, match=r"encoder\.embed_tokens\.weight in memory should be a copy of shared\.weight"
    ):
        plan_of("t5-1.1", arrays)


def test_biases_of_the_attention_to_the_encoder_are_junk():
    arrays = arrays_of("t5-1.0")
    junk = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    arrays[junk] = np.ones((8, 3), np.float32)
    assert junk in by_fate(plan_of("t5-1.0", arrays))["dropped"]
    np.testing.assert_array_equal(logits_from("t5-1.0", arrays), logits_as_they_are("t5-1.0"))


def test_first_names_of_berts_norms_are_known():
    arrays = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays_of("bert").items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in by_fate(plan_of("bert", arrays))["renamed"]
    np.testing.assert_array_equal(logits_from("bert", arrays), logits_as_they_are("bert"))


@pytest.mark.parametrize(
    ("name", "prefix"), [("gpt2", "transformer."), ("bart", "model."), ("roberta", "roberta.")]
)
def test_the_prefix_of_the_body_may_be_missing(name, prefix):
    arrays = {array_name.removeprefix(prefix): array for array_name, array in arrays_of(name).items()}
    np.testing.assert_array_equal(logits_from(name, arrays), logits_as_they_are(name))


def test_old_gpt2_files_hold_masks_and_no_head():
    arrays = arrays_of("gpt2")
    del arrays["lm_head.weight"]
    for i in range(2):
        arrays[f"transformer.h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 20, 20), np.uint8))
        arrays[f"transformer.h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)
    assert len(by_fate(plan_of("gpt2", arrays))["dropped"]) == 4
    np.testing.assert_array_equal(logits_from("gpt2", arrays), logits_as_they_are("gpt2"))


def test_the_released_bert_has_a_next_sentence_head_that_its_config_does_not_name():
    config = load(
        public_config("bert-next-sentence") | {"architectures": ["BertForMaskedLM"]},
        arrays_of("bert-next-sentence"),
    )[0].config
    assert config.predicts_next_sentence


def test_positions_count_real_tokens_where_the_family_does():
    """The rows of RoBERTa's table: 2 3 4 5 1 1 for a row padded on the right, 1 1 2 3 4 5 on the left."""
    config = ours("roberta")[0].config
    segment_ids = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
    rows = np.asarray(count_positions(config, segment_ids)) + config.position_offset
    np.testing.assert_array_equal(rows, [[2, 3, 4, 5, 1, 1], [1, 1, 2, 3, 4, 5]])
    bart = ours("bart")[0].config
    rows = np.asarray(count_positions(bart, segment_ids)) + bart.position_offset
    np.testing.assert_array_equal(rows, [[2, 3, 4, 5, 6, 7]])


@pytest.mark.parametrize("name", ["roberta", "bart", "bert", "distilbert", "t5-1.1"])
def test_rows_padded_on_the_left_are_those_of_the_public_code(name):
    model, _ = oracle(name)
    public, batch = public_batch(name), batch_of(name)
    public, batch = dict(public), dict(batch)
    for key, ours_key in (("input_ids", "encoder_input_tokens"), ("attention_mask", "encoder_segment_ids")):
        public[key] = public[key].flip(1)
        batch[ours_key] = batch[ours_key][:, ::-1]
    with torch.no_grad():
        expected = logits_of(model(**public)).numpy()
    transformer, params, _ = ours(name)
    logits = np.asarray(jax.jit(transformer.apply)({"params": params}, batch))
    real = batch[f"{transformer.config.last_stack}_segment_ids"] > 0
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)


def test_texts_of_a_batch_may_have_different_numbers_of_end_marks():
    """Transformers refuses such a batch: a pair has more end marks than a single text."""
    model, _ = oracle("bart-classifier")
    public, batch = public_batch("bart-classifier"), batch_of("bart-classifier")
    inputs = public["input_ids"].clone()
    inputs[0, 3] = model.config.eos_token_id
    mask = public["attention_mask"]
    with torch.no_grad():
        with pytest.raises(ValueError, match="same number of <eos>"):
            model(input_ids=inputs, attention_mask=mask)
        expected = [
            model(input_ids=inputs[row : row + 1, : mask[row].sum()]).logits.numpy() for row in range(BATCH)
        ]
    transformer, params, _ = ours("bart-classifier")
    tokens = inputs.numpy().astype(np.int32)
    shifted = np.pad(tokens, ((0, 0), (1, 0)), constant_values=model.config.decoder_start_token_id)[:, :-1]
    batch = {**batch, "encoder_input_tokens": tokens, "decoder_input_tokens": shifted}
    logits = transformer.apply({"params": params}, batch)
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-5)


# --- Heads ----------------------------------------------------------------------------------------------------


def test_a_head_that_is_missing_is_drawn_and_one_that_is_not_wanted_is_dropped():
    plan = plan_of(
        "bert-next-sentence", arrays_of("bert-next-sentence"), head="sequence_classification", num_labels=5
    )
    fates = by_fate(plan)
    assert fates["initialised"] == {"classifier.weight", "classifier.bias"}
    assert {"cls.predictions.bias", "cls.seq_relationship.weight", "cls.predictions.decoder.weight"} <= fates[
        "dropped"
    ]
    assert "bert.pooler.dense.weight" in fates["loaded"]


@pytest.mark.parametrize("name", ["t5-1.1", "bert", "roberta", "distilbert", "gpt2", "bart"])
def test_every_head_of_every_family_can_be_had_of_its_language_model(name):
    family = ours(name)[2]
    for head in family.classes:
        plan = plan_of(name, arrays_of(name), head=head, num_labels=4)
        assert all(
            line.public.startswith(("class", "qa_", "pre_", "score", "bert.pooler"))
            or "classif" in line.public
            for line in plan.lines
            if line.fate == "initialised"
        )


def test_new_heads_depend_on_the_seed_alone_and_the_rest_on_nothing():
    from t5like.interchange import import_params
    from t5like.models.transformer import init_params

    family, source = find_family(public_config("bert"), ""), InMemory(arrays_of("bert"))
    config = family.read_config(public_config("bert") | {"num_labels": 4}, "token_tagging", source)
    model = Transformer(config)
    boxed = jax.eval_shape(functools.partial(init_params, model), jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), boxed)
    from flax import linen as nn

    abstract = nn.unbox(abstract)
    plan = plan_import(family, config, source)
    first, second, other = (import_params(plan, source, model, abstract, seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.array_equal(first["classifier"]["kernel"], other["classifier"]["kernel"])
    assert 0.01 < np.std(first["classifier"]["kernel"]) < 0.03
    jax.tree.map(np.testing.assert_array_equal, first["encoder"], other["encoder"])


# --- What is refused ------------------------------------------------------------------------------------------


def test_an_array_of_the_body_that_is_missing_is_named():
    arrays = arrays_of("bert")
    del arrays["bert.encoder.layer.1.output.dense.weight"]
    with pytest.raises(
        UserError, match=r"memory lacks bert\.encoder\.layer\.1\.output\.dense\.weight; it is no whole BERT"
    ):
        plan_of("bert", arrays)


def test_arrays_that_nothing_claims_are_listed():
    arrays = arrays_of("bert") | {f"adapter.{i}": np.ones(1) for i in range(5)}
    with pytest.raises(
        UserError, match=r"memory holds adapter\.0, adapter\.1, adapter\.2 and 2 more, which no BERT"
    ):
        plan_of("bert", arrays)


def test_another_family_than_the_config_names_is_refused():
    with pytest.raises(UserError, match="which no BERT model has; it is of another family"):
        plan_of("bert", arrays_of("gpt2"))


def test_a_layer_more_than_the_config_gives_is_refused():
    with pytest.raises(UserError, match=r"memory holds bert\.encoder\.layer\.1\."):
        plan_of("bert", arrays_of("bert"), num_hidden_layers=1)


def test_a_wrong_shape_is_named_with_both_shapes():
    with pytest.raises(
        UserError,
        match=r"bert\.encoder\.layer\.0\.intermediate\.dense\.weight in memory has the shape \[32, 24\], "
        r"but its config\.json makes it \[48, 24\]",
    ):
        plan_of("bert", arrays_of("bert"), intermediate_size=48)


@pytest.mark.parametrize(
    ("name", "public", "message"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ("bert", {"hidden_act": "mish"}, "activation 'mish'"),
        ("bert", {"hidden_size": None}, "must give hidden_size as a whole number above 0, but gives None"),
        ("bert", {"is_decoder": True}, "is_decoder True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ("bart", {"decoder_ffn_dim": 48}, "decoder_ffn_dim 48"),
        ("distilbert", {"sinusoidal_pos_embds": True}, "sinusoidal_pos_embds True"),
    ],
)
def test_what_our_models_do_not_have_is_refused(name, public, message):
    with pytest.raises(UserError, match=message):
        plan_of(name, arrays_of(name), **public)


@pytest.mark.parametrize(
    ("public", "message"),
    [
        ({"model_type": "mbart"}, "is of the model_type 'mbart'; t5like knows t5, mt5"),
        ({"model_type": "mamba"}, "is of the model_type 'mamba'; t5like knows t5, mt5"),
        ({}, "names no model_type"),
    ],
)
def test_a_family_we_do_not_have_is_named(public, message):
    with pytest.raises(UserError) as error:
        find_family(public, "config.json")
    assert message in str(error.value)


def test_rows_longer_than_the_table_of_positions_are_refused():
    transformer, params, _ = ours("bert")
    tokens = np.ones((1, 21), np.int32)
    with pytest.raises(UserError, match="Rows of 21 tokens are longer than the 20 positions"):
        transformer.apply({"params": params}, {"encoder_input_tokens": tokens, "encoder_segment_ids": tokens})


def test_a_config_of_two_layouts_gives_one_plan():
    transformer, _, family = ours("umt5")
    source = InMemory(arrays_of("umt5"))
    unrolled = dataclasses.replace(transformer.config, scans_layers=False)
    assert plan_import(family, unrolled, source) == plan_import(family, transformer.config, source)


@pytest.mark.parametrize(
    ("name", "architecture", "head"),
    [
        ("bert", "BertForTokenClassification", "token_tagging"),
        ("bert", "BertModel", "none"),
        ("t5-1.1", "T5EncoderModel", "none"),
        ("t5-1.1", "T5Model", "language_model"),
        ("t5-1.1", "T5WithLMHeadModel", "language_model"),
        ("gpt2", "GPT2LMHeadModel", "language_model"),
        ("bart", "BartModel", "language_model"),
    ],
)
def test_a_class_names_its_head(name, architecture, head):
    assert ours(name)[2].head_of({"architectures": [architecture]}) == head


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("bert", "BertForMultipleChoice"), ("bert", "BertLMHeadModel"), ("gpt2", "GPT2DoubleHeadsModel")],
)
def test_a_class_that_we_have_no_head_for_is_refused(name, architecture):
    with pytest.raises(UserError, match=f"names the class {architecture}, which t5like has no head for"):
        ours(name)[2].head_of({"architectures": [architecture]})


def test_a_silent_config_of_umt5_is_tied_where_its_file_has_no_head():
    arrays = arrays_of("umt5")
    public = {key: value for key, value in public_config("umt5").items() if key != "tie_word_embeddings"}
    assert not load(public, arrays)[0].config.head_is_tied
    del arrays["lm_head.weight"]
    assert load(public, arrays)[0].config.head_is_tied


def test_one_array_under_two_names_must_be_the_same():
    arrays = arrays_of("bert")
    name = "embeddings.LayerNorm.weight"
    arrays[name] = arrays[f"bert.{name}"]
    assert name in by_fate(plan_of("bert", arrays))["dropped"]
    arrays[name] = arrays[name] + 1
    with pytest.raises(UserError, match="should be a copy of"):
        plan_of("bert", arrays)
