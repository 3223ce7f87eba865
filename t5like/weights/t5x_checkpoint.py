"""Opens checkpoints of T5X and of Orbax; of the tree in them, the parameters.

What lies in a folder, in which A.B.C is the array at A/B/C of the tree:

    T5X     checkpoint                msgpack of the tree: small arrays, and specifications of the others
            target.A.B.C/             an array of zarr, for TensorStore
    Orbax   _METADATA                 JSON of the tree
            A.B.C/ or manifest.ocdbt  arrays of zarr, each in a folder or all in one database
            checkpoint                not always: msgpack of the tree, small arrays, and PLACEHOLDER://A.B.C

The tree of T5X is {version, optimizer: {target, state}}, later {target, state}; others have {params, opt_state, ...}
or the bare parameters. Names come out without what is before the parameters: encoder/layers_0/attention/query/kernel.

Source: t5x/checkpoints.py of T5X; orbax/checkpoint, metadata/tree.py and serialization/tensorstore_utils.py, of Orbax.
"""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import tensorstore

from t5like.errors import UserError
from t5like.weights import flax_msgpack
from t5like.weights.flax_msgpack import Leaf, Tree
from t5like.weights.source import DTYPES, LazyTensors, TensorInfo, TensorReader, TensorSource, one_line

_TREE_FILE = "checkpoint"
_METADATA_FILE = "_METADATA"
_DATABASE_FILE = "manifest.ocdbt"
_TENSORFLOW = b"model_checkpoint_path"

_PLACEHOLDERS = ("PLACEHOLDER://", "AGGREGATED://")
_STORED_TYPES = ("jax.Array", "np.ndarray", "scalar")
_EMPTY_TYPES = ("None", "Dict", "List", "Tuple", "NamedTuple")

# Where the parameters are, from the outermost in; each may be missing.
_WRAPPERS = ("optimizer", "target", "params")

# A leaf of the tree, not looked into yet: a node of the msgpack; the name of an array of zarr; or, of anything else
# that Orbax stores, what kind of thing it is.
Key = tuple[str, ...]


class _Zarr(NamedTuple):
    """The name of an array of zarr, as the folder or the database has it."""

    name: str


class _Other(NamedTuple):
    """What Orbax calls the kind of something that is no array."""

    kind: str


Node = _Zarr | _Other | Leaf | Tree


def open_t5x(path: str | os.PathLike[str]) -> TensorSource:
    """Returns the parameters in a checkpoint, without the optimizer's state; no array is read now.

    Args:
      path: the folder of one step, `checkpoint_1000000` for T5X, or the file `checkpoint` in it.

    Raises:
      UserError: there is no checkpoint of these kinds, it is damaged or incomplete, or an array is of a dtype that is
        not read here.
    """
    folder = Path(path).expanduser().absolute()
    try:
        if folder.name == _TREE_FILE and folder.is_file():
            folder = folder.parent
        nodes, driver = _read_tree(folder)
    except OSError as error:
        raise UserError(f"Cannot read {folder}: {one_line(error)}.") from error
    for wrapper in _WRAPPERS:
        inside = {key[1:]: node for key, node in nodes.items() if key[:1] == (wrapper,) and len(key) > 1}
        nodes = inside or nodes
    if not nodes:
        raise UserError(f"{folder} is a checkpoint without parameters.")
    stored = {"/".join(key): _stored(folder, key, node) for key, node in nodes.items()}
    for name, array in stored.items():
        if isinstance(array, _Zarr) and (".." in PurePosixPath(array.name).parts or "\0" in array.name):
            raise UserError(
                f"{folder} is damaged: it says that the array {name} is at {array.name!r}, outside of it."
            )
    readers = _open_arrays(folder, driver, {n: a.name for n, a in stored.items() if isinstance(a, _Zarr)})
    return LazyTensors(folder, {n: readers[n] if isinstance(a, _Zarr) else a for n, a in stored.items()})


def _read_tree(folder: Path) -> tuple[dict[Key, Node], str]:
    """Returns the leaves of a checkpoint's tree by their path in it, and TensorStore's driver for their arrays."""
    nodes: dict[Key, Node] = {}
    driver = "zarr"
    metadata_file, tree_file = folder / _METADATA_FILE, folder / _TREE_FILE
    if metadata_file.is_file():
        nodes, driver = _read_metadata(metadata_file)
    if tree_file.is_file():
        with tree_file.open("rb") as file:
            if file.read(len(_TENSORFLOW)) == _TENSORFLOW:
                raise UserError(
                    f"{folder} is a checkpoint of TensorFlow, which is not read here; T5X can convert it."
                )
        nodes |= _leaves((), flax_msgpack.read_tree(tree_file))
    elif not metadata_file.is_file():
        raise UserError(f"{folder} is no checkpoint of T5X or Orbax{_hint(folder)}.")
    return nodes, driver


