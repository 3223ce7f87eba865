"""Laws of causal language modelling: every token is a target once, and is predicted from the one before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.causal_lm import CausalLM
from tests.objectives.fakes import (
    TINY,
    check_features,
    documents,
    flat,
    is_the_same,
    num_rows,
    real_tokens,
    seeds,
)

objectives = st.builds(CausalLM, length=st.integers(1, 30), joins_documents=st.booleans())
quick = settings(deadline=None, max_examples=100)
TWO_TEXTS = [np.array([11, 12, 13, 14]), np.array([15])]


@pytest.mark.parametrize(
    ("joins", "targets", "inputs"),
    [
        (True, [[11, 12, 13, 14], [1, 15, 1, 0]], [[1, 11, 12, 13], [14, 1, 15, 0]]),
        (
            False,
            [[11, 12, 13, 14], [1, 0, 0, 0], [15, 1, 0, 0]],
            [[1, 11, 12, 13], [14, 0, 0, 0], [1, 15, 0, 0]],
        ),
    ],
)
def test_worked_example(joins, targets, inputs):
    objective = CausalLM(length=4, joins_documents=joins)
    rows = objective(TWO_TEXTS, np.random.default_rng(0), TINY)
    assert rows["decoder_target_tokens"].tolist() == targets
    assert rows["decoder_input_tokens"].tolist() == inputs


@quick
@given(objective=objectives, texts=documents, seed=seeds)
def test_every_token_is_a_target_once_and_follows_its_input(objective, texts, seed):
    rows = objective(texts, np.random.default_rng(seed), TINY)
    check_features(rows, {"decoder": objective.length})
    ended = [[*text.tolist(), 1] for text in texts if len(text)]
    targets = real_tokens(rows, "decoder_target_tokens")
    assert flat(targets) == flat(ended)
    assert flat(real_tokens(rows, "decoder_input_tokens")) == [1, *flat(ended)][: len(flat(ended))]
    np.testing.assert_array_equal(rows["decoder_loss_weights"], rows["decoder_segment_ids"])
    if objective.joins_documents:
        assert all(len(row) == objective.length for row in targets[:-1])
    else:
        firsts = [row[0] for row in targets if len(row)]
        assert num_rows(rows) == sum(-(-len(text) // objective.length) for text in ended)
        assert set(firsts) >= {text[0] for text in ended}


@quick
@given(objective=objectives, texts=documents)
def test_nothing_is_drawn(objective, texts):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    first = objective(texts, rng, TINY)
    assert rng.bit_generator.state == before
    assert is_the_same(first, objective(texts, np.random.default_rng(1), TINY))


def test_it_is_for_a_decoder_alone():
    objective = CausalLM(length=7)
    objective.check(TINY)
    assert (objective.stacks, objective.makes_pairs, objective.lengths) == ("decoder", False, {"length": 7})


def test_a_row_holds_a_token():
    with pytest.raises(UserError, match="length must be at least 1 token, not 0"):
        CausalLM(length=0)
