"""The tree of a msgpack file is Flax's own, whatever is in it, and its arrays are read where they lie."""

import random

import numpy as np
import pytest
from flax import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.weights.flax_msgpack import Leaf, array_reader, is_array, read_tree
from t5like.weights.source import DTYPES

ARRAYS = st.tuples(st.sampled_from(list(DTYPES.values())), st.lists(st.integers(0, 5), max_size=3).map(tuple))
LEAVES = (
    ARRAYS | st.integers(-(2**40), 2**40) | st.text(max_size=40) | st.booleans() | st.floats(allow_nan=False)
)
TREES = st.recursive(
    st.dictionaries(st.text(max_size=40), LEAVES, max_size=18),
    lambda trees: st.dictionaries(st.text(max_size=5), trees | LEAVES, max_size=4),
    max_leaves=5,
)


def _with_arrays(tree, random_array):
    """Puts arrays where a tree has (dtype, shape)."""
    if isinstance(tree, dict):
        return {name: _with_arrays(child, random_array) for name, child in tree.items()}
    return random_array(*tree) if isinstance(tree, tuple) else tree


def _check_same(node, expected, same_bits):
    if isinstance(expected, np.ndarray | np.generic):
        assert is_array(node)
        reader = array_reader(node)
        assert reader.info == (expected.shape, expected.dtype)
        assert same_bits(reader.read(), np.asarray(expected))
        return
    assert not is_array(node)
    if isinstance(expected, dict):
        assert node.keys() == expected.keys()
        for name in expected:
            _check_same(node[name], expected[name], same_bits)
    else:
        assert isinstance(node, Leaf)
        assert node.value() == expected


@settings(deadline=None, max_examples=60)
@given(tree=TREES)
def test_any_tree_is_read_as_flax_wrote_it(tmp_path_factory, random_array, same_bits, tree):
    path = tmp_path_factory.mktemp("tree") / "checkpoint"
    tree = _with_arrays(tree, random_array)
    path.write_bytes(serialization.msgpack_serialize(tree))
    _check_same(read_tree(path), tree, same_bits)


@pytest.mark.parametrize("num_bytes", [1, 100, 255, 256, 70_000, 5_000_000])
def test_arrays_of_any_size_and_scalars_are_read(tmp_path, same_bits, num_bytes):
    tree = {
        "a": np.arange(num_bytes, dtype=np.uint8),
        "s": np.float32(2.5),
        "deep": np.zeros((1,) * 60, np.float64),
    }
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    _check_same(read_tree(tmp_path / "checkpoint"), tree, same_bits)


def test_arrays_in_parts_are_read_whole(tmp_path, same_bits, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 40)
    tree = {"a": {"b": np.arange(35, dtype=np.float32).reshape(5, 7)}, "c": np.arange(3, dtype=np.int64)}
    content = serialization.msgpack_serialize(tree)
    assert b"__msgpack_chunked_array__" in content
    (tmp_path / "checkpoint").write_bytes(content)
    _check_same(read_tree(tmp_path / "checkpoint"), tree, same_bits)


def test_nothing_is_no_leaf(tmp_path):
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"a": None, "b": {"c": None}}))
    assert read_tree(tmp_path / "checkpoint") == {"a": {}, "b": {"c": {}}}


def test_every_truncation_is_one_sentence(tmp_path):
    tree = {"a": np.arange(30), "b": {"c": "text", "d": 3}}
    content = serialization.msgpack_serialize(tree)
    for length in range(len(content)):
        (tmp_path / "checkpoint").write_bytes(content[:length])
        with pytest.raises(
            UserError, match=r"checkpoint is truncated, damaged or no msgpack of Flax .*[^(]\); d"
        ):
            read_tree(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "content", [b"\x93\x01\x02\x03", b"\x81\xa1a\x01\x05", b"\x81" * 10_000, b"\xc1", b"<html>"]
)
def test_other_files_are_one_sentence(tmp_path, content):
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(UserError, match="checkpoint is truncated, damaged or no msgpack of Flax"):
        read_tree(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="gone: No such file"):
        read_tree(tmp_path / "gone")


def test_whatever_is_damaged_raises_nothing_else(tmp_path):
    path = tmp_path / "checkpoint"
    content = serialization.msgpack_serialize({"a": np.arange(3), "b": {"c": np.float32(1), "d": "text"}})
    rng = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            nodes = [read_tree(path)]
        except UserError:
            continue
        while nodes:
            node = nodes.pop()
            if is_array(node):
                try:
                    reader = array_reader(node)
                except ValueError:
                    continue
                assert reader.read().shape == reader.info.shape
            elif isinstance(node, dict):
                nodes += node.values()
