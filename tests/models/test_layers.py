"""Linear maps, dropout, norm and MLP, each against its formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.models.layers import Norm, dropout, linear, scales_by_sixteen_bits, split_key

RMS = TransformerConfig(
    embed_dim=16, num_heads=1, head_dim=4, mlp_dim=8, num_encoder_layers=1, num_decoder_layers=0
)
LAYER = dataclasses.replace(RMS, norm="layer", norm_epsilon=1e-5)


def test_dropout_without_key_or_rate_is_identity():
    x = jnp.arange(6.0).reshape(2, 3)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_dropout_is_a_function_of_its_key():
    x = jnp.ones((4, 50))
    first, again, other = (dropout(x, 0.3, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
    num = 100_000
    y = np.asarray(dropout(jnp.full(num, 3.0), rate, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(y), [0.0, 3.0 / (1.0 - rate)], rtol=1e-6)
    standard_error = np.sqrt(rate * (1.0 - rate) / num)
    assert abs((y == 0).mean() - rate) < 5 * standard_error
    assert abs(y.mean() - 3.0) < 5 * 3.0 / (1.0 - rate) * standard_error


@pytest.mark.parametrize("shape", [(4, 501, 64), (4, 2, 20_000)])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.1])
def test_sixteen_bits_keep_the_share_and_the_mean(shape: tuple[int, ...], share: float) -> None:
    drawn = scales_by_sixteen_bits(jax.random.key(3), share, shape)
    assert drawn.shape == shape
    (inverse,) = set(np.unique(drawn)) - {0.0}
    assert abs(1 / inverse - share) <= 2**-16
    deviation = (share * (1 - share) / drawn.size) ** 0.5
    assert abs(float(jnp.mean(drawn > 0)) - share) < 4 * deviation


def test_positions_that_share_a_number_are_drawn_apart() -> None:
    is_kept, share = scales_by_sixteen_bits(jax.random.key(4), 0.7, (8, 256, 512)) > 0, 0.7
    first, second = is_kept[:, :128], is_kept[:, 128:]
    both = float(jnp.mean(first & second))
    assert abs(both - share**2) < 4 * (share**2 * (1 - share**2) / first.size) ** 0.5


def test_dropout_draws_once_for_all_positions_of_a_broadcast_axis():
    x = jnp.ones((3, 7, 40))
    y = np.asarray(dropout(x, 0.5, jax.random.key(0), broadcast_axes=(-2,)))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert len(np.unique(y[:, 0], axis=0)) == 3, "rows of the batch share a draw"
    everywhere = np.asarray(dropout(x, 0.5, jax.random.key(0)))
    assert len(np.unique(everywhere.reshape(21, 40), axis=0)) == 21


def test_dropout_keeps_the_dtype():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert dropout(x, 0.5, jax.random.key(0)).dtype == jnp.bfloat16


def test_split_key_gives_different_keys_or_none_at_all():
    assert split_key(None, 3) == [None] * 3
    keys = split_key(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_divides_by_the_root_mean_square_and_multiplies_by_scale(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(3.0, 10.0, (2, 5, 16)), dtype)
    scale = rng.normal(size=16).astype(np.float32)
    y = Norm(RMS).apply({"params": {"scale": scale}}, x)
    exact = np.asarray(x, np.float64)
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-6) * scale
    assert y.dtype == dtype
    # One rounding, at the very end: computing in bfloat16 would cost several.
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=1e-6 if dtype == jnp.float32 else 2**-8)


def test_layer_norm_takes_the_mean_away_divides_by_the_deviation_and_adds_the_bias():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 10.0, (2, 5, 16)).astype(np.float32)
    scale, bias = rng.normal(size=(2, 16)).astype(np.float32)
    y = Norm(LAYER).apply({"params": {"scale": scale, "bias": bias}}, x)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, exact * scale + bias, atol=1e-5)


def test_norm_of_zeros_is_zero_with_a_finite_gradient():
    def norm(x):
        return jnp.sum(Norm(RMS).apply({"params": {"scale": jnp.ones(4)}}, x))

    value, gradient = jax.value_and_grad(norm)(jnp.zeros((1, 1, 4)))
    assert value == 0.0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("num_devices", "num_axes"), [(1, 2), (8, 3)])
def test_linear_multiplies_matrices_on_one_device_and_leaves_axes_apart_on_several(
    num_devices: int, num_axes: int
) -> None:
    x, kernel = jax.random.normal(jax.random.key(0), (8, 3, 4)), jax.random.normal(jax.random.key(1), (4, 5))

    def total(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(linear(x, kernel)))

    with jax.set_mesh(MeshShape().build(jax.devices()[:num_devices])):
        program = jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(x, kernel)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(x, kernel)
    products = [equation for equation in program.eqns if equation.primitive.name == "dot_general"]
    assert len(products) == 3
    assert {max(var.aval.ndim for var in product.invars) for product in products} == {num_axes}
    plain = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(jnp.einsum("bli,io->blo", x, kernel))), argnums=(0, 1))
    for ours, expected in zip(gradients, plain(x, kernel), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
