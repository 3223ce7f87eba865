"""What a workdir holds of a run, read so that a missing or broken piece is named and never in the way of the rest.

config.json      nested object; a dataclass is one with a "__class__" key; "init" may name an earlier workdir
metrics.jsonl    rows as in `t5like.metrics_log`
evaluation.json  {"step": n, "rows": [{"name", "value", "unit", "baseline", "baseline_name", "higher_is_better"}]}
samples.json     [{"inputs", "targets", "prediction", "title" or not}]
run.json         {"num_parameters", "total_seconds" or not, and what else there is to say of the environment}
ledger.jsonl     rows as in `t5like.ledger`
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from t5like.errors import UserError
from t5like.ledger import LEDGER_FILE, Times, add_up, read_ledger
from t5like.metrics_log import METRICS_FILE, decode_number, read_metrics
from t5like.scores import Sample, Score

T = TypeVar("T")

# By the class of the config.
_KINDS = {"Pretrain": "Pretraining", "Finetune": "Fine-tuning", "Ngram": "N-gram model"}
_WITHOUT_CURVES = ("Ngram",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that the page says about one run; a piece that could not be read is empty and named in `problems`."""

    name: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluation_step: int | None
    evaluation: list[Score]
    samples: list[Sample]
    environment: dict[str, Any]
    times: Times | None
    problems: list[str]

    @property
    def kind(self) -> str:
        """What the run does, in a word."""
        short = short_class(self.config)
        return _KINDS.get(short, short or "Run")

    @property
    def has_curves(self) -> bool:
        """Whether it goes in steps, of which metrics are logged."""
        return short_class(self.config) not in _WITHOUT_CURVES

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Returns the rows of one split in the order of their steps."""
        return sorted((row for row in self.metrics if row["split"] == split), key=lambda row: row["step"])


def short_class(value: object) -> str:
    """Returns the class name a config object was saved with, its module left out; "" where it has none."""
    name = value.get("__class__") if isinstance(value, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def read_runs(workdir: pathlib.Path) -> list[Run]:
    """Returns the run in `workdir` last, after those it was initialized from, oldest first.

    Raises:
      UserError: `workdir` is not a folder.
    """
    if not workdir.is_dir():
        raise UserError(f"{workdir} is not a folder: name the workdir of a run.")
    runs: list[Run] = []
    seen = set()
    folder: pathlib.Path | None = workdir.resolve()
    while folder is not None and folder not in seen:
        seen.add(folder)
        run = _read_run(folder)
        folder = _earlier_workdir(folder, run.config.get("init"), run.problems)
        runs.insert(0, run)
    return runs


def _earlier_workdir(folder: pathlib.Path, init: object, problems: list[str]) -> pathlib.Path | None:
    if not isinstance(init, str):
        return None
    # A config may have been written in another working directory than this one; beside its workdir is the next guess.
    for candidate in (pathlib.Path(init), folder.parent / init):
        try:
            if (candidate / METRICS_FILE).is_file():
                return candidate.resolve()
        except (OSError, ValueError):
            break
    problems.append(
        f"No {METRICS_FILE} in {init}, which this run was initialized from: its curves are not shown."
    )
    return None


def _read_run(folder: pathlib.Path) -> Run:
    problems: list[str] = []

    def piece(file: str, parse: Callable[[Any], T], left_out: str) -> T | None:
        try:
            return parse(json.loads((folder / file).read_text("utf-8")))
        except FileNotFoundError:
            problems.append(f"{file} is not there: {left_out}.")
        except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
            problems.append(f"{file} cannot be read ({type(error).__name__}: {error}): {left_out}.")
        return None

    config = piece("config.json", _parse_object, "the configuration is not shown")
    try:
        metrics = read_metrics(folder / METRICS_FILE) if (folder / METRICS_FILE).exists() else None
    except UserError as error:
        metrics = []
        problems.append(f"{METRICS_FILE} cannot be read, so there are no curves: {error}")
    if metrics is None and short_class(config) not in _WITHOUT_CURVES:
        problems.append(f"{METRICS_FILE} is not there: there are no curves.")
    times = None
    try:
        rows = read_ledger(folder / LEDGER_FILE) if (folder / LEDGER_FILE).exists() else []
        times = add_up(rows) if rows else None
    except UserError as error:
        problems.append(f"{LEDGER_FILE} cannot be read, so it is not shown where the time went: {error}")
    step, evaluation = piece("evaluation.json", _parse_evaluation, "there are no final scores") or (None, [])
    samples = piece("samples.json", _parse_samples, "there are no sample predictions")
    environment = piece("run.json", _parse_environment, "size, time and environment are not shown")
    return Run(
        name=folder.name,
        config=config or {},
        metrics=metrics or [],
        evaluation_step=step,
        evaluation=evaluation,
        samples=samples or [],
        environment=environment or {},
        times=times,
        problems=problems,
    )


def _parse_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _parse_environment(value: Any) -> dict[str, Any]:
    environment = _parse_object(value)
    known = {"num_parameters", "total_seconds"} & environment.keys()
    return environment | {name: decode_number(environment[name]) for name in sorted(known)}


def _parse_evaluation(value: Any) -> tuple[int, list[Score]]:
    rows = [
        Score(
            name=_text(row["name"]),
            value=decode_number(row["value"]),
            unit=_text(row["unit"]),
            baseline=None if row["baseline"] is None else decode_number(row["baseline"]),
            baseline_name=None if row["baseline_name"] is None else _text(row["baseline_name"]),
            higher_is_better=bool(row["higher_is_better"]),
        )
        for row in value["rows"]
    ]
    return int(value["step"]), rows


def _parse_samples(value: Any) -> list[Sample]:
    return [
        Sample(
            inputs=_text(sample["inputs"]),
            targets=_text(sample["targets"]),
            prediction=_text(sample["prediction"]),
            title=None if sample.get("title") is None else _text(sample["title"]),
        )
        for sample in value
    ]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not text")
    return value
