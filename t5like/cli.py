"""The command `t5like`: picks an entry point and imports only that one."""

import difflib
import importlib
import sys

from t5like import __version__
from t5like.entry import run_entry
from t5like.errors import UserError

COMMANDS = {
    "pretrain": "train a model on text",
    "tokenize": "keep the ids of a pretraining run's text, so that it need not make them",
    "plan": "compile a pretraining run for TPUs that are not there: does it fit, and how fast should it be",
    "finetune": "fine-tune a trained model on a task",
    "benchmark": "fine-tune on every task of GLUE or SuperGLUE, or check a zip for its leaderboard",
    "evaluate": "measure a trained model on a task or on held-out text",
    "generate": "let a trained model write",
    "ngram": "measure an n-gram model on held-out text, as the floor for a trained one",
    "batch": "rebuild one batch of a pretraining run and show it",
    "doctor": "examine the hosts and chips that a run would have",
    "convert": "turn a public checkpoint into a workdir, or a workdir into a public checkpoint",
}

# Commands whose entry point has another name than theirs: t5like/batch.py is the layout of batches, and a file named
# tokenize.py would stand in for Python's own where a script beside it is run.
_FILES = {"batch": "show_batch", "tokenize": "tokenize_text"}

# Those that work on several hosts together, and those that would hang there; the others do not use the devices.
_SPAN_HOSTS = {"pretrain", "finetune", "evaluate", "doctor"}
_NEED_ONE_HOST = {"benchmark", "generate"}
_WATCHED = {"pretrain", "finetune", "benchmark"}


def usage() -> str:
    """Returns the text of `t5like --help`."""
    lines = [f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(
        [
            "usage: t5like COMMAND [CONFIG.py] [--workdir DIR] [--print_config] [--path.to.field VALUE ...]",
            "",
            "Train and fine-tune the models between BERT and T5, in JAX.",
            "",
            *lines,
            "",
            "`t5like COMMAND CONFIG.py --help` lists every field of a config.",
            "Exit codes: 0 done, 2 something given cannot work, 3 data cannot be read, 4 a host is lost, 5 a checkpoint",
            "cannot be written or read, 6 the numbers are bad, 7 told to end and saved, 8 hung, 130 interrupted. After 4, 7,",
            "8 and 130 the same command goes on.",
        ]
    )


def dispatch(argv: list[str]) -> None:
    """Runs the entry point that argv names with the rest of argv.

    Raises:
      UserError: if there is no such command.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if argv[0] == "--version":
        print(f"t5like {__version__}")
        return
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}."
        raise UserError(f"There is no command {argv[0]!r}; {hint}")
    importlib.import_module(f"t5like.{_FILES.get(argv[0], argv[0])}").main(argv[1:])


def main() -> int:
    """Returns the exit code; the console script's entry."""
    command = "".join(sys.argv[1:2])
    return run_entry(
        dispatch,
        is_watched=command in _WATCHED,
        spans_hosts=command in _SPAN_HOSTS,
        needs_one_host=command in _NEED_ONE_HOST and sys.argv[2:3] != ["check"],
    )


if __name__ == "__main__":
    sys.exit(main())
