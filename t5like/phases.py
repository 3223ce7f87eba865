"""What a run is at: one phase after another, from its first line to its last, and how long each may take.

Whoever trains says what it enters. The watchdog, which is another process, ends a run that stays in one for too long; the
ledger writes down where the time went.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from t5like.errors import UserError

Phase = Literal["init", "wait", "compile", "step", "evaluate", "save", "finish"]
"""Before the first batch; waiting for a batch; the first step up to where it is dispatched; every other step; an evaluation;
what a save keeps the loop from; after the last save."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds that a phase of a run may last; one that lasts longer has hung, and the command ends with exit code 8."""

    init_seconds: float = 7200.0
    """Until the first batch is waited for."""
    compile_seconds: float = 7200.0
    """Of the first step."""
    step_seconds: float = 1800.0
    """One step, and one wait for a batch."""
    evaluate_seconds: float = 7200.0
    """One evaluation; and all that follows the last save."""
    save_seconds: float = 3600.0
    """One save, as far as the loop waits for it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"deadlines.{field.name} is {getattr(self, field.name)}; give more than 0.")

    def of(self, phase: Phase) -> float:
        """Returns how many seconds a phase may last."""
        return float(getattr(self, deadline_name(phase)))


def deadline_name(phase: Phase) -> str:
    """Returns which field of `Deadlines` says how long a phase may last."""
    return {"wait": "step", "finish": "evaluate"}.get(phase, phase) + "_seconds"


class Entered(NamedTuple):
    """A phase, and which of all phases so far it is."""

    number: int
    phase: Phase
    step: int
    allowed_seconds: float | None


class _Clock:
    """Where the time of this process goes."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.deadlines: Deadlines | None = None
        self.current = Entered(0, "init", 0, None)
        self.when_left: list[Callable[[Entered], None]] = []

    def credit(self) -> None:
        phase, now = self.current.phase, time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.since
        self.since = now

    def enter(self, phase: Phase, step: int) -> None:
        self.credit()
        left = self.current
        allowed_seconds = None if self.deadlines is None else self.deadlines.of(phase)
        self.current = Entered(left.number + 1, phase, step, allowed_seconds)
        for tell in self.when_left:
            tell(left)


_clock = _Clock()


def enter(phase: Phase, step: int = 0) -> None:
    """Takes note that a phase begins, and that the one before it is over.

    Args:
      step: how many updates the state has had.
    """
    _clock.enter(phase, step)


def go_on() -> None:
    """Takes note that the phase has come further, so that its deadline begins anew."""
    entered = _clock.current
    _clock.current = entered._replace(number=entered.number + 1)


def current() -> Entered:
    """Returns the phase this process is in; any thread may ask."""
    return _clock.current


def take_seconds() -> dict[str, float]:
    """Returns how many seconds went to which phase since this was asked last, or since this process began."""
    _clock.credit()
    seconds, _clock.seconds = _clock.seconds, {}
    return seconds


@contextlib.contextmanager
def limited(deadlines: Deadlines) -> Iterator[None]:
    """Begins a run: it is in its first phase, and within the block each has its deadline."""
    _clock.deadlines = deadlines
    try:
        enter("init")
        yield
    finally:
        _clock.deadlines = None
        enter("init")


def end() -> None:
    """Takes note that all is done, and that only the process is still to end, which may hang too."""
    _clock.deadlines = Deadlines()
    enter("finish", _clock.current.step)


@contextlib.contextmanager
def told_when_left(tell: Callable[[Entered], None]) -> Iterator[None]:
    """Within the block a function is called with each phase that is over."""
    _clock.when_left.append(tell)
    try:
        yield
    finally:
        _clock.when_left.remove(tell)
