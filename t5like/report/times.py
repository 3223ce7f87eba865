"""Where the wall time of a run went, as a table with bars."""

from t5like.ledger import IDLE, REDONE
from t5like.report.format import format_duration
from t5like.report.markup import Markup, element, join
from t5like.report.workdir import Run

# In this order, with the words for each.
_NAMES = {
    "step": "steps that stayed",
    "wait": "waiting for batches",
    "compile": "compiling the first step",
    "evaluate": "evaluations",
    "save": "saves, as far as the loop waits for them",
    "init": "starting",
    "finish": "scores and report",
    REDONE: "done again after a restart",
    IDLE: "between attempts",
}


def where_the_time_went(run: Run) -> Markup | None:
    """Returns a row a phase, of those that took any time."""
    if run.times is None:
        return None
    total = max(run.times.total_seconds, 1e-9)
    rows = [
        _row(name, run.times.seconds[phase], run.times.seconds[phase] / total)
        for phase, name in _NAMES.items()
        if run.times.seconds.get(phase, 0.0) > 0
    ]
    attempts = "one attempt" if run.times.num_attempts == 1 else f"{run.times.num_attempts:,} attempts"
    told = f"{format_duration(run.times.total_seconds)} in {attempts}."
    table = element("table", element("tbody", *rows), class_="times")
    return join(
        element("h3", "Where the time went"),
        element("p", told, class_="muted"),
        element("div", element("div", table, class_="scroll"), class_="card"),
    )


def _row(name: str, seconds: float, share: float) -> Markup:
    bar = element(
        "svg", element("rect", width=f"{100 * share:.2f}%", height="100%"), class_="bar", aria_hidden="true"
    )
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", format_duration(seconds), class_="number"),
        element("td", f"{100 * share:.1f} %", class_="number"),
        element("td", bar, class_="bars"),
    )
