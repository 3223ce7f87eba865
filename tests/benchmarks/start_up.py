"""How long a command takes until it does something: `t5like --help`, and the first step of configs/tiny.py.

    python tests/benchmarks/start_up.py [--rounds 3]

A first run of the config fills the compilation cache, in a folder of its own; then come `--rounds` more, whose time is from
the start of the command to the end of its first step, by its ledger: imports, a vocabulary trained, an n-gram model counted,
an evaluation and compilation among it.

Last line: start_up first_step=SECONDS cold=SECONDS help=SECONDS
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "tiny.py"


def first_step_seconds(workdir: pathlib.Path, environment: dict[str, str]) -> float:
    """Returns the seconds until the first step of a run in a new workdir was done."""
    command = (sys.executable, "-m", "t5like", "pretrain", str(CONFIG), "--workdir", str(workdir))
    began = time.time()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    rows = [json.loads(line) for line in (workdir / "ledger.jsonl").read_text().splitlines()]
    return min(row["time"] for row in rows if row["step"] >= 1) - began


def help_seconds(environment: dict[str, str]) -> float:
    """Returns the seconds of `t5like --help`."""
    began = time.monotonic()
    command = (sys.executable, "-m", "t5like", "--help")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.monotonic() - began


def main() -> None:
    """Prints seconds of every run, and medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
        environment = {"JAX_PLATFORMS": "cpu", **os.environ, **cache}
        runs = []
        for number in range(1 + options.rounds):
            runs.append(first_step_seconds(pathlib.Path(folder) / f"run{number}", environment))
            print(f"run {number + 1}: first step after {runs[-1]:.2f} s", flush=True)
        helps = [help_seconds(environment) for _ in range(1 + 2 * options.rounds)]
    print(
        f"start_up first_step={statistics.median(runs[1:]):.2f} cold={runs[0]:.2f} help={statistics.median(helps):.2f}"
    )


if __name__ == "__main__":
    main()
