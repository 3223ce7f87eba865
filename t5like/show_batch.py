"""Entry point `t5like batch`: rebuild one global batch of a pretraining run, on any machine, and show it.

t5like batch configs/tiny.py --step 7
t5like batch --workdir runs/books --step 1200 --to batch.npz
"""

import argparse
import contextlib
import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t5like import workdir as workdirs
from t5like.batch import EXAMPLE_IDS, Features
from t5like.checkpoint import Checkpoints, check_whole
from t5like.config import parse_command_line, to_json
from t5like.data.example_ids import parse_id
from t5like.data.vocabulary import Vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.left_out import PassingOver, read_left_out
from t5like.pretrain import Pretrain, choose_vocabulary, read_text, training_batches
from t5like.trained_model import load_model
from t5like.whole_files import whole_file

COMMAND = "t5like batch"

_OPTIONS = """usage: t5like batch [CONFIG.py] [--workdir DIR] --step N [--rows K] [--to FILE.npz] [--path.to.field VALUE ...]

  CONFIG.py        the config of a pretraining run; may be left out with --workdir
  --workdir DIR    a run, whose vocabulary is used and whose checkpoints save reading from the beginning
  --step N         which batch: the one that made state N + 1
  --rows K         rows to show, 4 if not given
  --to FILE.npz    also write the whole batch, as numpy arrays
"""


class Options(NamedTuple):
    """What stands on the command line beside the config's own fields."""

    step: int
    rows: int
    to: Path | None
    workdir: Path | None


def main(argv: list[str]) -> None:
    """Prints the batch that the command line asks for."""
    if {"-h", "--help"} & set(argv):
        print(_OPTIONS)
        return
    options, rest = _parse(argv)
    default = None
    if options.workdir is not None and (not rest or rest[0].startswith("-")):
        default = workdirs.load_config(options.workdir)
        if not isinstance(default, Pretrain):
            raise UserError(f"{options.workdir} is no pretraining run; {COMMAND} rebuilds batches of these.")
    config, more = parse_command_line(
        rest, command=COMMAND, config_class=Pretrain, default=default, example=f"--step {options.step}"
    )
    if more.prints_config:
        print(to_json(config))
        return
    batch, vocabulary = rebuild_batch(config, options.step, options.workdir)
    if options.to is not None:
        _write(batch, options.to)
    for line in describe_batch(batch, vocabulary, options):
        print(line)


def rebuild_batch(config: Pretrain, step: int, workdir: Path | None) -> tuple[Features, Vocabulary]:
    """Returns the global batch of a step, and the vocabulary that reads it.

    It is made from the newest checkpoint of the workdir up to that step, or else from the beginning.

    Raises:
      UserError: the workdir belongs to another config, or the data are not those of the run.
    """
    text = read_text(config)
    cursor, first = None, 0
    left_out = [] if workdir is None else read_left_out(workdir)
    if workdir is None:
        init = load_model(config.init) if config.init else None
        vocabulary = choose_vocabulary(config, text, init)
    else:
        workdirs.check_config(workdir, config)
        _, vocabulary = workdirs.load_description(workdir)
        with contextlib.closing(Checkpoints(workdir / "checkpoints", is_read_only=True)) as checkpoints:
            saved = checkpoints.all_steps
            # Any checkpoint tells of the data; earlier ones are gone by the time that most steps are asked for.
            if saved and read_run(checkpoints, workdir, max(saved)).get("data_sha256") != text.fingerprint:
                raise UserError(
                    f"The training data is not that of {workdir}; put back what the run began with."
                )
            if earlier := [of_step for of_step in saved if of_step <= step]:
                first = max(earlier)
                cursor = read_run(checkpoints, workdir, first)["cursor"]
    config.objective.check(vocabulary)
    with contextlib.closing(training_batches(config, text, vocabulary)) as batches:
        if cursor is not None:
            batches.set_state(cursor)
        rewound = [row.batch for row in left_out if row.how == "rewound"]
        given = PassingOver(batches, rewound, step=first)
        for _ in range(step - first):
            next(given)
        return next(given), vocabulary


def read_run(checkpoints: Checkpoints, workdir: Path, step: int) -> dict[str, Any]:
    """Returns the JSON saved beside a state, of which the arrays need not be whole.

    Raises:
      CheckpointError: it is not as it was written.
    """
    check_whole(workdir, step, item="run")
    return checkpoints.read_run(step)


def batch_sha256(batch: Features) -> str:
    """Returns a sha256 in hex of every feature: name, dtype, shape and content."""
    digest = hashlib.sha256()
    for name, feature in sorted(batch.items()):
        digest.update(f"{name} {feature.dtype.str} {feature.shape} ".encode())
        digest.update(np.ascontiguousarray(feature).tobytes())
    return digest.hexdigest()


def describe_batch(batch: Features, vocabulary: Vocabulary, options: Options) -> Iterator[str]:
    """Yields the lines that show a batch: where each row is from, its text, and its masks."""
    num_rows = len(batch[EXAMPLE_IDS])
    yield f"batch {options.step}: {num_rows} rows, sha256 {batch_sha256(batch)}"
    for row in range(min(num_rows, options.rows)):
        for example_id in np.atleast_1d(batch[EXAMPLE_IDS][row]):
            if example_id >= 0:
                component, epoch, group, number = parse_id(example_id)
                yield (
                    f"row {row}: example {example_id} (component {component}, epoch {epoch}, group {group}, "
                    f"row {number})"
                )
        for name, feature in batch.items():
            if name.endswith("_tokens"):
                stack = name.split("_")[0]
                is_real = batch[f"{stack}_segment_ids"][row] > 0
                text = vocabulary.decode_all(feature[row][is_real])
                yield f"  {name:<24} {np.count_nonzero(is_real)} tokens: {text!r}"
            elif name != EXAMPLE_IDS:
                yield f"  {name:<24} {_run_lengths(np.atleast_1d(feature[row]))}"


def _run_lengths(values: np.ndarray) -> str:
    """Returns equal neighbours counted, or a range: [1 1 1 0] -> "1 x 3, 0 x 1"; [0 1 2 3] -> "0 to 3"."""
    parts = []
    steps = np.diff(values)
    start = 0
    while start < len(values):
        end = start + 1
        step = steps[start] if start < len(steps) else 0
        while end < len(values) and steps[end - 1] == step and step in (0, 1):
            end += 1
        first = f"{values[start]:g}"
        parts.append(
            f"{first} to {values[end - 1]:g}" if step == 1 and end - start > 1 else f"{first} x {end - start}"
        )
        start = end
    return ", ".join(parts)


def _parse(argv: list[str]) -> tuple[Options, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--step", type=int)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--workdir", type=Path)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            given, rest = parser.parse_known_args(argv)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"{COMMAND}: {error}; see {COMMAND} --help.") from error
    if given.step is None or given.step < 0:
        raise UserError(f"{COMMAND} needs --step N, the number of a batch from 0 on.")
    return Options(given.step, given.rows, given.to, given.workdir), rest


def _write(batch: Features, path: Path) -> None:
    try:
        with whole_file(path) as file:
            np.savez(file, **batch)  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"--to {path} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    from t5like import show_batch as this_module  # so that configs name t5like.show_batch, not __main__

    sys.exit(run_entry(this_module.main))
