"""The loss in chunks is the loss of the logits all at once, and those are never there."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.chunked_loss import VocabularyHead, chunked_cross_entropy, chunked_row_losses
from t5like.losses import Targets, token_cross_entropy
from t5like.mesh import MeshShape
from t5like.models.transformer import Transformer
from t5like.sharding import AxisRules
from tests.tiny_models import VOCAB, batch_of, ours

SETTINGS = {"z_loss": 1e-2, "label_smoothing": 0.1}
NUM_ROWS, LENGTH, EMBED = 8, 6, 16
RULES = AxisRules()
MESHES = {
    "data": (MeshShape(data=8), RULES),
    "fsdp": (MeshShape(data=1, fsdp=8), RULES),
    "mixed": (MeshShape(data=2, fsdp=2, tensor=2), RULES),
    "tensor": (MeshShape(data=1, tensor=8), RULES),
    "split-length": (MeshShape(data=4, fsdp=2), AxisRules(batch="data", length="fsdp")),
    "split-parameters-alone": (MeshShape(data=2, fsdp=2, tensor=2), AxisRules(batch="data")),
    "whole-parameters": (MeshShape(data=2, fsdp=2, tensor=2), AxisRules(fsdp_embed=None)),
}


def random_inputs(*, has_bias=True, dtype=np.float32):
    """Returns hidden states, a head and targets, some of whose weights are zero and some not one."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(NUM_ROWS, LENGTH, EMBED)).astype(dtype)
    bias = rng.normal(size=VOCAB).astype(np.float32) if has_bias else None
    head = VocabularyHead(rng.normal(size=(EMBED, VOCAB)).astype(dtype), bias)
    ids = rng.integers(0, VOCAB, (NUM_ROWS, LENGTH)).astype(np.int32)
    weights = rng.choice([0.0, 1.0, 1.0, 0.5], ids.shape).astype(np.float32)
    return hidden, head, Targets(ids, weights)


def whole(hidden, head, targets, **settings):
    logits = jnp.dot(hidden, head.kernel, preferred_element_type=jnp.float32)
    logits = logits if head.bias is None else logits + head.bias
    return token_cross_entropy(logits, *targets, **settings)


def in_chunks(hidden, head, targets, *, num_chunks, rules=RULES, **settings):
    return chunked_cross_entropy(hidden, head, targets, num_chunks=num_chunks, rules=rules, **settings)


def sums_and_gradients(loss, hidden, head, targets):
    """Returns the sums, and the gradients of their total less a third, so that a scale is seen to be kept."""

    def total(hidden, head):
        sums = loss(hidden, head, targets)
        return sums.total / 1.5, sums

    gradients, sums = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(hidden, head)
    return sums, gradients


