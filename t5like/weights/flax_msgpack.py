"""Reads the tree in a msgpack file that flax.serialization wrote, its arrays where they lie.

A tree is maps of maps; a leaf is anything else. An array is an extension of msgpack, type 1 (a scalar: 3), around
the msgpack of (shape, name of the dtype, bytes in C order); one beyond 1 GiB is a map of its shape and flat parts:

    {"__msgpack_chunked_array__": true, "shape": {"0": 3, "1": 2}, "chunks": {"0": ..., "1": ...}}

Source: flax/serialization.py of Flax and the specification of msgpack.
"""

import functools
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np

from t5like.errors import UserError
from t5like.weights.source import DTYPES, StoredArray, TensorInfo, TensorReader, one_line

Tree = dict[str, Any]  # of Tree and Leaf

_CHUNKED = "__msgpack_chunked_array__"
_ARRAY_TYPES = (1, 3)
# What a first byte says.
_NIL = 0xC0
_MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)
# How many bytes of header it begins: in front of bytes, and in front of an extension, the type included.
_BYTES_HEADERS = {0xC4: 2, 0xC5: 3, 0xC6: 5}
_EXTENSION_HEADERS = {0xC7: 3, 0xC8: 4, 0xC9: 6, 0xD4: 2, 0xD5: 2, 0xD6: 2, 0xD7: 2, 0xD8: 2}
_DTYPES = {dtype.name: dtype for dtype in DTYPES.values()}


class Leaf(NamedTuple):
    """Bytes [start, end) of a file, the msgpack of something that is no map.

    Attributes:
      head: the first 1024 of them, in which all is said of an array except its elements.
    """

    path: Path
    start: int
    end: int
    head: bytes

    def value(self) -> Any:
        """Returns what it is: a number, a string, a list; for an array use `array_reader`.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is damaged.
        """
        with self.path.open("rb") as file:
            file.seek(self.start)
            return msgpack.unpackb(file.read(self.end - self.start), raw=False)


def read_tree(path: Path) -> Tree:
    """Returns the tree of a file; of the arrays, only where they are.

    Raises:
      UserError: the file cannot be read, is truncated or no msgpack of a tree.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            unpacker = msgpack.Unpacker(mapped, raw=False, strict_map_key=True, max_buffer_size=0)
            tree = _read_node(path, unpacker, mapped)
            if unpacker.tell() != len(mapped) or not isinstance(tree, dict):
                raise ValueError("it is not one tree")
            return tree
    except OSError as error:
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    except (ValueError, IndexError, RecursionError, msgpack.UnpackException) as error:
        reason = "it ends early" if isinstance(error, IndexError | msgpack.OutOfData) else one_line(error)
        raise UserError(
            f"{path} is truncated, damaged or no msgpack of Flax ({reason}); download it again."
        ) from error


def _read_node(path: Path, unpacker: msgpack.Unpacker, mapped: mmap.mmap) -> Tree | Leaf:
    start = unpacker.tell()
    if mapped[start] not in _MAPS:
        unpacker.skip()
        end = unpacker.tell()
        if mapped[start] == _NIL:
            return {}  # None is no leaf, as in JAX
        return Leaf(path, start, end, mapped[start : min(end, start + 1024)])
    tree: Tree = {}
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        tree[str(key)] = _read_node(path, unpacker, mapped)
    return tree


def is_array(node: Tree | Leaf) -> bool:
    """Returns whether a node of a tree is an array, in one piece or in parts."""
    return node.head[0] in _EXTENSION_HEADERS if isinstance(node, Leaf) else _CHUNKED in node


def array_reader(node: Tree | Leaf) -> TensorReader:
    """Returns the shape and dtype of an array and the function that reads it.

    Raises:
      ValueError: it is damaged or of a dtype not read here.
    """
    try:
        if isinstance(node, Leaf):
            return _locate(node).reader()
        shape = tuple(size.value() for size in _ordered(node["shape"]))
        parts = [_locate(part) for part in _ordered(node["chunks"])]
        info = TensorInfo(shape, parts[0].dtype)
        if sum(math.prod(part.shape) for part in parts) != math.prod(shape):
            raise ValueError("its parts are not as many elements as the whole")
        return TensorReader(info, functools.partial(_join, info, parts))
    except (KeyError, IndexError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError("it is no array of Flax") from error


def _ordered(tree: Mapping[str, Any]) -> list[Any]:
    return [tree[str(index)] for index in range(len(tree))]


def _join(info: TensorInfo, parts: list[StoredArray]) -> np.ndarray:
    array = np.empty(math.prod(info.shape), info.dtype)
    end = 0
    for part in parts:
        begin, end = end, end + math.prod(part.shape)
        array[begin:end] = part.read().reshape(-1)
    return array.reshape(info.shape)


def _locate(leaf: Leaf) -> StoredArray:
    """Returns the place of the elements of an array."""
    header = _EXTENSION_HEADERS[leaf.head[0]]
    if leaf.head[header - 1] not in _ARRAY_TYPES:
        raise ValueError("it is no array of Flax")
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(leaf.head[header:])
    unpacker.read_array_header()
    shape, name = tuple(unpacker.unpack()), unpacker.unpack()
    if name not in _DTYPES:
        raise ValueError(f"it is of dtype {name}")
    offset = header + unpacker.tell()
    offset += _BYTES_HEADERS[leaf.head[offset]]
    array = StoredArray(leaf.path, leaf.start + offset, shape, _DTYPES[name])
    if array.offset + array.num_bytes != leaf.end:
        raise ValueError("its elements are not as many as its shape says")
    return array
