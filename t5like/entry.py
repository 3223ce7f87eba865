"""How an entry point begins and ends: memory is set up before anything asks for some, errors become exit codes."""

import os
import sys
from collections.abc import Callable

from t5like.allocator import computes_on_cpu, keep_freed_memory
from t5like.errors import UserError


def run_entry(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Runs an entry point and returns the process's exit code: 0, that of a UserError, or 130 after Ctrl-C.

    141, as for any command, where the reader of our output has gone: `t5like pretrain CONFIG.py --help | head`.
    """
    if computes_on_cpu():
        keep_freed_memory()
    try:
        main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except UserError as error:
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
    return 0
