"""A process that keeps its freed memory is not given fresh pages at every step."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Prints how many fresh pages a call of a function with temporaries of 64 MiB is given, once the heap has grown to what
# it needs.
CODE = """
import resource, sys
if sys.argv[1] == "keep":
    from t5like.allocator import keep_freed_memory
    assert keep_freed_memory()
import jax, jax.numpy as jnp
run = jax.jit(lambda x: jnp.outer(x, x) @ x)
x = jnp.ones(4096)
for _ in range(60):
    run(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    run(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 30)
"""


def fresh_pages(what: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", CODE, what], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


# Prints how much of an array of 64 MiB and of one that XLA makes lies in huge pages.
HUGE_CODE = """
import re, sys
if sys.argv[1] == "keep":
    from t5like.allocator import keep_freed_memory
    assert keep_freed_memory()
import jax, jax.numpy as jnp, numpy as np
arrays = np.ones(1 << 24, np.float32), jax.block_until_ready(jax.jit(lambda: jnp.ones(1 << 24))())
with open("/proc/self/smaps") as file:
    print(sum(int(kilobytes) for kilobytes in re.findall(r"AnonHugePages: +([0-9]+)", file.read())) / 1024)
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE.exists() or "[madvise]" not in HUGE.read_text(),
    reason="/sys/kernel/mm/transparent_hugepage/enabled is not [madvise]: Linux gives huge pages to all or to none",
)
def test_weights_lie_in_huge_pages() -> None:
    def mebibytes(what: str) -> float:
        command = [sys.executable, "-c", HUGE_CODE, what]
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert mebibytes("keep") >= 64
    assert mebibytes("leave") < 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the knobs are glibc's")
def test_freed_memory_is_used_again() -> None:
    assert fresh_pages("keep") < fresh_pages("leave") / 2
