"""The command line of `launch/pod.sh`."""

import argparse
import dataclasses
import difflib
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from launch.pod.babysit import Babysitter, Patience
from launch.pod.backends import Backend, SliceState, find_backend
from launch.pod.calls import CallError, DryShell, RealShell, Shell
from launch.pod.checkout import digest_of, pack_checkout
from launch.pod.dry_answers import dry_answers
from launch.pod.jobs import Verdict, judge, newest_attempt, next_attempt
from launch.pod.request import BACKENDS, Request, describe_price
from t5like.errors import UserError

ACTIONS = {
    "create": "ask for the slices",
    "status": "how far the slices are and what becomes of the job on each host",
    "setup": "bring this checkout and its environment to all hosts",
    "doctor": "examine all hosts together: chips, versions, disks, bucket, a sum over all chips",
    "run": "give a command to all hosts, where it goes on without this machine",
    "logs": "fetch what the hosts have written",
    "attach": "show the log of the first host as it grows",
    "stop": "tell the command to end, and end it if it does not",
    "delete": "fetch the logs and give the slices back",
    "babysit": "all of these as they are called for, until the command is done; then give the slices back",
}
_WITH_COMMAND = ("run", "babysit")
_CALL_FAILED = 1

_EPILOG = """\
actions:
{actions}

Examples:
  bash launch/pod.sh --backend qr --name base --type v5e-16 --zone us-west4-a --project P --spot \\
    --bucket my-bucket babysit t5like pretrain configs/t5_1_1_base.py --workdir /mnt/bucket/runs/base
  bash launch/pod.sh ... status

Exit codes: those of t5like for the command of `babysit`, 130 if somebody has stopped it; else 0 done, 2 something given
cannot work, 1 a program that was called has failed and may succeed another time.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace(", COMMAND", "")  # which not every action has
        raise UserError(f"launch/pod.sh: {message}; see bash launch/pod.sh --help.")


def _parser() -> _Parser:
    actions = "\n".join(f"  {name:<9} {meaning}" for name, meaning in ACTIONS.items())
    parser = _Parser(
        prog="bash launch/pod.sh",
        description="Runs a command on all hosts of Cloud TPU slices.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(actions=actions),
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--backend", required=True, help=f"who rents the slices out: {', '.join(BACKENDS)}")
    option("--name", required=True, help="of the slices; what is made for them is called after it")
    option("--type", required=True, help="of a slice: v5e-16, v5p-32, v6e:4x4")
    option("--zone", required=True, help="us-east5-b")
    option("--project", required=True, help="id of the Google Cloud project that pays")
    option("--slices", type=int, default=1, help="how many, which one run spans (1)")
    capacity = parser.add_mutually_exclusive_group()
    for name, meaning in (
        ("spot", "cheaper, and taken away at any time"),
        ("reserved", "from a reservation"),
        ("flex_start", "granted when there is room, for --max_run_hours"),
    ):
        capacity.add_argument(f"--{name}", dest="capacity", action="store_const", const=name, help=meaning)
    option("--reservation", help="its name, with --reserved")
    option("--max_run_hours", type=int, help="with --flex_start, up to 168")
    option("--max_wait_hours", type=int, help="qr: after which a request that is not granted fails")
    option("--network", help="of the machines")
    option("--subnetwork", help="of the machines")
    option("--service_account", help="as which the machines act; of Kubernetes, for pods")
    option("--cluster", help="gke: the Kubernetes cluster, in the zone's region")
    option(
        "--xpk",
        action="store_true",
        help="gke: the cluster has xpk's queue; without --cluster xpk makes one called --name, and deletes it",
    )
    option("--image", help="gke: of the pods; without it `setup` builds one of this checkout")
    option(
        "--bucket",
        help="which all hosts see as the folder /mnt/bucket; one with folders (hierarchical namespace)",
    )
    option(
        "--env_file",
        type=pathlib.Path,
        help="variables of the command, NAME=VALUE a line: tokens belong there",
    )
    option("--logs", type=pathlib.Path, help="where logs are kept (runs/pods/NAME)")
    option("--keep_slices", action="store_true", help="babysit: leave them there when the command is over")
    option("--max_failures", type=int, default=5, help="babysit: in a row, after which it gives up (5)")
    option("--poll_seconds", type=float, default=60.0, help="babysit: between two looks (60)")
    option("--grace_seconds", type=int, default=300, help="stop: until the command is killed (300)")
    option("--dry_run", action="store_true", help="print what would be called, and call nothing")
    option("action", metavar="ACTION", help="see below")
    option(
        "command",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="for run and babysit; for doctor, its options",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Carries an action out and returns an exit code."""
    try:
        options = _parser().parse_args(argv)
        request = _request(options)
        command = _command(options)
        shell: Shell = DryShell(dry_answers(request, options.action)) if options.dry_run else RealShell()
        is_told_apart = options.action in ("setup", "run", "babysit") or (
            options.backend == "gke" and options.action == "status"
        )
        if is_told_apart and not options.dry_run:
            # Before anything costs.
            request = dataclasses.replace(request, tag=digest_of(pack_checkout()))
        logs = options.logs or pathlib.Path("runs/pods") / request.name
        backend = find_backend(request)
        backend.wait_seconds = min(backend.wait_seconds, options.poll_seconds)
        return _Pod(backend, shell, command, logs, options).act()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except CallError as error:
        print(f"error: {error}", file=sys.stderr)
        return _CALL_FAILED
    except OSError as error:
        print(
            f"error: {error.filename}: {error.strerror}; make room there, or give --logs a place that may be written to.",
            file=sys.stderr,
        )
        return UserError.exit_code
    except KeyboardInterrupt:
        print(
            "interrupted; what runs on the slices goes on, and so do their costs: `babysit` stays with it again, "
            "`delete` ends both",
            file=sys.stderr,
        )
        return 130


