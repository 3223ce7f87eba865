"""The results of a benchmark against figures reckoned by hand."""

import dataclasses
import io
import json
import random

import pytest
from rich.console import Console

from t5like.errors import UserError
from t5like.report.format import NOTHING
from t5like.suite_results import (
    SeedResult,
    SplitScores,
    SuiteResults,
    read_seed_result,
    split_scores,
    write_seed_result,
)
from t5like.suite_table import WIDTH, print_results, results_page, write_results
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.tasks.suites import GLUE, SUPER_GLUE

CONDITIONS = {"init": "hf:minilm", "hardware": "2 x cpu", "versions": "t5like 1, jax 2"}


def run_of(task, seed, seconds=60.0, is_majority=False, **splits):
    return SeedResult(
        task=task,
        seed=seed,
        step=100 + seed,
        seconds=seconds,
        is_majority=is_majority,
        splits={
            split: SplitScores(
                num_examples=10,
                metrics=metrics,
                intervals={name: (value - 2 - seed, value + 2) for name, value in metrics.items()},
                baselines=dict.fromkeys(metrics, 50.0),
                invalid_rate=float(seed),
            )
            for split, metrics in splits.items()
        },
    )


COLA = [
    run_of("glue/cola", seed, validation={"matthews_corrcoef": value})
    for seed, value in enumerate((40.0, 42.0, 47.0))
]
MRPC = [
    run_of("glue/mrpc", seed, seconds=90.0 + seed, validation={"f1": f1, "accuracy": accuracy})
    for seed, (f1, accuracy) in enumerate(((80.0, 70.0), (82.0, 74.0), (84.0, 78.0)))
]
WNLI = [run_of("glue/wnli", 0, 0.0, True, validation={"accuracy": 56.25})]
MNLI = [
    run_of(
        "glue/mnli",
        0,
        validation_matched={"accuracy": 80.0},
        validation_mismatched={"accuracy": 82.0},
    )
]


def results_of(*runs, suite=GLUE):
    return SuiteResults(suite=suite, runs=[run for of_task in runs for run in of_task], conditions=CONDITIONS)


def test_rows_are_means_and_sample_deviations_over_seeds_in_the_order_of_the_suite():
    rows = results_of(MRPC, COLA).rows
    assert [(row.title, row.metric) for row in rows] == [
        ("CoLA", "matthews_corrcoef"),
        ("MRPC", "f1"),
        ("MRPC", "accuracy"),
    ]
    cola, f1, accuracy = rows
    assert (cola.mean, cola.num_seeds, cola.baseline, cola.seconds) == (43.0, 3, 50.0, 60.0)
    assert cola.sd == pytest.approx(13**0.5)  # deviations -3, -1, 4
    assert cola.interval == (pytest.approx(43 - 2 - 1), pytest.approx(45))
    assert cola.invalid_rate == 1.0
    assert (f1.mean, f1.sd, accuracy.mean, accuracy.sd, accuracy.seconds) == (82.0, 2.0, 74.0, 4.0, 91.0)


def test_one_seed_has_no_deviation():
    (row,) = results_of(COLA[:1]).rows
    assert (row.mean, row.sd) == (40.0, None)
    (average,) = results_of(COLA[:1], MRPC[:1]).averages
    assert (average.mean, average.sd) == (57.5, None)


def test_an_average_weighs_tasks_alike_and_deviates_over_seeds():
    (average,) = results_of(COLA, MRPC).averages
    assert average.mean == 60.5  # of 43 and (82 + 74) / 2
    assert average.sd == pytest.approx(10.75**0.5)  # of seeds 57.5, 60, 64
    assert average.title == "GLUE without WNLI, only the 2 of 8 tasks that ran"


def test_averages_with_and_without_wnli_are_told_apart():
    with_wnli, without = results_of(COLA, MRPC, WNLI).averages
    assert with_wnli.title == "GLUE with WNLI, only the 3 of 9 tasks that ran"
    assert with_wnli.mean == pytest.approx((43 + 78 + 56.25) / 3)
    assert with_wnli.sd == pytest.approx(10.75**0.5 * 2 / 3)  # WNLI's is the same whatever the seed
    assert (without.title, without.mean) == ("GLUE without WNLI, only the 2 of 8 tasks that ran", 60.5)
    (only,) = results_of(WNLI).averages
    assert (only.title, only.num_tasks) == ("GLUE with WNLI, only the 1 of 9 tasks that ran", 1)
    assert results_of().averages == []


