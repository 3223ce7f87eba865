"""What every backend can do; an action carried out twice is as good as once."""

import abc
import enum
import pathlib
from collections.abc import Sequence

from launch.pod.calls import Shell
from launch.pod.jobs import HostJob
from launch.pod.request import Request


class SliceState(enum.Enum):
    """How far the slices of a request are, all together."""

    MISSING = "not there"
    WAITING = "waiting to be granted, or being made"
    ACTIVE = "there"
    LEAVING = "being taken away"
    GONE = "taken away"
    FAILED = "failed"


class Backend(abc.ABC):
    """Slices of one request, and the job on them.

    Attributes:
      recreates: whether slices that are taken away come back by themselves, and the job with them.
      wait_seconds: between tries of what a host could not do.
    """

    recreates = False
    wait_seconds = 10.0

    def __init__(self, request: Request):
        """Calls nothing."""
        self.request = request

    @property
    def keeps(self) -> bool:
        """Whether the slices are not of this request's making."""
        return False

    @abc.abstractmethod
    def connect(self, shell: Shell) -> None:
        """Prepares this machine for the calls of the others."""

    @abc.abstractmethod
    def create(self, shell: Shell) -> None:
        """Asks for the slices."""

    @abc.abstractmethod
    def state(self, shell: Shell) -> SliceState:
        """Returns how far they are."""

    @abc.abstractmethod
    def setup(self, shell: Shell) -> None:
        """Brings this checkout and its environment to all hosts."""

    @abc.abstractmethod
    def run(self, shell: Shell, command: Sequence[str], attempt: int) -> None:
        """Gives the same command to all hosts, except to those that have been given this attempt."""

    @abc.abstractmethod
    def jobs(self, shell: Shell) -> list[HostJob]:
        """Returns what becomes of it, host by host."""

    @abc.abstractmethod
    def fetch_logs(self, shell: Shell, folder: pathlib.Path) -> list[str]:
        """Adds to the logs here what hosts have written since; returns the hosts from which that could not be had."""

    @abc.abstractmethod
    def attach(self, shell: Shell) -> int:
        """Shows the log of the first host as it grows; returns an exit code."""

    @abc.abstractmethod
    def stop(self, shell: Shell, grace_seconds: int, *, is_final: bool = True) -> None:
        """Tells the job to end, and ends it after so many seconds; if that is final, it counts as stopped."""

    @abc.abstractmethod
    def doctor(self, shell: Shell, arguments: Sequence[str]) -> int:
        """Lets `t5like doctor` examine all hosts together; returns its exit code."""

    @abc.abstractmethod
    def delete(self, shell: Shell) -> None:
        """Gives the slices back, and whatever else was made for them."""
