"""Runs every benchmark, one after another, and writes the README's table of them.

    python -m tests.benchmarks [--only NAME ...] [--quick] [--dry_run]

The table stands in README.md between the lines `<!-- benchmarks -->` and `<!-- /benchmarks -->`: what was run, on which
machine, with which versions, when. A benchmark that was left out keeps the row that it has; one that fails gets none and
makes the exit code 1. --quick takes three rounds of each; --dry_run prints the commands. All of them take about an hour.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).parent
README = FOLDER.parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
QUICK_ROUNDS = "3"


class Benchmark(NamedTuple):
    """A command whose last line has the figures; `shown_as` is what the table calls it, `what` what it says it is."""

    shown_as: str
    what: str
    script: str
    arguments: tuple[str, ...] = ()

    def command(self, *more: str) -> list[str]:
        """Returns the command line."""
        return [sys.executable, str(FOLDER / self.script), *self.arguments, *more]


_STEPS = "train_step_vs_transformers.py"
_GENERATE = "generate_vs_transformers.py"
_INPUT = "input_vs_seqio.py"
BENCHMARKS = (
    Benchmark("train_step_t5_small", "train step, T5 1.0 small, 8 x (512 + 114)", _STEPS),
    Benchmark("train_step_t5x", "the same, beside T5X's network", "train_step_vs_t5x.py"),
    Benchmark(
        "train_step_t5_base",
        "train step, T5 1.0 base, 4 x (512 + 114)",
        _STEPS,
        ("--model", "t5_base", "--rounds", "5"),
    ),
    Benchmark(
        "train_step_t5_large",
        "train step, T5 1.0 large, 1 x (512 + 114)",
        _STEPS,
        ("--model", "t5_large", "--rounds", "5"),
    ),
    Benchmark(
        "train_step_bert_base",
        "train step, BERT base, 4 x 512",
        _STEPS,
        ("--model", "bert_base", "--rounds", "5"),
    ),
    Benchmark(
        "train_step_gpt2_small",
        "train step, GPT-2 small, 2 x 1024",
        _STEPS,
        ("--model", "gpt2_small", "--rounds", "5"),
    ),
    Benchmark("train_step_minilm", "fine-tuning step, MiniLM-L6, 32 x 128", _STEPS, ("--model", "minilm")),
    Benchmark("generate", "writing, T5 small, 8 rows, greedily", _GENERATE),
    Benchmark("generate_one", "writing, T5 small, 1 row, greedily", _GENERATE, ("--rows", "1")),
    Benchmark("generate_beams", "writing, T5 small, 8 rows, 4 beams", _GENERATE, ("--num_beams", "4")),
    Benchmark("input", "raw text to batches, beside SeqIO", _INPUT, ("--rounds", "5", "--unpacked_peer")),
    Benchmark(
        "input_stored",
        "token store to batches on one core, beside SeqIO",
        _INPUT,
        ("--rounds", "5", "--unpacked_peer", "--stored", "--num_cores", "1"),
    ),
    Benchmark(
        "train_step_gpu_tiny",
        "the GPU's script, on this CPU, tiny",
        "train_step_on_gpu.py",
        ("--model", "tiny"),
    ),
    Benchmark(
        "start_up",
        "seconds to the first step of `configs/tiny.py`, again and at first, and of `t5like --help`",
        "start_up.py",
    ),
)
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> str:
    """Returns what the figures are of: processor, its rate, versions and day."""
    rate = subprocess.run(
        [sys.executable, str(FOLDER / "matrix_products.py")], capture_output=True, text=True, check=True
    ).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = re.findall(r"model name\s*: (.*)", file.read())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS)
    return (
        f"{os.cpu_count()} cores of {names[0].strip() if names else platform.machine()}, {rate} in one large float32 product; "
        f"Python {platform.python_version()}, {versions}; {datetime.date.today().isoformat()}"
    )


def last_line(benchmark: Benchmark, *more: str) -> str:
    """Runs a benchmark, showing what it says, and returns its last line.

    Raises:
      CalledProcessError: it failed.
    """
    command, line = benchmark.command(*more), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode or not line:
        raise subprocess.CalledProcessError(process.returncode, command)
    return line.strip()


def row(benchmark: Benchmark, line: str) -> str:
    """Returns a row of the table, of the last line of a benchmark."""
    found = dict(re.findall(r"(\w+)=(\S+)", line))
    if "ratio" not in found:
        told = " / ".join(value for value in found.values())
        return f"| `{benchmark.shown_as}` | {benchmark.what} | | {told} | | | |"
    share = f"{100 * float(found['share']):.0f} %" if "share" in found else ""
    ours, peer = (f"{float(found[side]):,.0f}" for side in ("ours", "peer"))
    cells = (f"`{benchmark.shown_as}`", benchmark.what, found["ratio"], ours, peer, found["spread"], share)
    return "| " + " | ".join(cells) + " |"


def rows_in(text: str) -> dict[str, str]:
    """Returns the rows of a table by the names of their benchmarks."""
    return {name: line for line in text.splitlines() for name in re.findall(r"^\| `(\w+)` \|", line)}


def table(rows: dict[str, str], about: str) -> str:
    """Returns the table, in the order of the benchmarks."""
    head = (
        "| | what | ratio | ours | theirs | least and largest ratio | of the machine's matrix products |",
        "|---|---|---|---|---|---|---|",
    )
    kept = [rows[each.shown_as] for each in BENCHMARKS if each.shown_as in rows]
    return "\n".join((BEGIN, f"{about}.", "", *head, *kept, END))


def main() -> int:
    """Runs what was asked for; returns an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [each.shown_as for each in BENCHMARKS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of each")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, and run nothing")
    options = parser.parse_args()
    more = ("--rounds", QUICK_ROUNDS) if options.quick else ()
    chosen = [each for each in BENCHMARKS if each.shown_as in options.only]
    if options.dry_run:
        print(*(" ".join(each.command(*more)) for each in chosen), sep="\n")
        return 0
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        print(f"{README} has no lines {BEGIN} and {END}; put them where the table belongs.", file=sys.stderr)
        return 1
    rows, failed, about = rows_in(old), [], machine()
    for each in chosen:
        try:
            rows[each.shown_as] = row(each, last_line(each, *more))
        except subprocess.CalledProcessError as error:
            failed.append(f"{each.shown_as} (exit code {error.returncode})")
            rows.pop(each.shown_as, None)
        # After each, so that an hour's work outlives an interruption.
        README.write_text(before + table(rows, about) + after, encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