def _hint(folder: Path) -> str:
    """Returns what to say of a folder that is no checkpoint itself."""
    if not folder.is_dir():
        return ": there is no such folder"
    for file in sorted((*folder.glob(f"*/{_METADATA_FILE}"), *folder.glob(f"*/{_TREE_FILE}"))):
        return f", but {file.parent} in it is one"
    return f": it has neither {_TREE_FILE} nor {_METADATA_FILE}"


def _read_metadata(path: Path) -> tuple[dict[Key, Node], str]:
    """Returns the leaves of the tree that Orbax describes, and TensorStore's driver for its arrays."""
    nodes: dict[Key, Node] = {}
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        for entry in metadata["tree_metadata"].values():
            key = tuple(str(part["key"]) for part in entry["key_metadata"])
            kind = entry["value_metadata"]["value_type"]
            if kind not in _EMPTY_TYPES:
                nodes[key] = _Zarr(".".join(key)) if kind in _STORED_TYPES else _Other(str(kind))
        return nodes, "zarr3" if metadata.get("use_zarr3") else "zarr"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it does not describe a tree ({one_line(error)}).") from error


def _leaves(key: Key, node: Tree | Leaf) -> dict[Key, Node]:
    """Returns the leaves below a node of a msgpack tree by their paths; a specification of TensorStore is a leaf."""
    if isinstance(node, Leaf) or flax_msgpack.is_array(node) or _is_specification(node):
        return {key: node}
    leaves: dict[Key, Node] = {}
    for name, child in node.items():
        leaves |= _leaves((*key, name), child)
    return leaves


def _is_specification(node: Tree) -> bool:
    return "driver" in node and "kvstore" in node


def _stored(folder: Path, key: Key, node: Node) -> _Zarr | TensorReader:
    """Returns the name of the array of zarr that a leaf stands for, or the reader of one that lies in the msgpack."""
    place = f"{folder} holds, at {'/'.join(key)},"
    if isinstance(node, _Zarr):
        return node
    if isinstance(node, _Other):
        raise UserError(f"{place} an object of type {node.kind}, where an array belongs.")
    try:
        if flax_msgpack.is_array(node):
            return flax_msgpack.array_reader(node)
        if isinstance(node, dict):  # TensorStore before 0.1.14 has the path beside the kvstore
            inside = node["kvstore"] if "path" in node["kvstore"] else node
            return _Zarr(PurePosixPath(inside["path"].value()).name)
        value = node.value()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place} what cannot be read as an array ({one_line(error)}).") from error
    for prefix in _PLACEHOLDERS:
        if isinstance(value, str) and value.startswith(prefix):
            return _Zarr(value.removeprefix(prefix))
    raise UserError(f"{place} an object of type {type(value).__name__}, where an array belongs.")


def _open_arrays(folder: Path, driver: str, names: Mapping[str, str]) -> dict[str, TensorReader]:
    """Returns the reader of each array of zarr, having read its shape and dtype.

    Args:
      names: the names of the arrays in the checkpoint, by the name that each gets.
    """
    is_database = (folder / _DATABASE_FILE).is_file()
    opening = {}
    for name, stored_name in names.items():
        kvstore: dict[str, Any] = {"driver": "file", "path": f"{folder}/{stored_name}/"}
        if is_database:
            kvstore = {
                "driver": "ocdbt",
                "base": {"driver": "file", "path": f"{folder}/"},
                "path": f"{stored_name}/",
            }
        # A chunk that is missing would else be read as zeros.
        specification = {"driver": driver, "kvstore": kvstore, "fill_missing_data_reads": False}
        opening[name] = tensorstore.open(specification, open=True, read=True)
    readers = {}
    for name, future in opening.items():
        try:
            array = future.result()
        except ValueError as error:
            raise UserError(
                f"{folder} is damaged or incomplete: the array {name} cannot be opened ({_reason(error)})."
            ) from error
        dtype = array.dtype.numpy_dtype
        if (
            dtype not in DTYPES.values() or dtype == np.uint16
        ):  # the bits of a bfloat16, before version 3 of T5X
            raise UserError(f"{folder}: the array {name} is of dtype {dtype}, which is not read here.")
        info = TensorInfo(tuple(array.shape), dtype)
        readers[name] = TensorReader(info, functools.partial(_read, array))
    return readers


def _read(array: tensorstore.TensorStore) -> np.ndarray:
    try:
        return array.read(order="C").result()
    except ValueError as error:
        raise ValueError(_reason(error)) from error


def _reason(error: ValueError) -> str:
    """Returns what TensorStore says, without the specification it says it of."""
    return one_line(ValueError(str(error).split(" [tensorstore_spec=")[0]))
