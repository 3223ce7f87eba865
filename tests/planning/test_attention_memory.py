"""What the TPU compiler says of attention: that it takes the kernels, and what memory each way needs."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("compile_attention.py")
LENGTH, HEADS = 2048, 12
OURS_TO_SET = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
NO_TPU_HERE = {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler, libtpu, is not installed"
)


@functools.cache
def compiled(topology, way):
    """Returns what compile_attention.py prints."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS_TO_SET}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), topology, way, str(LENGTH), str(HEADS)],
        env=environment | NO_TPU_HERE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_chunks_and_kernels_need_less_than_an_eighth_of_the_memory_of_attention_at_once():
    at_once = compiled("v5e:2x2", "at_once")
    assert at_once["temporaries"] > 1000
    for way in ("chunked", "flash"):
        assert compiled("v5e:2x2", way)["temporaries"] < 1136 / 8
        assert compiled("v5e:2x2", way)["peak"] < at_once["peak"] / 8


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_the_compiler_takes_the_kernels_which_leave_next_to_nothing_in_memory(topology):
    flash = compiled(topology, "flash")
    assert flash["kernels"] == 2, "forward and backward"
    assert flash["temporaries"] < 2
