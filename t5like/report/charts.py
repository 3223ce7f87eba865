"""Line charts as inline SVG that stretch to any width while text and strokes keep their size.

An outer drawing without a view box holds text and grid, placed across in percent and down in pixels; an inner one
with a view box of its own, stretched freely, holds the curves.
"""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from t5like.report.format import MINUS, format_scientific, format_value
from t5like.report.markup import Markup, element, join

MAX_POINTS = 1000
MAX_HOVER_BANDS = 120
_MAX_DOTS = 60
_WIDTH = 1000
_UNDRAWABLE = 1e15

Point = tuple[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One curve; points are in the order of their steps, and `color` is the name of a colour in the style sheet."""

    name: str
    color: Literal["first", "second"]
    points: Sequence[Point]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A level drawn across the chart for comparison."""

    name: str
    value: float


def chart(
    title: str,
    all_series: Sequence[Series],
    *,
    height_pixels: int,
    reference: Reference | None,
    starts_at_zero: bool,
) -> Markup:
    """Returns a figure: title, legend with last values, curves over steps, and what is under the pointer.

    Args:
      title: what is measured, and in what unit.
      all_series: the curves; values that are not finite are left out, and counted below the chart.
      height_pixels: height of the drawing without the labels below it.
      reference: level to compare with, None for none.
      starts_at_zero: whether zero is on the axis even where no value is near it.
    """
    drawn = [dataclasses.replace(series, points=_drawable(series.points)) for series in all_series]
    drawn = [series for series in drawn if series.points]
    # The last value as logged, not as drawn: a run that diverged says so.
    legend = [_legend_entry(series) for series in all_series if series.points]
    if reference is not None:
        told = f"{reference.name} {format_value(reference.value)}"
        legend.append(element("span", told, class_="key reference"))
    if num_left_out := _num_points(all_series) - _num_points(drawn):
        legend.append(element("span", f"{num_left_out} not finite and not drawn"))
    caption = element("figcaption", element("h4", title), element("p", *legend, class_="legend"))
    if not drawn:
        return element("figure", caption, class_="chart")
    values = [value for series in drawn for _, value in series.points]
    levels = [*values, *([] if reference is None else [reference.value]), *([0.0] if starts_at_zero else [])]
    y_ticks = nice_ticks(min(levels), max(levels))
    first_step = min(series.points[0][0] for series in drawn)
    last_step = max(series.points[-1][0] for series in drawn)
    scale = _Scale(
        # A log that starts after its first steps still starts at zero for the reader, so charts of a run line up.
        first_step=0 if first_step < 0.1 * last_step else first_step,
        last_step=last_step,
        low=y_ticks[0],
        high=y_ticks[-1],
        height_pixels=height_pixels,
    )
    drawing = element(
        "svg",
        *_grid(scale, y_ticks),
        None if reference is None else _level(scale, reference),
        _curves(scale, drawn),
        *_hover_bands(scale, drawn),
        role="img",
        aria_label=f"{title}: " + "; ".join(_summary(series) for series in drawn),
        width="100%",
        height=height_pixels,
    )
    return element("figure", caption, element("div", drawing, class_="plot"), class_="chart")


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """Returns at most `limit` of the points, in order: the ends, and the lowest and highest of each equal stretch.

    With limit 4 there is one stretch between the ends:

        steps   0  1  2  3  4  5           0  1  4  5
        values  5  9  4  6  2  3    ->     5  9  2  3
    """
    if len(points) <= limit:
        return list(points)
    num_stretches = (limit - 2) // 2
    inner = range(1, len(points) - 1)
    kept = {0, len(points) - 1}
    for k in range(num_stretches):
        stretch = inner[k * len(inner) // num_stretches : (k + 1) * len(inner) // num_stretches]
        kept.add(min(stretch, key=lambda i: points[i][1]))
        kept.add(max(stretch, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns 2 to 9 evenly spaced multiples of 1, 2 or 5 times a power of ten, from at or below low to at or above high.

    Where low and high are the same, as numbers go, room is made around them.
    """
    size = max(abs(low), abs(high))
    if size < 1e-30:
        low, high = 0.0, 1.0
    elif high - low < 1e-9 * size:
        low, high = low - 0.1 * size, high + 0.1 * size
    rough = (high - low) / 6
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    num_decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [round(k * step, num_decimals) for k in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Returns short labels for evenly spaced ticks, with no more digits than tell them apart."""
    size = max(abs(tick) for tick in ticks)
    spacing = ticks[1] - ticks[0] if len(ticks) > 1 else size or 1.0
    if 0 < size < 1e-3:
        return ["0" if tick == 0 else format_scientific(tick) for tick in ticks]
    unit, suffix = next(
        (
            pair
            for pair in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
            if size >= 10 * pair[0] or size == pair[0]
        ),
        (1.0, ""),
    )
    num_decimals = max(0, -math.floor(math.log10(spacing / unit) + 1e-9))
    return [
        "0" if tick == 0 else f"{tick / unit:,.{num_decimals}f}{suffix}".replace("-", MINUS) for tick in ticks
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scale:
    first_step: int
    last_step: int
    low: float
    high: float
    height_pixels: int

    def across(self, step: float) -> float:
        """Returns where a step lies, from 0 on the left to 1 on the right."""
        return (step - self.first_step) / ((self.last_step - self.first_step) or 1)

    def down(self, value: float) -> float:
        """Returns where a value lies, in pixels from the top."""
        return (self.high - value) / (self.high - self.low) * self.height_pixels


def _drawable(points: Sequence[Point]) -> list[Point]:
    return [(step, value) for step, value in points if math.isfinite(value) and abs(value) < _UNDRAWABLE]


def _num_points(all_series: Sequence[Series]) -> int:
    return sum(len(series.points) for series in all_series)


def _legend_entry(series: Series) -> Markup:
    return element(
        "span", f"{series.name} {format_value(series.points[-1][1])}", class_=f"key {series.color}"
    )


def _summary(series: Series) -> str:
    (first_step, first), (last_step, last) = series.points[0], series.points[-1]
    return (
        f"{series.name} from {format_value(first)} at step {first_step:,} "
        f"to {format_value(last)} at step {last_step:,}"
    )


def _grid(scale: _Scale, y_ticks: Sequence[float]) -> list[Markup]:
    parts = []
    for tick, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
        y = f"{scale.down(tick):.1f}"
        parts.append(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(element("text", label, x="-8", y=y, dy="0.35em", text_anchor="end"))
    steps = nice_ticks(scale.first_step, max(scale.last_step, scale.first_step + 1))
    shown = [step for step in steps if scale.first_step <= step <= scale.last_step and step == int(step)]
    for tick, label in zip(shown, tick_labels(shown) if shown else [], strict=True):
        x = f"{100 * scale.across(tick):.2f}%"
        parts.append(element("text", label, x=x, y=scale.height_pixels + 18, text_anchor="middle"))
    return parts


def _level(scale: _Scale, reference: Reference) -> Markup:
    y = f"{scale.down(reference.value):.1f}"
    title = element("title", f"{reference.name} {format_value(reference.value)}")
    return element("line", title, x1="0", x2="100%", y1=y, y2=y, class_="reference")


def _curves(scale: _Scale, all_series: Sequence[Series]) -> Markup:
    thinned = (dataclasses.replace(series, points=thin(series.points, MAX_POINTS)) for series in all_series)
    return element(
        "svg",
        *(_curve(scale, series) for series in thinned),
        viewBox=f"0 0 {_WIDTH} {scale.height_pixels}",
        preserveAspectRatio="none",
        width="100%",
        height=scale.height_pixels,
    )


def _curve(scale: _Scale, series: Series) -> Markup:
    places = [f"{_WIDTH * scale.across(step):.1f} {scale.down(value):.1f}" for step, value in series.points]
    line = element("path", d="M" + "L".join(places), class_=f"curve {series.color}")
    if len(places) > _MAX_DOTS:
        return line
    # A stroke of no length with round ends is a dot that stays round however the drawing is stretched.
    dots = element("path", d="".join(f"M{place}h0" for place in places), class_=f"dots {series.color}")
    return join(line, dots)


def _hover_bands(scale: _Scale, all_series: Sequence[Series]) -> list[Markup]:
    """Returns strips that tile the chart, each telling the values at one step while the pointer is in it."""
    longest = max(all_series, key=lambda series: len(series.points))
    steps = sorted({step for step, _ in thin(longest.points, MAX_HOVER_BANDS)})
    places = [scale.across(step) for step in steps]
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(places)), 1.0]
    bands = []
    for step, place, left, right in zip(steps, places, edges[:-1], edges[1:], strict=True):
        lines = [f"step {step:,}", *(_value_near(series, step) for series in all_series)]
        x = f"{100 * place:.2f}%"
        band = element(
            "g",
            element("title", "\n".join(lines)),
            element(
                "rect",
                x=f"{100 * left:.2f}%",
                y="0",
                width=f"{100 * (right - left):.2f}%",
                height=scale.height_pixels,
            ),
            element("line", x1=x, x2=x, y1="0", y2=scale.height_pixels),
            class_="band",
        )
        bands.append(band)
    return bands


def _value_near(series: Series, step: int) -> str:
    """Returns the value of a series at a step, or at its nearest step, named where it is another."""
    after = bisect.bisect_left(series.points, step, key=lambda point: point[0])
    near = min(series.points[max(0, after - 1) : after + 1], key=lambda point: abs(point[0] - step))
    elsewhere = "" if near[0] == step else f" (step {near[0]:,})"
    return f"{series.name} {format_value(near[1])}{elsewhere}"
