"""Stored predictions of every task of both suites, against the official definitions written out in plain Python."""

import collections
import math
import re
import string

import pytest

from t5like.tasks import find_task
from t5like.tasks.base import Example, Task, constant_answer, score
from t5like.tasks.suites import GLUE, SUPER_GLUE

# --- the official definitions


def _accuracy(targets, answers):
    return sum(t == a for t, a in zip(targets, answers, strict=True)) / len(targets)


def _f1_of(positive, targets, answers):
    hits = sum(t == a == positive for t, a in zip(targets, answers, strict=True))
    num = sum(t == positive for t in targets) + sum(a == positive for a in answers)
    return 2 * hits / num if num else 0.0


def _binary_f1(targets, answers):
    return _f1_of(1, targets, [a if a in (0, 1) else 1 - t for t, a in zip(targets, answers, strict=True)])


def _macro_f1(targets, answers):
    return sum(_f1_of(label, targets, answers) for label in range(3)) / 3


def _matthews(targets, answers):
    """R_K of Gorodkin: for two labels Matthews' correlation."""
    n, right = len(targets), sum(t == a for t, a in zip(targets, answers, strict=True))
    of_targets, of_answers = collections.Counter(targets), collections.Counter(answers)
    covariance = right * n - sum(of_targets[label] * of_answers[label] for label in of_targets)
    spread = [n * n - sum(count**2 for count in counts.values()) for counts in (of_targets, of_answers)]
    return covariance / math.sqrt(spread[0] * spread[1]) if all(spread) else 0.0


def _pearson(targets, answers):
    means = [sum(side) / len(side) for side in (targets, answers)]
    left, right = (
        [value - mean for value in side] for side, mean in zip((targets, answers), means, strict=True)
    )
    spread = math.sqrt(sum(v * v for v in left) * sum(v * v for v in right))
    return sum(a * b for a, b in zip(left, right, strict=True)) / spread if spread else 0.0


def _spearman(targets, answers):
    def ranks(values):
        return [
            sum(v < value for v in values) + (sum(v == value for v in values) - 1) / 2 for value in values
        ]

    return _pearson(ranks(targets), ranks(answers))


def _all_right(groups, targets, answers):
    wrong = {g for g, t, a in zip(groups, targets, answers, strict=True) if t != a}
    return 1 - len(wrong) / len(set(groups))


def _parity(groups, answers):
    pairs = collections.defaultdict(list)
    for group, answer in zip(groups, answers, strict=True):
        pairs[group].append(answer)
    return sum(first == second != -1 for first, second in pairs.values()) / len(pairs)


def _normal(text):
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _squad_f1(text, gold):
    common = sum((collections.Counter(_normal(text)) & collections.Counter(_normal(gold))).values())
    if not common:
        return 0.0
    precision, recall = common / len(_normal(text)), common / len(_normal(gold))
    return 2 * precision * recall / (precision + recall)


def _record(compare, examples, answers):
    queries = {}
    for example, answer in zip(examples, answers, strict=True):
        queries.setdefault(example.group, max(compare(answer, gold) for gold in example.accepted))
    return sum(queries.values()) / len(queries)


def _expected(name: str, examples: list[Example], answers: list) -> dict[str, float]:
    """Returns the scores of a task, as fractions, by the definition of its leaderboard."""
    targets, groups = ([getattr(e, field) for e in examples] for field in ("answer", "group"))
    if name == "super_glue/record":
        return {
            "f1": _record(_squad_f1, examples, answers),
            "exact_match": _record(lambda text, gold: _normal(text) == _normal(gold), examples, answers),
        }
    if name == "glue/stsb":
        return {"pearson": _pearson(targets, answers), "spearman": _spearman(targets, answers)}
    if name in ("glue/cola", "glue/ax", "super_glue/axb"):
        return {"matthews_corrcoef": _matthews(targets, answers)}
    accuracy = {"accuracy": _accuracy(targets, answers)}
    if name in ("glue/mrpc", "glue/qqp"):
        return accuracy | {"f1": _binary_f1(targets, answers)}
    if name == "super_glue/cb":
        return accuracy | {"macro_f1": _macro_f1(targets, answers)}
    if name == "super_glue/multirc":
        return {"f1": _binary_f1(targets, answers), "exact_match": _all_right(groups, targets, answers)}
    if name == "super_glue/axg":
        return accuracy | {"gender_parity": _parity(groups, answers)}
    return accuracy


