"""The side of the process that trains: it gives signs of life, and shows its stacks when it is asked to."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from t5like import phases

WATCHED = "T5LIKE_WATCHED"  # set by the watcher: {"pipe": file descriptor, "watcher": process id}
BEAT_SECONDS = 0.5
SHOW_STACKS = signal.SIGUSR1

_SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl
_ORPHANED = 1  # an exit code that nobody is there to see


class Watched:
    """The line to the watcher."""

    def __init__(self, pipe: int, watcher: int) -> None:
        """Begins to give signs of life."""
        self._pipe, self._facts = pipe, dict[str, Any]()
        self._lock = threading.Lock()
        os.set_inheritable(pipe, False)
        faulthandler.enable(file=sys.stderr)  # for a crash in native code
        faulthandler.register(SHOW_STACKS, file=sys.stderr, all_threads=True)
        _end_with(watcher)
        threading.Thread(target=self._beat, name="t5like-beat", daemon=True).start()

    def note(self, **facts: Any) -> None:
        """Has the watcher hear something with the next sign of life, and with all after it."""
        self._facts |= facts

    def tell(self, **message: Any) -> None:
        """Has the watcher hear something at once."""
        try:
            with self._lock:
                os.write(self._pipe, json.dumps(message).encode() + b"\n")
        except OSError:  # the watcher is gone
            os._exit(_ORPHANED)

    def run(self, main: Callable[[], int]) -> int:
        """Returns the exit code of `main` if that is 0, and else ends the process at once.

        Other hosts are not waited for then; and what breaks JAX off while it compiles leaves something behind with which
        the interpreter's own way of ending crashes.
        """
        try:
            code = main()
        except Exception:
            traceback.print_exc()
            code = 1
        phases.end()
        if code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def _beat(self) -> None:
        while True:
            self.tell(phase=phases.current(), **self._facts)
            time.sleep(BEAT_SECONDS)


def _end_with(watcher: int) -> None:
    """Lets this process end at once when the watcher does, so that whoever is started next has the workdir for itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != watcher:
            os._exit(_ORPHANED)


def become_watched(environment: Mapping[str, str]) -> Watched | None:
    """Returns the line to the watcher that started this process, None where there is none."""
    if WATCHED not in environment:
        return None
    told = json.loads(environment[WATCHED])
    os.environ.pop(WATCHED, None)  # it is not for processes that this one starts
    return Watched(**told)
