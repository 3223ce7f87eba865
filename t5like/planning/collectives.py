"""What devices say to one another: how many bytes, along which mesh axes, and how long the wires need.

The model: a collective over several dimensions of the torus goes through them one after another, each a ring whose two
directions are both used, or a line where the ends are not joined. Devices that a group skips along a dimension belong to
other groups that use the same wires at the same time. What goes to other slices takes each device's share of the network,
in both directions at once.
Starting up takes no time, so that many small collectives come out too fast.
"""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

from t5like.planning.hlo import Array, Computation, Instruction
from t5like.planning.topologies import Topology

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")
_MESH_GROUPS = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?\s*\{([^}]*)\}"
)
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_EXCHANGE = re.compile(r'_xla_host_transfer_rendezvous="([^"]*)".*_xla_megascale_transfer_type="(\w+)"')
_PAIRS = re.compile(r"source_target_pairs=\{\{(\d+),(\d+)\}")


class Collective(NamedTuple):
    """One collective of a program, as one device sees it.

    Attributes:
      num_bytes: of what is gathered, reduced or sent, whole.
      channel: shared by the instructions that are parts of it, where it is spread over several.
      group: numbers of the devices that take part, one group of them all, in the order of the mesh.
    """

    kind: str
    num_bytes: float
    channel: str
    group: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Wires:
    """Where the devices of a mesh lie.

    Attributes:
      axes: names of the mesh axes, and `sizes` how long they are.
      positions: of each device, in the order of the mesh, its slice and then its place along each dimension.
    """

    topology: Topology
    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]

    def axes_of(self, group: tuple[int, ...]) -> tuple[str, ...]:
        """Returns the mesh axes along which the devices of a group differ."""
        places = [self._place(device) for device in group]
        return tuple(
            name for number, name in enumerate(self.axes) if len({place[number] for place in places}) > 1
        )

    def _place(self, device: int) -> tuple[int, ...]:
        place = []
        for size in reversed(self.sizes):
            device, at = divmod(device, size)
            place.append(at)
        return tuple(reversed(place))

    def across_slices(self) -> tuple[int, ...]:
        """Returns the first device of each slice."""
        slices = [position[0] for position in self.positions]
        return tuple(slices.index(number) for number in sorted(set(slices)))

    def seconds(self, collective: Collective) -> float:
        """Returns how long a collective takes that has the wires to itself."""
        return _seconds(self, collective.kind, collective.num_bytes, collective.group)


@functools.lru_cache(maxsize=4096)
def _seconds(wires: Wires, kind: str, num_bytes: float, group: tuple[int, ...]) -> float:
    positions = [wires.positions[device] for device in group]
    slices = len({position[0] for position in positions})
    chip = wires.topology.chip
    seconds = 0.0
    if slices > 1:
        crossed = num_bytes * (slices - 1) / slices / max(len(group) // slices, 1)
        seconds += (2 if kind == "all-reduce" else 1) * crossed / chip.slice_bytes_per_second
    if kind == "collective-permute":
        return seconds + (num_bytes / chip.link_bytes_per_second if slices == 1 else 0.0)
    together = 1  # devices whose parts have come together, as a gathering goes through the dimensions
    for dimension in range(len(wires.topology.shape)):
        places = sorted({position[1 + dimension] for position in positions})
        if len(places) > 1:
            together *= len(places)
            part = 1.0 if kind == "all-to-all" else together * slices / len(group)
            seconds += _along(wires, dimension, places, kind, num_bytes * min(part, 1.0))
    return seconds


def _along(wires: Wires, dimension: int, places: list[int], kind: str, num_bytes: float) -> float:
    """Returns the seconds of one dimension of a collective."""
    size, link = len(places), wires.topology.chip.link_bytes_per_second
    is_ring = wires.topology.is_ring(dimension) and size == wires.topology.shape[dimension]
    shared_by = max(1, (places[-1] - places[0]) // (size - 1))  # groups that use the same wires
    rate = (2 * link if is_ring else link) / shared_by
    if kind == "all-to-all":
        return num_bytes * size / 4 / rate
    moved = num_bytes * (size - 1) / size
    return (2 if kind == "all-reduce" else 1) * moved / rate


def collective_of(instruction: Instruction, within: Computation, num_devices: int) -> Collective | None:
    """Returns the collective that an instruction is or starts, None where it is none."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    made = instruction.arrays
    if instruction.opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
        made = made[len(instruction.operands) :][
            : len(instruction.operands)
        ]  # (given, made, and what is internal)
    given: tuple[Array, ...] = tuple(a for name in instruction.operands for a in within.arrays_of(name))
    counted = made if kind in ("all-gather", "collective-permute") else given
    return Collective(
        kind,
        sum(array.num_bytes for array in counted),
        instruction.attribute(r"channel_id=(\d+)") or instruction.name,
        group_of(instruction.attributes, num_devices),
    )


def exchange_of(instruction: Instruction, wires: Wires) -> Collective | None:
    """Returns what a `send` or `recv` exchanges with other slices, None where it is for something else.

    The compiler leaves to the hosts what devices of the same place in each slice reduce or gather, and names it.
    """
    found = _EXCHANGE.search(instruction.attributes)
    if found is None:
        return None
    kind = found[2].lower().replace("_", "-")
    return Collective(kind, instruction.arrays[0].num_bytes, found[1], wires.across_slices())


def group_of(attributes: str, num_devices: int) -> tuple[int, ...]:
    """Returns the first group of devices that a collective's attributes name, all of them where they name none.

    replica_groups={{0,2},{1,3}}                            ->  (0, 2)
    replica_groups=[2,2]<=[2,2]T(1,0)                       ->  (0, 2)
    replica_groups=mesh['a'=2,'b'=2] {'a'}                  ->  (0, 2)
    ...=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}   ->  (0, 1)
    """
    if found := _LISTED_GROUPS.search(attributes):
        return tuple(map(int, found[1].split(",")))
    if found := _IOTA_GROUPS.search(attributes):
        return tuple(_iota(found[3], found[4])[: int(found[2])])
    if found := _MESH_GROUPS.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
        chosen = set(re.findall(r"'([^']+)'", found[4]))
        ids = _iota(found[2], found[3]) if found[2] else list(range(num_devices))
        names = list(sizes)
        group = [0]
        for number, name in enumerate(names):
            step = math.prod(sizes[later] for later in names[number + 1 :])
            if name in chosen:
                group = [at + step * i for at in group for i in range(sizes[name])]
        return tuple(ids[at] for at in sorted(group))
    if found := _PAIRS.search(attributes):
        return int(found[1]), int(found[2])
    return tuple(range(num_devices))


def _iota(dims: str, order: str | None) -> list[int]:
    """Returns 0, 1, 2, ... laid out in dimensions "2,4", which are then put in an order "1,0", and read off."""
    sizes = tuple(map(int, dims.split(",")))
    axes = tuple(map(int, order.split(","))) if order else range(len(sizes))
    values = [0]
    for axis in axes:
        stride = math.prod(sizes[axis + 1 :])
        values = [value + stride * i for value in values for i in range(sizes[axis])]
    return values