def test_mnli_counts_once_and_has_a_row_a_split():
    results = results_of(MNLI, COLA[:1])
    assert [row.title for row in results.rows] == ["CoLA", "MNLI matched", "MNLI mismatched"]
    assert [row.seconds for row in results.rows] == [60.0, 60.0, 0.0]  # one run
    (average,) = results.averages
    assert (average.num_tasks, average.mean) == (2, (40 + 81) / 2)


def test_tasks_with_other_seeds_have_an_average_without_deviation():
    (average,) = results_of(COLA, MRPC[:2]).averages
    assert average.mean == pytest.approx((43 + 76.5) / 2)
    assert average.sd is None


@pytest.mark.parametrize("suite", [GLUE, SUPER_GLUE], ids=lambda suite: suite.name)
def test_a_suite_that_ran_whole_says_how_many_tasks_count(suite):
    runs = [
        [run_of(task.task, seed, **{split: {"accuracy": 70.0} for split in task.validation or ["test"]})]
        for task in suite.tasks
        for seed in [0]
    ]
    titles = [average.title for average in results_of(*runs, suite=suite).averages]
    assert (
        titles
        == {
            "glue": ["GLUE with WNLI, 9 tasks", "GLUE without WNLI, 8 tasks"],
            "super_glue": ["SuperGLUE, 8 tasks"],
        }[suite.name]
    )


def test_diagnostics_and_other_tasks_are_shown_and_not_averaged():
    ax = [run_of("glue/ax", 0, 0.0, test={"matthews_corrcoef": -3.0})]
    ner = [run_of("ner/wnut17", 0, validation={"f1": 41.0})]
    results = results_of(ner, ax, COLA[:1])
    assert [row.title for row in results.rows] == ["CoLA", "AX", "ner/wnut17"]
    assert [average.mean for average in results.averages] == [40.0]


def test_two_runs_of_one_task_and_seed_are_refused():
    with pytest.raises(ValueError, match="several runs of"):
        results_of(COLA, COLA[:1])


def printed(results, width=WIDTH):
    file = io.StringIO()
    print_results(results, Console(file=file, width=width, highlight=False))
    return file.getvalue().splitlines()


def test_the_table_as_it_is_printed():
    lines = [" ".join(line.split()) for line in printed(results_of(COLA, MRPC, WNLI))]
    assert lines[:5] == [
        "task metric mean ± sd 95 % interval majority invalid seeds a run",
        "CoLA matthews_corrcoef 43.00 ± 3.61 40.00 to 45.00 50.00 1.00 3 1 min",
        "MRPC f1 82.00 ± 2.00 79.00 to 84.00 50.00 1.00 3 1 min 31 s",
        "accuracy 74.00 ± 4.00 71.00 to 76.00 50.00 1.00 3",
        f"WNLI (majority) accuracy 56.25 54.25 to 58.25 50.00 0.00 1 {NOTHING}",
    ]
    assert lines[6:8] == [
        "average of GLUE with WNLI, only the 3 of 9 tasks that ran: 59.08 ± 2.19",
        "average of GLUE without WNLI, only the 2 of 8 tasks that ran: 60.50 ± 3.28",
    ]
    assert lines[-4:] == [
        "init: hf:minilm",
        "hardware: 2 x cpu",
        "versions: t5like 1, jax 2",
        "time of all runs: 7 min 33 s",
    ]


def test_the_widest_table_fits_in_its_terminal():
    # 4 characters of a score, the longest names, and the longest of durations.
    runs = [
        run_of(
            task.task,
            seed,
            3600.0 * 9 + 3540,
            **{split: {"matthews_corrcoef": value} for split in task.validation or ["test"]},
        )
        for task in (*GLUE.tasks, *SUPER_GLUE.tasks)
        for seed, value in enumerate((-88.888, 100.0))
    ]
    for suite in (GLUE, SUPER_GLUE):
        results = results_of([run for run in runs if run.task.startswith(f"{suite.name}/")], suite=suite)
        lines = printed(results)
        assert max(map(len, lines)) <= WIDTH
        assert not [line for line in lines if "…" in line]
        assert lines[len(results.rows) + 1].strip() == ""  # no row takes two lines
        assert "matthews_corrcoef" in lines[len(results.rows)]


