"""What is shown while a run runs: humane off a terminal, complete on one, honest about the time left."""

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from t5like.progress import LINE_EVERY_SECONDS, RECENT_SECONDS, Pace, Progress, format_clock


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def open_progress(total_steps: int, *, is_terminal: bool) -> tuple[Progress, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    # An empty environment keeps a developer's NO_COLOR, COLUMNS and TERM out of the test.
    environment = {"TERM": "xterm"}
    console = Console(file=stream, force_terminal=is_terminal, width=100, _environ=environment)
    return Progress(total_steps, description="[pretrain]", console=console, clock=clock), stream, clock


@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60))
@settings(deadline=None, max_examples=50)
def test_lines_are_apart_except_the_last_and_the_last_is_always_there(gaps):
    progress, stream, clock = open_progress(len(gaps), is_terminal=False)
    times = []
    with progress:
        for step, gap in enumerate(gaps, start=1):
            clock.seconds += gap
            before = stream.tell()
            progress.update(step, {"loss": 1.0})
            if stream.tell() > before:
                times.append(clock.seconds)
        told_before_the_end = stream.getvalue()
    assert stream.getvalue() == told_before_the_end
    lines = stream.getvalue().splitlines()
    waits = [late - early for early, late in itertools.pairwise(times)]
    assert all(wait >= LINE_EVERY_SECONDS for wait in waits[:-1])
    assert lines[0].startswith("[pretrain]  1/")
    assert lines[-1].startswith(f"[pretrain]  {len(gaps)}/{len(gaps)}  100%")
    assert len(lines) == len(set(lines))


def test_a_line_holds_the_facts():
    progress, stream, clock = open_progress(2000, is_terminal=False)
    with progress:
        progress.update(1000, {"loss": 2.5, "tokens_per_second": 12345.6})
        clock.seconds += 20
        progress.update(1010, {"loss": 2.25, "tokens_per_second": 12345.6, "accuracy": 0.5})
    assert stream.getvalue().splitlines() == [
        "[pretrain]  1,000/2,000  50%  loss 2.5000  12,346 tokens/s  ETA -",
        "[pretrain]  1,010/2,000  50%  loss 2.2500  12,346 tokens/s  ETA 33:00",
    ]


def test_an_interrupt_passes_through_and_the_last_state_is_told():
    progress, stream, clock = open_progress(100, is_terminal=False)
    with pytest.raises(KeyboardInterrupt), progress:  # noqa: PT012
        progress.update(1, {})
        clock.seconds += 1
        progress.update(2, {})
        raise KeyboardInterrupt
    assert stream.getvalue().splitlines()[-1].startswith("[pretrain]  2/100")


def test_a_terminal_gets_a_bar_with_notes_above_and_its_cursor_back():
    progress, stream, clock = open_progress(100, is_terminal=True)
    with pytest.raises(KeyboardInterrupt), progress:  # noqa: PT012
        progress.update(40, {"loss": 2.5, "tokens_per_second": 1234.0})
        clock.seconds += 6
        progress.update(50, {"loss": 2.25, "tokens_per_second": 1234.0})
        progress.note("[checkpoint] 50")
        raise KeyboardInterrupt
    shown = stream.getvalue()
    for fact in ("[pretrain]", "50/100", "loss 2.2500", "1,234 tokens/s", "ETA 0:30", "[checkpoint] 50\n"):
        assert fact in shown
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert shown.rindex(hide) < shown.rindex(show)


@given(
    start=st.integers(0, 10**6),
    slow=st.floats(1, 50),
    fast=st.floats(0.01, 1),
    left=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=50)
def test_time_left_follows_the_recent_pace_wherever_the_run_started(start, slow, fast, left):
    pace, now, step = Pace(), 0.0, start
    pace.add(now, step)
    assert pace.seconds_for(left) is None
    for seconds in [slow] * 5 + [fast] * (int(RECENT_SECONDS / fast) + 2):
        now, step = now + seconds, step + 1
        pace.add(now, step)
    assert pace.seconds_for(left) == pytest.approx(left * fast, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (307.4, "5:07"), (3599.6, "1:00:00"), (183907, "2d 03:05:07")]
)
def test_clock(seconds, text):
    assert format_clock(seconds) == text


def test_waiting_for_data_is_shown_where_it_holds_the_run_up() -> None:
    for percent, shown in ((0.4, False), (31.0, True)):
        console = Console(file=io.StringIO(), width=200)
        with Progress(10, description="pretrain", console=console) as progress:
            progress.update(10, {"tokens_per_second": 5.0, "input_wait_percent": percent})
        assert ("5 tokens/s, 31 % waiting for data" in console.file.getvalue()) is shown
