"""The main job of launch/local.sh on a shorter run, through the command a user types."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A user has one device, and a compiler that optimises.
FOR_TESTS = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in FOR_TESTS} | {
    "JAX_PLATFORMS": "cpu"
}


def t5like(*arguments: str) -> str:
    """Returns what the command prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "t5like", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def score(workdir: Path, name: str) -> dict[str, float]:
    """Returns one row of a workdir's evaluation."""
    rows = json.loads((workdir / "evaluation.json").read_text())["rows"]
    return next(row for row in rows if row["name"] == name)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The pretraining run of launch/local.sh with fewer steps and a smaller vocabulary, and what it printed."""
    workdir = tmp_path_factory.mktemp("end_to_end") / "pretrain"
    shorter = [
        "--num_steps",
        "180",
        "--eval_every_steps",
        "180",
        "--max_eval_rows",
        "64",
        "--vocabulary_size",
        "1024",
    ]
    return workdir, t5like("pretrain", "configs/local.py", "--workdir", str(workdir), *shorter)


@pytest.fixture(scope="module")
def finetuned(pretrained: tuple[Path, str]) -> tuple[Path, str]:
    """The fine-tuning run of launch/local.sh with fewer steps of one shape, and what it printed."""
    workdir = pretrained[0].parent / "finetune"
    shorter = ["--num_steps", "160", "--eval_every_steps", "160", "--trims_batches", "False"]
    init = ("--init", str(pretrained[0]))
    arguments = ("configs/local_finetune.py", *init, "--workdir", str(workdir), *shorter)
    return workdir, t5like("finetune", *arguments)


def test_pretraining_learns_more_than_word_frequencies(pretrained: tuple[Path, str]) -> None:
    workdir, printed = pretrained
    loss = score(workdir, "held-out nats per token")
    assert loss["value"] < loss["baseline"] - 0.3
    assert re.search(
        r"held-out nats per token: \d\.\d+ nats +\(unigram entropy of the same tokens: \d\.\d+\)", printed
    )


def test_fine_tuning_learns_more_than_the_majority_class(finetuned: tuple[Path, str]) -> None:
    workdir, printed = finetuned
    accuracy = score(workdir, "embedded/docstrings accuracy")
    assert accuracy["value"] > accuracy["baseline"] + 20.0
    assert re.search(r"embedded/docstrings accuracy: [\d.]+ % +\(majority class: [\d.]+\)", printed)


def test_evaluating_again_gives_the_same_scores(finetuned: tuple[Path, str]) -> None:
    workdir, printed = finetuned
    assert t5like("evaluate", "--init", str(workdir)) in printed


def test_the_report_tells_of_both_runs(finetuned: tuple[Path, str]) -> None:
    page = (finetuned[0] / "report.html").read_text(encoding="utf-8")
    assert "Pretraining" in page
    assert "Fine-tuning" in page
    assert "majority class" in page
