"""The page is whole, inert and self-contained whatever the workdir holds, and its charts tell what was logged."""

import html.parser
import itertools
import json
import math
import pathlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.metrics_log import MetricsLog
from t5like.report import write_report
from t5like.report.charts import Reference, Series, chart, nice_ticks, thin, tick_labels
from t5like.report.format import format_count, format_duration, format_value
from t5like.report.markup import element

DRAWABLE = st.floats(-1e15, 1e15, allow_nan=False)
SCORE = {"name": "held-out nats per token", "value": 3.1, "unit": "nats"}
BASELINE = {"baseline": 6.9, "baseline_name": "unigram entropy", "higher_is_better": False}


class Page(html.parser.HTMLParser):
    """The tags with the names of their attributes, the attributes and the text of a page; tags must balance."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data


def make_workdir(
    folder: pathlib.Path, kind: str, *, init: str | None = None, text: str = "plain"
) -> pathlib.Path:
    """Writes a workdir with every piece; `text` goes wherever a workdir has text."""
    with MetricsLog(folder, resume_step=None) as log:
        for step in range(50, 3050, 50):
            loss = 3 + 6 * math.exp(-step / 500)
            train = {"loss": loss, "nats_per_token": loss, "learning_rate": 0.01, text: 1.0}
            log.write(
                "train",
                step,
                train | {"tokens_per_second": 1000.0, "step_seconds": 0.5} | {"input_wait_seconds": 0.01},
            )
            if step % 1000 == 0:
                log.write("validation", step, {"nats_per_token": loss + 0.1, "token_accuracy": 0.375})
    pieces = {
        "config": {"__class__": f"t5like.config.{kind}", "init": init, "name": text}
        | {"model": {"__class__": "t5like.models.Transformer", text: [text, {"__class__": f"{text}X"}]}},
        "evaluation": {
            "step": 3000,
            "rows": [SCORE | BASELINE, SCORE | BASELINE | {"name": f"{text} score", "unit": text}],
        },
        "samples": [{"inputs": text, "targets": text, "prediction": text, "title": text}],
        "run": {"num_parameters": 60506624, "total_seconds": 100, "device": text, text: text},
    }
    for name, piece in pieces.items():
        (folder / f"{name}.json").write_text(json.dumps(piece))
    return folder


def read_page(workdir: pathlib.Path) -> Page:
    return Page(write_report(workdir).read_text("utf-8"))


def test_a_page_is_whole_self_contained_and_the_same_each_time(tmp_path):
    workdir = make_workdir(tmp_path / "books", "Pretrain")
    source = write_report(workdir).read_text("utf-8")
    page = Page(source)
    assert not re.search(r"https?:|src=|href=|@import|url\(", source)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, *_ in page.tags}
    for told in (
        "Pretraining: books",
        "60.5 M",
        "✓ beats unigram entropy 6.900 nats",
        "1 min 40 s",
        "2 %",
        "✓ right",
    ):
        assert told in page.text
    # 60 rows stand for 50 steps each, of 0.5 s at 1,000 tokens/s.
    assert "≈ 1.50 M" in page.text
    assert "t5like.models" not in page.text
    assert "Transformer" in page.text
    assert write_report(workdir).read_text("utf-8") == source
    assert not list(workdir.glob("*.tmp"))


NASTY = (
    "<script>alert(1)</script>",
    "</style><b>",
    "\"'><img src=x onerror=y>",
    "&lt;",
    "]]>",
    "\x00\x1b",
    "\ud800",
)


@pytest.fixture(scope="module")
def plain_tags(tmp_path_factory) -> list[tuple[str, ...]]:
    return read_page(make_workdir(tmp_path_factory.mktemp("plain"), "Pretrain")).tags


@given(text=(st.text(max_size=20) | st.sampled_from(NASTY)).map(lambda text: f"a{text}"))
@settings(deadline=None, max_examples=25)
def test_no_text_of_a_workdir_becomes_markup(tmp_path_factory, plain_tags, text):
    page = read_page(make_workdir(tmp_path_factory.mktemp("run"), "Pretrain", text=text))
    assert page.tags == plain_tags
    if text.isprintable():
        assert page.text.count(text) > 10


def test_markup_in_text_is_escaped_once():
    inner = element("b", "x < y & z")
    assert element("p", inner, 'say "hi"', class_="a", title='"') == (
        '<p class="a" title="&quot;"><b>x &lt; y &amp; z</b>say &quot;hi&quot;</p>'
    )


def test_a_fine_tuned_run_shows_where_it_came_from_first(tmp_path):
    make_workdir(tmp_path / "books", "Pretrain")
    for init in (str(tmp_path / "books"), "books"):
        page = read_page(make_workdir(tmp_path / "rte", "Finetune", init=init))
        assert "Fine-tuning: rte" in page.text
        heads = [page.text.index(head) for head in ("Pretrainingbooks", "Fine-tuningCurves")]
        assert heads == sorted(heads)
        assert "Not everything" not in page.text


@pytest.mark.parametrize(
    ("init", "is_named"), [(None, False), ("nowhere", True), ("rte", False), ("a\x00b", True)]
)
def test_a_run_without_an_earlier_one_stands_alone(tmp_path, init, is_named):
    page = read_page(make_workdir(tmp_path / "rte", "Finetune", init=init))
    assert ("its curves are not shown" in page.text) == is_named
    assert "Pretraining" not in page.text


FILES = ("config.json", "metrics.jsonl", "evaluation.json", "samples.json", "run.json")


ALWAYS_BROKEN = (None, "{\n", "3\n", '"text"\n', "[3]\n", "[" * 10**5 + "\n", "\udcff\n")
BROKEN = [(file, content) for file in FILES for content in ALWAYS_BROKEN] + [
    ("metrics.jsonl", '{"step": 1, "split": "train", "loss": "low"}\n'),
    ("evaluation.json", '{"step": 1, "rows": [3]}'),
    ("evaluation.json", '{"step": NaN, "rows": []}'),
    ("evaluation.json", '{"step": Infinity, "rows": []}'),
    ("samples.json", '[{"inputs": 3, "targets": "", "prediction": ""}]'),
    ("run.json", '{"num_parameters": "many"}'),
]


@pytest.mark.parametrize(("file", "content"), BROKEN)
def test_a_broken_piece_is_named_and_the_rest_is_there(tmp_path, file, content):
    workdir = make_workdir(tmp_path / "books", "Pretrain")
    (workdir / file).unlink()
    if content is not None:
        (workdir / file).write_text(content, errors="surrogateescape")
    page = read_page(workdir)
    assert file in page.text
    shown = {
        "config.json": "Transformer",
        "metrics.jsonl": "Real tokens per second",
        "evaluation.json": "Verdict",
        "samples.json": "✓ right",
        "run.json": "Environment",
    }
    assert {name for name, sign in shown.items() if sign not in page.text} == {file}


def test_a_page_can_be_written_while_the_log_is(tmp_path):
    row = '{"step": 1, "split": "train", "loss": 2.5}\n'
    for log in (row + '{"step": 2, "spl', '{"step": 1, "spl'):
        (tmp_path / "metrics.jsonl").write_text(log)
        page = read_page(tmp_path)
        assert "metrics.jsonl" not in page.text
        assert ("train 2.500" in page.text) == log.startswith(row)
        assert ("No metrics were logged yet" in page.text) != log.startswith(row)


def test_an_empty_folder_gives_a_page_and_no_folder_an_error(tmp_path):
    page = read_page(tmp_path)
    assert all(file in page.text for file in FILES)
    assert "No metrics were logged yet" in page.text
    with pytest.raises(UserError, match="is not a folder"):
        write_report(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("value", "higher_is_better", "mark"),
    [(1.0, True, "✓"), (0.5, True, "✗"), (0.2, False, "✓"), ("NaN", False, "✗")],
)
def test_only_what_is_strictly_better_beats_the_baseline(tmp_path, value, higher_is_better, mark):
    row = {"name": "a", "value": value, "unit": "", "baseline": 0.5, "baseline_name": None}
    evaluation = {"step": 1, "rows": [row | {"higher_is_better": higher_is_better}]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    text = read_page(tmp_path).text
    assert [sign for sign in "✓✗" if sign in text] == [mark]


def test_thin_example():
    points = [(0, 5.0), (1, 9.0), (2, 4.0), (3, 6.0), (4, 2.0), (5, 3.0)]
    assert thin(points, 4) == [(0, 5.0), (1, 9.0), (4, 2.0), (5, 3.0)]


@given(values=st.lists(DRAWABLE, max_size=300), limit=st.integers(4, 60))
@settings(deadline=None, max_examples=50)
def test_thinning_keeps_order_ends_and_extremes(values, limit):
    points = list(enumerate(values))
    thinned = thin(points, limit)
    assert len(thinned) <= limit
    assert thinned == [point for point in points if point in set(thinned)]
    if points:
        assert (thinned[0], thinned[-1]) == (points[0], points[-1])
        kept = [value for _, value in thinned]
        assert (min(kept), max(kept)) == (min(values), max(values))


@given(ends=st.tuples(DRAWABLE, DRAWABLE).map(sorted))
@settings(deadline=None, max_examples=100)
def test_ticks_are_even_round_and_around_the_values(ends):
    low, high = ends
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 9
    slack = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-3)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 14


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (2.9, 9.7, ["2", "4", "6", "8", "10"]),
        (0, 0.01, ["0", "0.002", "0.004", "0.006", "0.008", "0.010"]),
        (0, 5e-4, ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]),
        (0, 20000, ["0", "5k", "10k", "15k", "20k"]),
        (0, 1200, ["0", "200", "400", "600", "800", "1,000", "1,200"]),
        (-1, 1, ["\u22121.0", "\u22120.5", "0", "0.5", "1.0"]),
        (3, 3, ["2.7", "2.8", "2.9", "3.0", "3.1", "3.2", "3.3"]),
    ],
)
def test_ticks_read_well(low, high, labels):
    assert tick_labels(nice_ticks(low, high)) == labels


def draw(values: list[float], **options: object) -> str:
    series = Series(name="train", color="first", points=list(enumerate(values)))
    defaults = {"height_pixels": 100, "reference": None, "starts_at_zero": True}
    return chart("Loss", [series], **(defaults | options))


def test_a_chart_puts_points_where_they_are():
    drawn = draw([0.0, 5.0, 10.0])
    assert 'd="M0.0 100.0L500.0 50.0L1000.0 0.0"' in drawn
    assert "<title>step 1\ntrain 5.000</title>" in drawn
    assert 'aria-label="Loss: train from 0 at step 0 to 10.00 at step 2"' in drawn
    assert "unigram 12.00" in draw([0.0, 10.0], reference=Reference(name="unigram", value=12.0))


def test_a_chart_counts_what_it_cannot_draw_and_tells_a_divergence():
    drawn = draw([1.0, math.inf, 2.0, math.nan])
    assert "2 not finite and not drawn" in drawn
    assert "train not a number" in drawn
    assert "<svg" not in draw([math.nan])


@given(values=st.lists(st.floats(), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_any_numbers_make_a_chart_that_stays_in_its_box(values):
    drawn = draw(values)
    Page(drawn)
    places = [float(y) for y in re.findall(r"[ML]-?[\d.]+ (-?[\d.]+)", drawn)]
    assert all(-0.1 <= y <= 100.1 for y in places)
    assert "nan" not in drawn


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (format_value(0.43125), "0.4313"),
        (format_value(4.3214), "4.321"),
        (format_value(-81.3), "\u221281.30"),
        (format_value(12345.6), "12,346"),
        (format_value(0.000043), "4.3e-5"),
        (format_count(60506624), "60.5 M"),
        (format_count(812), "812"),
        (format_duration(48), "48 s"),
        (format_duration(1893), "31 min"),
        (format_duration(12000), "3 h 20 min"),
        (format_duration(187200), "2 d 4 h"),
    ],
)
def test_numbers_read_well(told, text):
    assert told == text
