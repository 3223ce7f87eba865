"""Runs one thing on our side and on a peer's in turns, so that both see the same noise of the machine.

Each side is a process of its own that does the thing once whenever it is told to and says how long it took. The ratio is
the median of the rounds'. The peer lives in an environment made under ~/.cache/t5like/benchmarks, unless
--peer_python names one that is there.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

PAUSE_SECONDS = 1.0
PEER_REQUIREMENTS = ("torch==2.13.0", "transformers>=4.57,<5")


def serve(run_once: Callable[[], None]) -> None:
    """Does the thing once for each line on standard input and prints its seconds."""
    run_once()  # compile and warm up
    run_once()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run_once()
        print(time.perf_counter() - start, flush=True)


def peer_python() -> str:
    """Returns the interpreter of the peer's environment, made if it is not there."""
    folder = pathlib.Path.home() / ".cache/t5like/benchmarks/transformers"
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER_REQUIREMENTS], check=True)
    return str(python)


class Side:
    """A process that times one run at a time."""

    def __init__(self, python: str, script: str, role: str):
        self._process = subprocess.Popen(
            [python, script, *sys.argv[1:], "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise SystemExit(f"the {role} side did not start")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def time_once(self) -> float:
        """Returns the seconds of one run, taken once the other side's idle threads have stopped spinning."""
        assert self._process.stdin is not None
        time.sleep(PAUSE_SECONDS)
        print(file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer_python", default=None)
    parser.add_argument("--role", choices=("ours", "peer"), help=argparse.SUPPRESS)
    return parser


def alternate(name: str, script: str, options: argparse.Namespace, *, units: float) -> None:
    """Alternates the two sides and prints every round, then the line `NAME ratio=R ours=U peer=U spread=L-H`.

    Args:
      script: the file that serves a side when called with --role.
      units: of what the last line gives per second, in one run.
    """
    ours = Side(sys.executable, script, "ours")
    peer = Side(options.peer_python or peer_python(), script, "peer")
    rounds = []
    for number in range(options.rounds):
        seconds = {"ours": ours.time_once(), "peer": peer.time_once()}
        rounds.append(seconds)
        shown = {side: round(value, 3) for side, value in seconds.items()}
        print(f"round {number + 1}: {json.dumps(shown)}", flush=True)
    ours.close()
    peer.close()
    ratios = [seconds["peer"] / seconds["ours"] for seconds in rounds]
    speed = {
        side: units / statistics.median(seconds[side] for seconds in rounds) for side in ("ours", "peer")
    }
    print(
        f"{name} ratio={statistics.median(ratios):.2f} ours={speed['ours']:.0f} peer={speed['peer']:.0f} "
        f"spread={min(ratios):.2f}-{max(ratios):.2f}"
    )
