"""Writes .safetensors files tensor by tensor, which the library of that name does from memory only.

model.safetensors                   one file, or
model-00001-of-00003.safetensors    files of a given size, and
model.safetensors.index.json        which tensor is in which of them

A file is a header length of 8 bytes, a JSON header and the tensors without a gap, all little-endian:

    56 0 0 0 0 0 0 0   {"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}_   128 63 128 63

Source: the format's description in the documentation of safetensors; the names are those that Hugging Face gives.
"""

import contextlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from t5like.errors import UserError
from t5like.weights.source import DTYPES, one_line

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = WEIGHTS_FILE + ".index.json"

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_PYTORCH = MappingProxyType({"format": "pt"})


class TensorToWrite(NamedTuple):
    """A tensor that need not exist yet.

    Attributes:
      name: as it will be in the file.
      shape: of the array that `make` returns.
      dtype: of that array, one of `DTYPES`.
      make: called once, when the tensor is to be written.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Bytes it takes in the file."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def write_safetensors(
    folder: str | os.PathLike[str],
    tensors: Sequence[tuple[str, tuple[int, ...], np.dtype, Callable[[], np.ndarray]]],
    *,
    max_shard_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] = _PYTORCH,
) -> None:
    """Writes tensors to a folder, all of them or, after an error, nothing; one is in memory at a time.

    Args:
      folder: made if it is not there; it may hold other files, but no weights of these names.
      tensors: (name, shape, dtype, make), see `TensorToWrite`. The order decides which shard each goes to; in a shard
        the larger dtypes come first, so that every element lies at a multiple of its size.
      max_shard_bytes: more than this is split; a tensor that is larger has a shard to itself.
      metadata: strings to keep in the header. Readers of Hugging Face want to know the `format` that wrote a file.

    Raises:
      UserError: the folder holds weights already or cannot be written to, the disk being full for one.
      ValueError: a name is there twice or reserved, a dtype is none of `DTYPES`, the metadata are not strings, or
        `make` returned another array than announced.
    """
    announced = [TensorToWrite(*tensor) for tensor in tensors]
    _check(announced, metadata)
    folder = Path(folder)
    shards = split_into_shards(announced, max_shard_bytes)
    names = shard_names(len(shards))
    with _all_or_nothing(folder, [*names, *([INDEX_FILE] if len(shards) > 1 else [])]) as paths:
        for path, shard in zip(paths, shards, strict=False):
            _write_file(path, shard, metadata)
        if len(shards) > 1:
            weight_map = {
                tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
            }
            total = {"total_size": sum(tensor.num_bytes for tensor in announced)}
            index = {"metadata": total, "weight_map": dict(sorted(weight_map.items()))}
            _append(paths[-1], (json.dumps(index, indent=2) + "\n").encode())


def split_into_shards(tensors: Sequence[TensorToWrite], max_shard_bytes: int) -> list[list[TensorToWrite]]:
    """Returns the tensors of each shard, filled in the order given; at least one shard.

    With at most 10 bytes a shard, tensors of these sizes go:  4 4 4 12 2  ->  [4 4] [4] [12] [2]
    """
    shards: list[list[TensorToWrite]] = [[]]
    num_bytes = 0
    for tensor in tensors:
        if shards[-1] and num_bytes + tensor.num_bytes > max_shard_bytes:
            shards.append([])
            num_bytes = 0
        shards[-1].append(tensor)
        num_bytes += tensor.num_bytes
    return shards


def shard_names(num_shards: int) -> list[str]:
    """Returns the file names of that many shards, the plain one where there is a single shard."""
    if num_shards == 1:
        return [WEIGHTS_FILE]
    return [f"model-{number:05}-of-{num_shards:05}.safetensors" for number in range(1, num_shards + 1)]


def _check(tensors: Sequence[TensorToWrite], metadata: Mapping[str, str]) -> None:
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values())):
        raise ValueError(f"the metadata are not strings alone: {dict(metadata)}")
    names = set()
    for tensor in tensors:
        if tensor.name in names or tensor.name == _METADATA:
            raise ValueError(f"the tensor name {tensor.name} is there twice or reserved")
        if np.dtype(tensor.dtype) not in _CODES:
            raise ValueError(f"{tensor.name} is of dtype {tensor.dtype}, none of {', '.join(DTYPES)}")
        names.add(tensor.name)


def _write_file(path: Path, tensors: Sequence[TensorToWrite], metadata: Mapping[str, str]) -> None:
    """Writes one file; the tensors are made in the order they lie there."""
    ordered = sorted(tensors, key=lambda tensor: (-np.dtype(tensor.dtype).itemsize, tensor.name))
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.num_bytes
        code = _CODES[np.dtype(tensor.dtype)]
        header[tensor.name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    _append(path, struct.pack("<Q", len(text)) + text)
    for tensor in ordered:
        array = tensor.make()
        if array.shape != tuple(tensor.shape) or array.dtype != tensor.dtype:
            raise ValueError(
                f"{tensor.name} was announced as {tensor.dtype}{list(tensor.shape)} "
                f"and is {array.dtype}{list(array.shape)}"
            )
        _append(path, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        del array  # before the next is made


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {one_line(error)}.") from error


def _append(path: Path, content: bytes | memoryview) -> None:
    with _disk_errors(path.parent), path.open("ab") as file:
        file.write(content)


@contextlib.contextmanager
def _all_or_nothing(folder: Path, names: Sequence[str]) -> Iterator[list[Path]]:
    """Gives temporary paths to write to, which get their names at the end of the block.

    Whatever ends the block early, Ctrl-C for one, leaves neither a file nor a folder behind that was not there.
    """
    with _disk_errors(folder):
        # A reader prefers one kind of weights to another and would find the old ones, were they left.
        held = [folder / WEIGHTS_FILE, folder / INDEX_FILE, *sorted(folder.glob("model-*-of-*.safetensors"))]
        for path in held:
            if path.exists():
                raise UserError(
                    f"{folder} holds weights already, {path.name}; give another folder or remove them."
                )
        new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    temporary = [folder / f".{name}.tmp" for name in names]
    final = [folder / name for name in names]
    try:
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in temporary:
                path.unlink(missing_ok=True)  # of a run that was killed
        yield temporary
        with _disk_errors(folder):
            for path, place in zip(temporary, final, strict=True):
                os.replace(path, place)
    except BaseException:
        for path in (*temporary, *final, *new_folders):
            with contextlib.suppress(OSError):
                path.rmdir() if path in new_folders else path.unlink()
        raise
