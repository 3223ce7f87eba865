"""The mesh: how the devices of a run are split along named axes, and which axis runs over which wires.

    slices     copies of the model on TPU slices of their own, joined by the data centre's network
    data       copies of the model within a slice, each on its share of the batch
    fsdp       ways the parameters and the optimizer are split, the batch with them
    sequence   ways the positions of a row are split
    tensor     ways heads, MLP and vocabulary are split

The last axes move most bytes a step, so they come last, where neighbours of a slice are near.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from t5like.errors import UserError

AXES = ("slices", "data", "fsdp", "sequence", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """How many ways the devices are split along each mesh axis; one axis may be -1 and takes all that is left."""

    slices: int = 1
    """TPU slices the run spans, each with copies of the model; only gradients go from one to the other."""
    data: int = -1
    """Copies of the model within a slice, each on its share of the batch."""
    fsdp: int = 1
    """Ways the parameters and the optimizer are split, the batch with them."""
    sequence: int = 1
    """Ways the positions of a row are split between the layers; for rows too long for one device."""
    tensor: int = 1
    """Ways heads, MLP and vocabulary are split."""

    def sizes(self, num_devices: int) -> tuple[int, ...]:
        """Returns the size of each axis, in the order of `AXES`.

        Raises:
          UserError: if the axes do not multiply to the number of devices.
        """
        given = dataclasses.astuple(self)
        if any(size < 1 and size != -1 for size in given) or given.count(-1) > 1:
            raise UserError(
                f"Mesh axes must be at least 1, and one of them may be -1, which takes the devices that the others "
                f"leave, but got {_in_words(given)}."
            )
        others = math.prod(size for size in given if size != -1)
        if num_devices % others == 0 and (-1 in given or others == num_devices):
            return tuple(num_devices // others if size == -1 else size for size in given)
        raise UserError(
            f"A mesh of {_in_words(given)} does not cover {num_devices} device(s); one near it that does is "
            f"{_in_words(_nearest(given, num_devices))}."
        )

    def build(self, devices: Sequence[Any] | None = None) -> Mesh:
        """Returns the mesh over the given devices, by default all there are.

        Raises:
          UserError: if the axes do not multiply to the number of devices, or `slices` is not how many TPU slices
            these belong to.
        """
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        grid = _on_tpu(devices, sizes) if devices[0].platform == "tpu" else np.asarray(devices).reshape(sizes)
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


DATA_PARALLEL = MeshShape()
"""Every device has the whole model; for models that fit one."""
FULLY_SHARDED = MeshShape(data=1, fsdp=-1)
"""Every device keeps its part of each parameter and gathers the others' when a layer needs them."""
TENSOR_PARALLEL = MeshShape(data=1, tensor=-1)
"""Every device computes its share of the heads and of the MLP for the whole batch; for a handful of devices."""


def two_dimensional(*, fsdp: int, tensor: int = 1) -> MeshShape:
    """Returns copies of a model that is itself split over fsdp x tensor devices, as one dimension of a torus has."""
    return MeshShape(data=-1, fsdp=fsdp, tensor=tensor)


def hybrid(*, slices: int, fsdp: int = -1) -> MeshShape:
    """Returns one fully sharded copy a slice, or several of `fsdp` devices; slices exchange gradients alone."""
    return MeshShape(slices=slices, data=1 if fsdp == -1 else -1, fsdp=fsdp)


def _in_words(sizes: Sequence[int]) -> str:
    """Returns (1, 4, 2, 1, 1) as "data=4, fsdp=2"; an axis of 1 is left out."""
    words = ", ".join(f"{name}={size}" for name, size in zip(AXES, sizes, strict=True) if size != 1)
    return words or "data=1"


def _nearest(sizes: Sequence[int], num_devices: int) -> tuple[int, ...]:
    """Returns axes that multiply to the number of devices: each has what it shares with it, data the rest.

    (1, 3, 4, 1, 1) over 16 devices  ->  (1, 4, 4, 1, 1)
    """
    free = AXES.index("data") if -1 not in sizes else list(sizes).index(-1)
    found, left = list(sizes), num_devices
    for i in reversed(range(len(sizes))):
        if i != free:
            found[i] = math.gcd(sizes[i], left)
            left //= found[i]
    found[free] = left
    return tuple(found)


def _on_tpu(devices: Sequence[Any], sizes: tuple[int, ...]) -> np.ndarray:
    """Returns the devices in an array of these sizes, each axis along the wires of the torus as far as it can be."""
    num_slices = len({getattr(device, "slice_index", 0) or 0 for device in devices})
    if num_slices != sizes[0]:
        raise UserError(
            f"mesh.slices is {sizes[0]}, but these devices belong to {num_slices} TPU slice(s); set it to {num_slices}."
        )
    if num_slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    within = (1, *sizes[1:])
    across = (num_slices, *(1,) * (len(sizes) - 1))
    return mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)
