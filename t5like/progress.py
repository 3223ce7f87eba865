"""How far a run is and when it will end: a live bar on a terminal, and a line now and then anywhere else."""

import collections
import time
from collections.abc import Callable, Mapping
from typing import Self

import rich.progress
from rich.console import Console

_SHOWN_WAIT_PERCENT = 2.0
LINE_EVERY_SECONDS = 10.0
RECENT_SECONDS = 120.0


class Pace:
    """Seconds a step takes of late: over the last `RECENT_SECONDS`, or the last two updates where they span more.

    The first update only starts the clock, so neither the steps before a restart nor the time spent compiling
    before the first step counts.
    """

    def __init__(self) -> None:
        self._updates: collections.deque[tuple[float, int]] = collections.deque()

    def add(self, now_seconds: float, step: int) -> None:
        """Notes that `step` was reached at `now_seconds`."""
        self._updates.append((now_seconds, step))
        while len(self._updates) > 2 and self._updates[1][0] <= now_seconds - RECENT_SECONDS:
            self._updates.popleft()

    def seconds_for(self, num_steps: int) -> float | None:
        """Returns the seconds that `num_steps` more steps will take, None before two steps were seen."""
        if not self._updates:
            return None
        (first_time, first_step), (last_time, last_step) = self._updates[0], self._updates[-1]
        if last_step <= first_step:
            return None
        return max(0, num_steps) * (last_time - first_time) / (last_step - first_step)


class Progress:
    """The progress of one run on standard error; a context manager, whatever way the run ends."""

    def __init__(
        self,
        total_steps: int,
        *,
        description: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Shows nothing yet; entering the context does.

        Args:
          total_steps: the step at which the run ends.
          description: what is running, in a word or three.
          console: where to write; standard error where None. Whether it is a terminal decides between bar and lines.
          clock: seconds that only grow.
        """
        self._total_steps = total_steps
        self._description = description
        self._console = console if console is not None else Console(stderr=True)
        self._clock = clock
        self._pace = Pace()
        self._line_due_seconds = clock()
        self._unprinted: str | None = None
        self._bar: rich.progress.Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = _make_bar(self._console)
            facts = {"loss": "", "rate": "", "eta": "starting"}
            self._task = self._bar.add_task(description, total=total_steps, facts=facts)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._unprinted is not None:
            self._print(self._unprinted)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows that `step` of the run is done.

        Args:
          step: number of updates behind the current state.
          metrics: host numbers; `loss` and `tokens_per_second` (padding not counted) are shown where present, and
            `input_wait_percent` where it is so much that the data hold the run up.
        """
        now = self._clock()
        self._pace.add(now, step)
        facts = self._facts(step, metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, facts=facts)
            return
        percent = 100 * step / max(1, self._total_steps)
        count = f"{step:,}/{self._total_steps:,}  {percent:.0f}%"
        line = "  ".join(filter(None, (self._description, count, *facts.values())))
        if now >= self._line_due_seconds or step >= self._total_steps:
            self._print(line)
            self._line_due_seconds = now + LINE_EVERY_SECONDS
        else:
            self._unprinted = line

    def note(self, text: str) -> None:
        """Prints a line that stays, above the bar where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _facts(self, step: int, metrics: Mapping[str, float]) -> dict[str, str]:
        left_seconds = self._pace.seconds_for(self._total_steps - step)
        rate = metrics.get("tokens_per_second")
        waited = metrics.get("input_wait_percent", 0.0)
        waiting = f", {waited:.0f} % waiting for data" if waited >= _SHOWN_WAIT_PERCENT else ""
        return {
            "loss": f"loss {metrics['loss']:.4f}" if "loss" in metrics else "",
            "rate": f"{rate:,.0f} tokens/s{waiting}" if rate is not None else "",
            "eta": f"ETA {'-' if left_seconds is None else format_clock(left_seconds)}",
        }

    def _print(self, line: str) -> None:
        self._unprinted = None
        self.note(line)


def format_clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds with hours and days as needed: 5:07, 1:05:07, 2d 03:05:07."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _make_bar(console: Console) -> rich.progress.Progress:
    def column(text: str, style: str) -> rich.progress.TextColumn:
        return rich.progress.TextColumn(text, style=style, markup=False)

    return rich.progress.Progress(
        column("{task.description}", "bold"),
        rich.progress.BarColumn(bar_width=None),
        column("{task.completed:,.0f}/{task.total:,.0f}", "progress.download"),
        column("{task.fields[facts][loss]}", "bold"),
        column("{task.fields[facts][rate]}", "progress.data.speed"),
        column("{task.fields[facts][eta]}", "progress.remaining"),
        console=console,
        expand=True,
        refresh_per_second=4,
    )
