"""A benchmark makes every run once, goes on where it stopped, and ends in a table and a zip that the leaderboard takes."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t5like import suite_runs
from t5like.benchmark import benchmark, main
from t5like.checkpoint import checkpoint_steps
from t5like.errors import UserError
from t5like.suite_config import Benchmark
from t5like.suite_plan import chosen_tasks
from t5like.suite_results import SuiteResults
from t5like.suite_runs import ANSWERS_FILE
from t5like.tasks.suites import SUITES

GLUE, SUPER_GLUE = SUITES
NUM_TEST_ROWS = 1821  # of SST-2, which its checker counts


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up files of SST-2, all three of them, and of MRPC without a test file."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 3)) for _ in range(50)]
    for name in ("SST-2", "MRPC"):
        (folder / name).mkdir()

    def sentence() -> str:
        return " ".join(rng.choice(words, 3))

    for split, num_rows in (("train", 40), ("dev", 10)):
        rows = [f"{sentence()}\t{number % 2}" for number in range(num_rows)]
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
        pairs = [f"{number % 2}\t1\t2\t{sentence()}\t{sentence()}" for number in range(num_rows)]
        header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        (folder / "MRPC" / f"{split}.tsv").write_text("\n".join([header, *pairs]) + "\n")
    rows = [f"{number}\tw{number % 7}" for number in range(NUM_TEST_ROWS)]
    (folder / "SST-2" / "test.tsv").write_text("\n".join(["index\tsentence", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(glue: Path) -> Benchmark:
    return Benchmark(
        init="tiny",
        data_dir=str(glue),
        tasks="sst2",
        seeds=1,
        num_epochs=2,
        max_steps=4,
        batch_size=16,
        inputs_length=32,
        targets_length=8,
        answers="ranked",
    )


@pytest.fixture(scope="module")
def finished(
    config: Benchmark, tmp_path_factory: pytest.TempPathFactory, compiled_once: dict[str, str]
) -> tuple[Path, SuiteResults]:
    workdir = tmp_path_factory.mktemp("benchmark") / "run"
    return workdir, benchmark(GLUE, config, workdir)


def test_it_keeps_the_best_checkpoint_and_answers_with_it(finished: tuple[Path, SuiteResults]) -> None:
    workdir, results = finished
    (run,) = results.runs
    folder = workdir / "sst2" / "seed-0"
    assert checkpoint_steps(folder) == (run.step,)
    answers = json.loads((folder / ANSWERS_FILE).read_text())["glue/sst2"]
    assert {split: len(given) for split, given in answers.items()} == {"test": NUM_TEST_ROWS}
    assert run.splits["validation"].num_examples == 10
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (row,) = [row for row in logged if row["split"] == "validation" and row["step"] == run.step]
    assert run.splits["validation"].metrics["accuracy"] == pytest.approx(row["accuracy"])


def test_the_zip_is_taken_and_says_what_is_filled_in(
    finished: tuple[Path, SuiteResults], capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, _ = finished
    main(["check", str(workdir / "glue.zip")])
    assert capsys.readouterr().out.startswith(f"valid: {workdir / 'glue.zip'} holds ")
    with zipfile.ZipFile(workdir / "glue.zip") as archive:
        lines = archive.read("SST-2.tsv").decode().splitlines()
        assert set(archive.namelist()) == {file.name for file in GLUE.files}
    assert len(lines) == 1 + NUM_TEST_ROWS


def test_the_same_command_again_makes_only_what_is_missing(
    finished: tuple[Path, SuiteResults], config: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir, results = finished
    made: list[Any] = []
    monkeypatch.setattr(suite_runs, "finetune", lambda config, folder: made.append(config.seed))
    again = benchmark(GLUE, config, workdir)
    assert made == []
    assert again.runs == results.runs
    monkeypatch.setattr(
        suite_runs, "best_step", lambda training, task: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        benchmark(GLUE, dataclasses.replace(config, seeds=2), workdir)
    assert made == [1]
    with pytest.raises(
        UserError, match=r"belongs to another benchmark: config\.batch_size was 16 and is now 8"
    ):
        benchmark(GLUE, dataclasses.replace(config, batch_size=8, seeds=1), workdir)


def test_what_cannot_work_is_said_before_anything_is_written(config: Benchmark, tmp_path: Path) -> None:
    for changes, message in (
        ({"tasks": "sst3"}, "GLUE has no task 'sst3'; did you mean sst2?"),
        ({"tasks": "ax"}, "answered by the model of glue/mnli"),
        ({"tasks": "sst2,rte,cola"}, "cola cannot be run: There is no .*The same goes for rte.*--tasks"),
        ({"init": None}, "needs --init"),
    ):
        with pytest.raises(UserError, match=message):
            benchmark(GLUE, dataclasses.replace(config, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_commands_that_are_none() -> None:
    for argv, message in (
        ([], "needs a suite; say glue, super_glue or check first"),
        (["gleu", "--workdir", "x"], "did you mean glue?"),
        (["glue", "--init", "tiny"], "needs --workdir"),
        (["check"], "takes the path of one zip"),
        (["check", "nothing.zip"], "nothing.zip would be refused"),
    ):
        with pytest.raises(UserError, match=message):
            main(argv)


def test_diagnostics_come_with_the_task_that_they_are_answered_by() -> None:
    names = [task.task for task in chosen_tasks(SUPER_GLUE, "axg, super_glue/rte")]
    assert names == ["super_glue/rte", "super_glue/axg"]
    assert len(chosen_tasks(GLUE, None)) == len(GLUE.tasks)
