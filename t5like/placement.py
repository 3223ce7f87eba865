"""A model on the devices: how its parameters, its optimizer and its batches are laid out, and the first state of a run."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5like.errors import UserError
from t5like.mesh import MeshShape
from t5like.models.attention import way_on
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer, init_params
from t5like.sharding import (
    AxisRules,
    batch_sharding,
    optimizer_shardings,
    param_axes,
    param_shardings,
)
from t5like.train_step import TrainState

PyTree = Any


class Placement(NamedTuple):
    """A model and how its parameters and batches lie on the devices."""

    model: Transformer
    mesh: Mesh
    params: PyTree  # abstract: shape, dtype and sharding of each parameter
    axes: PyTree  # logical axis names of each parameter
    batch: NamedSharding

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(self.params))


def place(
    config: TransformerConfig,
    mesh_shape: MeshShape,
    rules: AxisRules,
    *,
    batch_size: int,
    num_microbatches: int = 1,
    devices: Sequence[Any] | None = None,
) -> Placement:
    """Returns the model laid out over the given devices, by default all there are; computes nothing.

    Raises:
      UserError: if the mesh does not fit the devices, the batch or the way attention is computed.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
    mesh = mesh_shape.build(devices)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    config = dataclasses.replace(config, unrolls_scan=on_cpu, attention=way_on(config, mesh, rules))
    model = Transformer(config, rules)
    try:
        boxed = jax.eval_shape(functools.partial(init_params, model), jax.random.key(0))
        axes = param_axes(boxed)
        params = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            nn.unbox(boxed),
            param_shardings(axes, mesh, rules),
        )
        batch = batch_sharding(mesh, rules)
    except ValueError as error:
        raise UserError(
            f"The axis rules do not fit the mesh {dict(mesh.shape)}: {str(error).rstrip('.')}."
        ) from error
    check_divides(params)
    ways = rules.num_ways("batch", mesh)
    if batch_size % ways:
        raise UserError(
            f"batch_size {batch_size} cannot be split over {ways} devices (slices x data x fsdp); the nearest that can "
            f"is {max(ways, round(batch_size / ways) * ways)}."
        )
    if batch_size % (ways * num_microbatches):
        fewer = math.gcd(batch_size // ways, num_microbatches)
        raise UserError(
            f"Each of {ways} devices (slices x data x fsdp) has {batch_size // ways} rows of a batch of {batch_size}, which "
            f"cannot be cut into num_microbatches {num_microbatches}; {fewer} can."
        )
    return Placement(model, mesh, params, axes, batch)


def check_divides(params: PyTree) -> None:
    """Raises UserError if an abstract parameter cannot be split over the mesh in equal parts."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            leaf.sharding.shard_shape(leaf.shape)
        except ValueError as error:
            raise UserError(
                f"The mesh {dict(leaf.sharding.mesh.shape)} cannot split the parameter "
                f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.shape} as {leaf.sharding.spec} "
                "into equal parts; choose mesh axes that divide the model's sizes."
            ) from error


def initial_params(placement: Placement, *, seed: int) -> PyTree:
    """Returns freshly drawn parameters, laid out over the mesh."""
    draw = jax.jit(
        lambda key: nn.unbox(init_params(placement.model, key)),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, placement.params),
    )
    return draw(jax.random.key(seed))


def initial_state(placement: Placement, optimizer: Any, *, seed: int, params: PyTree | None) -> TrainState:
    """Returns the state before the first update, laid out over the mesh; its params are drawn unless given."""
    if params is None:
        params = initial_params(placement, seed=seed)
    abstract = abstract_state(placement, optimizer)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.optimizer)
    step = jax.device_put(jnp.zeros((), jnp.int32), abstract.step.sharding)
    return TrainState(step, params, jax.jit(optimizer.init, out_shardings=shardings)(params))


def abstract_state(placement: Placement, optimizer: Any) -> TrainState:
    """Returns shape, dtype and sharding of every array of the train state."""
    state = jax.eval_shape(optimizer.init, placement.params)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placement.params)
    laid_out = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        optimizer_shardings(state, placement.params, shardings, placement.mesh),
    )
    replicated = NamedSharding(placement.mesh, PartitionSpec())
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated), placement.params, laid_out)
