"""Names of the rows of a head: what is taken for a label of the task, and what is not."""

import itertools

import pytest

from t5like.tasks import TASKS
from t5like.tasks.heads import head_of
from t5like.tasks.label_names import are_numbers, head_rows, listed

NLI = ("entailment", "neutral", "contradiction")
WITH_LABELS = {name: head_of(task).labels for name, task in TASKS.items() if task.kind in ("label", "tags")}


@pytest.mark.parametrize("name", WITH_LABELS)
def test_every_order_of_a_tasks_own_labels_is_undone(name):
    labels = WITH_LABELS[name]
    for order in itertools.islice(itertools.permutations(labels), 24):
        for spell in (str, str.upper, lambda label: label.replace("_", " "), lambda label: f" {label}"):
            rows = head_rows(labels, [spell(label) for label in order])
            assert [order[row] for row in rows] == list(labels)


@pytest.mark.parametrize(
    ("labels", "names", "rows"),
    [
        (NLI, ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 1, 0)),  # the example of the file
        (("entailment", "not_entailment"), ("not entailment", "entailment"), (1, 0)),
        (("entailment", "not_entailment"), ("Non-Entailment", "Entailment"), (1, 0)),
        (("negative", "positive"), ("POS", "NEG"), (1, 0)),
        (("unacceptable", "acceptable"), ("acceptable", "not acceptable"), (1, 0)),
        (("not_equivalent", "equivalent"), ("paraphrase", "not_paraphrase"), (1, 0)),
        (("False", "True"), ("yes", "no"), (1, 0)),
        (("no", "yes"), ("yes", "no"), (1, 0)),
        # What is spelt alike goes first.
        (("a", "A"), ("A", "a"), (1, 0)),
        (("yes", "true"), ("true", "yes"), (1, 0)),
        (("0", "1"), ("1", "0"), (1, 0)),
    ],
)
def test_what_means_the_same_is_matched(labels, names, rows):
    assert head_rows(labels, names) == rows


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("entailment", "not_entailment"), NLI),
        (NLI, ("entailment", "not_entailment")),
        (NLI, ("entailment", "neutral", "neutral")),
        (NLI, ("entailment", "neutral", "unrelated")),
        (NLI, ("LABEL_0", "LABEL_1", "LABEL_2")),
        (NLI, ()),
        (("entailment", "not_entailment"), ("negative", "positive")),
        (("a", "A"), ("a", "a")),
        (("a", "A"), ("b", "B")),
        (("false", "true"), ("no", "false")),
    ],
)
def test_other_names_are_not(labels, names):
    assert head_rows(labels, names) is None


def test_names_that_only_count_are_known():
    for names in (("LABEL_0", "LABEL_1"), ("label 1", "label-0"), ("0", "1"), ("LABEL0",)):
        assert are_numbers(names)
    for names in (NLI, ("LABEL_0", "neutral"), ("1 star", "2 stars"), ("B-0",)):
        assert not are_numbers(names)


def test_many_names_are_counted():
    assert listed(["a"] * 12) == ", ".join("a" * 12)
    assert listed(["a"] * 14).endswith("a and 2 more")
