"""Names of TPU slices, as Google Cloud and the compiler have them."""

import pytest

from t5like.errors import UserError
from t5like.planning.topologies import find_topology, slice_sizes


@pytest.mark.parametrize(
    ("name", "compiler_name", "num_devices"),
    [
        ("v5e-1", "v5e:1x1", 1),
        ("v5e-8", "v5e:2x4", 8),
        ("v5e-16", "v5e:4x4", 16),
        ("v5e-32", "v5e:4x8", 32),
        ("v5e-256", "v5e:16x16", 256),
        ("v5litepod-64", "v5e:8x8", 64),
        ("v6e-4", "v6e:2x2", 4),
        ("v4-8", "v4:2x2x1", 4),
        ("v4-32", "v4:2x2x4", 16),
        ("v5p-64", "v5p:2x4x4", 32),
        ("v5p-128", "v5p:4x4x4", 64),
        ("tpu7x-8", "tpu7x:2x2x1", 8),
        ("tpu7x-128", "tpu7x:4x4x4", 128),
        ("v6e:4x8", "v6e:4x8", 32),
        ("v5p:2x2x2", "v5p:2x2x2", 8),
    ],
)
def test_a_name_says_which_chips(name, compiler_name, num_devices):
    topology = find_topology(name)
    assert topology.compiler_name == compiler_name
    assert topology.num_devices == num_devices
    assert find_topology(name, num_slices=3).num_devices == 3 * num_devices


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("v5e-60", "v5e-64"),
        ("v5e-1000", "v5e-256"),
        ("v5p-4", "v5p-8"),
        ("v6e-x", "v6e-1"),
        ("v5-64", "v5e-64"),
        ("v5e", "v5e-16"),
        ("h100-8", "the kinds are v4, v5e, v5p, v6e, tpu7x"),
        ("v5e:4", "v5e:8x8"),
        ("v5p:4x4", "v5p:4x4x4"),
        ("v5e:64x64", "256 at most"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(name, nearest):
    with pytest.raises(UserError) as error:
        find_topology(name)
    assert nearest in str(error.value)


def test_every_size_that_is_offered_is_found():
    for kind in ("v4", "v5e", "v5p", "v6e", "tpu7x"):
        chip = find_topology(f"{kind}-8").chip
        for size in slice_sizes(chip):
            topology = find_topology(f"{kind}-{size}")
            assert topology.num_chips * chip.name_counts == size


def test_ends_are_joined_where_a_dimension_is_long_enough():
    assert find_topology("v5e-256").is_ring(0)
    assert not find_topology("v5e-64").is_ring(0)
    assert [find_topology("v5p-64").is_ring(i) for i in range(3)] == [False, True, True]


def test_a_number_of_slices_below_one_is_refused():
    with pytest.raises(UserError, match="num_slices"):
        find_topology("v5e-16", num_slices=0)
