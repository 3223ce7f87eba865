"""The suites as their leaderboards list them, against the tasks they are made of and the tables of both sites."""

import pytest

from t5like.tasks import TASKS, find_task
from t5like.tasks.suites import SUITES

ENTRIES = {entry.task: entry for suite in SUITES for entry in suite.tasks}

# The name of each file, its published answers, and what is written for each class id in order.
FILES = {
    "glue/cola": [("CoLA.tsv", 1063, [0, 1])],
    "glue/sst2": [("SST-2.tsv", 1821, [0, 1])],
    "glue/mrpc": [("MRPC.tsv", 1725, [0, 1])],
    "glue/stsb": [("STS-B.tsv", 1379, [])],
    "glue/qqp": [("QQP.tsv", 390965, [0, 1])],
    "glue/mnli": [
        ("MNLI-m.tsv", 9796, ["entailment", "neutral", "contradiction"]),
        ("MNLI-mm.tsv", 9847, ["entailment", "neutral", "contradiction"]),
    ],
    "glue/qnli": [("QNLI.tsv", 5463, ["entailment", "not_entailment"])],
    "glue/rte": [("RTE.tsv", 3000, ["entailment", "not_entailment"])],
    "glue/wnli": [("WNLI.tsv", 146, [0, 1])],
    "glue/ax": [("AX.tsv", 1104, ["entailment", "neutral", "contradiction"])],
    "super_glue/boolq": [("BoolQ.jsonl", 3245, ["false", "true"])],
    "super_glue/cb": [("CB.jsonl", 250, ["entailment", "contradiction", "neutral"])],
    "super_glue/copa": [("COPA.jsonl", 500, [0, 1])],
    "super_glue/multirc": [("MultiRC.jsonl", 9693, [0, 1])],
    "super_glue/record": [("ReCoRD.jsonl", 10000, [])],
    "super_glue/rte": [("RTE.jsonl", 3000, ["entailment", "not_entailment"])],
    "super_glue/wic": [("WiC.jsonl", 1400, ["false", "true"])],
    "super_glue/wsc": [("WSC.jsonl", 146, ["False", "True"])],
    "super_glue/axb": [("AX-b.jsonl", 1104, ["entailment", "not_entailment"])],
    "super_glue/axg": [("AX-g.jsonl", 356, ["entailment", "not_entailment"])],
}


def test_the_suites_are_in_the_order_of_their_leaderboards():
    assert {suite.name: [entry.task.split("/")[1] for entry in suite.tasks] for suite in SUITES} == {
        "glue": ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax"],
        "super_glue": ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc", "axb", "axg"],
    }
    assert set(ENTRIES) == set(FILES) <= set(TASKS)


def test_nine_and_eight_tasks_are_averaged_and_the_diagnostic_sets_are_not():
    assert [sum(entry.is_averaged for entry in suite.tasks) for suite in SUITES] == [9, 8]
    others = {entry.task: entry.trained_on for entry in ENTRIES.values() if not entry.is_averaged}
    assert others == {
        "glue/ax": "glue/mnli",
        "super_glue/axb": "super_glue/rte",
        "super_glue/axg": "super_glue/rte",
    }
    for name, trained_on in others.items():
        assert find_task(name).labels == find_task(trained_on).labels
        assert "train" not in find_task(name).splits


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_splits_are_those_of_the_task(entry):
    splits = find_task(entry.task).splits
    assert {*entry.validation, *entry.test_splits} <= set(splits)
    assert bool(entry.validation) == entry.is_averaged
    assert ("train" in splits) == (entry.trained_on is None)


@pytest.mark.parametrize(("name", "files"), FILES.items(), ids=FILES)
def test_every_label_of_the_task_is_written_as_the_leaderboard_wants_it(name, files):
    labels = find_task(name).labels
    written = [
        (file.name, file.num_answers, [file.cells[label] for label in labels]) for file in ENTRIES[name].files
    ]
    assert written == files
    assert all(file.majority in labels for file in ENTRIES[name].files if labels)


def test_mnli_is_two_splits_and_two_files():
    entry = ENTRIES["glue/mnli"]
    assert entry.validation == ("validation_matched", "validation_mismatched")
    assert entry.test_splits == ("test_matched", "test_mismatched")


def test_wsc_and_wnli_may_be_answered_by_referents_because_these_answer_alike():
    for name in ("glue/wnli", "super_glue/wsc"):
        assert find_task(f"{name}_referent").labels == find_task(name).labels
        assert {"validation", "test"} <= set(find_task(f"{name}_referent").splits)
