"""A digest depends on every bit of an array and on nothing else, such as how it is split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from t5like.fingerprints import fingerprints

DTYPES = ("float32", "bfloat16", "float16", "int32", "uint32", "int8", "bool")


def random_array(dtype: str, shape: tuple[int, ...] = (8, 24), seed: int = 0) -> np.ndarray:
    return (10 * np.random.default_rng(seed).standard_normal(shape)).astype(jnp.dtype(dtype))


def of(array: object) -> str:
    return fingerprints({"x": jnp.asarray(array)})["x"].digest


def test_digests_are_by_path() -> None:
    found = fingerprints({"a": {"b": jnp.ones(3)}, "c": [jnp.ones(3), jnp.zeros(())]})
    assert list(found) == ["a/b", "c/0", "c/1"]
    assert found["a/b"] == found["c/0"] != found["c/1"]
    assert all(len(digest) == 16 for digest, _ in found.values())
    assert fingerprints({}) == {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_other_element_gives_another_digest(dtype: str) -> None:
    array = random_array(dtype)
    digests = {of(array)}
    for place in range(0, array.size, 7):
        changed = array.copy().reshape(-1)
        words = changed.view(np.uint8)
        words[place * array.dtype.itemsize] ^= 1
        digests.add(of(changed.reshape(array.shape)))
    assert len(digests) == 1 + len(range(0, array.size, 7))


def test_elements_that_change_places_give_another_digest() -> None:
    array = random_array("float32")
    assert len({of(array), of(array[::-1]), of(array[:, ::-1]), of(np.roll(array, 1))}) == 4
    assert of(np.zeros(8, np.float32)) != of(np.zeros(9, np.float32)) != of(np.full(8, -0.0, np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_that_is_split_has_the_same_digest(dtype: str) -> None:
    array = random_array(dtype)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    splits = [PartitionSpec(), PartitionSpec("a", "b"), PartitionSpec(None, ("b", "a")), PartitionSpec("b")]
    digests = {
        fingerprints({"x": jax.device_put(array, NamedSharding(mesh, split))})["x"].digest for split in splits
    }
    assert digests == {of(array)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_not_finite_is_seen_wherever_it_is(dtype: str) -> None:
    array = random_array(dtype)
    assert fingerprints({"x": jnp.asarray(array)})["x"].is_finite
    if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        return
    for place, number in ((0, np.nan), (100, np.inf), (array.size - 1, -np.inf)):
        bad = array.copy().reshape(-1)
        bad[place] = number
        found = fingerprints({"x": jnp.asarray(bad.reshape(array.shape)), "y": jnp.asarray(array)})
        assert [of_array.is_finite for of_array in found.values()] == [False, True]
