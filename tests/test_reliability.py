"""Short versions of scripts in tests/reliability, whose long ones have their figures in the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).with_name("reliability")


@pytest.mark.parametrize(
    ("command", "last_line"),
    [
        (
            "kill_anywhere.py --num_kills 2 --in_saves 1 --num_steps 40 --max_wait_seconds 6",
            r"kill_anywhere ok=2 of 2 in_saves=[12] num_hosts=1 steps=40 resumed_at=[12] distinct steps",
        ),
        (
            "sigterm_in_phases.py --num_each 1 --phases compile",
            r"sigterm_in_phases compile=1 of 1 saved=[01] refused=[01] seconds<=[\d.]+",
        ),
        (
            "preempted_slices.py --num_preemptions 1 --num_steps 24 --max_wait_seconds 0.5",
            r"preempted_slices ok=1 of 1 attempts=[23] hosts=2 steps=24 config_error_attempts=1",
        ),
    ],
)
def test_the_short_version_holds(command: str, last_line: str) -> None:
    script, *options = command.split()
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *options], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(last_line, done.stdout.splitlines()[-1]), done.stdout
