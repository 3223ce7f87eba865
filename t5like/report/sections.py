"""The parts of a run's section: curves, scores, samples, configuration, environment. An empty part is None."""

import json
import re
from collections.abc import Sequence

from t5like.report.charts import Reference, Series, chart
from t5like.report.format import NOTHING, format_value
from t5like.report.markup import Markup, element, join
from t5like.report.workdir import Run, short_class
from t5like.scores import Sample, Score

# Metrics with a place of their own on the page: title, and whether their axis starts at zero.
_KNOWN_METRICS = {
    "nats_per_token": ("Nats per token", False),
    "loss": ("Loss", False),
    "accuracy": ("Accuracy in percent", True),
    "token_accuracy": ("Token accuracy", False),
    "learning_rate": ("Learning rate", True),
    "tokens_per_second": ("Real tokens per second", True),
    "model_flops_per_second": ("Model FLOPs per second", True),
    "slot_mfu_percent": ("Model FLOPs in percent of the peak, padding included", True),
    "useful_mfu_percent": ("Model FLOPs in percent of the peak, of real tokens", True),
    "gradient_norm": ("Gradient norm", True),
    "z_loss": ("Z-loss", True),
    "step_seconds": ("Seconds per step", True),
    "input_wait_seconds": ("Seconds waited for input per step", True),
    "input_wait_percent": ("Input wait in percent of the step", True),
}
_ALWAYS_SHOWN = ("token_accuracy", "learning_rate", "tokens_per_second")
_NUM_OPEN_SAMPLES = 10
_NUM_SAMPLES = 100
_MAX_TREE_DEPTH = 20


def problems(run: Run) -> Markup | None:
    """Returns what of the run could not be read."""
    if not run.problems:
        return None
    entries = (element("li", problem) for problem in run.problems)
    return element("div", element("strong", "Not everything is here"), element("ul", *entries), class_="note")


def curves(run: Run) -> Markup | None:
    """Returns one chart a metric: the loss across the page, the usual ones below, the rest folded away."""
    if not run.has_curves:
        return None
    if not run.metrics:
        return join(element("h3", "Curves"), element("p", "No metrics were logged yet.", class_="muted"))
    train_rows, validation_rows = run.rows("train"), run.rows("validation")
    in_train = {name for row in train_rows for name in row}
    in_validation = {name for row in validation_rows for name in row}
    logged = (in_train | in_validation) - {"step", "split"}
    names = [name for name in _KNOWN_METRICS if name in logged] + sorted(logged - _KNOWN_METRICS.keys())
    lead = next((name for name in ("nats_per_token", "loss") if name in logged), None)

    def metric_chart(name: str, height_pixels: int) -> Markup:
        title, starts_at_zero = _KNOWN_METRICS.get(name, (_words(name), False))
        return chart(
            title,
            [
                Series(name="train", color="first", points=_points(train_rows, name)),
                Series(name="validation", color="second", points=_points(validation_rows, name)),
            ],
            height_pixels=height_pixels,
            reference=_reference(run.evaluation, name),
            starts_at_zero=starts_at_zero,
        )

    shown = [name for name in names if name in _ALWAYS_SHOWN or (name in in_validation and name != "loss")]
    shown = [name for name in shown if name != lead]
    folded = [name for name in names if name not in shown and name != lead]
    charts = [metric_chart(name, 170) for name in shown]
    more = element("div", *(metric_chart(name, 170) for name in folded), class_="charts")
    return join(
        element("h3", "Curves"),
        element(
            "div",
            element("div", metric_chart(lead, 280), class_="wide") if lead else None,
            *charts,
            class_="charts",
        ),
        fold(f"{len(folded)} more curves" if len(folded) > 1 else "One more curve", more) if folded else None,
    )


def scores(run: Run) -> Markup | None:
    """Returns the table of final scores, each beside its baseline and with a verdict."""
    if not run.evaluation:
        return None
    heads = ("Measure", "Value", "Baseline", "Verdict")
    head = element(
        "tr",
        *(element("th", name, scope="col", class_="number" if name == "Value" else None) for name in heads),
    )
    rows = []
    for row in run.evaluation:
        better = "higher is better" if row.higher_is_better else "lower is better"
        baseline = None
        if row.baseline is not None:
            baseline = join(
                element("span", with_unit(row.baseline, row.unit), class_="number"),
                element("small", f" {row.baseline_name or ''}"),
            )
        rows.append(
            element(
                "tr",
                element("th", row.name, " ", element("small", better), scope="row"),
                element("td", with_unit(row.value, row.unit), class_="number"),
                element("td", baseline or NOTHING),
                element(
                    "td", verdict(row, "beats the baseline", "does not beat it") or NOTHING, class_="verdict"
                ),
            )
        )
    table = element("table", element("thead", head), element("tbody", *rows))
    at_step = "" if run.evaluation_step is None or not run.has_curves else f" at step {run.evaluation_step:,}"
    return join(
        element("h3", f"Evaluation{at_step}"),
        element("div", element("div", table, class_="scroll"), class_="card"),
    )