# --- stored predictions

SUITES = [entry.task for entry in (*GLUE.tasks, *SUPER_GLUE.tasks)]
REFERENTS = ["glue/wnli_referent", "super_glue/wsc_referent"]
OTHER_TEXTS = ["", "<unk>", "Entailment", "true", " True", "entailment.", "3.", "not", "0", "1", "nan", "2.6"]


def _example(index: int, targets: str, answer, **options) -> Example:
    return Example(index=index, inputs="", targets=targets, answer=answer, **options)


def _examples(task: Task) -> list[Example]:
    """Returns 12 examples: every label, groups of two and of four, and queries with several answers, one asked twice."""
    if task.name == "glue/stsb":
        return [
            _example(i, f"{number:.1f}", number)
            for i, number in enumerate([0.0, 5.0, 2.6, 3.8, 2.6, 1.0] * 2)
        ]
    if task.name == "super_glue/record":
        answers = [
            ("Al",),
            ("The U.S.", "America"),
            ("Bob Smith", "Smith"),
            ("Bob Smith", "Smith"),
            ("the A",),
            ("x",),
        ]
        return [
            _example(
                i,
                accepted[i % len(accepted)],
                accepted[i % len(accepted)],
                accepted=accepted,
                group=(0, group),
            )
            for i, (accepted, group) in enumerate(
                zip(answers * 2, [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9], strict=True)
            )
        ]
    if task.name in REFERENTS:
        nouns = ["Bob", "the fuzzy bunny", "Al's hat", "Eve"] * 3
        return [_example(i, noun, int(i % 3 > 0)) for i, noun in enumerate(nouns)]
    group = {"super_glue/axg": 2, "super_glue/multirc": 4}.get(task.name)
    labels = [(5 * i + i // 4) % len(task.labels) for i in range(12)]
    if task.name == "super_glue/axg":  # whose pairs have one label
        labels = [i // 2 % 2 for i in range(12)]
    return [
        _example(i, task.labels[label], label, group=group and i // group) for i, label in enumerate(labels)
    ]


def _written(task: Task, examples: list[Example]) -> dict[str, list[str]]:
    """Returns, by what they are like, texts that a model might write for the examples."""
    right = [example.targets for example in examples]
    words = list(task.labels) or ["2.6", "Smith", "us", "Al"]
    if task.name in REFERENTS:
        words = ["bob", "bunny", "Al", "the"]
    stored = {
        "right": right,
        "one wrong": [words[0] if right[0] != words[0] else words[1], *right[1:]],
        "half wrong": [text if i % 2 else words[i % len(words)] for i, text in enumerate(right)],
        "some invalid": [
            text if i % 3 else OTHER_TEXTS[i % len(OTHER_TEXTS)] for i, text in enumerate(right)
        ],
        "all invalid": OTHER_TEXTS,
        "all empty": [""] * 12,
        "turned around": right[::-1],
    }
    return stored | {f"always {word}": [word] * 12 for word in words}


@pytest.mark.parametrize("name", [*SUITES, *REFERENTS])
def test_scores_of_stored_predictions_are_the_official_ones(name):
    task = find_task(name)
    examples = _examples(task)
    for like, texts in _written(task, examples).items():
        answers = [task.parsed(text, example) for text, example in zip(texts, examples, strict=True)]
        scores = score(task, examples, answers)
        invalid_rate = scores.pop("invalid_rate", None)
        assert scores == pytest.approx(
            {metric: 100 * value for metric, value in _expected(name, examples, answers).items()}, abs=1e-9
        ), like
        assert list(scores) == [metric.name for metric in task.metrics]
        if task.labels and name not in REFERENTS:
            assert invalid_rate == pytest.approx(100 * sum(text not in task.labels for text in texts) / 12)
        if like == "all empty" and task.kind != "text":
            assert invalid_rate == 100.0


@pytest.mark.parametrize("name", [*SUITES, *REFERENTS])
def test_right_answers_score_100(name):
    task = find_task(name)
    examples = _examples(task)
    if task.name == "super_glue/record":  # 'the A' leaves no words, which ReCoRD's script gives no F1
        examples = [example for example in examples if example.accepted != ("the A",)]
    scores = score(task, examples, [example.answer for example in examples])
    assert scores.pop("invalid_rate", 0.0) == 0.0
    assert scores == {metric.name: pytest.approx(100.0) for metric in task.metrics}


@pytest.mark.parametrize("name", SUITES)
def test_the_constant_answer_scores_what_the_definition_says(name):
    task = find_task(name)
    examples = _examples(task)
    answer = constant_answer(task, examples)
    if answer is None:
        return
    scores = score(task, examples, [answer] * len(examples))
    expected = _expected(name, examples, [answer] * len(examples))
    assert {metric: scores[metric] for metric in expected} == pytest.approx(
        {m: 100 * v for m, v in expected.items()}
    )
    if "matthews_corrcoef" in expected or "pearson" in expected:
        assert set(expected.values()) == {0.0}


# --- by hand, for one task of each metric


@pytest.mark.parametrize(
    ("name", "answers", "given", "expected"),
    [
        ("glue/cola", [1, 1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0], {"matthews_corrcoef": 500 / 12}),
        ("glue/mrpc", [1, 1, 1, 0, 0], [1, 1, -1, 1, 0], {"f1": 200 / 3, "accuracy": 60.0}),
        (
            "glue/stsb",
            [1.0, 2.0, 3.0],
            [4.0, 4.0, 7.0],
            {"pearson": 86.6025403784, "spearman": 86.6025403784},
        ),
        # Confusion of three labels: 3 right of 5, targets 2 2 1, answers 3 1 1: 15 - 8, over sqrt(16 * 14).
        ("glue/ax", [0, 0, 1, 1, 2], [0, 0, 0, 1, -1], {"matthews_corrcoef": 100 * 7 / math.sqrt(16 * 14)}),
        ("super_glue/cb", [0, 0, 1, 1, 2], [0, 1, 1, -1, 0], {"macro_f1": 100 / 3, "accuracy": 40.0}),
    ],
)
def test_scores_by_hand(name, answers, given, expected):
    examples = [_example(index, "", answer) for index, answer in enumerate(answers)]
    scores = score(find_task(name), examples, given)
    assert {metric: scores[metric] for metric in expected} == pytest.approx(expected)


def test_multirc_by_hand():
    examples = [_example(i, "", answer, group=(0, i // 2)) for i, answer in enumerate([1, 0, 1, 1, 0, 0])]
    scores = score(find_task("super_glue/multirc"), examples, [1, 0, 1, 0, 0, -1])
    # 2 hits, 1 miss, and the invalid one is a false alarm; of three questions the first is right.
    assert scores == pytest.approx({"f1": 200 / 3, "exact_match": 100 / 3, "invalid_rate": 100 / 6})


def test_record_by_hand():
    examples = [
        _example(i, accepted[0], accepted[0], accepted=accepted, group=group)
        for i, (accepted, group) in enumerate(
            [(("Al", "Bob Smith"), 0), (("Bob Smith", "Al"), 0), (("Eve",), 1)]
        )
    ]
    scores = score(find_task("super_glue/record"), examples, ["the Smith", "Al", ""])
    assert scores == pytest.approx({"f1": 100 / 3, "exact_match": 0.0})
