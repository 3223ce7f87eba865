"""The page of a run, whole: what was trained, its headline figures, then a section a run."""

import os
import pathlib

from t5like import __version__
from t5like.metrics_log import input_wait_percent
from t5like.report import sections
from t5like.report.format import TIMES, format_count, format_duration, format_value
from t5like.report.markup import Markup, element, join
from t5like.report.style import STYLE
from t5like.report.times import where_the_time_went
from t5like.report.workdir import Run, read_runs, short_class
from t5like.scores import Score
from t5like.whole_files import write_text

REPORT_FILE = "report.html"
_NUM_SCORE_TILES = 4
# Scripts and anything from outside are refused by the browser, should a page ever hold them.
_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of the page just written from what `workdir` holds; the same workdir gives the same page.

    The page is one file that needs nothing else. What is missing or broken in the workdir is named on it. Where the
    config names the workdir that the run was initialized from, that run has a section of its own before it. Tokens
    seen are summed from train rows as throughput by time, so they are marked as about.

    Raises:
      UserError: `workdir` is not a folder.
    """
    folder = pathlib.Path(workdir)
    page = render_page(read_runs(folder))
    path = folder / REPORT_FILE
    write_text(path, page)
    return path


def render_page(runs: list[Run]) -> Markup:
    """Returns the whole page for a run, the last of `runs`, and those it came from."""
    run = runs[-1]
    title = f"{run.kind}: {run.name}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_SECURITY_POLICY),
        element("title", title),
        element("style", STYLE),
    )
    main = element(
        "main",
        element(
            "header",
            element("p", run.kind, class_="kind"),
            element("h1", run.name),
            _chips(run),
            headline(run),
        ),
        *(_section(each, is_alone=len(runs) == 1, is_last=each is run) for each in runs),
        element("footer", f"Written by t5like {__version__}."),
    )
    body = element("body", main)
    return join(
        Markup("<!DOCTYPE html>\n"), element("html", head, Markup("\n"), body, lang="en"), Markup("\n")
    )


def headline(run: Run) -> Markup | None:
    """Returns the tiles of the figures that matter most: scores beside their baselines, then size, tokens and time."""
    rows = run.evaluation[:_NUM_SCORE_TILES]
    tiles = [_score_tile(row) for row in rows]
    for metric, words in (("nats_per_token", "nats"), ("token_accuracy", "token accuracy")):
        is_told = any(words in f"{row.name} {row.unit}".lower() for row in rows)
        measured = [row for row in run.rows("validation") if metric in row]
        if measured and not is_told and len(tiles) < _NUM_SCORE_TILES:
            label = f"held-out {metric.replace('_', ' ')}"
            tiles.append(
                _tile(label, format_value(measured[-1][metric]), f"at step {measured[-1]['step']:,}")
            )
    if "num_parameters" in run.environment:
        num_parameters = run.environment["num_parameters"]
        tiles.append(_tile("parameters", format_count(num_parameters), f"{num_parameters:,.0f}"))
    tiles += _extent_tiles(run)
    return element("dl", *tiles, class_="tiles") if tiles else None


def _extent_tiles(run: Run) -> list[Markup]:
    rows = run.rows("train")
    num_tokens, seconds, previous_step = 0.0, 0.0, 0
    for row in rows:
        row_seconds = row.get("step_seconds", 0.0) * (row["step"] - previous_step)
        num_tokens += row.get("tokens_per_second", 0.0) * row_seconds
        seconds += row_seconds
        previous_step = row["step"]
    tiles = []
    if num_tokens > 0:
        tiles.append(_tile("tokens seen", f"≈ {format_count(num_tokens)}", f"in {previous_step:,} steps"))
    elif rows:
        tiles.append(_tile("steps", f"{previous_step:,}", None))
    machine = run.environment.get("device")
    num_devices = run.environment.get("num_devices")
    on = (
        None
        if machine is None
        else f"on {machine}"
        if num_devices in (None, 1)
        else f"on {num_devices} {TIMES} {machine}"
    )
    if run.times is not None:
        tiles.append(_tile("time", format_duration(run.times.total_seconds), on))
        tiles.append(
            _tile("goodput", f"{run.times.goodput_percent:.0f} %", "of the time in steps that stayed")
        )
    elif "total_seconds" in run.environment:
        tiles.append(_tile("time", format_duration(run.environment["total_seconds"]), on))
    elif seconds > 0:
        tiles.append(_tile("time in steps", f"≈ {format_duration(seconds)}", on))
    if (waited := input_wait_percent(run.metrics)) is not None:
        tiles.append(_tile("input wait", f"{waited:.2g} %", "of the step time"))
    return tiles


def _score_tile(row: Score) -> Markup:
    beside: str | None = None
    if row.baseline is not None:
        told = f"{row.baseline_name or 'baseline'} {sections.with_unit(row.baseline, row.unit)}"
        beside = sections.verdict(row, f"beats {told}", f"does not beat {told}")
    return _tile(row.name, sections.with_unit(row.value, row.unit), beside)


def _tile(label: str, figure: str, beside: str | None) -> Markup:
    return element(
        "div",
        element("dt", label),
        element("dd", figure, class_="figure"),
        element("dd", beside, class_="beside") if beside else None,
        class_="tile",
    )


def _chips(run: Run) -> Markup | None:
    """Returns what the run is made of: the class of each part of its config."""
    chips = []
    for field, value in run.config.items():
        parts = value if isinstance(value, list) else [value]
        names = ", ".join(dict.fromkeys(filter(None, map(short_class, parts))))
        if names and names.lower() != field:
            chips.append(element("li", element("span", field, class_="field"), f" {names}"))
    return element("ul", *chips, class_="chips") if chips else None


def _section(run: Run, *, is_alone: bool, is_last: bool) -> Markup:
    """Returns one run: all of it for the run the page is about, the lesser part folded for one that came before."""
    made_of = join(sections.configuration(run), sections.environment(run))
    return element(
        "section",
        None if is_alone else element("h2", run.kind),
        None if is_last else join(element("p", run.name, class_="muted"), headline(run)),
        sections.problems(run),
        sections.curves(run),
        sections.scores(run),
        where_the_time_went(run),
        sections.samples(run) if is_last else None,
        made_of if is_last or not made_of else sections.fold("Configuration and environment", made_of),
    )
