"""Who is lost, by what the hosts have told of themselves."""

import dataclasses
import signal
from collections.abc import Sequence

# A host that fails by itself, by a file it lacks as others may lack it, leaves the others so long to say the same. So
# does one that is aborted, as JAX does when the first host's process is gone.
GRACE_SECONDS = 5.0
_STARTING_PATIENCE = 10
_INTERRUPTED, _ABORTED = 130, -signal.SIGABRT


@dataclasses.dataclass
class HostRecord:
    """What is known of a host; times are in seconds of one clock."""

    name: str
    heard: float
    """When its watcher last said something."""
    mark: int = 0
    """How many steps, and other things that all hosts do, its training process has begun; alike on all hosts."""
    is_under_way: bool = False
    """Whether it has made a step, so that what it does is no longer read and compiled for the first time."""
    moved: float = 0.0
    """When the mark last changed."""
    quiet_seconds: float = 0.0
    """How long its training process has not given the sign of life that it gives by itself, whatever it waits for."""
    exit_code: int | None = None
    """Of its training process; negative: ended by that signal."""
    ended: float = 0.0
    why: str = ""
    """What its training process said at its end."""
    is_connected: bool = True


def find_lost(records: Sequence[HostRecord], now: float, *, timeout_seconds: float) -> tuple[int, str] | None:
    """Returns which host is lost and what happened to it, None while all are well.

    A host is lost when it is gone; when it has said nothing for the timeout; or when nobody has begun anything new for
    the timeout, and it is the one that the others, who have begun more, wait for. So nobody is blamed while all compile;
    and before its first step a host has ten times as long: JAX keeps compiled programs on the first host alone, which
    the second time waits for all others to compile theirs.
    """
    running = [(host, record) for host, record in enumerate(records) if record.exit_code is None]
    for host, record in enumerate(records):
        if record.exit_code is not None and record.exit_code < 0 and record.exit_code != _ABORTED:
            return host, f"was ended by {signal.Signals(-record.exit_code).name}"
        if record.exit_code is None and not record.is_connected:
            return host, "is gone: its connection has closed"
    if not running:
        return None
    for host, record in enumerate(records):
        if record.exit_code and now - record.ended > GRACE_SECONDS:
            if record.exit_code == _INTERRUPTED:
                return host, "was interrupted"
            if record.exit_code == _ABORTED:
                return host, "was ended by SIGABRT"
            return host, f"ended with an error ({record.why or f'exit code {record.exit_code}'})"
    for host, record in running:
        if now - record.heard > timeout_seconds:
            return host, f"has not been heard of for {timeout_seconds:g} s"
        if record.quiet_seconds > timeout_seconds:
            return host, f"has stood still for {timeout_seconds:g} s"
    furthest, moved = max(record.mark for record in records), max(record.moved for record in records)
    host, last = min(running, key=lambda numbered: numbered[1].mark)
    # One that gives no sign of life is soon lost for that, which says more.
    is_alive = max(now - last.heard, last.quiet_seconds) < timeout_seconds / 2
    patience_seconds = timeout_seconds if last.is_under_way else _STARTING_PATIENCE * timeout_seconds
    if is_alive and last.mark < furthest and now - moved > patience_seconds:
        return host, f"has not made a step for {patience_seconds:g} s, and the others wait for it"
    return None
