"""stub"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class TensorInfo(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


class TensorSource(Protocol):
    origin: str
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> np.ndarray: ...
