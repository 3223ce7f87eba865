"""Runs every test on eight virtual CPU devices, compiles in a tenth of the usual time, and gives random batches."""

import importlib.util
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from t5like.batch import Features, encoder_decoder_row


def jaxlib_knows(flag: str) -> bool:
    """Returns whether this jaxlib has the XLA flag; one that it does not know would end the process."""
    folder = Path(importlib.util.find_spec("jaxlib").submodule_search_locations[0])
    for library in folder.glob("*.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode()) >= 0:
                return True
    return False


# Before anything imports jax, which reads these once. A mesh test needs several devices; the others do not mind.
os.environ["JAX_PLATFORMS"] = "cpu"
flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
# Tests run small programs a few times: compiling them well costs far more than running them badly.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if jaxlib_knows("xla_cpu_use_fusion_emitters"):
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(flags).strip()

RandomBatch = Callable[..., Features]


@pytest.fixture(scope="session")
def random_batch() -> RandomBatch:
    """Returns a function from the real lengths of each row to a batch of random ids."""

    def build(
        rows: Sequence[tuple[int, int]],
        *,
        inputs_length: int = 10,
        targets_length: int = 8,
        vocab: int = 40,
        seed: int = 0,
    ) -> Features:
        """Returns one row for each (number of inputs, number of targets), with ids in [2, vocab)."""
        rng = np.random.default_rng(seed)
        laid_out = [
            encoder_decoder_row(
                rng.integers(2, vocab, num_inputs),
                rng.integers(2, vocab, num_targets),
                inputs_length=inputs_length,
                targets_length=targets_length,
            )
            for num_inputs, num_targets in rows
        ]
        return {name: np.stack([row[name] for row in laid_out]) for name in laid_out[0]}

    return build
