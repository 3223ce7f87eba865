"""A benchmark makes every run once, goes on where it stopped, and ends in a table and a zip that the leaderboard takes."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t5like import suite_runs
from t5like.benchmark import benchmark, claim, main
from t5like.checkpoint import Checkpoints, checkpoint_steps
from t5like.errors import UserError
from t5like.metrics_log import METRICS_FILE, MetricsLog, read_metrics
from t5like.public_model import save_public_model
from t5like.suite_config import Benchmark
from t5like.suite_plan import MIXTURE, Training, chosen_tasks, make_plan
from t5like.suite_results import SeedResult, SuiteResults
from t5like.suite_runs import ANSWERS_FILE, best_step
from t5like.task_evaluation import TASK_SCORE
from t5like.tasks.suites import SUITES, Suite
from tests.tiny_models import ours, vocabulary_of

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
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny BERT in Hugging Face's layout, as --init names it."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    model, params, _ = ours("bert")
    save_public_model(folder, model.config, vocabulary_of("bert"), params)
    return f"hf:{folder}"


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
def finished(config: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SuiteResults]:
    workdir = tmp_path_factory.mktemp("benchmark") / "run"
    return workdir, benchmark(GLUE, config, workdir)


@pytest.fixture(scope="module")
def mixture(config: Benchmark) -> Benchmark:
    """Both tasks at once: 60 of their 80 examples count, so that four batches are an epoch."""
    return dataclasses.replace(config, tasks="sst2,mrpc", mixture=True, task_cap=30, max_steps=None)


@pytest.fixture(scope="module")
def mixed(mixture: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SuiteResults]:
    workdir = tmp_path_factory.mktemp("mixture") / "run"
    return workdir, benchmark(GLUE, mixture, workdir)


def untimed(results: SuiteResults) -> list[SeedResult]:
    """Returns all but how long it took."""
    return [dataclasses.replace(run, seconds=0.0) for run in results.runs]


def validation_rows(folder: Path) -> dict[int, dict[str, Any]]:
    rows = [row for row in read_metrics(folder / METRICS_FILE) if row["split"] == "validation"]
    return {row["step"]: row for row in rows}


def test_it_keeps_the_best_checkpoint_and_answers_with_it(finished: tuple[Path, SuiteResults]) -> None:
    workdir, results = finished
    (run,) = results.runs
    folder = workdir / "sst2" / "seed-0"
    assert checkpoint_steps(folder) == (run.step,)
    answers = json.loads((folder / ANSWERS_FILE).read_text())["glue/sst2"]
    assert {split: len(given) for split, given in answers.items()} == {"test": NUM_TEST_ROWS}
    assert run.splits["validation"].num_examples == 10
    rows = validation_rows(folder)
    assert run.splits["validation"].metrics["accuracy"] == pytest.approx(rows[run.step]["accuracy"])
    assert rows[run.step]["accuracy"] == max(row["accuracy"] for row in rows.values())


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


def test_what_cannot_work_is_said_before_anything_is_written(
    config: Benchmark, bert: str, tmp_path: Path
) -> None:
    for changes, message in (
        ({"tasks": "sst3"}, "GLUE has no task 'sst3'; did you mean sst2?"),
        ({"tasks": "ax"}, "answered by the model of glue/mnli"),
        (
            {"tasks": "sst2,rte,cola"},
            "cola cannot be run: There is no .*The same goes for glue/rte. --tasks sst2 leaves",
        ),
        ({"tasks": "cola", "data_dir": "nowhere"}, "--data_dir nowhere is no folder"),
        ({"init": None}, "needs --init"),
        ({"init": "nowhere"}, "no workdir nowhere"),
        ({"tasks": "sst2,stsb"}, "glue/stsb is not answered with one of a few labels"),
        ({"inputs_length": 0}, "inputs_length must be at least 1"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0"),
        ({"batch_size": 12}, "cannot be split over 8 devices"),
        (
            {"init": bert, "mixture": True, "tasks": "sst2,mrpc"},
            "--mixture is for models with a decoder; hf:.*bert",
        ),
    ):
        with pytest.raises(UserError, match=message):
            benchmark(GLUE, dataclasses.replace(config, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_which_no_run_has_begun_may_become_another_benchmark(
    config: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("no data")

    with monkeypatch.context() as patch:
        patch.setattr(suite_runs, "finetune", refuse)
        with pytest.raises(UserError, match="no data"):
            benchmark(GLUE, config, tmp_path)
    (tmp_path / "sst2" / "seed-0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"another benchmark: config\.batch_size was 16 and is now 8"):
        benchmark(GLUE, dataclasses.replace(config, batch_size=8), tmp_path)
    (tmp_path / "sst2" / "seed-0").rmdir()
    claim(tmp_path, GLUE, dataclasses.replace(config, batch_size=8))


def test_commands_that_are_none() -> None:
    for argv, message in (
        ([], "needs a suite; say glue, super_glue or check first"),
        (["gleu", "--workdir", "x"], "did you mean glue?"),
        (["gleu", "--help"], "did you mean glue?"),
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


def test_a_mixture_of_one_task_is_the_run_of_that_task(
    finished: tuple[Path, SuiteResults], config: Benchmark, tmp_path: Path
) -> None:
    workdir, alone = finished
    of_one = benchmark(GLUE, dataclasses.replace(config, mixture=True), tmp_path / "run")
    assert untimed(of_one) == untimed(alone)
    answers = [folder / "seed-0" / ANSWERS_FILE for folder in (workdir / "sst2", tmp_path / "run" / MIXTURE)]
    assert answers[0].read_bytes() == answers[1].read_bytes()
    assert (workdir / "glue.zip").read_bytes() == (tmp_path / "run" / "glue.zip").read_bytes()


def test_a_mixture_is_one_run_with_a_checkpoint_for_each_task(mixed: tuple[Path, SuiteResults]) -> None:
    workdir, results = mixed
    folder = workdir / MIXTURE / "seed-0"
    rows = validation_rows(folder)
    assert sorted(rows) == [0, 4, 8]
    assert [run.task for run in results.runs] == ["glue/sst2", "glue/mrpc"]
    for run in results.runs:
        (scores,) = run.splits.values()
        names = {name: f"{run.task} {name}" for name in (TASK_SCORE, *scores.metrics)}
        assert rows[run.step][names[TASK_SCORE]] == max(rows[step][names[TASK_SCORE]] for step in (4, 8))
        for name, value in scores.metrics.items():
            assert value == pytest.approx(rows[run.step][names[name]])
    assert checkpoint_steps(folder) == tuple(sorted({run.step for run in results.runs}))
    assert [run.seconds > 0 for run in results.runs] == [True, False], "the time of the run counts once"


def test_the_table_and_the_zip_of_a_mixture_are_whole_and_say_what_it_was(
    mixed: tuple[Path, SuiteResults], mixture: Benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, results = mixed
    benchmark(GLUE, mixture, workdir)
    said = capsys.readouterr().out
    assert "MRPC.tsv is not predicted" in said, "it has no test file here"
    assert "SST-2.tsv is not predicted" not in said
    page = (workdir / "results.md").read_text()
    for text in (page, " ".join(said.split())):
        assert (
            "mixture: each run learnt all of SST-2, MRPC, in proportion to their examples, of which 30 a"
            in text
        )
    assert {row.title for row in results.rows} == {"SST-2", "MRPC"}
    assert results.averages[0].num_tasks == 2
    main(["check", str(workdir / "glue.zip")])


@pytest.mark.parametrize("stopped", ["training", "answering"])
def test_a_mixture_that_was_stopped_ends_as_one_that_was_not(
    stopped: str,
    mixed: tuple[Path, SuiteResults],
    mixture: Benchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = iter(range(100))
    owner, name = {"training": (Checkpoints, "save"), "answering": (suite_runs, "answer_splits")}[stopped]
    original = getattr(owner, name)

    def stop_at_the_second(*args: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            benchmark(GLUE, mixture, tmp_path)
    folder, straight = tmp_path / MIXTURE / "seed-0", mixed[0] / MIXTURE / "seed-0"
    assert checkpoint_steps(folder) == ((4,) if stopped == "training" else (4, 8))
    assert untimed(benchmark(GLUE, mixture, tmp_path)) == untimed(mixed[1])
    assert checkpoint_steps(folder) == checkpoint_steps(straight)
    assert (folder / ANSWERS_FILE).read_bytes() == (straight / ANSWERS_FILE).read_bytes()


def test_what_a_mixture_is_of_stays(mixed: tuple[Path, SuiteResults], mixture: Benchmark) -> None:
    for changes, message in (
        ({"mixture": False, "task_cap": None}, "mixture was True and is now False"),
        ({"task_cap": 20}, "task_cap was 30 and is now 20"),
        ({"tasks": "sst2"}, "tasks was 'sst2,mrpc' and is now 'sst2'"),
    ):
        with pytest.raises(UserError, match=f"belongs to another benchmark: config.{message}"):
            benchmark(GLUE, dataclasses.replace(mixture, **changes), mixed[0])
    with pytest.raises(UserError, match="give --mixture too"):
        Benchmark(task_cap=3)


def test_a_benchmark_from_before_a_field_was_there_goes_on(
    finished: tuple[Path, SuiteResults], config: Benchmark
) -> None:
    workdir, results = finished
    saved = json.loads((workdir / "benchmark.json").read_text())
    del saved["config"]["mixture"], saved["config"]["task_cap"]
    (workdir / "benchmark.json").write_text(json.dumps(saved))
    assert benchmark(GLUE, config, workdir).runs == results.runs


def test_each_task_has_its_own_best_step_and_of_equals_the_first(tmp_path: Path) -> None:
    boolq, rte, axb = chosen_tasks(SUPER_GLUE, "boolq,rte,axb")
    training = Training(tasks=(boolq, rte), answered=(boolq, rte, axb), seed=0, folder=tmp_path)
    with MetricsLog(tmp_path, resume_step=None) as log:
        for step, of_boolq, of_rte in ((0, 90.0, 90.0), (5, 50.0, 70.0), (10, 60.0, 70.0), (15, 55.0, 10.0)):
            scores = {f"super_glue/boolq {TASK_SCORE}": of_boolq, f"super_glue/rte {TASK_SCORE}": of_rte}
            log.write("validation", step, scores | {TASK_SCORE: (of_boolq + of_rte) / 2})
            if step:
                (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    assert [best_step(training, task) for task in training.answered] == [10, 5, 5]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("is_mixture", [False, True])
def test_a_plan_answers_every_task_once_a_seed(suite: Suite, is_mixture: bool, tmp_path: Path) -> None:
    plan = make_plan(suite, None, num_seeds=2, is_mixture=is_mixture, workdir=tmp_path)
    for seed in range(2):
        own = [training for training in plan.trainings if training.seed == seed]
        answered = [task.task for training in own for task in training.answered]
        answered += [task.task for task in plan.by_majority]
        assert sorted(answered) == sorted(task.task for task in suite.tasks)
        assert len(own) == (
            1 if is_mixture else sum(task.trained_on is None for task in suite.tasks) - len(plan.by_majority)
        )
    assert len({training.folder for training in plan.trainings}) == len(plan.trainings)


def test_help_shows_the_mixture(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["super_glue", "--help"])
    assert "--mixture" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "t5like benchmark check FILE.zip" in capsys.readouterr().out
