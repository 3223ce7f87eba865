"""SIGTERM, with which a machine says that it will be taken away: a run saves what it has and ends.

The signal is taken note of. What runs goes on to the next step, at which the loop asks, saves and ends; only waiting for
data and evaluating are broken off, from which nothing is lost. Before the first step and after the last nothing is new,
and the process ends at once, even within a compilation.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from t5like.errors import PreemptedError

# By then a main thread that runs Python has raised; one that compiles has not.
_PATIENCE_SECONDS = 1.0


class BrokenOff(BaseException):
    """What a function is left by that `call_unless_told` calls; no handler of errors catches it."""


class _Listener:
    """What this process has been told, and what it may be told meanwhile."""

    def __init__(self) -> None:
        self.told_at: float | None = None
        self.is_under_way = False
        self.may_break_off = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal, in the main thread."""
        self.told_at = self.told_at or time.monotonic()
        if not self.is_under_way:
            raise nothing_new()
        if self.may_break_off:
            self.may_break_off = False
            raise BrokenOff

    def wait(self, read_end: int) -> None:
        """Ends the process if the main thread, which is told first, is too busy to begin."""
        while number := os.read(read_end, 1):
            if number[0] == signal.SIGTERM:
                time.sleep(_PATIENCE_SECONDS)
                if not self.is_under_way and self.told_at is None:
                    print(f"error: {nothing_new()}", file=sys.stderr, flush=True)
                    os._exit(PreemptedError.exit_code)


_listeners: list[_Listener] = []


def nothing_new() -> PreemptedError:
    """Returns the error of a run that is told to end where all there is has been saved."""
    return PreemptedError(
        "Told to end by SIGTERM, with nothing new to save; given again, the same command goes on."
    )


def preempted(step: int) -> PreemptedError:
    """Returns the error of a run that was told to end and is saved."""
    told = told_at()
    after = f", {time.monotonic() - told:.1f} s after that" if told is not None else ""
    return PreemptedError(
        f"Told to end by SIGTERM: step {step} is saved{after}; given again, the same command goes on from there."
    )


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Heeds SIGTERM within; does nothing outside the main thread, or where the signal is ignored or heeded already."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    listener = _Listener()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    thread = threading.Thread(target=listener.wait, args=(read_end,), name="t5like-sigterm", daemon=True)
    thread.start()
    woken = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, listener.hear)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
        # Who was told to end does so, and a second signal, as comes where a group of processes is told, changes nothing.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if listener.told_at is None else signal.SIG_IGN)
        signal.set_wakeup_fd(woken)
        os.close(write_end)
        thread.join()
        os.close(read_end)


def under_way(has_news: bool) -> None:
    """Takes note of whether there may be something to save, from the first step of a run to its last save."""
    for listener in _listeners:
        listener.is_under_way = has_news
        if not has_news and listener.told_at is not None:
            raise nothing_new()


def told_at() -> float | None:
    """Returns when this process was told to end, by the monotonic clock; None where it was not."""
    return next((listener.told_at for listener in _listeners if listener.told_at is not None), None)


def call_unless_told(function: Any, *arguments: Any) -> Any:
    """Returns what a function gives, None where this process is told to end before it has, or was before."""
    listener = _listeners[-1] if _listeners else None
    if listener is None:
        return function(*arguments)
    try:
        listener.may_break_off = True
        try:
            return None if listener.told_at is not None else function(*arguments)
        finally:
            listener.may_break_off = False
    except BrokenOff:
        return None
