"""What became of a job, host by host, and what that calls for."""

import dataclasses
import enum
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Literal

from t5like.errors import (
    CheckpointError,
    DamagedDataError,
    DivergenceError,
    HangError,
    HostLostError,
    PreemptedError,
    UserError,
)

# Codes that the same command would end with again: something has to be mended first. 126 and 127 are the shell's.
INCURABLE = tuple(
    sorted(
        {
            *(kind.exit_code for kind in (UserError, DamagedDataError, CheckpointError, DivergenceError)),
            126,
            127,
        }
    )
)
# Codes after which the same command goes on.
CURABLE = tuple(kind.exit_code for kind in (HostLostError, PreemptedError, HangError))
LOST_CODE = 137  # as of what SIGKILL ended

How = Literal["unreachable", "bare", "none", "running", "exited", "stopped", "lost"]


@dataclasses.dataclass(frozen=True)
class HostJob:
    """The newest attempt of the job on one host.

    Attributes:
      how: it stands; "bare" is a host that has not been set up, "lost" an attempt that ended without a code.
      code: its exit code, once it has one.
      key: that of its command.
    """

    host: str
    how: How
    attempt: int = 0
    code: int | None = None
    key: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended."""
        return self.how in ("exited", "stopped", "lost")

    def __str__(self) -> str:
        """Returns it in words."""
        attempt = f" attempt {self.attempt}" if self.attempt else ""
        code = f" with {self.code}" if self.how == "exited" else ""
        return f"{self.host}:{attempt} {self.how}{code}"


class Verdict(enum.Enum):
    """What all hosts together come to."""

    UNREACHABLE = "some hosts do not answer"
    BARE = "some hosts are not set up"
    IDLE = "no host has been given the job"
    PARTLY = "some hosts have not been given the job"
    RUNNING = "the job runs on all hosts"
    ENDING = "the job has ended on some hosts"
    DONE = "the job is done"
    STOPPED = "the job was stopped"
    FAILED = "the job has failed"


def parse_state(host: str, text: str) -> HostJob:
    """Returns what a host says of its job: "job 3 exited 7"; whatever else it says counts for nothing."""
    for line in text.splitlines():
        match line.split():
            case ["job", attempt, "none" | "bare" | "running" | "lost" as how, *key] if attempt.isdecimal():
                return HostJob(host, how, int(attempt), key="".join(key))
            case ["job", attempt, "exited" | "stopped" as how, code, *key] if f"{attempt}{code}".isdecimal():
                return HostJob(host, how, int(attempt), int(code), "".join(key))
    return HostJob(host, "unreachable")


def key_of(command: Sequence[str]) -> str:
    """Returns what tells a command from others."""
    return hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]


def next_attempt(jobs: Sequence[HostJob], logs: pathlib.Path) -> int:
    """Returns a number that no attempt has had: none on these hosts, and none of which there are logs."""
    earlier = [path.name.removeprefix("attempt-") for path in logs.glob("attempt-*")]
    return max([newest_attempt(jobs), *(int(name) for name in earlier if name.isdecimal())]) + 1


def newest_attempt(jobs: Sequence[HostJob]) -> int:
    """Returns the number of the newest attempt on any host, 0 where there was none."""
    return max((job.attempt for job in jobs), default=0)


def judge(jobs: Sequence[HostJob]) -> Verdict:
    """Returns what the hosts come to; a host that does not answer goes before all, for its part cannot be known."""
    attempt = newest_attempt(jobs)
    if any(job.how == "unreachable" for job in jobs):
        return Verdict.UNREACHABLE
    if any(job.how == "bare" for job in jobs):
        return Verdict.BARE
    if all(job.how == "none" for job in jobs):
        return Verdict.IDLE
    current = [job for job in jobs if job.attempt == attempt]
    if any(job.how == "stopped" for job in current):
        return Verdict.STOPPED if all(job.is_over for job in current) else Verdict.ENDING
    if len(current) < len(jobs):
        # Those that have been given it wait for the others; if they have ended meanwhile, all begin anew.
        return Verdict.PARTLY if any(job.how == "running" for job in current) else Verdict.FAILED
    if all(job.how == "running" for job in jobs):
        return Verdict.RUNNING
    if any(job.how == "running" for job in jobs):
        return Verdict.ENDING
    return Verdict.DONE if all(job.code == 0 for job in jobs) else Verdict.FAILED


def exit_code(jobs: Sequence[HostJob]) -> int:
    """Returns the exit code of the newest attempt as a whole: one that no restart cures before all others.

    A host that was lost counts as one whose process was killed. 0 is of a job that ended with 0 on every host.
    """
    attempt = newest_attempt(jobs)
    codes = [
        LOST_CODE if job.how == "lost" or job.code is None else job.code
        for job in jobs
        if job.attempt == attempt and job.is_over
    ]
    failed = [code for code in codes if code]
    incurable = [code for code in failed if code in INCURABLE]
    return (incurable or failed or [0])[0]
