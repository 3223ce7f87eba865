"""Gives 1,000 malformed inputs to the command: each is refused in one sentence, with the right code, and nothing is written.

    python tests/reliability/malformed_inputs.py [--num 1000] [--seed 0] [--kinds NAME,...]

Small valid inputs of each kind that a command reads are damaged in ways drawn from the seed: bits flipped, cut, bytes put
in or taken out, lines doubled or swapped, values of JSON replaced by others, another file's content, a folder in place of
a file; and command lines and configs are misspelt, mistyped and filled with nonsense. Then the command has to end within
`LIMIT_SECONDS` with a code that its kind allows, say `error: ` and one sentence that names what it was given, show no
traceback, and leave every file as it was. A damage may leave a valid input, such as another letter in a text: then it ends
with code 0, and all that it wrote is whole.

Last line: malformed_inputs ok=1000 of 1000 refused=... without_effect=... kinds=...
"""

import argparse
import collections
import contextlib
import faulthandler
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # which compiles quickly

from t5like.cli import dispatch  # noqa: E402
from t5like.entry import run_entry  # noqa: E402
from t5like.errors import DivergenceError  # noqa: E402
from tests.reliability import valid_inputs as valid  # noqa: E402
from tests.reliability.malformed_kinds import KINDS, Case, Kind  # noqa: E402
from tests.tasks import super_glue_rows  # noqa: E402

LIMIT_SECONDS = 60
_MAX_SENTENCE = 1200
_SIGNS_OF_A_CRASH = (
    "Traceback (most recent call last)",
    "Exception ignored",
    "Exception in thread",
    "Fatal Python",
)
_UNREADABLE = re.compile(r"<class |<function | at 0x[0-9a-f]{6}")


class HangError(BaseException):
    """A case took too long."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int | None  # None: with an exception
    out: str
    err: str
    seconds: float


def run(argv: list[str]) -> Ended:
    """Returns how the command ends in this process, with what it and the libraries below it printed."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        signal.alarm(LIMIT_SECONDS)
        faulthandler.dump_traceback_later(4 * LIMIT_SECONDS, exit=True, file=kept[1])
        code: int | None
        try:
            code = run_entry(dispatch, argv)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
            code = None
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for number in kept:
                os.close(number)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return Ended(code, *texts, time.monotonic() - started)


def fault_of(
    kind: Kind, case: Case, ended: Ended, folder: pathlib.Path, before: dict[str, str]
) -> str | None:
    """Returns in words what is wrong with how a command ended, None where nothing is.

    Args:
      folder: holds the input and what was written.
      before: a snapshot of it from before the command.
    """
    if ended.code is None or any(sign in ended.err for sign in _SIGNS_OF_A_CRASH):
        return "a traceback"
    after = snapshot(folder)
    if ended.code == 0:
        places = ("out/", *kind.may_write)
        written = [name for name in after if name.startswith(places) and before.get(name) != after[name]]
        return next((f"{name} is half written" for name in written if not is_whole(folder / name)), None)
    if ended.code not in kind.codes:
        return f"code {ended.code}"
    sentences = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if len(sentences) != 1 or not ended.err.rstrip().endswith(sentences[0].rstrip()):
        return "not one sentence"
    sentence = sentences[0]
    if len(sentence) > _MAX_SENTENCE + 2 * max(map(len, case.argv)) or _UNREADABLE.search(sentence):
        return "no clear sentence"
    if ended.code == DivergenceError.exit_code:
        return None  # a rate that is too high is known by what it does
    if not any(word in sentence for word in case.names):
        return f"it names none of {case.names}"
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    changed = [name for name in changed if not name.startswith(tuple(kind.may_write))]
    return f"it wrote {', '.join(changed)}" if changed else None


def is_whole(path: pathlib.Path) -> bool:
    """Returns whether a file that was written is no half one: its name is its own, and JSON is JSON."""
    if path.suffix == ".json" and not path.is_dir():
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            return False
    return ".tmp" not in path.name and "orbax-checkpoint-tmp" not in path.name


def snapshot(folder: pathlib.Path) -> dict[str, str]:
    """Returns a digest of every file below a folder, and the folders."""
    return {
        path.relative_to(folder).as_posix(): "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def shared_inputs(folder: pathlib.Path) -> None:
    """Writes what the commands of several kinds need besides: a run, a model, a text."""
    (folder / "made").mkdir()
    valid.write_run(folder / "made")
    shutil.copytree(folder / "made" / "run", folder / "run")
    valid.write_public(folder / "bert", "bert")
    for file in ("train.jsonl", "val.jsonl"):
        super_glue_rows.write(folder / "super_glue", "rte", file)
    (folder / "text.txt").write_text("\n".join(valid.TEXTS[:20]))


def main() -> None:
    """Makes the inputs, and gives them to the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _stop)
    sys.stdin = open(os.devnull)  # noqa: SIM115 (to the end)
    names = options.kinds.split(",")
    counts: collections.Counter[str] = collections.Counter()
    spent: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch).resolve()
        (root / "case").mkdir()
        shared_inputs(root / "case")
        os.chdir(root / "case")
        for number in range(options.num):
            name = names[number % len(names)]
            kind, made = KINDS[name], root / name
            if not made.exists():
                made.mkdir()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    kind.make(made)
            rng = random.Random(f"{options.seed} {number}")
            shutil.copytree(made, root / "case" / "in")
            (root / "case" / "out").mkdir()
            case = kind.case(root / "case" / "in", root / "case" / "out", rng)
            before = snapshot(root / "case")
            print(f"{number} {name}: {case.what or shown(case.argv)}", end="", flush=True)
            ended = run(case.argv)
            fault = fault_of(kind, case, ended, root / "case", before)
            outcome = "FAULT" if fault else "refused" if ended.code else "without_effect"
            print(f": {outcome} {ended.code} {ended.seconds:.1f} s {sentence_of(ended)}", flush=True)
            if fault:
                print(f"  {fault}: t5like {shown(case.argv)}\n{ended.err[-3000:]}", flush=True)
            counts[outcome] += 1
            spent[name] += ended.seconds
            for part in ("in", "out"):
                shutil.rmtree(root / "case" / part)
    print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.most_common(8)))
    print(
        f"malformed_inputs ok={options.num - counts['FAULT']} of {options.num} refused={counts['refused']} "
        f"without_effect={counts['without_effect']} kinds={len(names)}"
    )


def shown(argv: list[str]) -> str:
    """Returns a command line, long words cut."""
    return " ".join(repr(word if len(word) < 300 else f"{word[:40]}...") for word in argv)


def sentence_of(ended: Ended) -> str:
    """Returns what was said last."""
    return ended.err.strip().rpartition("\n")[2][:300]


def _stop(number: int, frame: Any) -> None:
    raise HangError(f"nothing came of it in {LIMIT_SECONDS} seconds")


if __name__ == "__main__":
    main()
