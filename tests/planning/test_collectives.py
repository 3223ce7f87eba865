"""What goes over the wires: which devices take part, along which axes of the mesh, how many bytes and for how long."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from t5like.mesh import AXES, MeshShape
from t5like.planning.collectives import Collective, Wires, collective_of, group_of
from t5like.planning.hlo import parse
from t5like.planning.topologies import find_topology


def wires_of(name, sizes, *, num_slices=1):
    """Returns the wires of a mesh whose axes follow the torus in order, slices first."""
    topology = find_topology(name, num_slices=num_slices)
    places = itertools.product(range(num_slices), *map(range, topology.shape))
    return Wires(topology=topology, axes=AXES, sizes=sizes, positions=tuple(places))


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ("replica_groups={{0,2},{1,3}}, x", (0, 2)),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", (0, 2)),
        ("replica_groups=[2,2]<=[4], x", (0, 1)),
        ("replica_groups=[4,2]<=[2,2,2]T(1,0,2), x", (0, 1)),
        ("replica_groups=[2,4]<=[2,2,2]T(1,0,2), x", (0, 1, 4, 5)),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", (0, 2)),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}, x", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}, x", (0, 1)),
        ("source_target_pairs={{0,3},{3,0}}, x", (0, 3)),
        ("no groups", (0, 1, 2, 3)),
    ],
)
def test_the_first_group_is_read_from_every_way_to_write_it(attributes, group):
    assert group_of(attributes, 4) == group


@pytest.mark.parametrize(
    ("sizes", "group", "axes"),
    [
        ((1, 4, 4, 1, 1), (0, 1, 2, 3), ("fsdp",)),
        ((1, 4, 4, 1, 1), (0, 4, 8, 12), ("data",)),
        ((1, 4, 4, 1, 1), tuple(range(16)), ("data", "fsdp")),
        ((1, 2, 4, 1, 2), (0, 1, 8, 9), ("data", "tensor")),
    ],
)
def test_a_group_runs_along_the_axes_in_which_its_devices_differ(sizes, group, axes):
    assert wires_of("v5e-16", sizes).axes_of(group) == axes


def seconds(wires, kind, num_bytes, group):
    return wires.seconds(Collective(kind, num_bytes, "1", group))


def test_a_ring_is_gathered_in_both_directions_and_a_line_through_its_end():
    link = 50e9  # bytes a second in one direction, on v5e
    ring = wires_of("v5e-256", (1, 16, 16, 1, 1))
    line = wires_of("v5e-64", (1, 8, 8, 1, 1))
    assert seconds(ring, "all-gather", 16e9, tuple(range(16))) == pytest.approx(15e9 / (2 * link))
    assert seconds(line, "all-gather", 8e9, tuple(range(8))) == pytest.approx(7e9 / link)
    for wires, size in ((ring, 16), (line, 8)):
        group = tuple(range(size))
        once = seconds(wires, "all-gather", 1e9, group)
        assert seconds(wires, "reduce-scatter", 1e9, group) == once
        assert seconds(wires, "all-reduce", 1e9, group) == pytest.approx(2 * once)
        assert seconds(wires, "collective-permute", 1e9, group[:2]) == pytest.approx(1e9 / link)


def test_two_dimensions_are_gone_through_one_after_another():
    wires = wires_of("v5e-64", (1, 8, 8, 1, 1))
    row, column = (tuple(range(8)), tuple(range(0, 64, 8)))
    both = seconds(wires, "all-gather", 8e9, tuple(range(64)))
    assert both == pytest.approx(
        seconds(wires, "all-gather", 1e9, column) + seconds(wires, "all-gather", 8e9, row)
    )


def test_groups_that_skip_devices_share_their_wires():
    wires = wires_of("v5e-256", (1, 32, 8, 1, 1))
    near, apart = tuple(range(8)), tuple(range(0, 16, 2))
    assert seconds(wires, "all-gather", 1e9, apart) == pytest.approx(
        2 * seconds(wires, "all-gather", 1e9, near)
    )


def test_other_slices_are_reached_over_the_network_with_what_each_device_holds():
    wires = wires_of("v5e-16", (2, 1, 16, 1, 1), num_slices=2)
    network = wires.topology.chip.slice_bytes_per_second
    assert wires.axes_of((0, 16)) == ("slices",)
    assert seconds(wires, "all-reduce", 1e9, (0, 16)) == pytest.approx(1e9 / network)


def test_the_collectives_of_a_compiled_program_are_found_with_their_bytes():
    mesh = MeshShape(data=2, fsdp=4).build()
    x = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))

    def f(x):
        whole = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))
        return whole @ whole.T, jnp.sum(jnp.sin(x))

    program = parse(jax.jit(f).lower(x).compile().as_text())
    found = [
        (collective.kind, collective.num_bytes, len(collective.group))
        for computation in program.computations.values()
        for instruction in computation.instructions
        if (collective := collective_of(instruction, computation, 8))
    ]
    assert ("all-gather", 16 * 64 * 4, 4) in found
    assert ("all-reduce", 4, 4) in found
