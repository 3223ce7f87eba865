"""From logical axis names to the devices of a mesh.

Every parameter and activation names its axes (`batch length embed mlp heads vocab layers ...`); `AxisRules` says
which mesh axis each is split over. An unknown name and a mesh axis used twice in one array are errors.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like.data.lanes import ONLY_HOST, HostShare
from t5like.errors import UserError
from t5like.mesh import AXES

MeshAxes = str | tuple[str, ...] | None
PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisRules:
    """Which mesh axis each logical axis is split over; None keeps it whole on every device."""

    batch: MeshAxes = ("slices", "data", "fsdp")
    length: MeshAxes = "sequence"
    embed: MeshAxes = None  # of activations; `embed` of parameters is split as `fsdp_embed`
    fsdp_embed: MeshAxes = "fsdp"
    mlp: MeshAxes = "tensor"
    heads: MeshAxes = "tensor"
    vocab: MeshAxes = "tensor"
    norm: MeshAxes = None
    buckets: MeshAxes = None
    positions: MeshAxes = None
    token_types: MeshAxes = None
    labels: MeshAxes = None
    hidden: MeshAxes = None  # what a projection of the residual stream onto its own width gives
    layers: MeshAxes = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            for axis in given if isinstance(given, tuple) else () if given is None else (given,):
                if axis not in AXES:
                    raise UserError(
                        f"rules.{field.name} is {given!r}, but the axes of a mesh are {', '.join(AXES)}; name some of them, "
                        "or None."
                    )

    def spec(self, names: tuple[str | None, ...]) -> PartitionSpec:
        """Returns the partition of an array with these logical axes.

        Raises:
          ValueError: on a name without a rule, or on two axes split over one mesh axis.
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = [name for name in names if name is not None and name not in known]
        if unknown:
            raise ValueError(f"no rule for the logical axes {unknown}; known: {sorted(known)}")
        axes = [None if name is None else getattr(self, name) for name in names]
        used = [
            a for axis in axes if axis is not None for a in (axis if isinstance(axis, tuple) else (axis,))
        ]
        if len(used) != len(set(used)):
            raise ValueError(
                f"the logical axes {names} clash: each mesh axis may split one of them, got {axes}"
            )
        return PartitionSpec(*axes)

    def num_ways(self, name: str, mesh: Mesh) -> int:
        """Returns over how many parts of a mesh a logical axis is split."""
        (axes,) = self.spec((name,))
        names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
        return math.prod(mesh.shape[axis] for axis in names)

    def constrain(self, x: jax.Array, *names: str | None) -> jax.Array:
        """Returns x, told to the compiler to be split by the rules; x itself where no mesh is set."""
        spec = self.spec(names)
        mesh = jax.sharding.get_abstract_mesh()
        return x if mesh.empty else jax.lax.with_sharding_constraint(x, spec)


def batch_sharding(mesh: Mesh, rules: AxisRules) -> NamedSharding:
    """Returns how every feature of a batch, [batch, ...], is split."""
    return NamedSharding(mesh, rules.spec(("batch",)))


def param_axes(boxed: PyTree) -> PyTree:
    """Returns a tree like the parameters whose leaves are tuples of logical axis names.

    Args:
      boxed: abstract parameters as `jax.eval_shape(model.init, ...)` gives them, axis names included.

    Raises:
      ValueError: if a parameter was declared without axis names, or without a name for each axis.
    """

    def names(path: Any, leaf: Any) -> tuple[str, ...]:
        if not isinstance(leaf, nn.LogicallyPartitioned) or len(leaf.names) != leaf.value.ndim:
            raise ValueError(f"parameter {jax.tree_util.keystr(path)} has no name for each of its axes")
        return tuple("fsdp_embed" if name == "embed" else name for name in leaf.names)

    return jax.tree_util.tree_map_with_path(
        names, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )


def param_shardings(axes: PyTree, mesh: Mesh, rules: AxisRules) -> PyTree:
    """Returns the sharding of every parameter, given `param_axes`."""
    return jax.tree.map(
        lambda names: NamedSharding(mesh, rules.spec(names)), axes, is_leaf=lambda x: isinstance(x, tuple)
    )


def optimizer_shardings(
    abstract_state: PyTree, abstract_params: PyTree, shardings: PyTree, mesh: Mesh
) -> PyTree:
    """Returns the sharding of every leaf of an optimizer's state: that of the parameter it belongs to.

    A leaf belongs to the parameter whose path ends its own. A statistic that averages one axis away is split
    along the axes that remain; scalars and placeholders are whole everywhere.

    Raises:
      ValueError: if a leaf above 1 kB can be matched to no parameter.
    """
    params = {
        tuple(map(str, path)): (leaf.shape, sharding.spec)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(abstract_params), jax.tree.leaves(shardings), strict=True
        )
    }

    def sharding(path: Any, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        keys = tuple(map(str, path))
        for start in range(len(keys)):
            if keys[start:] in params:
                spec = _state_spec(leaf.shape, *params[keys[start:]])
                if spec is not None:
                    return NamedSharding(mesh, spec)
        if np.prod(leaf.shape) * leaf.dtype.itemsize > 1024:
            raise ValueError(
                f"optimizer state {jax.tree_util.keystr(path)} {leaf.shape} belongs to no parameter"
            )
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def _state_spec(
    shape: tuple[int, ...], param_shape: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec | None:
    """Returns the partition of a statistic of a parameter, None if the shapes have nothing to do with one another."""
    axes = (*spec, *(None,) * (len(param_shape) - len(spec)))
    if shape == param_shape:
        return spec
    for averaged in reversed(range(len(param_shape))):
        if shape == param_shape[:averaged] + param_shape[averaged + 1 :]:
            return PartitionSpec(*axes[:averaged], *axes[averaged + 1 :])
    return None


def put_batch(
    batch: dict[str, np.ndarray], sharding: NamedSharding, share: HostShare = ONLY_HOST
) -> dict[str, jax.Array]:
    """Returns the global batch on the devices, each holding its rows.

    Args:
      share: which part of the global batch is given: the one with the rows of all devices of this host.
    """

    def put(array: np.ndarray) -> jax.Array:
        shape = (len(array) * share.num_hosts, *array.shape[1:])
        first = len(array) * share.host

        def rows_of(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # only of what has no value everywhere
            start, stop, _ = index[0].indices(shape[0])
            return array[(slice(start - first, stop - first), *index[1:])]

        return jax.make_array_from_callback(shape, sharding, rows_of)

    return {name: put(array) for name, array in batch.items()}
