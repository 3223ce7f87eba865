"""Runs one thing on our side and on a peer's in turns, so that both see the same noise of the machine.

Each side is a process of its own that does the thing once whenever it is told to and says how long it took, and how
much that was; while one has its turn, the others are stopped, lest their idle threads spin or work ahead. The ratio is the
median of the rounds'. A third side, where ours says what it computes, is the machine's own rate of matrix products, of
which the line gives our share. The peer lives in an environment made under
~/.cache/t5like/benchmarks, unless --peer_python names one that is there.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

# A process that gives gigabytes back to the system is not stopped before that is done.
_SETTLE_SECONDS = 0.5
MATRIX_PRODUCTS = pathlib.Path(__file__).with_name("matrix_products.py")
CACHE = pathlib.Path.home() / ".cache/t5like/benchmarks"


class Environment(NamedTuple):
    """What a peer is installed from."""

    name: str  # of its folder
    requirements: tuple[str, ...]
    bare_requirements: tuple[
        str, ...
    ] = ()  # installed after the others, without what they ask for themselves

    def python(self) -> str:
        """Returns the interpreter of the environment, made if it is not there."""
        folder = CACHE / self.name
        python = folder / "bin/python"
        if not python.exists():
            install = [python, "-m", "pip", "install", "-q"]
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([*install, *self.requirements], check=True)
            if self.bare_requirements:
                subprocess.run([*install, "--no-deps", *self.bare_requirements], check=True)
        return str(python)


TRANSFORMERS = Environment("transformers", ("torch==2.13.0", "transformers>=4.57,<5"))


def serve(
    run_once: Callable[[], float],
    *,
    before: Callable[[], object] = lambda: None,
    flops_per_unit: float = 0.0,
) -> None:
    """Does the thing once for each line on standard input and prints its seconds and its units.

    Args:
      run_once: returns how many units it did: tokens, say.
      before: called before each run and not timed.
      flops_per_unit: operations in the matrix products of one, 0 where there are none.
    """
    run_once()  # compile and warm up
    run_once()
    print(f"ready {flops_per_unit}", flush=True)
    for _ in sys.stdin:
        before()
        start = time.perf_counter()
        units = run_once()
        print(time.perf_counter() - start, units, flush=True)


class Side:
    """A process that does one run at a time."""

    def __init__(self, python: str, script: str, role: str):
        self._process = subprocess.Popen(
            [python, script, *sys.argv[1:], "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready, _, flops_per_unit = self._line().partition(" ")
        if ready != "ready":
            self._process.kill()
            raise SystemExit(f"the {role} side did not start")
        self.flops_per_unit = float(flops_per_unit)
        self._process.send_signal(signal.SIGSTOP)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def time_once(self) -> tuple[float, float]:
        """Returns (seconds, units) of one run."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        print(file=self._process.stdin, flush=True)
        seconds, units = map(float, self._line().split())
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(_SETTLE_SECONDS)
        return seconds, units

    def close(self) -> None:
        """Ends the process, which may be stopped."""
        self._process.kill()
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


def alternate(
    name: str, script: str, options: argparse.Namespace, *, environment: Environment = TRANSFORMERS
) -> None:
    """Alternates the sides and prints the seconds of every round, then `NAME ratio=R ours=U peer=U spread=L-H`.

    The last line gives units a second, and ratios of these; and `share=S`, our part of the machine's matrix products.

    Args:
      script: the file that serves a side when called with --role.
      environment: the peer's.
    """
    rounds = []
    with contextlib.ExitStack() as stack:

        def open_side(python: str, script: str, role: str) -> Side:
            return stack.enter_context(contextlib.closing(Side(python, script, role)))

        sides = {
            "ours": open_side(sys.executable, script, "ours"),
            "peer": open_side(options.peer_python or environment.python(), script, "peer"),
        }
        flops_per_unit = sides["ours"].flops_per_unit
        if flops_per_unit:
            sides["machine"] = open_side(sys.executable, str(MATRIX_PRODUCTS), "machine")
        for number in range(options.rounds):
            runs = {side: process.time_once() for side, process in sides.items()}
            rounds.append({side: units / seconds for side, (seconds, units) in runs.items()})
            shown = {side: round(seconds, 3) for side, (seconds, _) in runs.items()}
            print(f"round {number + 1}: {json.dumps(shown)}", flush=True)
    ratios = [speed["ours"] / speed["peer"] for speed in rounds]
    ours, peer = (statistics.median(speed[side] for speed in rounds) for side in ("ours", "peer"))
    line = (
        f"{name} ratio={statistics.median(ratios):.2f} ours={ours:.0f} peer={peer:.0f} "
        f"spread={min(ratios):.2f}-{max(ratios):.2f}"
    )
    if flops_per_unit:
        share = statistics.median(flops_per_unit * speed["ours"] / speed["machine"] for speed in rounds)
        line += f" share={share:.2f}"
    print(line)
