"""Stays with a job until it is done, whatever becomes of its slices."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

from launch.pod.backends import Backend, SliceState
from launch.pod.calls import CallError, Shell
from launch.pod.jobs import (
    CURABLE,
    INCURABLE,
    LOST_CODE,
    HostJob,
    How,
    Verdict,
    exit_code,
    judge,
    key_of,
    newest_attempt,
    next_attempt,
)
from t5like.errors import UserError

_FAILED_CODE, _STOPPED_CODE = 1, 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long things may take, and how often they may fail.

    Attributes:
      poll_seconds: between two looks.
      unreachable_seconds: that a host may give no answer before its slice is made anew.
      ending_seconds: that the job may run on some hosts after it has ended on others.
      healthy_seconds: after which an attempt that a restart cures is no failure in a row with those before it.
      max_failures: attempts that may fail, and slices in a row that may never come to be.
      log_tries: to fetch the last of the logs from hosts that do not answer, before their slice is deleted.
    """

    poll_seconds: float = 60.0
    unreachable_seconds: float = 600.0
    ending_seconds: float = 900.0
    healthy_seconds: float = 1800.0
    max_failures: int = 5
    log_tries: int = 3
    stop_seconds: int = 300


class Babysitter:
    """Looks, does the one thing that is called for, and looks again.

    What it has to know it reads from the slices and the hosts, so that one that was ended is followed by another.
    """

    def __init__(
        self,
        backend: Backend,
        shell: Shell,
        command: Sequence[str],
        *,
        patience: Patience,
        logs: pathlib.Path,
        say: Callable[[str], None],
        keeps_slices: bool = False,
    ):
        """Does nothing yet.

        Args:
          keeps_slices: whether they stay when the job is over, and go on costing.
        """
        self._backend, self._shell, self._command = backend, shell, command
        self._patience, self._logs, self._say = patience, logs, say
        self._keeps_slices = keeps_slices
        self._failures = self._failed_slices = 0
        self._has_seen = self._has_seen_hosts = False
        self._attempt_began = 0.0
        self._was_active = self._is_set_up = self._was_running = False
        self._ignored_up_to = 0
        self._over: tuple[int, str] | None = None
        self._since: dict[Verdict, float] = {}
        self._last_said = ""

    def run(self) -> int:
        """Returns the exit code of the job once it is over: done, stopped, or failed in a way that no restart cures."""
        while True:
            try:
                code = self._turn()
            except CallError as error:
                # What cannot be seen goes on, so there is nothing to give up: a network comes back.
                if not self._has_seen:
                    raise
                self._say(f"{error}; tried again")
                self._since.pop(Verdict.UNREACHABLE, None)  # nobody has been seen, so nobody was silent
                code = None
            if code is not None:
                return code
            if not self._shell.is_dry:
                time.sleep(self._patience.poll_seconds)

    def _turn(self) -> int | None:
        """Does what is called for now; returns an exit code when that was the last."""
        if self._over is not None:
            return self._give_back(*self._over)
        state = self._backend.state(self._shell)
        self._has_seen = True
        if state is not SliceState.ACTIVE:
            self._since.clear()
            self._note(f"the slices are {state.value}")
        if state is SliceState.MISSING:
            return self._create()
        if state in (SliceState.FAILED, SliceState.GONE):
            # What was never there was not taken away.
            return self._make_anew(is_failure=state is SliceState.FAILED or not self._was_active)
        if state is SliceState.ACTIVE:
            self._was_active = True
            return self._attend(self._of_this_command(self._backend.jobs(self._shell)))
        return None

    def _of_this_command(self, jobs: Sequence[HostJob]) -> list[HostJob]:
        """Returns what counts: not what another command has come to, and nothing that failed or was stopped before this.

        Raises:
          UserError: another command is running.
        """
        key = key_of(self._command)
        others = [job for job in jobs if job.key not in ("", key)]
        if any(job.how == "running" for job in others):
            raise UserError(
                "Another command runs on these slices; `stop` it first, or give --name and have slices of its own."
            )
        over = [job for job in jobs if job.is_over]
        is_good = all(job.how == "exited" and job.code == 0 for job in over)
        is_idle = not any(job.how == "running" for job in jobs)
        if others or (not self._has_seen_hosts and over and not is_good and is_idle):
            self._ignored_up_to = newest_attempt(jobs)
        self._has_seen_hosts |= all(job.how != "unreachable" for job in jobs)
        # Set up anew at first, as whoever has mended something has mended it here.
        how: How = "none" if self._is_set_up else "bare"
        return [
            dataclasses.replace(job, how=how) if job.is_over and job.attempt <= self._ignored_up_to else job
            for job in jobs
        ]

    def _attend(self, jobs: Sequence[HostJob]) -> int | None:
        """Does what the job calls for on slices that are there."""
        verdict = judge(jobs)
        now = time.monotonic()
        stays = {verdict, Verdict.ENDING} if verdict is Verdict.UNREACHABLE else {verdict}
        self._since = {verdict: now} | {kept: since for kept, since in self._since.items() if kept in stays}
        seconds = now - self._since[verdict]
        self._note(verdict.value)
        code = exit_code(jobs)
        if verdict in (Verdict.FAILED, Verdict.ENDING, Verdict.UNREACHABLE) and code in INCURABLE:
            return self._end(code, f"it ended with {code}, which no restart cures")
        match verdict:
            case Verdict.RUNNING:
                self._failed_slices, self._was_running = 0, True
                self._keep_up_logs()
            case Verdict.BARE:
                # A host that was ready is not so any more after a reboot; that is not to go on for ever.
                self._failures += self._is_set_up
                if self._failures > self._patience.max_failures:
                    return self._end(_FAILED_CODE, "hosts that have been made ready do not stay so")
                return self._prepare(self._set_up)
            case Verdict.PARTLY:
                return self._prepare(lambda: self._start(newest_attempt(jobs)))
            case Verdict.IDLE if self._was_running:  # on Kubernetes what is stopped is gone
                return self._end(_STOPPED_CODE, "somebody has stopped it", keeps_slices=True)
            case Verdict.IDLE:
                return self._prepare(lambda: self._start(next_attempt(jobs, self._logs)))
            case Verdict.FAILED:
                return self._restart(jobs, code)
            case Verdict.ENDING if seconds > self._patience.ending_seconds:
                self._say("it does not end on all hosts; it is ended")
                self._backend.stop(self._shell, self._patience.stop_seconds, is_final=False)
                return self._restart(jobs, code or LOST_CODE)
            case Verdict.UNREACHABLE if seconds > self._patience.unreachable_seconds:
                silent = ", ".join(job.host for job in jobs if job.how == "unreachable")
                self._say(f"no answer from {silent}; the slices are made anew")
                return self._make_anew(is_failure=True)
            case Verdict.DONE:
                return self._end(0, "it is done")
            case Verdict.STOPPED:
                return self._end(_STOPPED_CODE, "somebody has stopped it", keeps_slices=True)
        return None

    def _create(self) -> int | None:
        """Asks for the slices; returns an exit code if that has failed too often."""
        self._was_active = self._is_set_up = self._was_running = False
        self._ignored_up_to = 0
        try:
            self._backend.create(self._shell)
        except CallError as error:
            self._failed_slices += 1
            if self._failed_slices > self._patience.max_failures:
                return self._end(_FAILED_CODE, f"they cannot be had ({error})")
            self._say(f"{error}; tried again")
        return None

    def _prepare(self, what: Callable[[], None]) -> int | None:
        """Does what may fail on hosts, though not for ever, as they cost; returns an exit code if it failed too often."""
        try:
            what()
        except CallError as error:
            self._failures += 1
            if self._failures > self._patience.max_failures:
                return self._end(_FAILED_CODE, f"the hosts cannot be made ready ({error})")
            self._say(f"{error}; tried again")
        return None

    def _set_up(self) -> None:
        self._backend.setup(self._shell)
        self._is_set_up = True

    def _start(self, attempt: int) -> None:
        self._say(f"attempt {attempt} begins")
        if not self._shell.is_dry:
            (self._logs / f"attempt-{attempt}").mkdir(parents=True, exist_ok=True)
        self._attempt_began = time.monotonic()
        self._backend.run(self._shell, self._command, attempt)

    def _restart(self, jobs: Sequence[HostJob], code: int) -> int | None:
        self._fetch_last_logs()
        seconds = time.monotonic() - self._attempt_began
        was_well = code in CURABLE and seconds > self._patience.healthy_seconds
        self._failures = 1 if was_well else self._failures + 1
        if self._backend.recreates or self._failures > self._patience.max_failures:
            times = f", after {self._failures} attempts" if self._failures > 1 else ""
            return self._end(code, f"it ended with {code}{times}")
        self._say(f"it ended with {code}, and begins again")
        self._start(next_attempt(jobs, self._logs))
        return None

    def _make_anew(self, *, is_failure: bool) -> int | None:
        """Deletes slices whose logs are here, as far as they can be had; the next look asks for others."""
        self._failed_slices += is_failure
        if self._failed_slices > self._patience.max_failures:
            return self._end(
                _FAILED_CODE,
                f"the slices have failed {self._failed_slices} times in a row: try another zone, type or capacity",
            )
        self._fetch_last_logs()
        self._backend.delete(self._shell)
        self._since.clear()
        return None

    def _keep_up_logs(self) -> list[str]:
        """Fetches what there is of the logs; returns the hosts from which that could not be had."""
        try:
            return self._backend.fetch_logs(self._shell, self._logs)
        except (CallError, OSError) as error:  # a full disk here is no reason to leave the job alone
            return [str(error)]

    def _fetch_last_logs(self) -> None:
        for turn in range(1, self._patience.log_tries + 1):
            missed = self._keep_up_logs()
            if not missed:
                return
            if turn < self._patience.log_tries:
                time.sleep(min(self._patience.poll_seconds, 10.0))
        self._say(f"the last of these logs could not be had: {', '.join(missed)}")

    def _end(self, code: int, why: str, *, keeps_slices: bool = False) -> int:
        self._fetch_last_logs()
        if keeps_slices or self._keeps_slices:
            self._say(f"{why}; the slices are still there, and cost: `delete` gives them back")
            return code
        self._over = (code, why)
        return self._give_back(code, why)

    def _give_back(self, code: int, why: str) -> int:
        """Deletes the slices of a job that is over, whatever that takes; nothing is begun any more."""
        self._backend.delete(self._shell)
        given_back = "the cluster keeps its slices" if self._backend.keeps else "the slices are given back"
        self._say(f"{why}; {given_back}, logs are in {self._logs}")
        return code

    def _note(self, words: str) -> None:
        """Says something that was not the last thing said of its kind."""
        if words != self._last_said:
            self._say(words)
            self._last_said = words
