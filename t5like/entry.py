"""How an entry point begins and ends: memory and the cache of programs are set up first, errors become exit codes."""

import errno
import os
import sys
from collections.abc import Callable

from t5like.allocator import computes_on_cpu, keep_freed_memory
from t5like.compilation_cache import keep_compiled_programs
from t5like.errors import PreemptedError, UserError
from t5like.hosts.find import Hosts, find_hosts
from t5like.hosts.member import become_member
from t5like.hosts.watch import watch
from t5like.watchdog.alone import WATCHDOG, watch_alone
from t5like.watchdog.watched import become_watched

_PRINTS_ONLY = {"-h", "--help", "--print_config"}

_NO_ROOM = "make room there, or write to another disk"
_NOT_ALLOWED = "give a place that may be written to"
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
    errno.EEXIST: "a file is where a folder belongs; move it away, or give another place",
    errno.ENOTDIR: "a file is where a folder belongs; move it away, or give another place",
    errno.EISDIR: "a folder is where a file belongs; move it away, or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.EIO: "the disk fails; write to another one",
}


def run_entry(
    main: Callable[[list[str]], None],
    argv: list[str] | None = None,
    *,
    is_watched: bool = False,
    spans_hosts: bool = False,
    needs_one_host: bool = False,
) -> int:
    """Runs an entry point and returns the process's exit code: 0, that of a UserError, or 130 after Ctrl-C.

    141, as for any command, where the reader of our output has gone: `t5like pretrain CONFIG.py --help | head`.

    Args:
      is_watched: whether the entry point runs for long, in a process of its own beside this one; see `t5like.watchdog`.
      spans_hosts: whether it may run on several hosts, where the environment says that there are; see `t5like.hosts`.
      needs_one_host: whether it is refused there, as it uses the devices and each host has but its own.
    """
    argv = sys.argv[1:] if argv is None else argv
    if computes_on_cpu():
        keep_freed_memory()
    keep_compiled_programs()
    if _PRINTS_ONLY & set(argv):
        return _run(lambda: main(argv))
    member = become_member(os.environ)
    if member is not None:
        return member.run(lambda: _run(lambda: main(argv), when_it_fails=member.hold_back))
    watched = become_watched(os.environ)
    if watched is not None:
        return watched.run(lambda: _run(lambda: main(argv)))
    is_watched = is_watched and os.environ.get(WATCHDOG) != "off"

    def watch_or_run() -> int | None:
        hosts = find_hosts(os.environ) if spans_hosts or needs_one_host else None
        if hosts is not None and needs_one_host:
            raise UserError(
                f"This command runs on one host, and this is {hosts.called(hosts.host).lower()}; take a slice of one host, such "
                "as v5e-8."
            )
        return _watch_or(lambda: main(argv), hosts, is_watched=is_watched)

    return _run(watch_or_run)


def _watch_or(run: Callable[[], int | None], hosts: Hosts | None, *, is_watched: bool) -> int | None:
    """Returns what `run` gives, or the exit code of the process that runs it while this one watches."""
    if hosts is not None:
        return watch(hosts, os.environ)
    return watch_alone(os.environ) if is_watched else run()


def _run(run: Callable[[], int | None], when_it_fails: Callable[[BaseException], None] | None = None) -> int:
    """Returns the exit code of what is run, having said in one line what went wrong, if that is for the user to mend.

    Args:
      run: gives an exit code; None is 0.
      when_it_fails: called first with what was raised.
    """
    try:
        try:
            code = run()
            sys.stdout.flush()
        except (Exception, PreemptedError) as error:
            if when_it_fails is not None:
                when_it_fails(error)
            raise
    except (UserError, PreemptedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "interrupted; a run goes on from its last checkpoint when the same command is given again",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would try to flush again
        return 141
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        where = "" if error.filename is None else f"{os.fspath(error.filename)}: "
        print(f"error: {where}{error.strerror}; {_REMEDIES[error.errno]}.", file=sys.stderr)
        return UserError.exit_code
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0].rstrip(".")
        print(
            f"error: out of memory ({first_line}); make batch_size or the lengths of rows smaller, or the model.",
            file=sys.stderr,
        )
        return UserError.exit_code
    return code or 0


def _is_out_of_memory(error: Exception) -> bool:
    # By its name: this floor does without JAX.
    of_device = type(error).__name__ == "JaxRuntimeError" and str(error).startswith("RESOURCE_EXHAUSTED")
    return of_device or isinstance(error, MemoryError)