def test_files_hold_every_figure_and_are_replaced_whole(tmp_path):
    write_results(tmp_path, results_of(COLA))
    results = results_of(COLA, MRPC, WNLI)
    write_results(tmp_path, results)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md"}
    content = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert content["suite"] == "glue"
    assert content["conditions"] == CONDITIONS
    assert [row["mean"] for row in content["table"]] == [row.mean for row in results.rows]
    assert [average["title"] for average in content["averages"]] == [a.title for a in results.averages]
    assert len(content["runs"]) == 7
    page = (tmp_path / "results.md").read_text("utf-8")
    assert page == results_page(results)
    assert "| CoLA | matthews_corrcoef | 43.00 ± 3.61 | 40.00 to 45.00 | 50.00 | 1.00 | 3 | 1 min |" in page
    assert "| glue/mrpc | 2 | validation f1 84.00 accuracy 78.00 | 102 | 1 min 32 s |" in page
    assert "- hardware: 2 x cpu" in page


def test_a_run_is_read_as_it_was_written(tmp_path):
    for run in (*COLA, *MNLI, *WNLI):
        write_seed_result(tmp_path / "result.json", run)
        assert read_seed_result(tmp_path / "result.json") == run


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"splits": {"a": 1}}', '{"splits": 7}', "[" * 100_000, "nothing there"]
)
def test_a_run_that_cannot_be_read_is_one_sentence(damage, tmp_path):
    path = tmp_path / "result.json"
    if damage != "nothing there":
        path.write_text(damage, "utf-8")
    with pytest.raises(UserError, match=r"result\.json cannot be read .*delete it") as raised:
        read_seed_result(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["x", None, True, [1], {}, float("nan")])
@pytest.mark.parametrize(
    "place", ["metrics", "baselines", "intervals", "invalid_rate", "seconds", "seed", "step", "is_majority"]
)
def test_a_run_whose_figures_are_none_is_one_sentence(place, value, tmp_path):
    path = tmp_path / "result.json"
    write_seed_result(path, COLA[0])
    fields = json.loads(path.read_text("utf-8"))
    scores = fields["splits"]["validation"]
    match place:
        case "metrics" | "baselines":
            scores[place]["matthews_corrcoef"] = value
        case "intervals":
            scores[place]["matthews_corrcoef"] = [0.0, value]
        case "invalid_rate":
            scores[place] = value
        case _:
            fields[place] = value
    path.write_text(json.dumps(fields), "utf-8")
    rights = {"invalid_rate": (None, 10**30), "is_majority": (True,)}.get(place, (10**30,))
    if any(value is right or (value == right and type(value) is int) for right in rights):
        read_seed_result(path)
        return
    with pytest.raises(UserError, match=r"result\.json cannot be read .*delete it"):
        read_seed_result(path)


def test_scores_of_answers_come_with_intervals_and_the_baseline_of_the_majority():
    chance = random.Random(0)
    examples = [
        Example(index=i, inputs="", targets="", answer=int(chance.random() < 0.7)) for i in range(200)
    ]
    answers = [example.answer if chance.random() < 0.8 else -1 for example in examples]
    scores = split_scores(find_task("glue/mrpc"), examples, answers)
    num_right = sum(example.answer == answer for example, answer in zip(examples, answers, strict=True))
    num_positive = sum(example.answer for example in examples)
    assert scores.num_examples == 200
    assert list(scores.metrics) == ["f1", "accuracy"]
    assert scores.metrics["accuracy"] == pytest.approx(num_right / 2)
    assert scores.baselines["accuracy"] == pytest.approx(num_positive / 2)
    assert scores.baselines["f1"] == pytest.approx(200 * num_positive / (200 + num_positive))
    assert scores.invalid_rate == pytest.approx(100 - num_right / 2)
    assert scores.mean == pytest.approx((scores.metrics["f1"] + scores.metrics["accuracy"]) / 2)
    for name, (low, high) in scores.intervals.items():
        assert low < scores.metrics[name] < high
        assert 5 < high - low < 15  # of 200 examples at 80 %: 11
    assert split_scores(find_task("glue/mrpc"), examples, answers) == scores
    with pytest.raises(UserError, match="not published"):
        split_scores(find_task("glue/mrpc"), [dataclasses.replace(examples[0], answer=None)], [1])
