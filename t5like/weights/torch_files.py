"""Reads what `torch.save` wrote, without PyTorch and without running anything the file asks for.

Two formats, both a pickle that says how tensors lie in storages, and the storages as raw bytes:

    zip archive    since PyTorch 1.6: NAME/data.pkl, NAME/byteorder and a member NAME/data/KEY per storage
    stream         before: pickles of a magic number, a version, facts of the machine, the object and the list of its
                   storages' keys; then per storage 8 bytes with its number of elements, and the elements

A pickle is a program. This one may name what tensors are made of, and each of those names is answered by something of
ours that computes nothing; any other name ends the reading.

Source: torch/serialization.py and torch/_utils.py of PyTorch.
"""

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from t5like.errors import UserError
from t5like.weights.source import DTYPES, LazyTensors, StoredArray, one_line

_ZIP_SIGNATURE = b"PK\x03\x04"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_STORAGE_DTYPES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "UntypedStorage": "U8",  # its tensors bring their own dtype
}
_NAMED_DTYPES = {dtype.name: code for code, dtype in DTYPES.items()}
_OTHER_DTYPE = re.compile(r"\w*Storage|(complex|float|q?u?int|bits)\d\w*")

# Files of training programs keep the weights under one of these.
_WRAPPERS = ("state_dict", "model")


def open_torch(path: Path) -> LazyTensors:
    """Returns the tensors of a file that `torch.save` wrote: a state dict, plain or under `state_dict` or `model`.

    Raises:
      UserError: the file is missing, truncated, damaged, of another kind, or would run something when PyTorch reads it.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP_SIGNATURE)) == _ZIP_SIGNATURE
            file.seek(0)
            saved, offsets = (_index_zip if is_zip else _index_stream)(path, file)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    readers = {}
    for name, tensor in _state_dict(path, saved).items():
        array = tensor.locate(path, offsets[tensor.storage.key])
        readers[name] = array.reader()
    return LazyTensors(path, readers)


class _Storage(NamedTuple):
    """Elements [start, start + num_elements) of a stored run of one dtype."""

    key: str
    dtype: np.dtype
    start: int
    num_elements: int

    @property
    def num_bytes(self) -> int:
        return self.num_elements * self.dtype.itemsize


class _Tensor(NamedTuple):
    """A window on a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def locate(self, path: Path, storage_offset: int) -> StoredArray:
        """Returns the place of the elements, given that of the storage in bytes."""
        start = (self.storage.start + self.offset) * self.storage.dtype.itemsize
        return StoredArray(path, storage_offset + start, self.shape, self.storage.dtype, self.strides)


def _are_sizes(*numbers: Any) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, metadata: tuple[Any, ...]) -> _Tensor:
    """Returns a window on a storage, once everything about it is known to be plain and within bounds."""
    is_plain = isinstance(storage, _Storage) and _are_sizes(offset, *shape, *strides)
    if not is_plain or len(shape) != len(strides) or any(metadata):  # metadata say what to do to the values
        raise ValueError("a tensor has no plain layout")
    tensor = _Tensor(storage, offset, tuple(shape), tuple(strides))
    num_bytes = tensor.locate(Path(), 0).num_bytes
    if num_bytes and offset * storage.dtype.itemsize + num_bytes > storage.num_bytes:
        raise ValueError("a tensor reaches beyond its storage")
    return tensor


# What stands for a function of PyTorch below has no __dict__, so that the pickle's BUILD can change nothing in it.


class _RebuildTensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        grad: Any = None,
        hooks: Any = None,
        *metadata: Any,
    ) -> _Tensor:
        return _tensor(storage, offset, shape, strides, metadata)


