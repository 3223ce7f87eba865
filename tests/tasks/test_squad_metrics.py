"""Exact match and F1 of words: numbers by hand, and the official scripts' definitions written out once more."""

import collections
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.tasks.base import Example
from t5like.tasks.squad_metrics import (
    EXACT_MATCH,
    RECORD_F1,
    TOKEN_F1,
    exact_match,
    normalize_answer,
    token_f1,
)

words = st.lists(
    st.sampled_from(["a", "the", "The", "old", "mill.", "U.S.", "--", "\u00e9", "an", "theatre", "\t"]),
    max_size=6,
)
texts = words.map(" ".join)


def _question(*accepted: str, group=None) -> Example:
    return Example(
        index=0, inputs="", targets="", answer=accepted[0] if accepted else "", accepted=accepted, group=group
    )


# --- by hand


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (' The U.S. -- an  "ally" ', "us ally"),
        ("a an the", ""),
        ("theatre", "theatre"),
        ("a-b", "ab"),  # punctuation goes first, so no article is left over
        ("The\u00a0end", "end"),
        ("d\u2019accord", "d\u2019accord"),  # a typographic mark is no ASCII punctuation
        ("", ""),
    ],
)
def test_normalisation(text, normal):
    assert normalize_answer(text) == normal


def test_f1_worked_example():
    assert token_f1("the old mill", ["old water mill"]) == pytest.approx(4 / 5)
    assert token_f1("mill mill", ["mill"]) == pytest.approx(2 / 3)  # a word counts as often as both have it
    assert token_f1("old", ["new", "old mill"]) == pytest.approx(2 / 3)  # the best answer counts


def test_empty_answers():
    assert (exact_match("", ()), token_f1("", ())) == (
        1.0,
        1.0,
    )  # SQuAD 2.0: there is none, and none was given
    assert (exact_match("the", ()), token_f1("the", ())) == (1.0, 1.0)  # nothing is left of an article
    assert (exact_match("mill", ()), token_f1("mill", ())) == (0.0, 0.0)
    assert (exact_match("", ["mill"]), token_f1("", ["mill"])) == (0.0, 0.0)
    assert token_f1("", ["the"], both_empty=0.0) == 0.0


# --- the official definitions


def _official_normal(text: str) -> str:
    lowered = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


def _official_f1(prediction: str, gold: str, both_empty: int) -> float:
    predicted, target = _official_normal(prediction).split(), _official_normal(gold).split()
    if not predicted and not target:
        return both_empty
    num_same = sum((collections.Counter(predicted) & collections.Counter(target)).values())
    if num_same == 0:
        return 0
    precision, recall = num_same / len(predicted), num_same / len(target)
    return 2 * precision * recall / (precision + recall)


@settings(deadline=None, max_examples=200)
@given(prediction=texts, accepted=st.lists(texts, min_size=1, max_size=3), both_empty=st.sampled_from([0, 1]))
def test_scores_are_those_of_the_official_scripts(prediction, accepted, both_empty):
    assert exact_match(prediction, accepted) == max(
        _official_normal(prediction) == _official_normal(gold) for gold in accepted
    )
    assert token_f1(prediction, accepted, both_empty=both_empty) == pytest.approx(
        max(_official_f1(prediction, gold, both_empty) for gold in accepted)
    )


@settings(deadline=None, max_examples=50)
@given(prediction=texts, gold=texts)
def test_f1_is_symmetric_and_one_exactly_where_the_words_are_the_same(prediction, gold):
    value = token_f1(prediction, [gold])
    assert value == token_f1(gold, [prediction])
    same = sorted(normalize_answer(prediction).split()) == sorted(normalize_answer(gold).split())
    assert (value == 1.0) == same


# --- metrics of a split


def test_metrics_are_means_over_questions():
    examples = [_question("the mill"), _question("old mill", "mill"), _question()]
    answers = ["Mill.", "old", ""]
    assert EXACT_MATCH.measure(examples, answers) == pytest.approx(2 / 3)
    assert TOKEN_F1.measure(examples, answers) == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_a_question_asked_twice_counts_once_and_its_first_answer_counts():
    examples = [
        _question("a b", "c", group=(0, 7)),
        _question("c", group=(0, 7)),
        _question("d", group=(0, 8)),
    ]
    assert EXACT_MATCH.measure(examples, ["c", "wrong", "wrong"]) == 0.5
    assert RECORD_F1.measure(examples, ["wrong", "c", "d"]) == 0.5
    assert EXACT_MATCH.by_group
    assert TOKEN_F1.by_group
    assert RECORD_F1.by_group


def test_record_gives_no_f1_for_words_that_are_not_there():
    examples = [_question("The"), _question("Bhutto")]
    assert EXACT_MATCH.measure(examples, ["the", "Bhutto"]) == 1.0
    assert RECORD_F1.measure(examples, ["the", "Bhutto"]) == 0.5
    assert TOKEN_F1.measure(examples, ["the", "Bhutto"]) == 1.0
