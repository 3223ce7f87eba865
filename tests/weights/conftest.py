"""What the tests of files of tensors share: arrays of any bits, their comparison, and the memory that reading takes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def random_array() -> Callable[..., np.ndarray]:
    """Returns a function from dtype, shape and seed to an array of random bits."""

    def build(dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
        bits = np.random.default_rng(seed).integers(0, 256, int(np.prod(shape)) * dtype.itemsize, np.uint8)
        return (bits % 2 if dtype == np.bool_ else bits).view(dtype).reshape(shape)

    return build


@pytest.fixture(scope="session")
def same_bits() -> Callable[[np.ndarray, np.ndarray], bool]:
    """Returns a function that says whether two arrays are one in dtype, shape and every bit."""
    return lambda a, b: (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.fixture(scope="session")
def peak_growth() -> Callable[[str, str], float]:
    """Returns a function from two programs to the MiB by which running the second raises the peak after the first."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from /proc, which is not here")

    def measure(before: str, measured: str) -> float:
        peak = "int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        program = f"import re\n{before}\nbefore = {peak}\n{measured}\nprint(({peak} - before) / 1024)"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # freed memory goes back at once
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    return measure