def verdict(row: Score, beats: str, fails: str) -> Markup | None:
    """Returns the words for whether the baseline is beaten, with a mark that does not rest on colour alone."""
    if row.beats_baseline is None:
        return None
    if row.beats_baseline:
        return element("span", f"✓ {beats}", class_="good")
    return element("span", f"✗ {fails}", class_="bad")


def with_unit(value: float, unit: str) -> str:
    """Returns a value and its unit, if it has one: 4.213 nats, 81.30%."""
    return f"{format_value(value)}{'' if unit in ('', '%') else ' '}{unit}"


def samples(run: Run) -> Markup | None:
    """Returns what the model made of single examples, the first few open."""
    if not run.samples:
        return None
    judged = [sample.is_right for sample in run.samples if sample.is_right is not None]
    cards = [_sample(k, sample) for k, sample in enumerate(run.samples[:_NUM_SAMPLES], start=1)]
    told = f"{sum(judged)} of {len(judged)} predictions are exactly the target." if judged else None
    if len(run.samples) > _NUM_SAMPLES:
        told = f"{told or ''} The first {_NUM_SAMPLES} of {len(run.samples):,} are shown.".strip()
    rest = element("div", *cards[_NUM_OPEN_SAMPLES:], class_="samples")
    return join(
        element("h3", "Sample predictions"),
        element("p", told, class_="muted") if told else None,
        element("div", *cards[:_NUM_OPEN_SAMPLES], class_="samples"),
        fold(f"{len(cards) - _NUM_OPEN_SAMPLES} more", rest) if len(cards) > _NUM_OPEN_SAMPLES else None,
    )


def configuration(run: Run) -> Markup | None:
    """Returns the configuration as a tree of field names that folds."""
    if not run.config:
        return None
    tree = element("ul", *_tree_items(run.config, 0), class_="tree")
    return join(element("h3", "Configuration"), element("div", tree, class_="card"))


def environment(run: Run) -> Markup | None:
    """Returns what the run ran on."""
    facts = {
        name: value
        for name, value in run.environment.items()
        if name not in ("num_parameters", "total_seconds")
    }
    if not facts:
        return None
    entries = [
        join(element("dt", _words(name)), element("dd", _plain(value))) for name, value in facts.items()
    ]
    facts_list = element("dl", *entries, class_="facts")
    return join(element("h3", "Environment"), element("div", facts_list, class_="card"))


def fold(summary: str, content: Markup) -> Markup:
    """Returns the content behind a line that opens it."""
    return element("details", element("summary", summary), content, class_="more")


def _points(rows: Sequence[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), row[name]) for row in rows if name in row]


def _reference(evaluation: Sequence[Score], metric: str) -> Reference | None:
    """Returns the baseline of the score that is named as the metric, `held-out nats per token` as `nats_per_token`."""
    for row in evaluation:
        name = re.sub(r"[\W_]+", "_", row.name.lower()).removeprefix("held_out_").removeprefix("validation_")
        if name == metric and row.baseline is not None:
            return Reference(name=row.baseline_name or "baseline", value=row.baseline)
    return None


def _sample(number: int, sample: Sample) -> Markup:
    state = {True: "right", False: "wrong", None: None}[sample.is_right]
    mark = None
    if state is not None:
        text, color = ("✓ right", "good") if sample.is_right else ("✗ wrong", "bad")
        mark = element("span", text, class_=f"mark {color}")
    fields = [("Input", sample.inputs), ("Target", sample.targets), ("Prediction", sample.prediction)]
    entries = [
        join(element("dt", name), element("dd", _with_sentinels(text) if text else NOTHING, dir="auto"))
        for name, text in fields
        if text or name == "Prediction"
    ]
    head = element("header", element("h4", sample.title or f"Example {number}"), mark)
    return element("article", head, element("dl", *entries), class_=f"sample {state}" if state else "sample")


def _with_sentinels(text: str) -> Markup:
    parts = re.split(r"(<extra_id_\d+>)", text)
    return join(
        *(element("span", part[1:-1], class_="sentinel") if k % 2 else part for k, part in enumerate(parts))
    )


def _tree_items(value: dict[str, object] | list[object], depth: int) -> list[Markup]:
    pairs = value.items() if isinstance(value, dict) else ((f"{k}", child) for k, child in enumerate(value))
    return [_tree_item(name, child, depth) for name, child in pairs if name != "__class__"]


def _tree_item(name: str, value: object, depth: int) -> Markup:
    field = element("span", name, class_="field")
    class_name = element("span", short_class(value), class_="class") if short_class(value) else None
    if isinstance(value, list) and not any(isinstance(child, dict | list) for child in value):
        return element("li", field, element("code", _plain(value)), class_="leaf")
    if isinstance(value, dict | list) and depth < _MAX_TREE_DEPTH:
        items = _tree_items(value, depth + 1)
        if not items:
            return element("li", field, class_name or element("code", "{}"), class_="leaf")
        return element(
            "li",
            element(
                "details",
                element("summary", field, class_name),
                element("ul", *items),
                open=depth == 0 or None,
            ),
            class_="branch",
        )
    return element("li", field, element("code", _plain(value)), class_="leaf")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(name: str) -> str:
    return name.replace("_", " ")
