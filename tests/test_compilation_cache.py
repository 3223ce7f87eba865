"""What one process has compiled, the next one need not; unless the environment says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from t5like.compilation_cache import cache_folder

ROOT = Path(__file__).resolve().parents[1]

# An entry point that compiles one program, JAX being imported when it has begun, as by `t5like`, or before, as by
# `python -m t5like.finetune`.
CODE = """
import sys
if sys.argv[1] == "before":
    import jax
from t5like.entry import run_entry
def main(argv):
    import jax
    jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((3, 3))).block_until_ready()
sys.exit(run_entry(main))
"""


def programs_after(home: Path, jax_is_imported: str = "in", **environment: str) -> dict[Path, int]:
    """Returns the programs under a folder after a process has run that has it as its cache, and when each was written."""
    inherited = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    asked = {"XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **environment}
    subprocess.run(
        [sys.executable, "-c", CODE, jax_is_imported], cwd=ROOT, env={**inherited, **asked}, check=True
    )
    return {path: path.stat().st_mtime_ns for path in home.rglob("jit_*-cache")}


@pytest.mark.parametrize("jax_is_imported", ["in", "before"])
def test_a_second_process_compiles_nothing_again(tmp_path: Path, jax_is_imported: str) -> None:
    first = programs_after(tmp_path, jax_is_imported)
    assert first
    assert programs_after(tmp_path, jax_is_imported) == first


def test_another_place_may_be_named(tmp_path: Path) -> None:
    named = tmp_path / "named"
    assert {path.parent for path in programs_after(tmp_path, JAX_COMPILATION_CACHE_DIR=str(named))} == {named}


def test_it_may_be_turned_off(tmp_path: Path) -> None:
    assert not programs_after(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")


def test_cpus_with_other_instructions_share_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = set()
    for flags in ("sse4_2 avx2", "sse4_2 avx2 avx512f"):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        monkeypatch.setattr("t5like.compilation_cache._CPU_INFO", tmp_path / "cpuinfo")
        folders.add(cache_folder())
    assert len(folders) == 2
