"""Relative position buckets, and the bias laid out without a gather."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.models.config import TransformerConfig
from t5like.models.relative_bias import RelativeBias, relative_buckets, toeplitz

# fmt: off
BIDIRECTIONAL = {  # relative position (key minus query) -> bucket
    0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -15: 9, -16: 10, -22: 10, -23: 11, -31: 11, -32: 12, -45: 12,
    -46: 13, -63: 13, -64: 14, -90: 14, -91: 15, -127: 15, -128: 15, -129: 15, -5000: 15,
    1: 17, 7: 23, 8: 24, 16: 26, 64: 30, 90: 30, 91: 31, 128: 31, 5000: 31,
}
CAUSAL = {
    0: 0, -1: 1, -15: 15, -16: 16, -18: 16, -19: 17, -24: 19, -32: 21, -64: 26, -112: 30, -113: 31, -128: 31,
    -5000: 31, 1: 0, 2: 0, 16: 0, 127: 0, 5000: 0,
}
# fmt: on


@pytest.mark.parametrize(("is_bidirectional", "expected"), [(True, BIDIRECTIONAL), (False, CAUSAL)])
def test_buckets_of_public_checkpoints(is_bidirectional, expected):
    buckets = relative_buckets(
        np.array(list(expected)), is_bidirectional=is_bidirectional, num_buckets=32, max_distance=128
    )
    assert dict(zip(expected, buckets.tolist(), strict=True)) == expected
    assert buckets.dtype == np.int32


def test_buckets_example_of_the_docstring():
    buckets = relative_buckets(
        np.array([-91, -16, -8, -1, 0, 1, 8, 16]), is_bidirectional=True, num_buckets=32, max_distance=128
    )
    assert buckets.tolist() == [15, 10, 8, 1, 0, 17, 24, 26]


@settings(deadline=None, max_examples=50)
@given(
    half_buckets=st.integers(2, 32),
    distance_beyond=st.integers(1, 500),
    is_bidirectional=st.booleans(),
)
def test_buckets_lie_in_range_grow_with_distance_and_are_all_used(
    half_buckets, distance_beyond, is_bidirectional
):
    num_buckets = 2 * half_buckets
    max_distance = half_buckets + distance_beyond
    past = relative_buckets(
        -np.arange(2 * max_distance),
        is_bidirectional=is_bidirectional,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    future = relative_buckets(
        np.arange(2 * max_distance),
        is_bidirectional=is_bidirectional,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    assert past.min() == 0
    assert (np.diff(past) >= 0).all()
    assert (past[max_distance:] == past[-1]).all()
    if is_bidirectional:
        assert past.max() == half_buckets - 1
        np.testing.assert_array_equal(future[1:], past[1:] + half_buckets)
    else:
        assert past.max() == num_buckets - 1
        assert (future == 0).all()


def test_toeplitz_example_of_the_docstring():
    a, b, c, d, e, f = range(6)
    laid_out = toeplitz(jnp.array([a, b, c, d, e, f]), 3, 3)
    np.testing.assert_array_equal(laid_out, [[a, b, c], [f, a, b], [e, f, a]])


@settings(deadline=None, max_examples=10)  # each pair of lengths is compiled
@given(
    query_length=st.integers(1, 9),
    key_length=st.integers(1, 9),
    num_spare=st.integers(0, 3),
    num_heads=st.integers(1, 3),
)
def test_toeplitz_is_the_gather(query_length, key_length, num_spare, num_heads):
    m = query_length + key_length + num_spare
    values = np.arange(num_heads * m).reshape(num_heads, m)
    index = (np.arange(key_length)[None, :] - np.arange(query_length)[:, None]) % m
    np.testing.assert_array_equal(toeplitz(jnp.asarray(values), query_length, key_length), values[:, index])


@pytest.mark.parametrize("is_bidirectional", [True, False])
@pytest.mark.parametrize(("query_length", "key_length"), [(12, 12), (1, 9), (11, 5)])
def test_relative_bias_is_a_look_up_in_values_and_gradients(is_bidirectional, query_length, key_length):
    config = TransformerConfig(
        embed_dim=8,
        num_heads=3,
        head_dim=4,
        mlp_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_relative_buckets=8,  # few, so that far buckets are met within 12 positions
        max_relative_distance=9,
    )
    module = RelativeBias(config, is_bidirectional=is_bidirectional)
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=(3, 8)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(1, 3, query_length, key_length)), jnp.float32)
    buckets = relative_buckets(
        np.arange(key_length)[None, :] - np.arange(query_length)[:, None],
        is_bidirectional=is_bidirectional,
        num_buckets=8,
        max_distance=9,
    )

    def laid_out(table):
        return module.apply({"params": {"rel_embedding": table}}, query_length, key_length).dense()

    def looked_up(table):
        return table[:, buckets][None]

    np.testing.assert_array_equal(laid_out(table), looked_up(table))
    gradient, expected = (
        jax.grad(lambda t, f=f: jnp.sum(f(t) * weights))(table) for f in (laid_out, looked_up)
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
