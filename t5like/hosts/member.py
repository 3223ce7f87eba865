"""What a training process knows of the run on several hosts it belongs to, and how it tells its watcher of itself."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from t5like.errors import UserError
from t5like.watchdog.watched import become_watched

MEMBER = "T5LIKE_MEMBER"  # set by the watcher

# An error here may be the echo of another host's end, of which the watchers hear within this time.
ECHO_SECONDS = 3.0


class Membership(NamedTuple):
    """What the watcher tells the training process it starts."""

    host: int
    names: tuple[str, ...]
    coordinator: str
    bind_address: str  # where host 0 listens; "": everywhere
    local_device: int | None
    timeout_seconds: float
    noise: int  # file descriptor

    @property
    def num_hosts(self) -> int:
        """How many there are."""
        return len(self.names)

    def to_text(self) -> str:
        """Returns what `read_membership` reads."""
        return json.dumps(self._asdict())


def read_membership(environment: Mapping[str, str]) -> Membership | None:
    """Returns what the watcher told this process, None where there is no watcher."""
    if MEMBER not in environment:
        return None
    told = json.loads(environment[MEMBER])
    return Membership(**{**told, "names": tuple(told["names"])})


class Member:
    """This process's part in the run; with its signs of life it tells the watcher how far training is."""

    def __init__(self, membership: Membership, environment: Mapping[str, str]) -> None:
        """Keeps output and errors for what Python prints, and then begins to tell."""
        self.membership = membership
        self._mark, self._is_under_way = 0, False
        _keep_output_clean(is_first=membership.host == 0)
        _keep_errors_clean(membership.noise)
        watched = become_watched(environment)
        assert watched is not None  # the watcher sets both
        self._watched = watched

    def mark(self, *, is_under_way: bool) -> None:
        """Takes note that something begins which all hosts do in the same order: a step, an agreement.

        Args:
          is_under_way: whether the programs of the run are compiled by now; once they are, they stay so.
        """
        self._mark += 1
        self._is_under_way = self._is_under_way or is_under_way
        self._watched.note(mark=self._mark, is_under_way=self._is_under_way)

    def begin_again(self) -> None:
        """Takes back that the run is under way: hosts read and place arrays once more, at their own pace."""
        self._is_under_way = False

    def run(self, main: Callable[[], int]) -> int:
        """Returns the exit code of `main`, or ends the process, as `Watched.run`."""
        return self._watched.run(main)

    def hold_back(self, error: BaseException) -> None:
        """Tells the watcher of an error and waits: if another host's end is behind it, this process ends here."""
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        self._watched.tell(why=f"{kind}{error}".partition("\n")[0].rstrip("."))
        time.sleep(ECHO_SECONDS)


def _keep_output_clean(*, is_first: bool) -> None:
    """Lets Python alone write to standard output, and that on the first host alone: gloo greets everybody there."""
    output = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    sys.stdout = os.fdopen(output if is_first else nothing, "w", buffering=1)


def _keep_errors_clean(noise: int) -> None:
    """Lets Python alone write to standard error; what else does is heard by the watcher, who decides."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    os.dup2(noise, 2)
    os.close(noise)


_MEMBER: list[Member] = []


def become_member(environment: Mapping[str, str]) -> Member | None:
    """Returns this process's part in a run on several hosts, None where a watcher did not start it."""
    membership = read_membership(environment)
    if membership is None:
        return None
    os.environ.pop(MEMBER, None)  # processes that this one starts are no part of it
    _MEMBER.append(Member(membership, environment))
    return _MEMBER[0]


def this_member() -> Member | None:
    """Returns what `become_member` made."""
    return _MEMBER[0] if _MEMBER else None
