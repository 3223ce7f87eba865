"""Reads one .safetensors file, through the library of that name.

Source: the format's description in the documentation of safetensors.
"""

import functools
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from t5like.errors import UserError
from t5like.weights.source import DTYPES, LazyTensors, TensorInfo, TensorReader, one_line


def open_safetensors(path: Path) -> LazyTensors:
    """Returns the tensors of a file, whose header alone is read now.

    Raises:
      UserError: the file is missing, truncated, damaged, no safetensors file or of a dtype not read here.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            layout = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            stored = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in layout.items()}
    except OSError as error:
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    except SafetensorError as error:
        raise UserError(
            f"{path} is truncated, damaged or no safetensors file ({one_line(error)}); download it again."
        ) from error
    readers = {}
    for name, (shape, dtype) in stored.items():
        if dtype not in DTYPES:
            raise UserError(
                f"{path}: the tensor {name} is of dtype {dtype}, and only {', '.join(DTYPES)} are read."
            )
        readers[name] = TensorReader(TensorInfo(shape, DTYPES[dtype]), functools.partial(_read, path, name))
    return LazyTensors(path, readers)


def _read(path: Path, name: str) -> np.ndarray:
    # The file is opened for each tensor: pages of an open one stay in memory once they were read.
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)
    except SafetensorError as error:
        raise UserError(f"{path}: the tensor {name} cannot be read ({one_line(error)}).") from error
