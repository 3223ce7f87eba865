"""What an open file of named tensors is: shapes and dtypes at once, each tensor when it is asked for."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, Self

import ml_dtypes
import numpy as np

from t5like.errors import UserError

# The dtypes that tensors may have here, by their names in safetensors.
DTYPES: Mapping[str, np.dtype] = MappingProxyType(
    {
        "F64": np.dtype(np.float64),
        "F32": np.dtype(np.float32),
        "F16": np.dtype(np.float16),
        "BF16": np.dtype(ml_dtypes.bfloat16),
        "I64": np.dtype(np.int64),
        "I32": np.dtype(np.int32),
        "I16": np.dtype(np.int16),
        "I8": np.dtype(np.int8),
        "U64": np.dtype(np.uint64),
        "U32": np.dtype(np.uint32),
        "U16": np.dtype(np.uint16),
        "U8": np.dtype(np.uint8),
        "BOOL": np.dtype(np.bool_),
    }
)


class TensorInfo(NamedTuple):
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TensorSource(Protocol):
    """Named tensors, none of them in memory; a context manager that closes itself."""

    @property
    def origin(self) -> str:
        """The path they come from, for messages."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by its name."""

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor, of the shape and dtype in `tensors`; the array is the caller's own.

        Raises:
          KeyError: no tensor has that name.
          UserError: what is stored for it is missing or damaged.
        """

    def close(self) -> None:
        """Lets go of the files; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class TensorReader(NamedTuple):
    """One tensor of a `LazyTensors`: what is known of it, and the function that reads it."""

    info: TensorInfo
    read: Callable[[], np.ndarray]


class LazyTensors:
    """A `TensorSource` made of one function per tensor."""

    def __init__(self, origin: str | os.PathLike[str], readers: Mapping[str, TensorReader]) -> None:
        self.origin = os.fspath(origin)
        self.tensors = MappingProxyType({name: reader.info for name, reader in readers.items()})
        self._read = {name: reader.read for name, reader in readers.items()}

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor; see `TensorSource.read`.

        Raises:
          KeyError: no tensor has that name.
          ValueError: the source is closed.
          UserError: what is stored for it is missing or damaged.
        """
        if name not in self.tensors:
            raise KeyError(f"{self.origin} has no tensor {name}")
        if name not in self._read:
            raise ValueError(f"{self.origin} is closed")
        try:
            return self._read[name]()
        except (OSError, ValueError) as error:
            reason = one_line(error)
            raise UserError(f"{self.origin}: the tensor {name} cannot be read ({reason}).") from error

    def close(self) -> None:
        """Lets go of the files; a second call does nothing."""
        self._read.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StoredArray(NamedTuple):
    """An array that lies uncompressed in a file, little-endian.

    Attributes:
      path: the file.
      offset: where in it the first element is, in bytes; any number, aligned or not.
      shape: of the array.
      dtype: of its elements.
      strides: elements from one to the next along each axis, not negative; None for an array in C order.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes from the first element to the end of the last."""
        if 0 in self.shape:
            return 0
        if self.strides is None:
            return math.prod(self.shape) * self.dtype.itemsize
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Returns a copy in C order.

        Raises:
          OSError: the file cannot be opened.
          ValueError: it ends before the array does.
        """
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        strides = None
        if self.strides is not None:
            strides = tuple(stride * self.dtype.itemsize for stride in self.strides)
        mapped = np.memmap(self.path, np.uint8, mode="r", offset=self.offset, shape=(self.num_bytes,))
        return np.array(np.ndarray(self.shape, self.dtype, buffer=mapped, strides=strides), order="C")

    def reader(self) -> TensorReader:
        """Returns what `LazyTensors` takes."""
        return TensorReader(TensorInfo(self.shape, self.dtype), self.read)


def one_line(error: Exception) -> str:
    """Returns what an error says, cut to what fits into a sentence."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join(text.split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else words[:200] + "..."
