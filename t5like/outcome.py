"""How a run ends: its scores beside their baselines and some samples, printed, written down and put in a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5like.errors import UserError
from t5like.ledger import note_end
from t5like.metrics_log import METRICS_FILE, input_wait_percent, read_metrics
from t5like.report import write_report
from t5like.scores import Sample, Score
from t5like.whole_files import write_json
from t5like.workdir import is_new

EVALUATION_FILE, SAMPLES_FILE = "evaluation.json", "samples.json"


def last_validation(workdir: Path) -> dict[str, Any]:
    """Returns the newest validation row of a run's log: step and metrics."""
    return [row for row in read_metrics(workdir / METRICS_FILE) if row["split"] == "validation"][-1]


def check_folder(folder: Path) -> None:
    """Raises UserError if `write_outcome` should not write here; writes nothing."""
    if not is_new(folder) and not {path.name for path in folder.iterdir()} <= {EVALUATION_FILE, SAMPLES_FILE}:
        raise UserError(
            f"--workdir {folder} holds other files than an earlier evaluation; give a new or empty folder."
        )


def conclude(workdir: Path, scores: Sequence[Score], samples: Sequence[Sample]) -> dict[str, Any]:
    """Writes evaluation.json, samples.json and report.html, prints the scores; returns the evaluation."""
    step = last_validation(workdir)["step"]
    evaluation = write_outcome(workdir, step, scores, samples)
    note_end(workdir, step)
    report = write_report(workdir)
    print_scores(scores)
    waited = input_wait_percent(read_metrics(workdir / METRICS_FILE))
    if waited is not None:
        print(f"input wait: {waited:.2g} % of the step time")
    print(f"report: {report}")
    return evaluation


def write_outcome(
    workdir: Path, step: int, scores: Sequence[Score], samples: Sequence[Sample]
) -> dict[str, Any]:
    """Writes evaluation.json and samples.json; returns the evaluation."""
    workdir.mkdir(parents=True, exist_ok=True)
    evaluation = {"step": step, "rows": [dataclasses.asdict(score) for score in scores]}
    write_json(workdir / EVALUATION_FILE, evaluation)
    write_json(workdir / SAMPLES_FILE, [dataclasses.asdict(sample) for sample in samples])
    return evaluation


def print_scores(scores: Sequence[Score]) -> None:
    """Prints one line a score, with its baseline."""
    for score in scores:
        beside = "" if score.baseline is None else f"   ({score.baseline_name}: {score.baseline:.4g})"
        print(f"{score.name}: {score.value:.4g} {score.unit}{beside}")
