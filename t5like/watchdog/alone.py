"""The watcher of a run on one host."""

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterator, Mapping

from t5like.errors import HangError
from t5like.watchdog.process import TrainingProcess
from t5like.watchdog.signals import heeding
from t5like.watchdog.watched import BEAT_SECONDS

WATCHDOG = "T5LIKE_WATCHDOG"
"""Set to "off", the command is one process, which a debugger can be used in."""

GO_ON = "given again, the same command goes on from the last checkpoint"


def watch_alone(environment: Mapping[str, str]) -> int:
    """Returns the exit code of the training process that it starts and watches; 128 and more: ended by a signal.

    Raises:
      HangError: a phase has lasted for longer than it may.
    """
    with TrainingProcess(environment) as process, _signals(process) as handed_on:
        code = _watch(process)
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    if -code in handed_on:  # it was not heeded, so this process ends by it too
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    why = " (by the system, if nobody else did, for want of memory)" if -code == signal.SIGKILL else ""
    print(f"error: The training process was ended by {name}{why}; {GO_ON}.", file=sys.stderr)
    return 128 - code


def _watch(process: TrainingProcess) -> int:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        turned = time.monotonic()
        while not selector.select(BEAT_SECONDS) or process.hear():
            now = time.monotonic()
            process.forgive(max(0.0, now - turned - 2 * BEAT_SECONDS))
            turned = now
            what = process.overdue()
            if what is not None:
                process.show_stacks()
                raise HangError(f"The run has hung: {what}. Above are the stacks of its threads; {GO_ON}.")
    return process.wait()


@contextlib.contextmanager
def _signals(process: TrainingProcess) -> Iterator[list[int]]:
    """Hands signals on to the training process, and gives those that it did."""
    handed_on: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        handed_on.append(number)
        process.send_signal(number)

    def stop(number: int, frame: object) -> None:  # Ctrl-Z
        process.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)

    with heeding({signal.SIGINT: hand_on, signal.SIGTERM: hand_on, signal.SIGTSTP: stop}):
        yield handed_on