def _request(options: argparse.Namespace) -> Request:
    if options.backend not in BACKENDS:
        raise UserError(f"There is no backend {options.backend!r}; the backends are {', '.join(BACKENDS)}.")
    names = [field.name for field in dataclasses.fields(Request) if field.name not in ("capacity", "tag")]
    given = {name: getattr(options, name) for name in names}
    request = Request(**given, capacity=options.capacity or "on_demand")
    request.check()
    return request


def _command(options: argparse.Namespace) -> list[str]:
    """Returns the words after the action, once they and it have been checked."""
    action, words = options.action, list(options.command)
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"the actions are {', '.join(ACTIONS)}."
        raise UserError(f"There is no action {action!r}; {hint}")
    if words[:1] == ["--"]:
        words = words[1:]
    if action in _WITH_COMMAND and not words:
        raise UserError(
            f"{action} needs a command after it, such as: {action} t5like pretrain CONFIG.py --workdir DIR"
        )
    if words and action not in (*_WITH_COMMAND, "doctor"):
        raise UserError(
            f"{action} takes nothing after it, but was given {' '.join(words)!r}; options go before it."
        )
    return words


class _Pod:
    """The actions on one request."""

    def __init__(
        self,
        backend: Backend,
        shell: Shell,
        command: list[str],
        logs: pathlib.Path,
        options: argparse.Namespace,
    ):
        self.backend, self.shell, self.command, self.options = backend, shell, command, options
        self.log_folder = logs

    def act(self) -> int:
        """Carries out the action of the command line."""
        self.backend.connect(self.shell)
        action: Callable[[], int | None] = getattr(self, self.options.action)
        return action() or 0

    def create(self) -> None:
        _say(describe_price(self.backend.request))
        state = self.backend.state(self.shell)
        if state is SliceState.MISSING:
            self.backend.create(self.shell)
            return
        _say(f"the slices are {state.value}")
        if state in (SliceState.GONE, SliceState.FAILED):
            raise UserError("These slices do not come back; `delete` them, or `babysit`, which does.")

    def status(self) -> None:
        state = self.backend.state(self.shell)
        print(f"the slices are {state.value}: {describe_price(self.backend.request)}")
        if state is SliceState.ACTIVE:
            jobs = self.backend.jobs(self.shell)
            print(f"{judge(jobs).value}:", *jobs, sep="\n  ")

    def setup(self) -> None:
        self._must_be_active()
        self.backend.setup(self.shell)

    def doctor(self) -> int:
        self._must_be_active()
        request = self.backend.request
        verdict = judge(self.backend.jobs(self.shell)) if request.backend != "gke" else Verdict.IDLE
        if verdict is Verdict.RUNNING:
            raise UserError("The job has the chips, so the doctor cannot; `stop` it first.")
        arguments = [f"--expected_devices={request.machines.devices_per_host}"]
        arguments += [f"--expected_hosts={request.num_hosts}"]
        arguments += ["--folder=/mnt/bucket"] if request.bucket else []
        return self.backend.doctor(self.shell, [*arguments, *self.command])

    def run(self) -> None:
        self._must_be_active()
        jobs = self.backend.jobs(self.shell)
        verdict = judge(jobs)
        if verdict in (Verdict.RUNNING, Verdict.ENDING):
            _say(f"{verdict.value} already; `stop` it first to give another")
            return
        if verdict in (Verdict.BARE, Verdict.UNREACHABLE):
            raise UserError(
                f"Nothing is run: {verdict.value}; `setup` makes them ready, `status` names them."
            )
        attempt = newest_attempt(jobs)
        if verdict is not Verdict.PARTLY:
            self.backend.fetch_logs(self.shell, self.log_folder)
            attempt = next_attempt(jobs, self.log_folder)
        if not self.shell.is_dry:
            (self.log_folder / f"attempt-{attempt}").mkdir(parents=True, exist_ok=True)
        self.backend.run(self.shell, self.command, attempt)

    def logs(self) -> int:
        missed = self.backend.fetch_logs(self.shell, self.log_folder)
        _say(f"logs are in {self.log_folder}")
        for host in missed:
            _say(f"the log of {host} could not be had")
        return _CALL_FAILED if missed else 0

    def attach(self) -> int:
        self._must_be_active()
        return self.backend.attach(self.shell)

    def stop(self) -> None:
        self._must_be_active()
        self.backend.stop(self.shell, self.options.grace_seconds)

    def delete(self) -> None:
        missed = []
        try:
            if self.backend.state(self.shell) is not SliceState.MISSING:
                missed = self.backend.fetch_logs(self.shell, self.log_folder)
        except CallError as error:
            missed = [str(error)]
        if missed:
            _say(f"the last of these logs could not be had: {', '.join(missed)}")
        # Whatever state they are in: what was made for them may be there without them.
        self.backend.delete(self.shell)

    def babysit(self) -> int:
        _say(describe_price(self.backend.request))
        patience = Patience(
            poll_seconds=self.options.poll_seconds,
            max_failures=self.options.max_failures,
            stop_seconds=self.options.grace_seconds,
        )
        return Babysitter(
            self.backend,
            self.shell,
            self.command,
            patience=patience,
            logs=self.log_folder,
            say=_say,
            keeps_slices=self.options.keep_slices,
        ).run()

    def _must_be_active(self) -> None:
        state = self.backend.state(self.shell)
        if state is not SliceState.ACTIVE:
            raise UserError(
                f"The slices are {state.value}, so nothing can be done on them; `status` says how far they are."
            )


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
