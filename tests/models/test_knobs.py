"""The laws of the transformer hold for every family's knobs: loops, packing, prefixes, precision, meshes, new parameters.

What each family computes is in tests/families/test_parity.py; here is what may not change it.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from t5like.errors import UserError
from t5like.losses import token_cross_entropy
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.models.masks import prefix_mask
from t5like.models.prepared import unstack_layers
from t5like.models.transformer import Transformer, init_params
from t5like.placement import place
from t5like.sharding import AxisRules, put_batch
from tests.tiny_models import MODELS, arrays_of, batch_of, is_real, load, ours

FAMILIES = ["umt5", "bert", "roberta", "gpt2", "bart-scaled"]
HEADS = ["bert-next-sentence", "bert-classifier", "roberta-tagger", "gpt2-classifier", "bart-spans"]


def loss_of(config, params, batch, key=None):
    """Returns the mean of the cross-entropy of arbitrary targets over the real tokens."""
    model = Transformer(config)
    logits = model.apply({"params": params}, batch, key)
    if logits.ndim == 2:
        logits = logits[:, None]
    shape, vocab = logits.shape[:2], logits.shape[-1]
    targets = np.random.default_rng(1).integers(0, vocab, shape)
    is_real = batch[f"{config.last_stack}_segment_ids"] > 0
    weights = is_real.astype(np.float32) if shape[1] > 1 else np.ones(shape, np.float32)
    loss = token_cross_entropy(logits, targets, weights)
    return loss.cross_entropy / loss.weight


@functools.cache
def loss_and_gradients(config):
    return jax.jit(jax.value_and_grad(functools.partial(loss_of, config)))


def assert_trees_close(tree, expected, rtol=1e-5):
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * largest, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_scanned_layers_equal_unrolled_ones_with_dropout_and_rematerialised(name, remat):
    model, params, _ = ours(name)
    batch, key = batch_of(name), jax.random.key(3, impl="unsafe_rbg")
    config = dataclasses.replace(model.config, dropout_rate=0.2, remat=remat)
    loss, gradients = loss_and_gradients(config)(params, batch, key)
    unrolled = dataclasses.replace(config, scans_layers=False, remat="none")
    expected_loss, expected = loss_and_gradients(unrolled)(unstack_layers(params), batch, key)
    other_key = jax.random.key(4, impl="unsafe_rbg")
    assert abs(loss - loss_and_gradients(config)(params, batch, other_key)[0]) > 1e-4, "dropout does nothing"
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(unstack_layers(gradients), expected)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        *itertools.product(FAMILIES, ["per_example"]),
        *itertools.product(["umt5", "gpt2", "bart-scaled"], ["chunked"]),
        ("umt5", "flash"),
    ],
)
def test_each_way_of_attention_equals_attention_at_once(name, attention):
    model, params, _ = ours(name)
    batch, key = batch_of(name), jax.random.key(3, impl="unsafe_rbg")
    at_once = dataclasses.replace(model.config, dropout_rate=0.2, shares_dropout=True)
    config = dataclasses.replace(at_once, attention=attention)
    loss, gradients = loss_and_gradients(config)(params, batch, key)
    expected_loss, expected = loss_and_gradients(at_once)(params, batch, key)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(gradients, expected)


@pytest.mark.parametrize("spot", ["embeddings", "attention", "residual", "mlp", "output"])
def test_dropout_acts_at_each_spot_and_only_there(spot):
    model, params, _ = ours("bart")
    batch, key = batch_of("bart"), jax.random.key(3, impl="unsafe_rbg")
    without = loss_of(model.config, params, batch, None)
    alone = dataclasses.replace(model.config, dropout_rate=0.3, dropout_spots=(spot,))
    assert abs(loss_of(alone, params, batch, key) - without) > 1e-5
    nowhere = dataclasses.replace(model.config, dropout_rate=0.3, dropout_spots=())
    assert loss_of(nowhere, params, batch, key) == without


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_get_the_logits_they_get_apart(name):
    """Two texts of a row, the second of which begins to count its positions anew."""
    model, params, _ = ours(name)
    apart = {key: array[[1, 2]] for key, array in batch_of(name).items()}
    packed, lengths = {}, {}
    for stack in ("encoder", "decoder"):
        if f"{stack}_input_tokens" not in apart:
            continue
        segment_ids = apart[f"{stack}_segment_ids"]
        lengths[stack] = first, second = segment_ids.sum(1)
        tokens = apart[f"{stack}_input_tokens"]
        packed[f"{stack}_input_tokens"] = np.concatenate([tokens[0, :first], tokens[1, :second], [5]])[None]
        packed[f"{stack}_segment_ids"] = np.array([[1] * first + [2] * second + [0]])
        packed[f"{stack}_positions"] = np.array([[*range(first), *range(second), 0]])
    first, second = lengths[model.config.last_stack]
    alone = np.asarray(model.apply({"params": params}, apart))
    together = np.asarray(model.apply({"params": params}, packed))[0]
    np.testing.assert_allclose(together[:first], alone[0, :first], atol=1e-5)
    np.testing.assert_allclose(together[first : first + second], alone[1, :second], atol=1e-5)


def test_a_decoder_alone_sees_the_past_and_within_a_prefix_all_of_it():
    is_prefix = np.array([[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(
        prefix_mask(jnp.asarray(is_prefix))[:, 0],
        [[[1, 1, 0], [1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]],
    )
    model, params, _ = ours("gpt2")
    tokens = np.arange(5, 11)[None]
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": np.ones_like(tokens)}
    table = params["token_embedder"]["embedding"]

    def influence(batch):
        """Returns [position, token] whether the hidden state at a position depends on that token."""

        def hidden(table):
            changed = {**params, "token_embedder": {"embedding": table}}
            x = model.apply({"params": changed}, batch, method=Transformer.hidden_states)
            return jnp.sum(x[0] * np.arange(1.0, 25), axis=-1)

        return np.abs(jax.jacrev(hidden)(table)).sum(-1)[:, tokens[0]] > 0

    np.testing.assert_array_equal(influence(batch), np.tri(6, dtype=bool))
    with_prefix = influence({**batch, "decoder_causal_attention": np.array([[1, 1, 1, 0, 0, 0]])})
    expected = np.tri(6, dtype=bool)
    expected[:3, :3] = True
    np.testing.assert_array_equal(with_prefix, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_keeps_logits_float32_and_near(name):
    model, params, _ = ours(name)
    batch = batch_of(name)
    exact = np.asarray(model.apply({"params": params}, batch))
    rounded = Transformer(dataclasses.replace(model.config, compute_dtype="bfloat16")).apply(
        {"params": params}, batch
    )
    assert rounded.dtype == np.float32
    real = is_real(name)
    error = np.abs(np.asarray(rounded) - exact)[real].max() / np.abs(exact[real]).max()
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("name", FAMILIES + HEADS)
def test_split_over_eight_devices_equals_one(name):
    """Two ways each of data, parameters and heads, in sizes that divide."""
    model, _, _ = ours(name)
    config = dataclasses.replace(model.config, num_heads=4, head_dim=6, mlp_dim=16)
    batch = {key: np.concatenate([array, array[:1]]) for key, array in batch_of(name).items()}
    logits = {}
    for shape in (MeshShape(data=2, fsdp=2, tensor=2), MeshShape(data=1)):
        devices = jax.devices() if shape.tensor == 2 else jax.devices()[:1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda *_, devices=devices: devices)
            placement = place(config, shape, AxisRules(), batch_size=4)
        with jax.set_mesh(placement.mesh):
            draw = jax.jit(
                lambda key, model=placement.model: nn.unbox(init_params(model, key)),
                out_shardings=jax.tree.map(lambda leaf: leaf.sharding, placement.params),
            )
            params = jax.device_get(draw(jax.random.key(0, impl="threefry2x32")))
            if not logits:
                first = params
            placed = jax.device_put(first, jax.tree.map(lambda leaf: leaf.sharding, placement.params))
            value, gradients = jax.jit(jax.value_and_grad(functools.partial(loss_of, config)))(
                placed, put_batch(batch, placement.batch)
            )
            logits[shape.tensor] = value, jax.device_get(gradients)
    np.testing.assert_allclose(logits[2][0], logits[1][0], rtol=1e-5)
    assert_trees_close(logits[2][1], logits[1][1])


def test_new_parameters_of_bert_are_drawn_by_its_rule():
    config = dataclasses.replace(ours("bert-next-sentence")[0].config, embed_dim=96, mlp_dim=128, head_dim=32)
    params = nn.unbox(init_params(Transformer(config), jax.random.key(0)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith(("kernel", "embedding")):
            assert 0.015 < leaf.std() < 0.025, name
        else:
            assert (leaf == (1.0 if name.endswith("scale") else 0.0)).all(), name


def test_an_embedding_scale_is_the_square_root_of_the_width():
    arrays = dict(arrays_of("bart-scaled"))
    arrays["model.shared.weight"] = arrays["model.shared.weight"] * 4.0  # the square root of 16
    model, params, _ = load(MODELS["bart"], arrays)
    scaled_model, scaled_params, _ = ours("bart-scaled")
    batch = batch_of("bart-scaled")
    expected = scaled_model.apply({"params": scaled_params}, batch, method=Transformer.hidden_states)
    np.testing.assert_allclose(
        model.apply({"params": params}, batch, method=Transformer.hidden_states), expected, atol=1e-5
    )


SMALL = {"embed_dim": 8, "num_heads": 2, "head_dim": 4, "mlp_dim": 8}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_encoder_layers": 0}, "are both 0"),
        ({"num_decoder_layers": -1}, "model.num_decoder_layers is -1, but must be at least 0"),
        ({"positions": "learned", "num_positions": 2, "position_offset": 2}, "must lie in [0, 2)"),
        ({"positions": "learned", "positions_skip_padding": True}, "needs a row for padding"),
        ({"head": "token_tagging"}, "needs model.num_labels"),
        ({"num_decoder_layers": 1, "predicts_next_sentence": True}, "is for a masked language model"),
        ({"attention": "per_example", "shares_dropout": False}, "draws one dropout for all positions"),
        (
            {"attention": "flash", "shares_dropout": False},
            "attention flash draws one dropout for all positions",
        ),
        ({"init_stddev": 0.0}, "model.init_stddev is 0.0"),
        ({"init_stddev": 10**30}, "model.init_stddev is 1000"),
        ({"norm_epsilon": -1.0}, "model.norm_epsilon is -1.0, but must lie between 0 and 1"),
        ({"norm_epsilon": 10**30}, "model.norm_epsilon is 1000"),
        ({"num_heads": 10**400}, "model.num_heads is 10000000000000000000, but must be at most 2147483647"),
        ({"num_embeddings": 2**31}, "model.num_embeddings is 2147483648, but must be at most"),
        ({"num_encoder_layers": 10**6}, "model.num_encoder_layers is 1000000, but must be at most 10000"),
    ],
)
def test_knobs_that_do_not_go_together_are_refused(knobs, message):
    with pytest.raises(UserError) as error:
        TransformerConfig(**{**SMALL, "num_encoder_layers": 1, "num_decoder_layers": 0} | knobs)
    assert message in str(error.value)
