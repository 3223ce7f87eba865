"""A job on every host over ssh: what backends share whose machines can be logged in to.

On a host the checkout lies in ~/t5like, its environment in ~/t5like-env, the job in ~/t5like-jobs.
"""

import abc
import dataclasses
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence

from launch.pod.backends.base import Backend
from launch.pod.calls import Call, CallError, Shell
from launch.pod.checkout import pack_checkout
from launch.pod.jobs import HostJob, key_of, parse_state
from t5like.errors import UserError

_JOB = "t5like/launch/host/job.sh"
_READY = '[ "$(cat t5like-jobs/ready 2>/dev/null)" = "$(cat /proc/sys/kernel/random/boot_id)" ]'
_STATE = f"if {_READY}; then bash {_JOB} state; else echo job 0 bare; fi"
_SETUP_SECONDS = 1800.0
_TRIES = 4
_DOCTOR_SECONDS = 900.0


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine of a slice.

    Attributes:
      name: in messages and of log files.
      machine: as the backend calls it, worker: its number there.
      slice: the number of its slice.
    """

    name: str
    machine: str
    worker: int
    slice: int


class SshBackend(Backend):
    """A backend with machines to log in to; see `Backend`."""

    @abc.abstractmethod
    def hosts(self, shell: Shell) -> list[Host]:
        """Returns the machines of all slices.

        Raises:
          CallError: they cannot be told now.
        """

    @abc.abstractmethod
    def on_host(self, host: Host, script: str, *, asks: str = "", timeout_seconds: float = 120.0) -> Call:
        """Returns what runs a script of a shell on a host."""

    @abc.abstractmethod
    def copy_to(self, host: Host, file: pathlib.Path, place: str) -> Call:
        """Returns what copies a file of this machine to a place in the home folder of a host."""

    def in_order(self, shell: Shell, hosts: Sequence[Host]) -> list[Host]:
        """Returns the machines in the order of a run's hosts."""
        return list(hosts)

    def variables(self, hosts: Sequence[Host], host: Host) -> dict[str, str]:
        """Returns what the job has to be told on a host that its machine does not say itself."""
        return {}

    def connect(self, shell: Shell) -> None:
        """See `Backend`. There is nothing to prepare."""

    def setup(self, shell: Shell) -> None:
        """See `Backend`. A host on which the job runs keeps the checkout it runs."""
        hosts = self.hosts(shell)
        archive = pathlib.Path("t5like.tar.gz") if shell.is_dry else pack_checkout()
        self._on_all(shell, hosts, lambda host: self.copy_to(host, archive, archive.name))
        if self.request.env_file is not None:
            env_file = self.request.env_file
            # In a folder of its own before it has anything to hide.
            prepare = "mkdir -p -m 700 t5like-jobs && touch t5like-jobs/environment && chmod 600 t5like-jobs/environment"
            self._on_all(shell, hosts, lambda host: self.on_host(host, prepare))
            self._on_all(shell, hosts, lambda host: self.copy_to(host, env_file, "t5like-jobs/environment"))
        script = _setup_script(archive.name, self.request.bucket)
        self._on_all(shell, hosts, lambda host: self.on_host(host, script, timeout_seconds=_SETUP_SECONDS))

    def run(self, shell: Shell, command: Sequence[str], attempt: int) -> None:
        """See `Backend`."""
        hosts = self.in_order(shell, self.hosts(shell))
        self._on_all(
            shell,
            hosts,
            lambda host: self.on_host(
                host, f"bash {_JOB} start {attempt} {key_of(command)} {self._words(hosts, host, command)}"
            ),
        )

    def _words(self, hosts: Sequence[Host], host: Host, command: Sequence[str]) -> str:
        """Returns a command as a host's shell takes it, with what it has to be told."""
        variables = [f"{name}={value}" for name, value in self.variables(hosts, host).items()]
        return shlex.join([*(["env", *variables] if variables else []), *command])

    def jobs(self, shell: Shell) -> list[HostJob]:
        """See `Backend`."""
        return [job for _, job in self._jobs(shell)]

    def _jobs(self, shell: Shell) -> list[tuple[Host, HostJob]]:
        """Returns each host and its job; one that does not answer is asked twice, for ssh fails now and then."""
        hosts = self.hosts(shell)

        def ask(those: Sequence[Host]) -> dict[Host, HostJob]:
            answers = shell.call_all(self.on_host(host, _STATE, asks="job") for host in those)
            return {
                host: parse_state(host.name, answer.out) for host, answer in zip(those, answers, strict=True)
            }

        jobs = ask(hosts)
        silent = [host for host in hosts if jobs[host].how == "unreachable"]
        jobs |= ask(silent)
        return [(host, jobs[host]) for host in hosts]

    def fetch_logs(self, shell: Shell, folder: pathlib.Path) -> list[str]:
        """See `Backend`. Those of an attempt go to a folder of its own."""
        jobs = self._jobs(shell)
        missed = [job.host for _, job in jobs if job.how == "unreachable"]
        found = [(host, job.attempt) for host, job in jobs if job.attempt]
        files = [folder / f"attempt-{attempt}" / f"{host.name}.log" for host, attempt in found]
        offsets = [file.stat().st_size if file.exists() else 0 for file in files]
        mark = "the log follows"
        answers = shell.call_all(
            self.on_host(host, f"echo {shlex.quote(mark)}; bash {_JOB} log {attempt} {offset}")
            for (host, attempt), offset in zip(found, offsets, strict=True)
        )
        if shell.is_dry:
            return []
        for (host, _), file, answer in zip(found, files, answers, strict=True):
            _, is_whole, text = answer.out.partition(f"{mark}\n")
            if answer.code or not is_whole:
                missed.append(host.name)
            elif text:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("ab") as log:
                    log.write(text.encode("utf-8", "surrogateescape"))
        return missed

    def attach(self, shell: Shell) -> int:
        """See `Backend`."""
        first = self.in_order(shell, self.hosts(shell))[0]
        return shell.show(self.on_host(first, f"bash {_JOB} follow"))

    def stop(self, shell: Shell, grace_seconds: int, *, is_final: bool = True) -> None:
        """See `Backend`."""
        script = f"test ! -e {_JOB} || bash {_JOB} {'stop' if is_final else 'end'} {grace_seconds}"
        self._on_all(
            shell,
            self.hosts(shell),
            lambda host: self.on_host(host, script, timeout_seconds=grace_seconds + 120.0),
        )

    def doctor(self, shell: Shell, arguments: Sequence[str]) -> int:
        """See `Backend`."""
        hosts = self.in_order(shell, self.hosts(shell))
        command = ["t5like", "doctor", *arguments]
        begin = 'ulimit -n 100000 2>/dev/null; cd t5like && export PATH="$HOME/t5like-env/bin:$PATH" &&'
        answers = shell.call_all(
            self.on_host(
                host, f"{begin} {self._words(hosts, host, command)}", timeout_seconds=_DOCTOR_SECONDS
            )
            for host in hosts
        )
        if shell.is_dry:
            return 0
        print(answers[0].out, end="")
        for host, answer in zip(hosts, answers, strict=True):
            if answer.code:
                print(f"{host.name} ended with {answer.code}: {answer.last_line}")
        return next((answer.code for answer in answers if answer.code), 0)

    def _on_all(self, shell: Shell, hosts: Sequence[Host], call: Callable[[Host], Call]) -> None:
        """Makes a call on all hosts, and again on those where it fails, for ssh fails now and then.

        Raises:
          CallError: it keeps failing on a host.
        """
        left = list(hosts)
        for turn in range(1, _TRIES + 1):
            calls = [call(host) for host in left]
            answers = shell.call_all(calls)
            failed = [
                (host, made, answer)
                for host, made, answer in zip(left, calls, answers, strict=True)
                if answer.code
            ]
            if not failed:
                return
            host, made, answer = failed[0]
            if answer.code == UserError.exit_code or turn == _TRIES:
                raise CallError(made, answer, where=host.name)
            left = [host for host, _, _ in failed]
            time.sleep(self.wait_seconds)


def _setup_script(archive: str, bucket: str | None) -> str:
    """Returns what unpacks the checkout and makes its environment."""
    arguments = f" {shlex.quote(bucket)}" if bucket else ""
    steps = (
        "set -e",
        f"if {_READY} && bash {_JOB} state | grep -q running; then echo the job runs here; exit 0; fi",
        "rm -f t5like-jobs/ready",
        "rm -rf t5like.new && mkdir t5like.new",
        f"tar -xzf {archive} -C t5like.new",
        "rm -rf t5like && mv t5like.new t5like",
        f"bash t5like/launch/host/setup.sh{arguments}",
    )
    return "\n".join(steps)
