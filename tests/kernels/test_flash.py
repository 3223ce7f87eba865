"""The TPU kernels of attention, interpreted: what they compute, how they cut it, and what they say it costs."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5like.kernels import toeplitz_tiles
from t5like.kernels.flash_blocks import Inputs, Sizes, block_of, padded
from t5like.kernels.flash_forward import flash_forward
from t5like.mesh import MeshShape
from t5like.models.attend_flash import FLASH
from tests.attention_cases import Case, assert_equals_attention_at_once, attend, attend_and_back

CASES = {
    "one block": Case(num_queries=11, num_keys=11),
    "blocks that do not divide": Case(num_queries=600, num_keys=600),  # 2 blocks of 384, the last half empty
    "causal": Case(num_queries=600, num_keys=600, is_causal=True),
    "prefixes": Case(num_queries=600, num_keys=600, is_causal=True, has_prefixes=True),
    "cross": Case(num_queries=70, num_keys=530, has_bias=False),
    "cross with a bias": Case(num_queries=530, num_keys=70),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_kernels_equal_attention_at_once_in_values_and_gradients(case):
    assert_equals_attention_at_once(FLASH, case, tolerance=3e-6)


def test_in_bfloat16_they_differ_from_attention_at_once_by_its_rounding():
    case = Case(num_queries=150, num_keys=150, is_causal=True, dtype="bfloat16")
    assert_equals_attention_at_once(FLASH, case, tolerance=2e-2)


def test_bias_rows_example_of_the_docstring(monkeypatch):
    monkeypatch.setattr(toeplitz_tiles, "TILE", 2)
    at = {0: 10.0, 1: 11.0, -2: 8.0, -1: 9.0}
    rows = toeplitz_tiles.bias_rows(jnp.array([list(at.values())]), 2, 2, 2, 2)
    np.testing.assert_array_equal(rows, [[[at[0], at[-1]], [0.0, at[1]]]])


def test_blocks_are_as_large_as_may_be_and_waste_little():
    lengths = np.arange(1, 5000)
    padded_lengths = np.array([padded(length) for length in lengths])
    blocks = np.array([block_of(length) for length in padded_lengths])
    assert (padded_lengths % blocks == 0).all()
    assert (blocks % 128 == 0).all()
    assert blocks.max() == 512
    spare = padded_lengths - lengths
    num_blocks = padded_lengths // blocks
    assert (spare >= 0).all()
    assert (spare < 128 * num_blocks).all()
    assert (num_blocks == np.ceil(lengths / 512)).all()
    assert [padded(length) for length in (1, 600, 2048)] == [128, 768, 2048]


SIZES = Sizes(
    batch=2,
    heads=3,
    head_dim=64,
    num_queries=1024,
    num_keys=1024,
    num_marks=1,
    has_bias=True,
    is_causal=False,
)


def test_a_causal_kernel_leaves_out_the_blocks_that_no_query_sees():
    for num_queries, num_keys in ((1024, 1024), (768, 1536), (1536, 768), (128, 128)):
        sizes = dataclasses.replace(SIZES, num_queries=num_queries, num_keys=num_keys, is_causal=True)
        shape = (sizes.query_blocks, sizes.query_block, sizes.key_blocks, sizes.key_block)
        is_seen = np.tril(np.ones((num_queries, num_keys), bool)).reshape(shape).any(axis=(1, 3))
        assert sizes.num_blocks == is_seen.sum()
        assert dataclasses.replace(sizes, num_marks=2).num_blocks == is_seen.size  # a prefix may see on


def test_the_compiler_is_told_what_a_kernel_costs():
    shape = jax.ShapeDtypeStruct((2, 3, 64, 1024), jnp.bfloat16)
    marks = jax.ShapeDtypeStruct((2, 1, 1024), jnp.int32)
    bias = jax.ShapeDtypeStruct((3, 16, 128), jnp.float32)
    inputs = Inputs(shape, shape, shape, marks, marks, bias)
    kernel = functools.partial(flash_forward, sizes=SIZES, is_interpreted=False)
    (equation,) = jax.make_jaxpr(kernel)(inputs).eqns
    cost = equation.params["cost_estimate"]
    num_logits = 2 * 3 * 1024**2
    assert cost.flops == 2 * num_logits * 64 * 2  # two products
    assert cost.transcendentals == num_logits
    # Three inputs and an output of 2 bytes; marks, bias and logarithms of 4.
    assert cost.bytes_accessed == 4 * 2 * (2 * 3 * 64 * 1024) + 4 * (
        2 * 2 * 1024 + 3 * 16 * 128 + 2 * 3 * 1024
    )


@pytest.mark.parametrize("mesh_shape", [None, MeshShape(data=2, fsdp=2, tensor=2)], ids=["alone", "mesh"])
def test_for_a_tpu_the_kernels_are_lowered_and_not_interpreted(mesh_shape):
    case = Case(num_queries=600, num_keys=600, batch=4, heads=4, is_causal=True, dtype="bfloat16")
    arrays, mask, gradient = case.arrays()
    both_passes = jax.jit(functools.partial(attend_and_back, FLASH, case))
    with contextlib.nullcontext() if mesh_shape is None else jax.set_mesh(mesh_shape.build()):
        program = both_passes.trace(arrays, mask, gradient).lower(lowering_platforms=("tpu",)).as_text()
    assert program.count("@tpu_custom_call") == 2, "forward and backward"
    assert "stablehlo.while" not in program


@pytest.mark.parametrize(
    ("policy", "num_kernels"),
    [
        (jax.checkpoint_policies.nothing_saveable, 3),
        (jax.checkpoint_policies.save_only_these_names("attended"), 2),
    ],
    ids=["nothing kept", "attended values kept"],
)
def test_rematerialisation_that_keeps_the_attended_values_attends_once(policy, num_kernels):
    case = Case(num_queries=128, num_keys=128)
    arrays, mask, _ = case.arrays()
    attended = jax.checkpoint(functools.partial(attend, FLASH, case, mask), policy=policy)
    # Squared, so that its gradient needs the attended values themselves.
    gradients = jax.jit(jax.grad(lambda arrays: jnp.sum(attended(*arrays) ** 2)))
    program = gradients.trace(arrays).lower(lowering_platforms=("tpu",)).as_text()
    assert program.count("@tpu_custom_call") == num_kernels