class _RebuildTypedTensor:
    """Stands for torch._utils._rebuild_tensor_v3, of a dtype that PyTorch has no class of storages for."""

    __slots__ = ()

    def __call__(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        grad: Any,
        hooks: Any,
        code: Any,
        *metadata: Any,
    ) -> _Tensor:
        dtype = DTYPES[code]
        storage = storage._replace(dtype=dtype, num_elements=storage.num_bytes // dtype.itemsize)
        return _tensor(storage, offset, shape, strides, metadata)


class _RebuildParameter:
    """Stands for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, data: Any, requires_grad: Any, hooks: Any) -> Any:
        return data


class _OrderedDict(dict[Any, Any]):
    """Stands for collections.OrderedDict; a state dict's has notes on versions besides, which are let go."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


_KNOWN: Mapping[str, Any] = {
    "collections.OrderedDict": _OrderedDict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _RebuildTensor(),
    "torch._utils._rebuild_tensor_v2": _RebuildTensor(),
    "torch._utils._rebuild_tensor_v3": _RebuildTypedTensor(),
    "torch._utils._rebuild_parameter": _RebuildParameter(),
    **{f"torch.{name}": code for name, code in _NAMED_DTYPES.items()},
    **{
        f"{module}.{name}": code
        for name, code in _STORAGE_DTYPES.items()
        for module in ("torch", "torch.cuda", "torch.storage")
    },
}


class _Unpickler(pickle.Unpickler):
    """Builds `_Tensor`s in plain containers and refuses to look up, let alone call, anything else."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.file = file
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        wanted = " ".join(f"{module}.{name}".split())  # a name in a pickle may have any character
        if wanted in _KNOWN:
            return _KNOWN[wanted]
        if module.split(".")[0] == "torch" and _OTHER_DTYPE.fullmatch(name):
            raise UserError(f"{self.path} holds tensors of {wanted}; only {', '.join(DTYPES)} are read.")
        raise UserError(
            f"{self.path} would run {wanted} when it is read, which weights do not need; "
            "save its tensors as safetensors with a program you trust."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        # PyTorch 1.5 and earlier add (key, first element, number of elements) of a part, or None.
        kind, code, key, _, num_elements, *rest = pid
        if kind != "storage" or type(key) is not str or not _are_sizes(num_elements):
            raise ValueError("a storage is not described as one")
        whole = _Storage(key, DTYPES[code], 0, num_elements)
        if self.storages.setdefault(key, whole).num_bytes != whole.num_bytes:
            raise ValueError(f"the storage {key} has two sizes")
        if rest and rest[0] is not None:
            _, start, size = rest[0]
            if not _are_sizes(start, size) or start + size > num_elements:
                raise ValueError("a part reaches beyond its storage")
            return whole._replace(start=start, num_elements=size)
        return whole

    def load_plain(self) -> Any:
        """Returns the next object of the file.

        Raises:
          UserError: it is no pickle, or one that asks for more than tensors.
        """
        try:
            self._check_memo()
            return self.load()
        except UserError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise _damaged(self.path, one_line(error)) from error

    def _check_memo(self) -> None:
        """Raises ValueError for a place in the pickle's memo so far up that all below would fill the machine."""
        start = self.file.tell()
        for opcode, argument, _ in pickletools.genops(self.file):
            is_place = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            if is_place and isinstance(argument, int) and argument > self.file.tell() - start:
                raise ValueError("its memo has gaps")
        self.file.seek(start)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is truncated, damaged or not what torch.save writes ({reason}); download it again."
    )


def _index_zip(path: Path, file: BinaryIO) -> tuple[Any, dict[str, int]]:
    """Returns the saved object and the offset of each storage in the file, in bytes."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise _damaged(path, "it has no data.pkl")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                raise UserError(f"{path} was written on a big-endian machine, which is not read here.")
            if members[pickles[0]].compress_type != zipfile.ZIP_STORED:
                raise _damaged(path, "its data.pkl is compressed")
            unpickler = _Unpickler(path, io.BytesIO(archive.read(pickles[0])))
            saved = unpickler.load_plain()
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
        raise _damaged(path, one_line(error)) from error
    offsets = {}
    for key, storage in unpickler.storages.items():
        member = members.get(f"{root}data/{key}")
        if (
            member is None
            or member.compress_type != zipfile.ZIP_STORED
            or member.file_size < storage.num_bytes
        ):
            raise _damaged(path, f"the storage {key} is missing or too short")
        file.seek(member.header_offset)
        header = file.read(30)
        if len(header) < 30 or not header.startswith(_ZIP_SIGNATURE):
            raise _damaged(path, f"the storage {key} is not where it belongs")
        name_bytes, extra_bytes = struct.unpack("<2H", header[26:])
        offsets[key] = member.header_offset + 30 + name_bytes + extra_bytes
    return saved, offsets


def _index_stream(path: Path, file: BinaryIO) -> tuple[Any, dict[str, int]]:
    """Returns the saved object and the offset of each storage in the file, in bytes."""
    for expected in (_STREAM_MAGIC, _STREAM_VERSION):
        if _Unpickler(path, file).load_plain() != expected:
            raise _damaged(path, "it does not begin with the magic number")
    machine = _Unpickler(path, file).load_plain()
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise UserError(f"{path} was written on a big-endian machine, which is not read here.")
    unpickler = _Unpickler(path, file)
    saved = unpickler.load_plain()
    keys = _Unpickler(path, file).load_plain()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(unpickler.storages):
        raise _damaged(path, "its list of storages is not that of its tensors")
    offset, end = file.tell(), file.seek(0, 2)
    offsets = {}
    for key in map(str, keys):
        storage = unpickler.storages[key]
        file.seek(offset)
        size = file.read(8)
        offsets[key] = offset + 8
        offset += 8 + storage.num_bytes
        if offset > end:
            raise _damaged(path, f"it ends at byte {end}, before its storage {key} does")
        if struct.unpack("<q", size)[0] != storage.num_elements:
            raise _damaged(path, f"the size of the storage {key} is not that of its tensors")
    return saved, offsets


def _state_dict(path: Path, saved: Any) -> dict[str, _Tensor]:
    """Returns the tensors by name, out of the wrapper that a training program put around them.

    Raises:
      UserError: there is anything but tensors.
    """
    for wrapper in _WRAPPERS:
        if isinstance(saved, dict) and isinstance(saved.get(wrapper), dict):
            saved = saved[wrapper]
    if not isinstance(saved, dict) or not saved:
        raise UserError(f"{path} holds no tensors by name; save a state dict.")
    for name, tensor in saved.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            kind = "dict" if isinstance(tensor, dict) else type(tensor).__name__.lstrip("_")
            raise UserError(
                f"{path}: the entry {name!r} is an object of type {kind} and no tensor; save the state dict alone."
            )
    return saved
