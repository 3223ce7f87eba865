"""The table of a benchmark: results.json, results.md, and what a terminal shows."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from t5like.report.format import MINUS, NOTHING, format_duration
from t5like.suite_results import Row, SuiteResults
from t5like.whole_files import write_text

RESULTS_FILE, RESULTS_PAGE = "results.json", "results.md"
WIDTH = 100  # columns of a terminal that the table fits in

_HEADER = ("task", "metric", "mean ± sd", "95 % interval", "majority", "invalid", "seeds", "a run")
_LEGEND = (
    "All figures are percentages. mean ± sd: over seeds, sd with n - 1. 95 % interval: of resamples of the examples "
    "(bootstrap), its ends averaged over seeds. majority: the best single answer to everything. invalid: answers "
    "that are no label or number. a run: its time, evaluation included, averaged over seeds."
)


def write_results(workdir: pathlib.Path, results: SuiteResults) -> None:
    """Writes results.json and results.md, each whole or not at all."""
    content = {
        "suite": results.suite.name,
        "conditions": dict(results.conditions),
        "total_seconds": results.total_seconds,
        "averages": [dataclasses.asdict(average) for average in results.averages],
        "table": [dataclasses.asdict(row) for row in results.rows],
        "runs": [dataclasses.asdict(run) for run in results.runs],
    }
    write_text(workdir / RESULTS_FILE, json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_text(workdir / RESULTS_PAGE, results_page(results))


def results_page(results: SuiteResults) -> str:
    """Returns the results as Markdown: the table, averages, conditions, and every run."""
    runs = [
        (
            run.task,
            str(run.seed),
            "; ".join(
                " ".join([split, *(f"{metric} {_figure(value)}" for metric, value in scores.metrics.items())])
                for split, scores in run.splits.items()
            ),
            NOTHING if run.is_majority else str(run.step),
            _duration(run.seconds),
        )
        for run in sorted(results.runs, key=lambda run: (run.task, run.seed))
    ]
    parts = [
        f"# {results.suite.title}",
        _markdown_table(_HEADER, _cells(results.rows)),
        "\n".join(f"- {line}" for line in _average_lines(results)),
        _LEGEND,
        "\n".join(f"- {line}" for line in _condition_lines(results)),
        "## Runs",
        _markdown_table(("task", "seed", "scores", "step chosen", "time"), runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def print_results(results: SuiteResults, console: Console | None = None) -> None:
    """Prints the table, averages and conditions.

    Args:
      console: where to; standard output where None, `WIDTH` columns wide where that is no terminal.
    """
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for number, title in enumerate(_HEADER):
        table.add_column(title, justify="left" if number < 2 else "right")
    for cells in _cells(results.rows):
        table.add_row(*cells)
    console.print(table, markup=False)
    for line in ["", *_average_lines(results), "", _LEGEND, "", *_condition_lines(results)]:
        console.print(line, markup=False)


def _cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Returns the cells of each row; what is said of a task or split as a whole stands in its first row alone."""
    lines: list[tuple[str, ...]] = []
    last = None
    for row in rows:
        is_first, last = row.title != last, row.title
        lines.append(
            (
                row.title if is_first else "",
                row.metric,
                _with_sd(row.mean, row.sd),
                NOTHING if row.interval is None else " to ".join(map(_figure, row.interval)),
                NOTHING if row.baseline is None else _figure(row.baseline),
                NOTHING if row.invalid_rate is None else _figure(row.invalid_rate),
                str(row.num_seeds),
                _duration(row.seconds) if is_first else "",
            )
        )
    return lines


def _average_lines(results: SuiteResults) -> list[str]:
    return [
        f"average of {average.title}: {_with_sd(average.mean, average.sd)}" for average in results.averages
    ]


def _condition_lines(results: SuiteResults) -> list[str]:
    said = {**results.conditions, "time of all runs": format_duration(results.total_seconds)}
    return [f"{name}: {value}" for name, value in said.items()]


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _with_sd(mean: float, sd: float | None) -> str:
    return _figure(mean) if sd is None else f"{_figure(mean)} ± {_figure(sd)}"


def _figure(percent: float) -> str:
    return f"{percent:.2f}".replace("-", MINUS)


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds else NOTHING
