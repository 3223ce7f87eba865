"""Attention some keys at a time equals attention at once, on one device and on eight, in memory linear in the length."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5like.mesh import MeshShape
from t5like.models import attend_per_example
from t5like.models.attend_chunked import CHUNKED, LARGEST_CHUNK
from t5like.models.attend_flash import FLASH
from t5like.models.attend_per_example import PER_EXAMPLE, num_groups
from t5like.models.masks import Mask
from tests.attention_cases import Case, assert_equals_attention_at_once, attend_and_back, largest_array

CASES = {
    "one chunk": Case(num_queries=11, num_keys=11),
    "chunks that do not divide": Case(num_queries=300, num_keys=300),
    "causal": Case(num_queries=150, num_keys=150, is_causal=True),
    "prefixes": Case(num_queries=150, num_keys=150, is_causal=True, has_prefixes=True),
    "cross": Case(num_queries=70, num_keys=150, has_bias=False),
    "cross with a bias": Case(num_queries=150, num_keys=70),
}


WAYS = {"per example": PER_EXAMPLE, "chunked": CHUNKED, "flash": FLASH}
in_xla = pytest.mark.parametrize("way", [PER_EXAMPLE, CHUNKED], ids=["per example", "chunked"])
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@in_xla
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_equals_attention_at_once_in_values_and_gradients(case, way):
    assert_equals_attention_at_once(way, case, tolerance=3e-6)


@in_xla
def test_in_bfloat16_it_differs_from_attention_at_once_by_its_rounding(way):
    case = Case(num_queries=150, num_keys=150, is_causal=True, dtype="bfloat16")
    assert_equals_attention_at_once(way, case, tolerance=2e-2)


def test_examples_too_long_for_one_block_are_attended_some_heads_at_a_time(monkeypatch):
    assert [num_groups(12, length, length) for length in (128, 512, 1024, 4096)] == [1, 1, 3, 12]
    assert num_groups(7, 1024, 1024) == 7  # 2 would do, and do not divide
    case = Case(num_queries=20, num_keys=24, heads=4)
    monkeypatch.setattr(attend_per_example, "MOST_LOGITS", 2 * 20 * 24)
    assert num_groups(4, 20, 24) == 2
    assert_equals_attention_at_once(PER_EXAMPLE, case, tolerance=3e-6)


@every_way
def test_eight_devices_attend_as_one_does(way):
    case = Case(num_queries=20, num_keys=20, batch=4, heads=4, is_causal=True)
    mesh = MeshShape(data=2, fsdp=2, tensor=2).build()
    assert_equals_attention_at_once(way, case, tolerance=3e-6, mesh=mesh)


@pytest.mark.parametrize("axes", [{"data"}, {"data", "fsdp", "tensor"}], ids=["some", "all"])
def test_axes_that_are_split_already_are_left_alone(axes):
    case = Case(num_queries=20, num_keys=20, batch=4, heads=4, is_causal=True)
    arrays, mask, gradient = case.arrays()
    expected, (*of_tokens, of_bias) = attend_and_back(CHUNKED, case, arrays, mask, gradient)

    def summed(arrays, mask, gradient):
        y, (*of_tokens, of_bias) = attend_and_back(CHUNKED, case, arrays, mask, gradient)
        return y, (*of_tokens, jax.lax.psum(of_bias, "data"))

    rows, whole = PartitionSpec("data"), PartitionSpec()
    specs = (rows, rows, rows, whole)
    split = jax.shard_map(
        summed,
        in_specs=(specs, rows, rows),
        out_specs=(rows, specs),
        axis_names=axes,
        check_vma=False,
    )
    with jax.set_mesh(MeshShape(data=2, fsdp=2, tensor=2).build()):
        found = jax.jit(split)(arrays, mask, gradient)
    for x, y in zip(jax.tree.leaves(found), (expected, *of_tokens, of_bias), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


@every_way
def test_a_query_that_sees_nothing_is_given_nothing_and_gives_no_gradient(way):
    case = Case(num_queries=20, num_keys=20)
    arrays, _, gradient = case.arrays()
    padding = np.zeros((case.batch, 20), np.int32)
    mask = Mask(query_segments=padding, key_segments=padding)
    for x in jax.tree.leaves(jax.jit(functools.partial(attend_and_back, way, case))(arrays, mask, gradient)):
        np.testing.assert_array_equal(x, np.zeros_like(x))


@pytest.mark.parametrize("way", [CHUNKED, FLASH], ids=["chunked", "flash"])
def test_nothing_grows_with_the_square_of_the_length(way):
    sizes = []
    for length in (4 * LARGEST_CHUNK, 8 * LARGEST_CHUNK, 16 * LARGEST_CHUNK):
        case = Case(num_queries=length, num_keys=length, batch=1, is_causal=True)
        arrays, mask, gradient = case.arrays()
        sizes.append(largest_array(functools.partial(attend_and_back, way, case), arrays, mask, gradient))
    assert sizes[1] <= 2 * sizes[0]
    assert sizes[2] <= 2 * sizes[1]
    assert sizes[2] < case.heads * length**2 / 3
