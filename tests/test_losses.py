"""Cross-entropy, z-loss and label smoothing against the formulas written plainly, in values and gradients."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.losses import LossSums, token_cross_entropy

SHAPE = (3, 5, 11)
SETTINGS = [(0.0, 0.0), (1e-2, 0.0), (0.0, 0.2), (1e-2, 0.2)]
with_settings = pytest.mark.parametrize(("z_loss", "label_smoothing"), SETTINGS)


def plain_loss(logits, targets, weights, *, z_loss, label_smoothing):
    """Returns what `token_cross_entropy` should, from dense target distributions."""
    vocab = logits.shape[-1]
    off = label_smoothing / (vocab - 1)
    distribution = np.where(np.arange(vocab) == np.asarray(targets)[..., None], 1.0 - label_smoothing, off)
    entropy = -np.sum(distribution * np.log(np.maximum(distribution, 1e-300)), -1)
    cross_entropy = -jnp.sum(distribution * jax.nn.log_softmax(logits), -1) - entropy
    log_z = jax.nn.logsumexp(logits, -1)
    return LossSums(
        cross_entropy=jnp.sum(cross_entropy * weights),
        z_loss=jnp.sum(z_loss * log_z**2 * weights),
        num_correct=jnp.sum((jnp.argmax(logits, -1) == targets) * weights),
        weight=jnp.sum(weights),
    )


def random_inputs(seed=0, scale=3.0):
    """Returns logits, targets and weights, some of which are zero and some not one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=SHAPE).astype(np.float32)
    targets = rng.integers(0, SHAPE[-1], SHAPE[:2]).astype(np.int32)
    weights = rng.choice([0.0, 1.0, 1.0, 0.5], SHAPE[:2]).astype(np.float32)
    return logits, targets, weights


@with_settings
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 3.0, 30.0]))
def test_values_and_gradients_are_those_of_the_formula(z_loss, label_smoothing, seed, scale):
    logits, targets, weights = random_inputs(seed, scale)
    kwargs = {"z_loss": z_loss, "label_smoothing": label_smoothing}
    loss = token_cross_entropy(logits, targets, weights, **kwargs)
    expected = plain_loss(logits, targets, weights, **kwargs)
    for name, value, expected_value in zip(loss._fields, loss, expected, strict=True):
        np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=1e-5, err_msg=name)
        assert value.dtype == jnp.float32
        assert value.shape == ()
    gradient, expected_gradient = (
        jax.grad(lambda x, f=f: f(x, targets, weights, **kwargs).total)(logits)
        for f in (token_cross_entropy, plain_loss)
    )
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6 * max(1.0, scale))


@with_settings
def test_gradients_are_finite_differences_in_float64(z_loss, label_smoothing):
    with jax.enable_x64(True):
        logits, targets, weights = random_inputs()

        def total(logits):
            return token_cross_entropy(
                logits, targets, weights.astype(np.float64), z_loss=z_loss, label_smoothing=label_smoothing
            ).total

        jax.test_util.check_grads(
            total, (jnp.asarray(logits, jnp.float64),), order=1, modes=["rev"], atol=1e-6, rtol=1e-6
        )


@with_settings
def test_gradient_of_each_sum_apart(z_loss, label_smoothing):
    """Losses may be weighed against each other by whoever calls: every sum has its own gradient."""
    logits, targets, weights = random_inputs()
    for field in ("cross_entropy", "z_loss"):
        gradient, expected = (
            jax.grad(
                lambda x, f=f, field=field: getattr(
                    f(x, targets, weights, z_loss=z_loss, label_smoothing=label_smoothing), field
                )
            )(logits)
            for f in (token_cross_entropy, plain_loss)
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@with_settings
def test_tokens_of_weight_zero_count_for_nothing(z_loss, label_smoothing):
    logits, targets, weights = random_inputs()
    padding = weights == 0
    assert padding.any()
    loss = functools.partial(token_cross_entropy, z_loss=z_loss, label_smoothing=label_smoothing)
    other_logits, other_targets = logits.copy(), targets.copy()
    other_logits[padding] = 1e4
    other_targets[padding] = 0
    for value, other in zip(
        loss(logits, targets, weights), loss(other_logits, other_targets, weights), strict=True
    ):
        np.testing.assert_array_equal(value, other)
    gradient = np.asarray(jax.grad(lambda x: loss(x, targets, weights).total)(logits))
    assert (gradient[padding] == 0).all()
    assert (gradient[~padding] != 0).any(-1).all()


def test_losses_of_parts_add_up_to_that_of_the_whole():
    logits, targets, weights = random_inputs()
    loss = functools.partial(token_cross_entropy, z_loss=1e-2, label_smoothing=0.1)
    whole = loss(logits, targets, weights)
    parts = [loss(logits[i : i + 1], targets[i : i + 1], weights[i : i + 1]) for i in range(len(logits))]
    assert len({float(part.weight) for part in parts}) > 1, "a mean of means would pass"
    np.testing.assert_allclose(whole, np.sum(parts, 0), rtol=1e-6)


def test_a_certain_and_right_prediction_costs_nothing_smoothed_or_not():
    targets = np.array([[2, 0]], np.int32)
    weights = np.ones((1, 2), np.float32)
    certain = 50.0 * np.eye(4, dtype=np.float32)[targets]
    loss = token_cross_entropy(certain, targets, weights)
    np.testing.assert_allclose(loss.cross_entropy, 0.0, atol=1e-6)
    assert loss.num_correct == 2.0
    smoothed = np.log(np.where(np.eye(4)[targets] > 0, 0.7, 0.1)).astype(np.float32)
    loss = token_cross_entropy(smoothed, targets, weights, label_smoothing=0.3)
    np.testing.assert_allclose(loss.cross_entropy, 0.0, atol=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    loss = token_cross_entropy(
        jnp.full((1, 3, 8), 5.0), np.zeros((1, 3), np.int32), np.array([[1.0, 1.0, 0.0]]), z_loss=0.5
    )
    np.testing.assert_allclose(loss.cross_entropy, 2 * np.log(8), rtol=1e-6)
    np.testing.assert_allclose(loss.z_loss, 0.5 * 2 * (5 + np.log(8)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(loss.total, loss.cross_entropy + loss.z_loss)
    assert loss.weight == 2.0


def test_large_logits_stay_finite():
    logits, targets, weights = random_inputs(scale=1e4)
    loss, gradient = jax.value_and_grad(
        lambda x: token_cross_entropy(x, targets, weights, z_loss=1e-4, label_smoothing=0.1).total
    )(logits)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
