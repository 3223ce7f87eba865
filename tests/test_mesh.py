"""A mesh covers its devices exactly, its presets among them, and says what to change where it cannot."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from t5like.errors import UserError
from t5like.mesh import (
    AXES,
    DATA_PARALLEL,
    FULLY_SHARDED,
    TENSOR_PARALLEL,
    MeshShape,
    hybrid,
    two_dimensional,
)
from t5like.models.layers import dropout
from t5like.sharding import AxisRules

PRESETS = {
    "data": (DATA_PARALLEL, {"data": 8}),
    "fsdp": (FULLY_SHARDED, {"fsdp": 8}),
    "tensor": (TENSOR_PARALLEL, {"tensor": 8}),
    "data x fsdp": (two_dimensional(fsdp=4), {"data": 2, "fsdp": 4}),
    "fsdp x tensor": (two_dimensional(fsdp=4, tensor=2), {"fsdp": 4, "tensor": 2}),
    "hybrid": (hybrid(slices=2), {"slices": 2, "fsdp": 4}),
    "hybrid with copies": (hybrid(slices=2, fsdp=2), {"slices": 2, "data": 2, "fsdp": 2}),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_covers_every_device_once(name):
    shape, sizes = PRESETS[name]
    mesh = shape.build()
    assert mesh.axis_names == AXES
    assert dict(mesh.shape) == {axis: sizes.get(axis, 1) for axis in AXES}
    assert {device.id for device in mesh.devices.flat} == set(range(8))
    assert mesh.devices.size == 8


def test_any_one_axis_takes_what_the_others_leave():
    for axis in AXES:
        shape = MeshShape(**{"data": 1, axis: -1})
        assert shape.sizes(24) == tuple(24 if name == axis else 1 for name in AXES)
    assert MeshShape(data=3, fsdp=-1, tensor=2).sizes(24) == (1, 3, 4, 1, 2)


@pytest.mark.parametrize(
    "shape",
    [
        MeshShape(data=4),
        MeshShape(data=16),
        MeshShape(fsdp=3),
        MeshShape(fsdp=16),
        MeshShape(data=2, fsdp=2, tensor=6),
        MeshShape(data=1, fsdp=-1, sequence=5),
        MeshShape(slices=3),
    ],
)
def test_a_mesh_that_does_not_cover_the_devices_is_refused_naming_one_that_does(shape):
    with pytest.raises(UserError, match=r"8\s+device") as error:
        shape.build()
    asked, named = str(error.value).split("device(s)")
    given = {axis: size for axis, size in dataclasses.asdict(shape).items() if size != 1}
    assert {axis: int(size) for axis, size in re.findall(r"(\w+)=(-?\d+)", asked)} == given
    near = {axis: int(size) for axis, size in re.findall(r"(\w+)=(-?\d+)", named)}
    assert MeshShape(**{"data": 1, **near}).build().devices.size == 8


@pytest.mark.parametrize(
    "axes", [{"data": 0}, {"data": -2}, {"fsdp": 0}, {"tensor": -1}, {"slices": -1, "fsdp": 2}]
)
def test_mesh_axes_below_one_or_two_that_are_free_are_refused(axes):
    with pytest.raises(UserError, match="at least 1"):
        MeshShape(**axes).build()


@pytest.mark.parametrize("name", PRESETS)
def test_a_mesh_draws_the_dropout_of_one_device_bit_for_bit(name):
    rules, key = AxisRules(), jax.random.key(7)
    x = np.random.default_rng(0).normal(size=(16, 8, 32)).astype(np.float32)

    def dropped(x):
        return rules.constrain(dropout(x, 0.3, key), "batch", "length", "mlp")

    expected = jax.jit(dropped)(x)
    assert 0.2 < np.mean(np.asarray(expected) == 0) < 0.4
    mesh = PRESETS[name][0].build()
    with jax.set_mesh(mesh):
        laid_out = jax.device_put(jnp.asarray(x), NamedSharding(mesh, rules.spec(("batch", "length", "mlp"))))
        np.testing.assert_array_equal(jax.jit(dropped)(laid_out), expected)
