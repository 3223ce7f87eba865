"""The results of a benchmark: what each run scored, and means over seeds and tasks.

A run as it is kept:

{"task": "glue/mrpc", "seed": 0, "step": 230, "seconds": 99.5, "is_majority": false, "splits": {"validation": {
    "num_examples": 408, "metrics": {"f1": 88.1, "accuracy": 83.3}, "invalid_rate": 0.0,
    "intervals": {"f1": [85.2, 90.8], ...}, "baselines": {"f1": 81.2, "accuracy": 68.4}}}}
"""

import collections
import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence

from t5like.errors import UserError
from t5like.tasks.base import Answer, Example, Task, constant_answer, score
from t5like.tasks.intervals import interval
from t5like.tasks.suites import Suite, SuiteTask
from t5like.whole_files import write_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitScores:
    """What a model scored on one split; all figures in percent.

    Attributes:
      num_examples: of the split.
      metrics: the task's, by name.
      intervals: metric -> (low, high), within which 95 % of its values on resamples of the examples lie.
      baselines: metric -> what the best single answer to everything scores; empty where there is none.
      invalid_rate: answers that are no label or number; None where any answer is one.
    """

    num_examples: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    invalid_rate: float | None = None

    @property
    def mean(self) -> float:
        """What counts in averages: the mean of the metrics."""
        return statistics.fmean(self.metrics.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedResult:
    """What one run of one task gave.

    Attributes:
      task: its name.
      seed: of the run.
      step: of the checkpoint that was chosen.
      seconds: the run took, evaluation included; 0 where another task's model answered, or of a mixture another has the time.
      splits: what it scored, by split.
      is_majority: no model answered, but the majority class.
    """

    task: str
    seed: int
    step: int
    seconds: float
    splits: Mapping[str, SplitScores]
    is_majority: bool = False

    @property
    def mean(self) -> float:
        """What counts in averages: the mean over splits, of MNLI matched and mismatched."""
        return statistics.fmean(scores.mean for scores in self.splits.values())


def split_scores(task: Task, examples: Sequence[Example], answers: Sequence[Answer]) -> SplitScores:
    """Returns what answers to a split score, with intervals and the baseline of the majority class.

    Raises:
      UserError: there are no examples, or their answers are not published.
    """
    scores = score(task, examples, answers)
    constant = constant_answer(task, examples)
    baselines = {} if constant is None else score(task, examples, [constant] * len(examples))
    names = [metric.name for metric in task.metrics]
    intervals = {}
    for metric in task.metrics:
        low, high = interval(metric, examples, answers)
        intervals[metric.name] = 100 * low, 100 * high
    return SplitScores(
        num_examples=len(examples),
        metrics={name: scores[name] for name in names},
        intervals=intervals,
        baselines={name: baselines[name] for name in names if name in baselines},
        invalid_rate=scores.get("invalid_rate"),
    )


def write_seed_result(path: pathlib.Path, result: SeedResult) -> None:
    """Writes a result as JSON, whole or not at all."""
    write_text(path, json.dumps(dataclasses.asdict(result), indent=2, allow_nan=False) + "\n")


def read_seed_result(path: pathlib.Path) -> SeedResult:
    """Returns a result that `write_seed_result` wrote.

    Raises:
      UserError: it cannot be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        splits = {split: _checked(SplitScores(**scores)) for split, scores in fields.pop("splits").items()}
        result = SeedResult(**fields, splits=splits)
        if not splits or [*map(type, (result.seed, result.step, result.is_majority))] != [int, int, bool]:
            raise ValueError("it has no scores, or a value of another type")
        return dataclasses.replace(result, seconds=_number(result.seconds))
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}): delete it, and the run is made again."
        ) from error


def _checked(scores: SplitScores) -> SplitScores:
    """Returns scores that were read, if all of them are numbers.

    Raises:
      ValueError, TypeError, AttributeError: they are not.
    """
    if not scores.metrics:
        raise ValueError("there are no metrics")
    return dataclasses.replace(
        scores,
        metrics={metric: _number(value) for metric, value in scores.metrics.items()},
        intervals={metric: (_number(low), _number(high)) for metric, (low, high) in scores.intervals.items()},
        baselines={metric: _number(value) for metric, value in scores.baselines.items()},
        invalid_rate=None if scores.invalid_rate is None else _number(scores.invalid_rate),
    )


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(number := float(value)):  # type: ignore[arg-type]
        raise ValueError(f"{value!r:.40} is no number")
    return number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: one metric of one split, over all seeds.

    Attributes:
      title: of task and split.
      mean, sd: of the metric; the sample standard deviation, None of one seed.
      interval: means of the low and the high ends.
      seconds: mean of a run; 0 for splits after a task's first.
    """

    title: str
    metric: str
    mean: float
    sd: float | None
    interval: tuple[float, float] | None
    baseline: float | None
    invalid_rate: float | None
    num_seeds: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average:
    """A mean over tasks.

    Attributes:
      title: which tasks it is of.
      sd: the sample standard deviation over seeds; None of one seed, or where tasks ran with others.
    """

    title: str
    mean: float
    sd: float | None
    num_tasks: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteResults:
    """All that is known of a benchmark.

    Attributes:
      suite: the tasks there are; runs of others are shown and not averaged.
      runs: at most one of each task and seed.
      conditions: what else to say, in the order to say it: init, hardware, versions.
    """

    suite: Suite
    runs: Sequence[SeedResult]
    conditions: Mapping[str, str]

    def __post_init__(self) -> None:
        counts = collections.Counter((run.task, run.seed) for run in self.runs)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"there are several runs of {twice[0]}")

    def runs_of(self, task: str) -> list[SeedResult]:
        """Returns the runs of a task, by seed."""
        return sorted((run for run in self.runs if run.task == task), key=lambda run: run.seed)

    @property
    def rows(self) -> list[Row]:
        """The table, in the order of the suite."""
        known = {task.task: task.title for task in self.suite.tasks}
        others = dict.fromkeys(run.task for run in self.runs if run.task not in known)
        titles = known | {task: task for task in others}
        return [row for task, title in titles.items() for row in _rows(title, self.runs_of(task))]

    @property
    def averages(self) -> list[Average]:
        """The suite's average, and without WNLI; of the tasks that ran where not all did."""
        counted = [task for task in self.suite.tasks if task.is_averaged]
        left_out = [task for task in counted if task.is_majority_by_default]
        kept = [task for task in counted if task not in left_out]
        averages = [self._average(kept, "".join(f" without {task.title}" for task in left_out))]
        if any(self.runs_of(task.task) for task in left_out):
            with_all = self._average(counted, "".join(f" with {task.title}" for task in left_out))
            averages = [with_all, *averages]
        return [average for average in averages if average is not None]

    def _average(self, tasks: Sequence[SuiteTask], which: str) -> Average | None:
        """Returns the mean over those tasks that ran, None where none did."""
        runs = [runs for task in tasks if (runs := self.runs_of(task.task))]
        if not runs:
            return None
        count = f"{len(tasks)} tasks"
        if len(runs) < len(tasks):
            count = f"only the {len(runs)} of {len(tasks)} tasks that ran"
        seeds = {tuple(run.seed for run in of_task) for of_task in runs if not of_task[0].is_majority}
        sd = None
        if len(seeds) == 1:
            # Whoever answers with the majority class does so whatever the seed.
            of_seeds = [
                statistics.fmean(of_task[0 if of_task[0].is_majority else i].mean for of_task in runs)
                for i in range(len(*seeds))
            ]
            sd = _sd(of_seeds)
        means = [statistics.fmean(run.mean for run in of_task) for of_task in runs]
        return Average(
            title=f"{self.suite.title}{which}, {count}",
            mean=statistics.fmean(means),
            sd=sd,
            num_tasks=len(runs),
        )

    @property
    def total_seconds(self) -> float:
        """Of all runs together."""
        return sum(run.seconds for run in self.runs)


def _rows(title: str, runs: Sequence[SeedResult]) -> Iterable[Row]:
    """Yields the rows of one task."""
    splits = dict.fromkeys(split for run in runs for split in run.splits)
    seconds = statistics.fmean(run.seconds for run in runs) if runs else 0.0
    for split in splits:
        scores = [run.splits[split] for run in runs if split in run.splits]
        name = title if len(splits) == 1 else f"{title} {split.removeprefix('validation_')}"
        name += " (majority)" * runs[0].is_majority
        invalid_rates = [s.invalid_rate for s in scores if s.invalid_rate is not None]
        for metric in scores[0].metrics:
            ends = [s.intervals[metric] for s in scores if metric in s.intervals]
            values = [s.metrics[metric] for s in scores]
            yield Row(
                title=name,
                metric=metric,
                mean=statistics.fmean(values),
                sd=_sd(values),
                interval=(
                    statistics.fmean(low for low, _ in ends),
                    statistics.fmean(high for _, high in ends),
                )
                if ends
                else None,
                baseline=scores[0].baselines.get(metric),
                invalid_rate=statistics.fmean(invalid_rates) if invalid_rates else None,
                num_seeds=len(scores),
                seconds=seconds,
            )
        seconds = 0.0


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
