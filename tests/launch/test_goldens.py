"""Every action of every backend is the command lines that were read and found good."""

import itertools
import pathlib
import shlex
import subprocess
import sys

import pytest

from tests.launch.goldens import BACKENDS, CAPACITIES, COMMAND, FOLDER, TYPES, golden, printed

ROOT = pathlib.Path(__file__).resolve().parents[2]
EACH = list(itertools.product(BACKENDS, TYPES))
QR = (
    "--backend",
    "qr",
    "--name",
    "base",
    "--type",
    "v5e-16",
    "--zone",
    "us-east5-b",
    "--project",
    "p",
    "--dry_run",
)


@pytest.mark.parametrize(("backend", "chip"), EACH)
def test_what_is_called_is_what_was_read(backend: str, chip: str) -> None:
    expected = (FOLDER / f"{backend}-{chip}.txt").read_text(encoding="utf-8")
    assert golden(backend, chip) == expected, (
        "if this is meant: python -m tests.launch.goldens, and read the difference"
    )


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {f"{backend}-{chip}" for backend, chip in EACH}


def test_a_dry_run_needs_no_program_and_writes_nothing(tmp_path: pathlib.Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": sys.executable}
    for words in BACKENDS.values():
        done = subprocess.run(
            [
                *("bash", str(ROOT / "launch" / "pod.sh"), *QR, *words),
                *("--type", "v6e-16", "babysit", *COMMAND),
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_command_survive_both_shells() -> None:
    # As this machine's shell would take the line, and then as the host's would take what it is given.
    lines = [line for line in printed(*QR, "run", *COMMAND).splitlines() if "job.sh start" in line]
    assert len(lines) == 4
    for line in lines:
        (script,) = [
            word.removeprefix("--command=") for word in shlex.split(line) if word.startswith("--command=")
        ]
        assert shlex.split(script)[5:] == list(COMMAND)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_only_what_has_no_released_flags_is_asked_for_with_unreleased_ones(capacity: str) -> None:
    assert ("gcloud alpha" in printed(*QR, *CAPACITIES[capacity], "create")) == (
        capacity in ("reserved", "flex_start")
    )
