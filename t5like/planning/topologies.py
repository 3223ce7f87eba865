"""From a topology's name to its chips: v5e-64, v5p-64, v6e:4x8."""

import dataclasses
import difflib
import math
import re

from t5like.chips import CHIPS, Chip
from t5like.errors import UserError

_OTHER_NAMES = {"v5litepod": "v5e", "v5lite": "v5e", "v7x": "tpu7x", "tpu7": "tpu7x"}
_TPUS = {chip.name: chip for chip in CHIPS if chip.num_dimensions}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """One or more TPU slices of one kind.

    Attributes:
      name: as the user calls one slice of it.
      shape: chips along each dimension of a slice's torus.
      num_slices: joined by the data centre's network.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    num_slices: int = 1

    @property
    def num_devices(self) -> int:
        """JAX devices of all slices."""
        return math.prod(self.shape) * self.chip.devices_per_chip * self.num_slices

    @property
    def num_chips(self) -> int:
        """Chips of all slices; what is paid for."""
        return math.prod(self.shape) * self.num_slices

    @property
    def compiler_name(self) -> str:
        """What libtpu calls a slice: v5e:8x8."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    def is_ring(self, dimension: int) -> bool:
        """Returns whether the ends of a dimension of the torus are joined."""
        size = self.shape[dimension]
        return size >= self.chip.wrap_size and size % self.chip.wrap_size == 0


def find_topology(name: str, *, num_slices: int = 1) -> Topology:
    """Returns the topology of a name: KIND-N as Google Cloud counts, or KIND:AxB with chips along each dimension.

    Raises:
      UserError: there is none; the message names the nearest that there is.
    """
    if num_slices < 1:
        raise UserError(f"num_slices is {num_slices}, but must be at least 1.")
    kind, separator, size = name.partition(":" if ":" in name else "-")
    kind = _OTHER_NAMES.get(kind, kind)
    if kind not in _TPUS or not separator:
        near = difflib.get_close_matches(kind, _TPUS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}-{size or 16}?" if near else f"the kinds are {', '.join(_TPUS)}."
        raise UserError(f"There is no TPU topology {name!r}; give a kind and its size such as v5e-64: {hint}")
    chip = _TPUS[kind]
    shape = _shape_of(size, chip, name) if separator == ":" else _shape_of_number(size, chip, name)
    return Topology(name=name, chip=chip, shape=shape, num_slices=num_slices)


def slice_sizes(chip: Chip) -> list[int]:
    """Returns the numbers that follow the kind in the names of its slices: 1, 4, 8, 16 ... for v5e."""
    smallest = 1 if chip.num_dimensions == 2 else 4
    powers = [2**i for i in range(14) if smallest <= 2**i <= chip.max_chips and 2**i != 2]
    return [power * chip.name_counts for power in powers]


def _shape_of_number(size: str, chip: Chip, name: str) -> tuple[int, ...]:
    sizes = slice_sizes(chip)
    if not size.isdecimal() or int(size) not in sizes:
        wanted = int(size) if size.isdecimal() else sizes[0]
        nearest = min(sizes, key=lambda n: abs(math.log(n / max(wanted, 1))))
        raise UserError(f"There is no TPU slice {name}; the nearest is {chip.name}-{nearest}.")
    return default_shape(int(size) // chip.name_counts, chip.num_dimensions)


def default_shape(num_chips: int, num_dimensions: int) -> tuple[int, ...]:
    """Returns the most even torus of a power of two, short dimensions first; of three, none above the first two is
    shorter, but the last of four chips: 64 -> 8x8; 32 -> 4x8; in three 16 -> 2x2x4, 4 -> 2x2x1."""
    if num_dimensions == 3 and num_chips == 4:
        return (2, 2, 1)
    exponent = num_chips.bit_length() - 1
    low, more = divmod(exponent, num_dimensions)
    return tuple(2 ** (low + (i >= num_dimensions - more)) for i in range(num_dimensions))


def _shape_of(size: str, chip: Chip, name: str) -> tuple[int, ...]:
    parts = size.split("x")
    if not all(re.fullmatch(r"[1-9]\d*", part) for part in parts) or len(parts) != chip.num_dimensions:
        example = "x".join(map(str, default_shape(64, chip.num_dimensions)))
        raise UserError(
            f"The topology {name!r} cannot be read; {chip.name} has {chip.num_dimensions} dimensions, such as "
            f"{chip.name}:{example}."
        )
    shape = tuple(map(int, parts))
    if math.prod(shape) > chip.max_chips:
        raise UserError(
            f"The topology {name} has {math.prod(shape)} chips, but a slice of {chip.name} has {chip.max_chips} at most; "
            "take a smaller one and several slices."
        )
    return shape