def assert_close(tree, expected, rtol=1e-5):
    """Each array within `rtol` of the largest entry of the expected one."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected), strict=True
    ):
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        name = jax.tree_util.keystr(path)
        assert np.abs(y).max() > 0, f"{name} is all zero: nothing is compared"
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * np.abs(y).max(), err_msg=name)


@pytest.mark.parametrize(
    ("num_chunks", "z_loss", "label_smoothing", "has_bias"),
    [
        (1, 0.0, 0.0, False),
        (4, 1e-2, 0.0, True),
        (7, 0.0, 0.2, False),
        (7, 1e-2, 0.2, True),
        (48, 1e-2, 0.2, False),
        (50, 1e-2, 0.2, True),
    ],
)
def test_sums_and_gradients_are_those_of_the_logits_at_once(num_chunks, z_loss, label_smoothing, has_bias):
    """48 tokens in 7 chunks leave one of padding, in 50 there are two of nothing else."""
    settings = {"z_loss": z_loss, "label_smoothing": label_smoothing}
    inputs = random_inputs(has_bias=has_bias)
    loss = functools.partial(in_chunks, num_chunks=num_chunks, **settings)
    sums, gradients = sums_and_gradients(loss, *inputs)
    expected, expected_gradients = sums_and_gradients(functools.partial(whole, **settings), *inputs)
    assert (float(sums.z_loss) > 0) == (z_loss > 0)
    for name, value, expected_value in zip(sums._fields, sums, expected, strict=True):
        np.testing.assert_allclose(value, expected_value, rtol=1e-5, err_msg=name)
        assert value.dtype == jnp.float32
    assert_close(gradients, expected_gradients)
    np.testing.assert_allclose(loss(*inputs).total, sums.total, rtol=1e-6)  # computed without gradients


def test_in_bfloat16_gradients_have_the_dtypes_of_their_arrays_and_are_near_those_of_float32():
    hidden, head, targets = random_inputs(dtype=jnp.bfloat16)
    sums, gradients = sums_and_gradients(
        functools.partial(in_chunks, num_chunks=4, **SETTINGS), hidden, head, targets
    )
    assert [x.dtype for x in jax.tree.leaves(gradients)] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    in_float32 = jax.tree.map(lambda x: x.astype(np.float32), (hidden, head))
    expected, expected_gradients = sums_and_gradients(
        functools.partial(whole, **SETTINGS), *in_float32, targets
    )
    np.testing.assert_allclose(sums.total, expected.total, rtol=1e-5)
    assert_close(gradients, expected_gradients, 0.02)


def test_gradients_of_cross_entropy_and_z_loss_apart_are_refused_and_not_wrong():
    hidden, head, targets = random_inputs()
    loss = functools.partial(in_chunks, num_chunks=4, z_loss=1e-2)
    gradient = jax.jit(jax.grad(lambda x: loss(x, head, targets).cross_entropy))(hidden)
    assert np.isnan(gradient).all()
    loss = functools.partial(in_chunks, num_chunks=4)  # without z-loss there is but one
    gradient = jax.jit(jax.grad(lambda x: loss(x, head, targets).cross_entropy))(hidden)
    expected = jax.grad(lambda x: whole(x, head, targets).cross_entropy)(hidden)
    assert_close(gradient, expected)


# --- Over devices -------------------------------------------------------------------------------------------


def compile_on(mesh_name, num_chunks):
    """Returns the compiled sums and gradients, and its arguments, laid out as parameters and batches are."""
    mesh_shape, rules = MESHES[mesh_name]
    mesh = mesh_shape.build()
    hidden, head, targets = random_inputs()
    of_tokens = rules.spec(("batch", "length"))
    specs = (
        of_tokens,
        VocabularyHead(rules.spec(("fsdp_embed", "vocab")), rules.spec(("vocab",))),
        Targets(of_tokens, of_tokens),
    )

    def total(hidden, head, targets):
        sums = in_chunks(hidden, head, targets, num_chunks=num_chunks, rules=rules, **SETTINGS)
        return sums.total / 1.5, sums

    with jax.set_mesh(mesh):
        args = jax.device_put(
            (hidden, head, targets), jax.tree.map(lambda s: jax.NamedSharding(mesh, s), specs)
        )
        step = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
        return step.lower(*args).compile(), args


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_computes_what_one_device_does(mesh):
    """Each device has six tokens or more; in five chunks they leave padding."""
    compiled, args = compile_on(mesh, 5)
    gradients, sums = compiled(*args)
    loss = functools.partial(whole, **SETTINGS)
    expected, expected_gradients = sums_and_gradients(loss, *random_inputs())
    np.testing.assert_allclose(np.stack(sums), np.stack(expected), rtol=1e-5)
    assert_close(gradients, expected_gradients)
    of_kernel = gradients[1].kernel
    is_like_its_parameter = of_kernel.sharding.is_equivalent_to(args[1].kernel.sharding, 2)
    assert is_like_its_parameter or mesh == "split-parameters-alone"  # whose part the optimizer takes


def test_rows_apart_have_the_sums_of_their_logits_at_once_on_a_mesh():
    mesh_shape, rules = MESHES["mixed"]
    hidden, head, targets = random_inputs()
    with jax.set_mesh(mesh_shape.build()):
        loss = functools.partial(chunked_row_losses, num_chunks=4, rules=rules)
        rows = jax.jit(loss)(hidden, head, targets)
    assert all(x.shape == (NUM_ROWS,) for x in rows)
    for i in range(NUM_ROWS):
        row = jax.tree.map(lambda x, i=i: x[i : i + 1], (hidden, targets))
        expected = np.stack(whole(row[0], head, row[1]))
        np.testing.assert_allclose(np.stack(rows)[:, i], expected, rtol=1e-5)


def test_the_head_is_gathered_once_and_its_gradient_reduced_once():
    compiled, _ = compile_on("fsdp", 3)
    before, main = compiled.as_text().split("\nENTRY ")
    assert "while(" in main
    collective = r"= (.*) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    assert not re.findall(collective, before), "within the loop"
    found = re.findall(collective, main)
    assert sorted(name for _, name in found if name != "all-reduce") == ["all-gather", "reduce-scatter"]
    assert not [shape for shape, name in found if name == "all-reduce" and f"{EMBED},{VOCAB}" in shape]


# --- In a model ---------------------------------------------------------------------------------------------


def losses_of(name, num_chunks):
    model, params, _ = ours(name)
    stack = model.config.last_stack
    batch = dict(batch_of(name))
    rng = np.random.default_rng(1)
    shape = batch[f"{stack}_input_tokens"].shape
    batch[f"{stack}_target_tokens"] = rng.integers(5, VOCAB, shape).astype(np.int32)
    batch[f"{stack}_loss_weights"] = (batch[f"{stack}_segment_ids"] > 0).astype(np.float32)
    if model.config.predicts_next_sentence:
        batch["next_sentence_labels"] = np.arange(shape[0], dtype=np.int32) % 2
    config = dataclasses.replace(model.config, dropout_rate=0.2)

    def total(params):
        losses = Transformer(config).apply(
            {"params": params},
            batch,
            jax.random.key(3, impl="unsafe_rbg"),
            num_chunks=num_chunks,
            method=Transformer.losses,
            **SETTINGS,
        )
        return sum(loss.total for loss in losses.values()), losses

    gradients, losses = jax.jit(jax.grad(total, has_aux=True))(params)
    return losses, gradients


@pytest.mark.parametrize("name", ["t5-1.0", "t5-1.1", "bert-next-sentence", "gpt2", "bart"])
def test_models_learn_the_same_in_chunks(name):
    """Heads that are tied and not, scaled and not, with a bias and without, transformed and not; with dropout."""
    expected, expected_gradients = losses_of(name, 1)
    losses, gradients = losses_of(name, 4)
    assert losses.keys() == expected.keys()
    for key, loss in losses.items():
        np.testing.assert_allclose(np.stack(loss), np.stack(expected[key]), rtol=1e-5, err_msg=key)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradients))
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * largest, err_msg=jax.tree_util.keystr(path))
