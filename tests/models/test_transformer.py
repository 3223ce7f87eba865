"""What the transformer computes, and what may not change it: padding, packing, loops, rematerialisation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from t5like.batch import encoder_decoder_row
from t5like.errors import UserError
from t5like.losses import token_cross_entropy
from t5like.models.config import TransformerConfig
from t5like.models.relative_bias import relative_buckets
from t5like.models.transformer import Transformer

V1_1 = TransformerConfig(
    num_embeddings=40,
    embed_dim=16,
    num_heads=3,
    head_dim=4,  # 3 * 4 != 16, as in the released small model
    mlp_dim=24,
    num_encoder_layers=3,
    num_decoder_layers=2,
    num_relative_buckets=8,
    max_relative_distance=7,  # the last bucket holds many distances
)
V1_0 = dataclasses.replace(V1_1, mlp_activations=("relu",), head_is_tied=True)
ROWS = ((10, 8), (4, 5), (7, 1))
"""Real inputs and targets of three rows in a batch of 10 and 8."""


def unrolled(config):
    return dataclasses.replace(config, scans_layers=False)


@functools.cache
def draw_params(config):
    """Returns random parameters, norms among them, so that each one's part shows."""
    row = encoder_decoder_row(np.zeros(0), np.zeros(0), inputs_length=2, targets_length=2)
    batch = {name: array[None] for name, array in row.items()}
    abstract = nn.unbox(jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"])
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        x = rng.normal(size=leaf.shape).astype(np.float32)
        name = jax.tree_util.keystr(path)
        return 1 + 0.2 * x if "scale" in name else x if "embedding" in name else 0.3 * x

    return jax.tree_util.tree_map_with_path(draw, abstract)


def stack_layers(params):
    """Returns the parameters of unrolled layers in the layout of scanned ones."""
    params = dict(params)
    for stack in ("encoder", "decoder"):
        rest = dict(params[stack])
        layers = [rest.pop(f"layers_{i}") for i in range(sum(name.startswith("layers_") for name in rest))]
        params[stack] = {**rest, "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}
    return params


@functools.cache
def compiled_logits(config):
    return jax.jit(lambda params, batch, key=None: Transformer(config).apply({"params": params}, batch, key))


def logits_of(config, params, batch, key=None):
    return np.asarray(compiled_logits(config)(params, batch, key))


def loss_of(config, params, batch, key=None):
    logits = Transformer(config).apply({"params": params}, batch, key)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    return token_cross_entropy(logits, targets, weights, z_loss=1e-2).total


@functools.cache
def compiled_loss_and_gradients(config):
    return jax.jit(jax.value_and_grad(functools.partial(loss_of, config)))


def assert_trees_close(tree, expected, rtol):
    """Each array within `rtol` of the largest entry of the expected one."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(y).max()
        assert scale > 0, f"{jax.tree_util.keystr(path)} is all zero: nothing is compared"
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * scale, err_msg=jax.tree_util.keystr(path))


# --- What it computes ---------------------------------------------------------------------------------------


def plain_t5(params, config, batch):
    """Returns logits by the formulas of the paper, one row, layer and head at a time, in float64 numpy."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    table = params["token_embedder"]["embedding"]

    def norm(p, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * p["scale"]

    def attend(p, x, memory, allowed, bias):
        heads = []
        for h in range(config.num_heads):
            columns = slice(h * config.head_dim, (h + 1) * config.head_dim)
            query = x @ p["query"]["kernel"][:, columns]
            key = memory @ p["key"]["kernel"][:, columns]
            logits = query @ key.T + (0.0 if bias is None else bias[h])
            weights = np.where(allowed, np.exp(logits - logits.max()), 0.0)
            weights /= weights.sum(-1, keepdims=True)
            heads.append(weights @ memory @ p["value"]["kernel"][:, columns])
        return np.concatenate(heads, -1) @ p["out"]["kernel"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def mlp(p, x):
        if "wi" in p:
            return np.maximum(x @ p["wi"]["kernel"], 0) @ p["wo"]["kernel"]
        return (gelu(x @ p["wi_0"]["kernel"]) * (x @ p["wi_1"]["kernel"])) @ p["wo"]["kernel"]

    def bias_of(p, length, is_bidirectional):
        positions = np.arange(length)
        buckets = relative_buckets(
            positions[None, :] - positions[:, None],
            is_bidirectional=is_bidirectional,
            num_buckets=config.num_relative_buckets,
            max_distance=config.max_relative_distance,
        )
        return p["relpos_bias"]["rel_embedding"][:, buckets]

    def one_row(inputs, decoder_inputs):
        p = params["encoder"]
        x, bias = table[inputs], bias_of(p, len(inputs), True)
        for i in range(config.num_encoder_layers):
            layer = p[f"layers_{i}"]
            y = norm(layer["pre_attention_layer_norm"], x)
            x = x + attend(layer["attention"], y, y, True, bias)
            x = x + mlp(layer["mlp"], norm(layer["pre_mlp_layer_norm"], x))
        encoded = norm(p["encoder_norm"], x)

        p = params["decoder"]
        x, bias = table[decoder_inputs], bias_of(p, len(decoder_inputs), False)
        past = np.tri(len(decoder_inputs), dtype=bool)
        for i in range(config.num_decoder_layers):
            layer = p[f"layers_{i}"]
            y = norm(layer["pre_self_attention_layer_norm"], x)
            x = x + attend(layer["self_attention"], y, y, past, bias)
            y = norm(layer["pre_cross_attention_layer_norm"], x)
            x = x + attend(layer["encoder_decoder_attention"], y, encoded, True, None)
            x = x + mlp(layer["mlp"], norm(layer["pre_mlp_layer_norm"], x))
        x = norm(p["decoder_norm"], x)
        if config.head_is_tied:
            return (x / np.sqrt(config.embed_dim)) @ table.T
        return x @ params["logits_dense"]["kernel"]

    return [
        one_row(tokens[segments > 0], decoder_tokens[decoder_segments > 0])
        for tokens, segments, decoder_tokens, decoder_segments in zip(
            batch["encoder_input_tokens"],
            batch["encoder_segment_ids"],
            batch["decoder_input_tokens"],
            batch["decoder_segment_ids"],
            strict=True,
        )
    ]


@pytest.mark.parametrize("config", [unrolled(V1_0), V1_1], ids=["v1.0-unrolled", "v1.1-scanned"])
def test_logits_are_those_of_t5_written_plainly(config, random_batch):
    batch = random_batch(ROWS)
    params = draw_params(unrolled(config))
    logits = logits_of(config, stack_layers(params) if config.scans_layers else params, batch)
    assert logits.shape == (3, 8, 40)
    assert logits.dtype == np.float32
    for row, expected, (_, num_targets) in zip(logits, plain_t5(params, config, batch), ROWS, strict=True):
        np.testing.assert_allclose(row[:num_targets], expected, atol=2e-5 * np.abs(expected).max())


# --- What a logit depends on --------------------------------------------------------------------------------


def test_a_logit_depends_on_its_own_segment_and_past_alone():
    """Every position of a batch has an id of its own, so a gradient by table row is one by position.

    The last row is packed and padded, the middle one padded, the first neither.
    """
    encoder_segment_ids = np.array([[1] * 6, [1, 1, 1, 1, 0, 0], [1, 1, 2, 2, 2, 0]])
    decoder_segment_ids = np.array([[1] * 5, [1, 1, 1, 0, 0], [1, 1, 2, 2, 0]])
    encoder_tokens = np.arange(18).reshape(3, 6)
    decoder_tokens = np.arange(18, 33).reshape(3, 5)
    batch = {
        "encoder_input_tokens": encoder_tokens,
        "encoder_segment_ids": encoder_segment_ids,
        "decoder_input_tokens": decoder_tokens,
        "decoder_segment_ids": decoder_segment_ids,
    }
    params = draw_params(V1_1)
    direction = np.random.default_rng(0).normal(size=40).astype(np.float32)

    def with_table(table):
        return {**params, "token_embedder": {"embedding": table}}

    def projected_logits(table):
        return Transformer(V1_1).apply({"params": with_table(table)}, batch) @ direction

    def projected_encoding(table):
        return jnp.sum(
            Transformer(V1_1).apply(
                {"params": with_table(table)}, encoder_tokens, encoder_segment_ids, method=Transformer.encode
            )
            * direction[:16],
            axis=-1,
        )

    table = params["token_embedder"]["embedding"]
    of_logits = np.abs(jax.jit(jax.jacrev(projected_logits))(table)).sum(-1)  # [batch, target, id]
    of_encoding = np.abs(jax.jit(jax.jacrev(projected_encoding))(table)).sum(-1)  # [batch, input, id]
    assert np.isfinite(of_logits).all()
    assert np.isfinite(of_encoding).all()

    def expect(influence, segment_ids, tokens, source_segment_ids, *, is_causal):
        for row, position in np.argwhere(segment_ids > 0):
            allowed = np.zeros(40, bool)
            seen = source_segment_ids[row] == segment_ids[row, position]
            if is_causal:
                seen &= np.arange(len(seen)) <= position
            allowed[tokens[row, seen]] = True
            depends = influence[row, position, tokens.min() : tokens.max() + 1] != 0
            np.testing.assert_array_equal(depends, allowed[tokens.min() : tokens.max() + 1])

    expect(of_encoding, encoder_segment_ids, encoder_tokens, encoder_segment_ids, is_causal=False)
    expect(of_logits, decoder_segment_ids, encoder_tokens, encoder_segment_ids, is_causal=False)
    expect(of_logits, decoder_segment_ids, decoder_tokens, decoder_segment_ids, is_causal=True)


def test_ids_under_padding_change_no_real_logit(random_batch):
    batch = random_batch(ROWS)
    other = {name: array.copy() for name, array in batch.items()}
    for side in ("encoder", "decoder"):
        padding = batch[f"{side}_segment_ids"] == 0
        assert padding.any()
        other[f"{side}_input_tokens"][padding] = 39
    params = draw_params(V1_1)
    real = batch["decoder_segment_ids"] > 0
    np.testing.assert_array_equal(logits_of(V1_1, params, batch)[real], logits_of(V1_1, params, other)[real])


def test_more_padding_changes_no_real_logit(random_batch):
    params = draw_params(V1_1)
    logits = logits_of(V1_1, params, random_batch(ROWS))
    padded = logits_of(V1_1, params, random_batch(ROWS, inputs_length=15, targets_length=11))
    for row, padded_row, (_, num_targets) in zip(logits, padded, ROWS, strict=True):
        np.testing.assert_allclose(row[:num_targets], padded_row[:num_targets], atol=1e-5)


def test_packed_examples_get_the_logits_they_get_apart(random_batch):
    """Two rows of 4 + 5 inputs and 3 + 4 targets in one row of 10 and 8; the padding is at its end."""
    apart = random_batch([(4, 3), (5, 4), (0, 0)])
    ends = {"encoder": (4, 5), "decoder": (3, 4)}
    packed = {}
    for name, rows in apart.items():
        first, second = ends[name.split("_")[0]]
        packed[name] = np.zeros_like(rows)
        packed[name][0, : first + second] = np.concatenate([rows[0, :first], rows[1, :second]])
        if name.endswith("segment_ids"):
            packed[name][0, first : first + second] = 2
    params = draw_params(V1_1)
    together, alone = (logits_of(V1_1, params, batch) for batch in (packed, apart))
    np.testing.assert_allclose(together[0, :3], alone[0, :3], atol=1e-5)
    np.testing.assert_allclose(together[0, 3:7], alone[1, :4], atol=1e-5)

    loss, gradients = compiled_loss_and_gradients(V1_1)(params, packed, None)
    loss_apart, gradients_apart = compiled_loss_and_gradients(V1_1)(params, apart, None)
    np.testing.assert_allclose(loss, loss_apart, rtol=1e-6)
    assert_trees_close(gradients, gradients_apart, 1e-5)


# --- What may not matter: loops, rematerialisation, precision -----------------------------------------------

WITH_DROPOUT = dataclasses.replace(V1_1, dropout_rate=0.2, num_encoder_layers=2, num_decoder_layers=1)


def dropout_key(seed):
    """Returns a key of the kind that compiles fastest; the laws do not depend on how bits are drawn."""
    return jax.random.key(seed, impl="unsafe_rbg")


def test_scanned_layers_equal_unrolled_ones_with_dropout(random_batch):
    config, batch, key = WITH_DROPOUT, random_batch(ROWS), dropout_key(5)
    params = draw_params(unrolled(config))
    loss, gradients = compiled_loss_and_gradients(config)(stack_layers(params), batch, key)
    expected_loss, expected = compiled_loss_and_gradients(unrolled(config))(params, batch, key)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(gradients, stack_layers(expected), 1e-5)


@pytest.mark.parametrize("attention", ["per_example", "chunked", "flash"])
def test_each_way_of_attention_equals_attention_at_once_with_dropout(attention, random_batch):
    # Of draws 4 and 5 the terms of a gradient cancel, and its rounding alone is 1.5e-5; of ten others below 7e-6.
    batch, key = random_batch(ROWS), dropout_key(7)
    params = draw_params(WITH_DROPOUT)
    config = dataclasses.replace(WITH_DROPOUT, attention=attention)
    loss, gradients = compiled_loss_and_gradients(config)(params, batch, key)
    expected_loss, expected = compiled_loss_and_gradients(WITH_DROPOUT)(params, batch, key)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(gradients, expected, 1e-5)


TO_REMATERIALISE = [
    WITH_DROPOUT,
    dataclasses.replace(WITH_DROPOUT, num_encoder_layers=1, scans_layers=False),
]
scanned_and_unrolled = pytest.mark.parametrize("plain", TO_REMATERIALISE, ids=["scanned", "unrolled"])


@scanned_and_unrolled
@pytest.mark.parametrize("remat", ["full", "save_matmuls"])
def test_rematerialisation_changes_neither_loss_nor_gradients(remat, plain, random_batch):
    batch, key = random_batch(ROWS), dropout_key(5)
    config = dataclasses.replace(plain, remat=remat)
    params = draw_params(plain)
    assert jax.tree.structure(params) == jax.tree.structure(draw_params(config))
    loss, gradients = compiled_loss_and_gradients(config)(params, batch, key)
    expected_loss, expected = compiled_loss_and_gradients(plain)(params, batch, key)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_trees_close(gradients, expected, 1e-5)


@scanned_and_unrolled
def test_rematerialisation_keeps_less_for_the_backward_pass(plain, random_batch):
    batch, key = random_batch(ROWS), dropout_key(5)

    def residual_bytes(remat):
        config = dataclasses.replace(plain, remat=remat)

        def backward(params):
            return jax.vjp(lambda p: loss_of(config, p, batch, key), params)[1]

        residuals = jax.eval_shape(backward, draw_params(plain))
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals))

    none, save_matmuls, full = map(residual_bytes, ("none", "save_matmuls", "full"))
    assert full < 0.8 * save_matmuls < 0.8 * 0.8 * none


def test_dropout_is_a_function_of_the_key(random_batch):
    batch, params = random_batch(ROWS), draw_params(WITH_DROPOUT)
    first, again, other = (logits_of(WITH_DROPOUT, params, batch, dropout_key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


def test_no_key_or_no_rate_means_no_dropout(random_batch):
    batch, params = random_batch(ROWS), draw_params(V1_1)
    expected = logits_of(V1_1, params, batch)
    with_dropout = dataclasses.replace(V1_1, dropout_rate=0.2)
    np.testing.assert_array_equal(logits_of(with_dropout, params, batch), expected)
    np.testing.assert_array_equal(logits_of(V1_1, params, batch, dropout_key(0)), expected)


def in_bfloat16(config):
    return dataclasses.replace(config, compute_dtype="bfloat16")


@pytest.mark.parametrize("config", [unrolled(V1_0), V1_1], ids=["v1.0", "v1.1"])
def test_bfloat16_compute_leaves_params_and_logits_float32(config, random_batch):
    batch, params = random_batch(ROWS), draw_params(in_bfloat16(config))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    logits, expected = logits_of(in_bfloat16(config), params, batch), logits_of(config, params, batch)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_bfloat16_compute_leaves_gradients_float32(random_batch):
    batch, params = random_batch(ROWS), draw_params(V1_1)
    loss, gradients = compiled_loss_and_gradients(in_bfloat16(V1_1))(params, batch, None)
    expected_loss, expected = compiled_loss_and_gradients(V1_1)(params, batch, None)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, expected_loss, rtol=0.05)
    for x, y in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert x.dtype == np.float32
        assert np.linalg.norm(x - y) < 0.3 * np.linalg.norm(y)


# --- Where it starts ----------------------------------------------------------------------------------------

WIDE = dataclasses.replace(
    V1_1, num_embeddings=64, embed_dim=48, num_heads=4, head_dim=8, mlp_dim=80, num_relative_buckets=32,
    max_relative_distance=128,
)  # fmt: skip
EXPECTED_STD = {
    "embedding": 1.0,
    "query/kernel": (48 * 8) ** -0.5,  # 1/sqrt(head_dim) of the attention logits is folded in here
    "key/kernel": 48**-0.5,
    "value/kernel": 48**-0.5,
    "out/kernel": 32**-0.5,
    "wi_0/kernel": 48**-0.5,
    "wi_1/kernel": 48**-0.5,
    "wi/kernel": 48**-0.5,
    "wo/kernel": 80**-0.5,
    "logits_dense/kernel": 48**-0.5,
    "rel_embedding": (2 / (4 + 32)) ** 0.5,
}


@pytest.mark.parametrize(("scans_layers", "is_gated"), [(True, True), (False, False)])
def test_first_parameters_have_t5s_scales(scans_layers, is_gated):
    depth = (3, 2) if scans_layers else (1, 1)
    config = dataclasses.replace(
        WIDE,
        scans_layers=scans_layers,
        num_encoder_layers=depth[0],
        num_decoder_layers=depth[1],
        mlp_activations=("gelu", "linear") if is_gated else ("relu",),
    )
    batch = {
        name: array[None]
        for name, array in encoder_decoder_row(
            np.zeros(0), np.zeros(0), inputs_length=2, targets_length=2
        ).items()
    }
    params = nn.unbox(jax.jit(Transformer(config).init)(jax.random.key(0), batch)["params"])
    met, seen_values = set(), set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        layers = leaf if "/layers/" in name else leaf[None]
        assert layers.shape[0] == (depth[name.startswith("decoder")] if layers is leaf else 1)
        for layer in np.asarray(layers):
            if name.endswith("scale"):
                np.testing.assert_array_equal(layer, 1.0)
                continue
            (kind,) = (kind for kind in EXPECTED_STD if name.endswith(f"/{kind}") or name == kind)
            met.add(kind)
            std = EXPECTED_STD[kind]
            assert abs(layer.std() / std - 1) < 5 / np.sqrt(2 * layer.size), name
            assert abs(layer.mean()) < 5 * std / np.sqrt(layer.size), name
            seen_values.add(float(layer.flat[0]))
            if "wi" in kind or "wo" in kind or "logits" in kind:
                # truncated at two standard deviations of the normal before truncation
                assert np.abs(layer).max() < 2 * std / 0.8796, name
    expected = set(EXPECTED_STD) - ({"wi/kernel"} if is_gated else {"wi_0/kernel", "wi_1/kernel"})
    assert met == expected
    num_in_mlp = 3 if is_gated else 2
    num_matrices = depth[0] * (4 + num_in_mlp) + depth[1] * (8 + num_in_mlp) + 4
    assert len(seen_values) == num_matrices, "two parameters were drawn from the same key"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_heads", 0),
        ("dropout_rate", 1.0),
        ("mlp_activations", ()),
        ("num_relative_buckets", 7),
        ("max_relative_distance", 4),
    ],
)
def test_a_config_that_cannot_work_is_refused(field, value):
    with pytest.raises(UserError, match=field):
        dataclasses.replace(V1_1, **{field: value})
