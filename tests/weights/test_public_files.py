"""A file or folder of weights opens by its layout alone, or says in one sentence what is the matter with it."""

import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest

from t5like.errors import UserError
from t5like.weights import open_weights, write_safetensors

BF16 = np.dtype(ml_dtypes.bfloat16)
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _write(folder, arrays, **options):
    announced = [(name, array.shape, array.dtype, lambda a=array: a) for name, array in arrays.items()]
    write_safetensors(folder, announced, **options)
    return folder


def _file(header, data=b""):
    """Returns a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _error(path):
    with pytest.raises(UserError) as caught:
        open_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.fixture
def sharded(tmp_path):
    """A folder with the tensors a and b in one shard and c in another."""
    return _write(tmp_path, {name: np.arange(4, dtype=np.float32) for name in "abc"}, max_shard_bytes=32)


@pytest.fixture
def edit_index(sharded):
    """Returns a function that replaces entries of the index; None takes one out."""

    def edit(**entries):
        index = json.loads((sharded / INDEX).read_text())
        index["weight_map"] |= entries
        index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard}
        (sharded / INDEX).write_text(json.dumps(index))

    return edit


def test_a_file_that_the_library_wrote_is_read_bit_for_bit(tmp_path, random_array, same_bits):
    from safetensors.numpy import save_file

    arrays = {
        str(dtype): random_array(np.dtype(dtype), (3, 5))
        for dtype in (BF16, "f2", "f4", "f8", "i8", "i4", "i2", "i1", "u1", "u4", "?")
    }
    save_file(arrays, tmp_path / "any name.safetensors")
    with open_weights(str(tmp_path / "any name.safetensors")) as source:
        assert source.origin == str(tmp_path / "any name.safetensors")
        assert source.tensors == {name: (array.shape, array.dtype) for name, array in arrays.items()}
        assert all(same_bits(source.read(name), array) for name, array in arrays.items())


@pytest.mark.parametrize("bf16", [True, False])
def test_a_file_that_torch_wrote_is_read_bit_for_bit(tmp_path, same_bits, bf16):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {"x": torch.randn(3, 2), "s": torch.tensor(2.5), "empty": torch.zeros(0, 4)}
    save_file({name: t.bfloat16() if bf16 else t for name, t in tensors.items()}, tmp_path / "x.safetensors")
    source = open_weights(tmp_path / "x.safetensors")
    for name, tensor in tensors.items():
        expected = tensor.numpy()
        assert same_bits(source.read(name), expected.astype(BF16) if bf16 else expected)


def test_what_is_read_is_the_callers_own_and_ends_with_close(sharded):
    source = open_weights(sharded)
    source.read("a")[:] = 7
    assert source.read("a").tolist() == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        source.read("d")
    source.close()
    source.close()
    with pytest.raises(ValueError, match="is closed"):
        source.read("a")


def test_the_home_folder_expands(sharded, monkeypatch):
    monkeypatch.setenv("HOME", str(sharded))
    assert open_weights("~").tensors.keys() == set("abc")


def test_a_folder_a_file_and_an_index_open_alike(sharded):
    assert open_weights(sharded).tensors == open_weights(sharded / INDEX).tensors
    assert open_weights(sharded / FIRST).tensors.keys() == {"a", "b"}


def test_safetensors_come_before_bin_and_one_file_before_shards(sharded):
    (sharded / "pytorch_model.bin").write_bytes(b"not looked at")
    assert open_weights(sharded).tensors.keys() == set("abc")
    whole = _write(sharded / "whole", {"d": np.zeros(2)}) / "model.safetensors"
    whole.rename(sharded / "model.safetensors")
    assert open_weights(sharded).tensors.keys() == {"d"}


def test_opening_reads_no_tensor(tmp_path, peak_growth):
    _sparse(tmp_path / "model.safetensors", num_tensors=8, num_bytes=24_000_000)
    opened = "from t5like.weights import open_weights; open_weights"
    assert peak_growth("import t5like.weights", f"{opened}({str(tmp_path)!r})") < 8


def test_reading_takes_the_memory_of_one_tensor(tmp_path, peak_growth):
    _sparse(tmp_path / "model.safetensors", num_tensors=8, num_bytes=24_000_000)
    growth = peak_growth(
        "from t5like.weights import open_weights",
        f"source = open_weights({str(tmp_path)!r})\n"
        "for name in source.tensors: assert not source.read(name).any()",
    )
    assert growth < 2 * 24 + 8


def _sparse(path, *, num_tensors, num_bytes):
    """Writes a file of zeros that takes no room on disk."""
    header = {
        f"t{n}": {
            "dtype": "F32",
            "shape": [num_bytes // 4],
            "data_offsets": [n * num_bytes, (n + 1) * num_bytes],
        }
        for n in range(num_tensors)
    }
    path.write_bytes(_file(header))
    os.truncate(path, path.stat().st_size + num_tensors * num_bytes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated, damaged or no safetensors file"),
        (b"<!DOCTYPE html><html>not found</html>", "no safetensors file"),
        (_file({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(7)), "truncated"),
        (_file({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)), "damaged"),
        (_file({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)), "damaged"),
        (_file({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})[:40], "truncated"),
        (_file(b'{"x": '), "damaged"),
        (
            _file({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, bytes(2)),
            "x is of dtype F8_E4M3",
        ),
        (_file({"x": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)), "x is of dtype C64"),
        (POINTER, "is a Git LFS pointer"),
    ],
)
def test_bad_safetensors_files_are_one_sentence(tmp_path, content, words):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    message = _error(tmp_path)
    assert str(path) in message
    assert words in message


def test_every_truncation_is_told_from_the_header_alone(sharded):
    content = (sharded / FIRST).read_bytes()
    for length in range(len(content)):
        (sharded / FIRST).write_bytes(content[:length])
        assert FIRST in _error(sharded)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b'{"weight_map": {"a": ', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "has no weight_map"),
        (b'{"weight_map": {}}', "has no weight_map"),
        (b'{"weight_map": {"a": 3}}', "the shard of a is 3"),
        (b'{"weight_map": {"a": "../model.safetensors"}}', "the shard of a is '../model.safetensors'"),
        (b'{"weight_map": {"a": "model.safetensors.index.json"}}', "which is no name of a file"),
        (POINTER, "is a Git LFS pointer"),
    ],
)
def test_bad_indexes_are_one_sentence(sharded, content, words):
    (sharded / INDEX).write_bytes(content)
    message = _error(sharded)
    assert str(sharded / INDEX) in message
    assert words in message


def test_shards_that_are_not_as_the_index_says_are_named(sharded, edit_index):
    edit_index(d=FIRST)
    assert f"{FIRST} lacks the tensor d, which {INDEX} names there" in _error(sharded)
    edit_index(d=None, a=None)
    assert f"{FIRST} holds the tensor a, which {INDEX} does not name there" in _error(sharded)
    edit_index(a=SECOND)
    assert "the tensor a" in _error(sharded)
    edit_index(a=FIRST)
    (sharded / SECOND).write_bytes(POINTER)
    assert f"{SECOND} is a Git LFS pointer" in _error(sharded)
    (sharded / SECOND).unlink()
    assert f"{sharded} lacks the shard {SECOND}, which {INDEX} names" in _error(sharded)
    edit_index(c="weights.h5")
    (sharded / "weights.h5").write_bytes(b"HDF")
    assert "weights.h5 is no file of weights by its name" in _error(sharded)


def test_where_there_are_no_weights_it_says_what_was_looked_for(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = _error(tmp_path)
    for name in ("model.safetensors", INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        assert f" {name}" in message
    assert "Cannot read" in _error(tmp_path / "gone.safetensors")
    assert "must end in .safetensors, .bin" in _error(tmp_path / "config.json")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    assert "model.safetensors: No such file" in _error(tmp_path)


def test_a_file_that_goes_or_changes_after_opening_is_one_sentence(sharded):
    source = open_weights(sharded)
    (sharded / SECOND).write_bytes((sharded / FIRST).read_bytes())
    with pytest.raises(UserError, match=r"the tensor c cannot be read"):
        source.read("c")
    (sharded / SECOND).unlink()
    with pytest.raises(UserError, match=r"the tensor c cannot be read \(No such file or directory"):
        source.read("c")
    assert source.read("a").tolist() == [0, 1, 2, 3]
