"""Stays with a job until it is done, whatever becomes of its slices."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

from launch.pod.backends import Backend, SliceState
from launch.pod.calls import CallError, Shell
from launch.pod.jobs import INCURABLE, HostJob, Verdict, exit_code, judge, newest_attempt
from t5like.errors import UserError

_STOPPED_CODE = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long things may take, and how often they may fail.

    Attributes:
      poll_seconds: between two looks.
      unreachable_seconds: that a host may give no answer before its slice is made anew.
      ending_seconds: that the job may run on some hosts after it has ended on others.
      healthy_seconds: after which an attempt was no failure in a row with those before it.
      max_failures: attempts in a row that may fail, and slices that may never come to be.
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
        self._failures = self._failed_slices = self._failed_looks = 0
        self._attempt = 0
        self._attempt_began = 0.0
        self._since: dict[Verdict, float] = {}
        self._last_said = ""

    def run(self) -> int:
        """Returns the exit code of the job once it is over: done, stopped, or failed in a way that no restart cures."""
        while True:
            try:
                code = self._turn()
                self._failed_looks = 0
            except CallError as error:
                self._failed_looks += 1
                self._say(f"{error}; tried again")
                if self._failed_looks > 10 * self._patience.max_failures:
                    raise
                code = None
            if code is not None:
                return code
            if not self._shell.is_dry:
                time.sleep(self._patience.poll_seconds)

    def _turn(self) -> int | None:
        """Does what is called for now; returns an exit code when that was the last."""
        state = self._backend.state(self._shell)
        if state is not SliceState.ACTIVE:
            self._since.clear()
            self._note(f"the slices are {state.value}")
        if state is SliceState.MISSING:
            self._backend.create(self._shell)
        elif state is SliceState.FAILED:
            return self._make_anew(is_failure=True)
        elif state is SliceState.GONE:
            return self._make_anew(is_failure=False)
        elif state is SliceState.ACTIVE:
            return self._attend(self._backend.jobs(self._shell))
        return None

    def _attend(self, jobs: Sequence[HostJob]) -> int | None:
        """Does what the job calls for on slices that are there."""
        verdict = judge(jobs)
        self._since = {verdict: self._since.get(verdict, time.monotonic())}
        seconds = time.monotonic() - self._since[verdict]
        self._note(verdict.value)
        self._attempt = max(self._attempt, newest_attempt(jobs))
        code = exit_code(jobs)
        if verdict in (Verdict.FAILED, Verdict.ENDING, Verdict.UNREACHABLE) and code in INCURABLE:
            return self._end(code, f"it ended with {code}, which no restart cures")
        match verdict:
            case Verdict.RUNNING:
                self._failed_slices = 0
                self._keep_up_logs()
            case Verdict.BARE:
                self._backend.setup(self._shell)
            case Verdict.IDLE | Verdict.PARTLY:
                self._start(newest_attempt(jobs) if verdict is Verdict.PARTLY else self._next_attempt())
            case Verdict.FAILED:
                return self._restart(code)
            case Verdict.ENDING if seconds > self._patience.ending_seconds:
                self._say("it does not end on all hosts; it is ended")
                self._backend.stop(self._shell, self._patience.stop_seconds)
                return self._restart(code)
            case Verdict.UNREACHABLE if seconds > self._patience.unreachable_seconds:
                silent = ", ".join(job.host for job in jobs if job.how == "unreachable")
                self._say(f"no answer from {silent}; the slices are made anew")
                return self._make_anew(is_failure=True)
            case Verdict.DONE:
                return self._end(0, "it is done")
            case Verdict.STOPPED:
                return self._end(_STOPPED_CODE, "somebody has stopped it", keeps_slices=True)
        return None

    def _next_attempt(self) -> int:
        """Returns a number that no attempt has had, on these slices or on earlier ones."""
        earlier = [int(path.name.removeprefix("attempt-")) for path in self._logs.glob("attempt-*")]
        return max([self._attempt, *earlier]) + 1

    def _start(self, attempt: int) -> None:
        self._say(f"attempt {attempt} begins")
        if not self._shell.is_dry:
            (self._logs / f"attempt-{attempt}").mkdir(parents=True, exist_ok=True)
        self._attempt, self._attempt_began = attempt, time.monotonic()
        self._backend.run(self._shell, self._command, attempt)

    def _restart(self, code: int) -> int | None:
        self._keep_up_logs()
        was_long = time.monotonic() - self._attempt_began > self._patience.healthy_seconds
        self._failures = 1 if was_long else self._failures + 1
        if self._backend.recreates or self._failures > self._patience.max_failures:
            times = f" {self._failures} times in a row" if self._failures > 1 else ""
            return self._end(code, f"it ended with {code}{times}")
        self._say(f"it ended with {code}, and begins again")
        self._start(self._next_attempt())
        return None

    def _make_anew(self, *, is_failure: bool) -> int | None:
        """Deletes slices whose logs are here, as far as they can be had; the next look asks for others."""
        self._failed_slices += is_failure
        self._fetch_last_logs()
        if self._failed_slices > self._patience.max_failures:
            self._backend.delete(self._shell)
            raise UserError(
                f"The slices have failed {self._failed_slices} times in a row, so they are not asked for again; see "
                "above, and try another zone, type or capacity."
            )
        self._backend.delete(self._shell)
        self._since.clear()
        return None

    def _keep_up_logs(self) -> list[str]:
        """Fetches what there is of the logs; returns the hosts from which that could not be had."""
        try:
            return self._backend.fetch_logs(self._shell, self._logs)
        except CallError as error:
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
        else:
            self._backend.delete(self._shell)
            self._say(f"{why}; the slices are given back, logs are in {self._logs}")
        return code

    def _note(self, words: str) -> None:
        """Says something that was not the last thing said of its kind."""
        if words != self._last_said:
            self._say(words)
            self._last_said = words
