"""TensorFlow is never imported, not even where it is installed and somebody we import would like to have it.

Nor does a command import PyTorch, which would cost each a second.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A benchmark's other side runs what its users run, in an environment of its own.
PEERS = {ROOT / "tests/benchmarks/input_vs_seqio.py"}
SOURCES = sorted(
    path
    for folder in ("t5like", "configs", "launch", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path not in PEERS
)

# Stands in for an installed package, and says who imports it.
IMPOSTOR = """
import sys, traceback
traceback.print_stack(file=sys.stdout)
print("IMPORTED")
"""

# Runs several commands in one process.
RUN = """
import pathlib, sys
from t5like.cli import dispatch
for line in pathlib.Path("commands").read_text().splitlines():
    dispatch(line.split("|"))
print("LOADED", sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "torch")))
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_imports_it(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "tensorflow"]
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "import_module"
        ):
            assert not [a.value for a in node.args if isinstance(a, ast.Constant) and a.value == "tensorflow"]


def test_no_command_brings_it_in(
    small_pretrain: Any,
    finetuned: Path,
    pretrained: Path,
    small_text: Path,
    tmp_path: Path,
) -> None:
    glue = str(small_text / "glue")
    (tmp_path / "config.py").write_text(
        "import json\n"
        "from t5like.config import from_dict\n\n\n"
        "def get_config():\n"
        f"    return from_dict(json.load(open({str(pretrained / 'config.json')!r})))\n"
    )
    few = ["--objective.inputs_length", "24", "--objective.targets_length", "4", "--batch_size", "8"]
    schedule = ["--optimizer.schedule.warmup_steps", "1", "--num_steps", "2"]
    commands = [
        ["pretrain", "config.py", "--workdir", "a", "--num_steps", "2"],
        [
            "finetune",
            "--task",
            "glue/sst2",
            "--data_dir",
            glue,
            "--init",
            "a",
            "--workdir",
            "b",
            *few,
            *schedule,
        ],
        ["evaluate", "--init", "b", "--batch_size", "8"],
        ["evaluate", "--init", "a", "--data", str(small_text / "text" / "00.txt"), "--batch_size", "8"],
        ["generate", "--init", "b", "--text", "abc", *few],
    ]
    (tmp_path / "commands").write_text("\n".join("|".join(command) for command in commands))
    for package in ("tensorflow", "torch"):
        (tmp_path / f"{package}.py").write_text(IMPOSTOR)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "IMPORTED" not in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED []"
