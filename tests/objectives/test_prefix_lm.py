"""Laws of prefix language modelling: prefix and rest are the text, and nothing written can be seen in the prefix."""

import collections
import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.prefix_lm import PrefixLM
from tests.objectives.fakes import (
    TINY,
    FakeVocabulary,
    check_features,
    documents,
    flat,
    is_the_same,
    num_rows,
    real_tokens,
    seeds,
)

PLAIN = FakeVocabulary(begin_ids=())
MARKED = FakeVocabulary(target_begin_ids=(2, 3), decoder_start_id=1)
quick = settings(deadline=None, max_examples=100)
lengths = st.integers(4, 30)


def rows_of(objective, texts, seed=0, vocabulary=PLAIN):
    objective.check(vocabulary)
    return objective(texts, np.random.default_rng(seed), vocabulary)


def test_worked_example():
    text = [np.array([11, 12, 13, 14])]
    expected = {
        "encoder_input_tokens": [[11, 12, 1, 0, 0]],
        "decoder_target_tokens": [[13, 14, 1, 0, 0]],
    }
    drawn = [rows_of(PrefixLM(length=5), text, seed) for seed in range(50)]
    assert expected in [{name: rows[name].tolist() for name in expected} for rows in drawn]
    expected = {
        "decoder_input_tokens": [[1, 11, 12, 13, 14]],
        "decoder_target_tokens": [[11, 12, 13, 14, 1]],
        "decoder_causal_attention": [[1, 1, 1, 0, 0]],
        "decoder_loss_weights": [[0, 0, 1, 1, 1]],
    }
    drawn = [rows_of(PrefixLM(length=5, stacks="decoder"), text, seed) for seed in range(50)]
    assert expected in [{name: rows[name].tolist() for name in expected} for rows in drawn]


@quick
@given(length=lengths, joins=st.booleans(), texts=documents, seed=seeds, marked=st.booleans())
def test_prefix_and_rest_are_the_text(length, joins, texts, seed, marked):
    vocabulary = MARKED if marked else PLAIN
    objective = PrefixLM(length=length, joins_documents=joins)
    rows = rows_of(objective, texts, seed, vocabulary)
    check_features(rows, {"encoder": length, "decoder": length})
    begin, target_begin = ([2], [2, 3]) if marked else ([], [])
    chunks = []
    for inputs, targets in zip(
        real_tokens(rows, "encoder_input_tokens"), real_tokens(rows, "decoder_target_tokens"), strict=True
    ):
        assert inputs[: len(begin)] == begin
        assert targets[: len(target_begin)] == target_begin
        assert inputs[-1] == targets[-1] == 1
        prefix, rest = inputs[len(begin) : -1], targets[len(target_begin) : -1]
        assert rest
        assert prefix or len(rest) == 1
        chunks.append(prefix + rest)
    room = length - len(target_begin)
    if joins:
        assert flat(chunks) == flat(texts)
        assert all(len(chunk) == room for chunk in chunks[:-1])
    else:
        expected = (text[i : i + room].tolist() for text in texts for i in range(0, len(text), room))
        assert chunks == list(expected)
    np.testing.assert_array_equal(rows["decoder_loss_weights"], rows["decoder_segment_ids"])
    assert is_the_same(rows, rows_of(objective, texts, seed, vocabulary))


@quick
@given(length=lengths, joins=st.booleans(), texts=documents, seed=seeds)
def test_of_one_stack_rows_are_those_of_a_causal_model_but_for_the_prefix(length, joins, texts, seed):
    rows = rows_of(PrefixLM(length=length, joins_documents=joins, stacks="decoder"), texts, seed)
    check_features(rows, {"decoder": length})
    causal = rows_of(CausalLM(length=length, joins_documents=joins), texts)
    same = {name: rows[name] for name in causal if name != "decoder_loss_weights"}
    assert is_the_same(same, {name: causal[name] for name in same})
    for row in range(num_rows(rows)):
        attention, weights, real = (
            rows[f"decoder_{name}"][row].tolist()
            for name in ("causal_attention", "loss_weights", "segment_ids")
        )
        number, prefix = sum(real), sum(attention) - 1
        assert 0 <= prefix < number
        assert prefix or number == 1
        assert attention == [1] * (prefix + 1) + [0] * (length - prefix - 1)
        assert weights == [0] * prefix + [1] * (number - prefix) + [0] * (length - number)


@pytest.mark.parametrize("stacks", ["encoder_decoder", "decoder"])
def test_every_prefix_is_equally_likely(stacks):
    objective = PrefixLM(length=8, stacks=stacks)
    rows = rows_of(objective, [np.arange(11, 18)] * 4000)
    if stacks == "decoder":
        counts = collections.Counter(rows["decoder_causal_attention"].sum(axis=1) - 1)
        assert set(counts) == set(range(1, 8))  # of eight, the end mark among them
    else:
        counts = collections.Counter(rows["encoder_segment_ids"].sum(axis=1) - 1)
        assert set(counts) == set(range(1, 7))
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_no_text_makes_no_rows():
    for stacks, texts in itertools.product(("encoder_decoder", "decoder"), ([], [np.zeros(0, np.int32)])):
        assert num_rows(rows_of(PrefixLM(length=5, stacks=stacks), texts)) == 0


def test_short_rows_are_refused():
    with pytest.raises(UserError, match="length must be at least 2 tokens, not 1"):
        PrefixLM(length=1)
    PrefixLM(length=4).check(MARKED)
    with pytest.raises(UserError, match="length 3 is too short for two tokens and the marks"):
        PrefixLM(length=3).check(MARKED)
    PrefixLM(length=3, stacks="decoder").check(MARKED)


def test_it_is_for_either_stacks():
    assert (PrefixLM().stacks, PrefixLM(stacks="decoder").stacks) == ("encoder_decoder", "decoder")
    assert (PrefixLM().makes_pairs, PrefixLM(length=9).lengths) == (False, {"length": 9})
    PrefixLM(length=4).check(TINY)
