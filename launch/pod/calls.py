"""Command lines of other programs: called, or printed by a dry run."""

import collections
import concurrent.futures
import dataclasses
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from t5like.errors import UserError

_AT_ONCE = 32
_TIMED_OUT, _NO_PROGRAM = 124, 127
_INSTALL = {
    "gcloud": "install the Google Cloud CLI, cloud.google.com/sdk",
    "kubectl": "install it with `gcloud components install kubectl`",
    "xpk": "install it with `pip install xpk`",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """A command line of another program.

    Attributes:
      asks: what it finds out, by which a dry run knows what to take for its answer; "" where it changes something.
      stdin: what it reads.
    """

    argv: tuple[str, ...]
    asks: str = ""
    stdin: str | None = None
    timeout_seconds: float = 300.0

    def __str__(self) -> str:
        """Returns what a shell would be given."""
        text = shlex.join(self.argv)
        return text if self.stdin is None else f"{text} <<'EOF'\n{self.stdin}\nEOF"


class Answer(NamedTuple):
    """What a call gave. A call that took too long has code 124, one that a signal ended 128 and its number."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def last_line(self) -> str:
        """The last it said, of what went wrong if it said anything of that."""
        return (self.err.strip() or self.out.strip() or "it said nothing").splitlines()[-1]


class CallError(Exception):
    """A call failed that may succeed another time."""

    def __init__(self, call: Call, answer: Answer, *, where: str = ""):
        """Says which, and the last thing it said itself."""
        on_host = f" for {where}" if where else ""
        super().__init__(
            f"`{' '.join(call.argv[:4])} ...`{on_host} ended with {answer.code}: {answer.last_line}"
        )
        self.answer = answer


class Shell(Protocol):
    """What carries calls out."""

    is_dry: bool

    def call(self, call: Call) -> Answer:
        """Returns what a call gives."""
        ...

    def call_all(self, calls: Iterable[Call]) -> list[Answer]:
        """Returns what calls give that may be made at the same time, in their order."""
        ...

    def show(self, call: Call) -> int:
        """Lets a call read and write the user's terminal; returns its exit code."""
        ...


class RealShell:
    """Makes the calls."""

    is_dry = False

    def call(self, call: Call) -> Answer:
        """See `Shell`."""
        try:
            done = subprocess.run(
                call.argv,
                input=(call.stdin or "").encode(),
                capture_output=True,
                timeout=call.timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            return Answer(_TIMED_OUT, err=f"no answer within {call.timeout_seconds:.0f} s")
        except FileNotFoundError:
            raise _missing(call) from None
        # Bytes that are no UTF-8, as of a log cut within a character, come through and go back to what they were.
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Answer(_exit_code(done.returncode), out, err)

    def call_all(self, calls: Iterable[Call]) -> list[Answer]:
        """See `Shell`."""
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self.call, calls))

    def show(self, call: Call) -> int:
        """See `Shell`."""
        try:
            return _exit_code(subprocess.run(call.argv).returncode)
        except FileNotFoundError:
            raise _missing(call) from None


class DryShell:
    """Prints the calls, and takes for their answers what they are when all goes well."""

    is_dry = True

    def __init__(self, answers: Mapping[str, Sequence[str] | Callable[[Call], str]]):
        """Takes the answers to what calls ask: each in its turn, the last of them for good; or made from the call."""
        self._answers = {
            asks: answer if callable(answer) else collections.deque(answer)
            for asks, answer in answers.items()
        }

    def call(self, call: Call) -> Answer:
        """See `Shell`."""
        print(call)
        answers = self._answers.get(call.asks, collections.deque([""]))
        if callable(answers):
            text = answers(call)
        elif len(answers) > 1:
            text = answers.popleft()
        else:
            text = answers[0]
        return Answer(1, err="NOT_FOUND") if text == NOT_FOUND else Answer(0, text)

    def call_all(self, calls: Iterable[Call]) -> list[Answer]:
        """See `Shell`."""
        return [self.call(call) for call in calls]

    def show(self, call: Call) -> int:
        """See `Shell`."""
        print(call)
        return 0


NOT_FOUND = "NOT_FOUND"


def is_missing(answer: Answer) -> bool:
    """Returns whether a call says that what it is about does not exist."""
    # As the Cloud TPU API, Compute Engine, Kubernetes Engine and kubectl put it, and not as a shell puts it of a program.
    words = ("NOT_FOUND", "was not found", "code=404", "(NotFound)")
    return answer.code != 0 and any(word in answer.err for word in words)


def is_there_already(answer: Answer) -> bool:
    """Returns whether a call says that what it was to make exists."""
    said = answer.err.casefold()
    return answer.code != 0 and any(words in said for words in ("already_exists", "already exists"))


def must(shell: Shell, call: Call) -> str:
    """Returns the output of a call that has to succeed.

    Raises:
      CallError: it does not.
    """
    answer = shell.call(call)
    if answer.code:
        raise CallError(call, answer)
    return answer.out


def make(shell: Shell, call: Call) -> None:
    """Makes something, unless it exists.

    Raises:
      CallError: it cannot be made.
    """
    answer = shell.call(call)
    if answer.code and not is_there_already(answer):
        raise CallError(call, answer)


def unmake(shell: Shell, call: Call) -> None:
    """Deletes something, unless it is gone.

    Raises:
      CallError: it cannot be deleted.
    """
    answer = shell.call(call)
    if answer.code and not is_missing(answer):
        raise CallError(call, answer)


def _exit_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _missing(call: Call) -> UserError:
    program = call.argv[0]
    return UserError(f"{program} is not on the PATH; {_INSTALL.get(program, 'install it')}.")
