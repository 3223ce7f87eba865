"""Which signals a process heeds for a while, and how."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping

Handler = Callable[[int, object], None]


@contextlib.contextmanager
def heeding(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Calls the handlers of signals that come within the block; one that is ignored, as by nohup, stays so."""
    heeded = [number for number in handlers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handlers[number]) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
