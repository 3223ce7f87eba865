"""The accelerators that runs are planned for and measured against: what one of them can do, by whom and when it was said.

Every number is of one JAX device: a chip, but on TPU7x one of its two cores. Peaks are of dense bfloat16 products, also
where a run computes in float32. Rates of links are of one link in one direction.
"""

import dataclasses

GIGA, TERA, GIB = 1e9, 1e12, 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One kind of accelerator.

    Attributes:
      name: as topologies are named after it: v5e, v6e.
      device_kind: what JAX calls a device of it.
      peak_flops: floating-point operations a second, a multiplication and an addition being two.
      memory_bytes: what a compiled program may use of the device's memory.
      memory_bytes_per_second: between that memory and the cores.
      link_bytes_per_second: of one link to a neighbour, in one direction; 0 where there is no torus.
      num_dimensions: of the torus.
      wrap_size: chips along a dimension from which on its ends are joined, so that it is a ring.
      slice_bytes_per_second: from one device to other slices, over the data centre's network.
      devices_per_chip, chips_per_host: of a machine in a slice of several.
      name_counts: what the number of a topology such as v5p-64 counts, per chip.
      max_chips: of one slice.
      source: where the numbers are from, with the date.
    """

    name: str
    device_kind: str
    peak_flops: float
    memory_bytes: float
    memory_bytes_per_second: float
    link_bytes_per_second: float = 0.0
    num_dimensions: int = 0
    wrap_size: int = 0
    slice_bytes_per_second: float = 0.0
    devices_per_chip: int = 1
    chips_per_host: int = 4
    name_counts: int = 1
    max_chips: int = 1
    source: str


_DOCS = "cloud.google.com/tpu/docs, read 2026-07; memory as the compiler of libtpu 0.0.42 grants it"

CHIPS = (
    Chip(
        name="v4",
        device_kind="TPU v4",
        peak_flops=275 * TERA,
        memory_bytes=30.75 * GIB,
        memory_bytes_per_second=1.2 * TERA,
        link_bytes_per_second=50 * GIGA,
        num_dimensions=3,
        wrap_size=4,
        slice_bytes_per_second=3.1 * GIGA,  # not in the docs; as of v5e
        name_counts=2,  # cores, of which JAX joins two
        max_chips=4096,
        source=_DOCS,
    ),
    Chip(
        name="v5e",
        device_kind="TPU v5 lite",
        peak_flops=197 * TERA,
        memory_bytes=15.75 * GIB,
        memory_bytes_per_second=0.82 * TERA,
        link_bytes_per_second=50 * GIGA,
        num_dimensions=2,
        wrap_size=16,
        slice_bytes_per_second=3.1 * GIGA,
        max_chips=256,
        source=_DOCS,
    ),
    Chip(
        name="v5p",
        device_kind="TPU v5",
        peak_flops=459 * TERA,
        memory_bytes=95.73 * GIB,
        memory_bytes_per_second=2.765 * TERA,
        link_bytes_per_second=100 * GIGA,
        num_dimensions=3,
        wrap_size=4,
        slice_bytes_per_second=6.2 * GIGA,
        name_counts=2,
        max_chips=6144,
        source=_DOCS,
    ),
    Chip(
        name="v6e",
        device_kind="TPU v6 lite",
        peak_flops=918 * TERA,
        memory_bytes=31.24 * GIB,
        memory_bytes_per_second=1.6 * TERA,
        link_bytes_per_second=100 * GIGA,
        num_dimensions=2,
        wrap_size=16,
        slice_bytes_per_second=12.5 * GIGA,
        max_chips=256,
        source=_DOCS,
    ),
    Chip(
        name="tpu7x",
        device_kind="TPU7x",
        peak_flops=1153.5 * TERA,
        memory_bytes=94.74 * GIB,
        memory_bytes_per_second=3.69 * TERA,
        link_bytes_per_second=100 * GIGA,
        num_dimensions=3,
        wrap_size=4,
        slice_bytes_per_second=6.2 * GIGA,  # half of a chip's
        devices_per_chip=2,
        name_counts=2,
        max_chips=9216,
        source=_DOCS,
    ),
    Chip(
        name="h100",
        device_kind="NVIDIA H100 80GB HBM3",
        peak_flops=989 * TERA,
        memory_bytes=80 * GIGA,
        memory_bytes_per_second=3.35 * TERA,
        source="NVIDIA H100 data sheet, SXM, without sparsity, read 2026-07",
    ),
    Chip(
        name="h200",
        device_kind="NVIDIA H200",
        peak_flops=989 * TERA,
        memory_bytes=141 * GIGA,
        memory_bytes_per_second=4.8 * TERA,
        source="NVIDIA H200 data sheet, SXM, without sparsity, read 2026-07",
    ),
)


def find_chip(device_kind: str) -> Chip | None:
    """Returns the chip that JAX calls `device_kind`, None where it is not known here, as a CPU."""
    return next((chip for chip in CHIPS if chip.device_kind == device_kind), None)
