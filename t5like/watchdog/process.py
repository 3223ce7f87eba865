"""The side of the watcher: the process that trains, what it says of itself, and how long it has been at it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t5like.phases import Deadlines, Entered, deadline_name
from t5like.watchdog.watched import SHOW_STACKS, WATCHED

_SHOWING_SECONDS = 1.0
_ENDING_SECONDS = 10.0

_TOO_LONG = {
    "init": "it has not started",
    "wait": "no batch has come for step {next}",
    "compile": "the first step has not been compiled",
    "step": "step {next} has not ended",
    "evaluate": "the evaluation at step {step} has not ended",
    "save": "the checkpoint of step {step} has not been taken",
    "finish": "scores and report have not been made",
}


class TrainingProcess:
    """This process's own command line once more, told that it is watched; a context manager that leaves nothing behind.

    Attributes:
      facts: what it has said of itself, the newest word on each thing.
      last_sign: when it said something, by the monotonic clock.
    """

    def __init__(self, environment: Mapping[str, str], *, pass_fds: Sequence[int] = ()) -> None:
        """Starts it."""
        self._pipe, pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        told = {WATCHED: json.dumps({"pipe": pipe, "watcher": os.getpid()})}
        self._process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**environment, **told},
            pass_fds=(pipe, *pass_fds),
            process_group=0,  # Ctrl-C comes to the watcher, which hands it on
        )
        os.close(pipe)
        self._unread = b""
        self.facts: dict[str, Any] = {}
        self.last_sign = self._entered_at = time.monotonic()
        self._entered = Entered(0, "init", 0, Deadlines().init_seconds)  # until it says something

    def __enter__(self) -> "TrainingProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(
            subprocess.TimeoutExpired
        ):  # in a call to a disk that does not answer it does not end
            self._process.wait(_ENDING_SECONDS)
        os.close(self._pipe)

    def fileno(self) -> int:
        """Returns what a selector waits for."""
        return self._pipe

    def poll(self) -> int | None:
        """Returns the exit code, negative that of a signal, None while the process runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Returns the exit code, as `poll`, when there is one."""
        return self._process.wait()

    def send_signal(self, number: int) -> None:
        """Sends a signal, if there still is anybody."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()

    def hear(self) -> bool:
        """Returns whether the process may say more, having heard what it said."""
        try:
            read = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return True
        *lines, self._unread = (self._unread + read).split(b"\n")
        for line in lines:
            self.facts |= json.loads(line)
            self.last_sign = time.monotonic()
        if lines and "phase" in self.facts:
            entered = Entered(*self.facts["phase"])
            if entered.number != self._entered.number:
                self._entered_at = self.last_sign
            self._entered = entered
        return bool(read)

    def forgive(self, seconds: float) -> None:
        """Lets the phase have more time: this process was stopped, and perhaps the other one with it."""
        self._entered_at += seconds

    def overdue(self) -> str | None:
        """Returns in words what has taken longer than it may, None while nothing has."""
        allowed_seconds = self._entered.allowed_seconds
        if allowed_seconds is None or time.monotonic() - self._entered_at <= allowed_seconds:
            return None
        what = _TOO_LONG[self._entered.phase].format(step=self._entered.step, next=self._entered.step + 1)
        stopped = ", and its process is stopped" if _state(self._process.pid) in ("T", "t") else ""
        return (
            f"{what} within {allowed_seconds:g} s (--deadlines.{deadline_name(self._entered.phase)}){stopped}"
        )

    def show_stacks(self) -> None:
        """Has this process and those that it started print the stacks of all their threads; returns when they have."""
        for pid in _family(self._process.pid) if self._process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                self._show_stacks_of(pid)

    def _show_stacks_of(self, pid: int) -> None:
        if not _catches(pid, SHOW_STACKS):
            return
        state = _state(pid) or "not known"
        print(f"the threads of process {pid}, whose state is {state}:", file=sys.stderr, flush=True)
        os.kill(pid, signal.SIGCONT)  # one that is stopped shows nothing
        os.kill(pid, SHOW_STACKS)
        time.sleep(_SHOWING_SECONDS)


def _family(pid: int) -> list[int]:
    """Returns a process and all that it and they have started, as Linux tells."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        children = []
    return [pid, *(member for child in children for member in _family(child))]


def _catches(pid: int, number: signal.Signals) -> bool:
    """Returns whether a process has a handler for a signal; True where the system does not tell."""
    mask = _status(pid).get("SigCgt")
    return mask is None or bool(int(mask, 16) >> (number - 1) & 1)


def _state(pid: int) -> str:
    """Returns R, S, D, T ... as Linux has it, "" where the system does not tell."""
    return _status(pid).get("State", "")[:1]


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
