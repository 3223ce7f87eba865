"""Every family computes what Transformers computes: logits, loss and gradients; and its arrays go both ways, bit for bit.

The oracle is Transformers 4.57 on PyTorch, on tiny models with random arrays, norms and biases among them.
"""

import jax
import numpy as np
import pytest

from t5like.families import family_of
from t5like.interchange import export_arrays
from t5like.losses import token_cross_entropy
from t5like.models.prepared import unstack_layers
from t5like.models.transformer import Transformer
from tests.public_models import logits_of, oracle, public_batch, torch
from tests.tiny_models import BATCH, LANGUAGE_MODELS, MODELS, VOCAB, batch_of, is_real, ours

IGNORED = -100  # the label of what PyTorch's loss leaves out


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_public_code(name):
    model, _ = oracle(name)
    public, batch = public_batch(name), batch_of(name)
    with torch.no_grad():
        expected = logits_of(model(**public)).numpy()
    transformer, params, _ = ours(name)
    logits = np.asarray(jax.jit(transformer.apply)({"params": params}, batch))
    assert logits.shape == expected.shape
    assert logits.dtype == np.float32
    real = np.ones(BATCH, bool) if logits.ndim == 2 else is_real(name)
    assert 0.1 < np.abs(expected[real]).max() < 20
    np.testing.assert_allclose(logits[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_loss_and_gradients_are_those_of_the_public_code(name):
    model, _ = oracle(name)
    public, batch = public_batch(name), batch_of(name)
    transformer, params, family = ours(name)
    real = is_real(name)
    labels = np.random.default_rng(1).integers(5, VOCAB, real.shape).astype(np.int32)
    model.zero_grad()
    output = logits_of(model(**public))
    torch_labels = torch.from_numpy(np.where(real, labels, IGNORED).astype(np.int64))
    expected = torch.nn.functional.cross_entropy(
        output.reshape(-1, VOCAB), torch_labels.reshape(-1), ignore_index=IGNORED
    )
    expected.backward()

    def loss_of(params):
        logits = transformer.apply({"params": params}, batch)
        loss = token_cross_entropy(logits, labels, real.astype(np.float32))
        return loss.cross_entropy / loss.weight

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(params)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    of_parameters = dict(model.named_parameters())
    compared = 0
    for array_name, _, _, make in export_arrays(family, transformer.config, gradients, np.dtype(np.float32)):
        if array_name not in of_parameters:
            assert array_name == "final_logits_bias"  # PyTorch does not train it
            continue
        gradient = of_parameters[array_name].grad
        if gradient is None:  # the head of next sentences, of which this loss knows nothing
            assert not make().any()
            continue
        gradient = gradient.numpy()
        scale = max(np.abs(gradient).max(), 1e-3)
        np.testing.assert_allclose(make(), gradient, rtol=0, atol=1e-4 * scale, err_msg=array_name)
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("scans_layers", [True, False], ids=["scanned", "unrolled"])
@pytest.mark.parametrize("name", MODELS)
def test_arrays_come_in_and_go_out_bit_for_bit(name, scans_layers):
    _, arrays = oracle(name)
    transformer, params, family = ours(name, scans_layers)
    exported = {
        array_name: make()
        for array_name, _, _, make in export_arrays(family, transformer.config, params, np.dtype(np.float32))
    }
    for array_name, array in exported.items():
        np.testing.assert_array_equal(array, arrays[array_name], err_msg=array_name, strict=True)
    # What is left out are copies, of which there is one array.
    left = [array for array_name, array in arrays.items() if array_name not in exported]
    assert all(any(np.array_equal(array, kept) for kept in exported.values()) for array in left)


@pytest.mark.parametrize("name", MODELS)
def test_a_public_config_becomes_ours_and_ours_the_same_public_one(name):
    """All that a model computes is in the config that goes out with it."""
    transformer, _, family = ours(name)
    assert family_of(transformer.config) is family


def test_scanned_and_unrolled_parameters_hold_the_same_arrays():
    for name in ("umt5", "gpt2"):
        _, scanned, _ = ours(name)
        _, unrolled, _ = ours(name, False)
        jax.tree.map(np.testing.assert_array_equal, unstack_layers(scanned), unrolled)


def test_the_next_sentence_is_predicted_as_by_the_public_code():
    model, _ = oracle("bert-next-sentence")
    public, batch = public_batch("bert-next-sentence"), batch_of("bert-next-sentence")
    types = np.array([[0] * 4 + [1] * 5] * BATCH, np.int32)
    with torch.no_grad():
        expected = model(**public, token_type_ids=torch.from_numpy(types.astype(np.int64)))
    transformer, params, _ = ours("bert-next-sentence")
    logits = transformer.apply(
        {"params": params}, {**batch, "encoder_token_types": types}, method=Transformer.predictions
    )
    np.testing.assert_allclose(logits["next_sentence"], expected.seq_relationship_logits.numpy(), atol=1e-5)
    real = is_real("bert-next-sentence")
    np.testing.assert_allclose(logits["token"][real], expected.prediction_logits.numpy()[real], atol=1e-5)
