"""The one exception a user is meant to read, and how an entry point ends on it."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user gave cannot work; the message is one sentence saying what, where and what to do.

    Entry points print the message on standard error, without a traceback, and end with `exit_code`.
    Raise it before anything is written to a workdir.
    """

    exit_code = 2


def run_entry(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Runs an entry point and returns the process's exit code: 0, that of a UserError, or 130 after Ctrl-C.

    141, as for any command, where the reader of our output has gone: `t5like pretrain CONFIG.py --help | head`.
    """
    try:
        main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would try to flush again
        return 141
    return 0
