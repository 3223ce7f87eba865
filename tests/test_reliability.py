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
            "kill_anywhere.py --num_kills 3 --in_saves 2 --num_steps 40 --max_wait_seconds 6",
            r"kill_anywhere ok=3 of 3 in_saves=[23] num_hosts=1 steps=40 resumed_at=[123] distinct steps",
        ),
        (
            "sigterm_in_phases.py --num_each 1 --phases compile",
            r"sigterm_in_phases compile=1 of 1 saved=[01] refused=[01] seconds<=[\d.]+",
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
