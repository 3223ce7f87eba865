"""Laws of the text-to-text objective."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.batch import SpecialTokens
from t5like.errors import UserError
from t5like.objectives.text_to_text import TextToText

SPECIAL = SpecialTokens(1, np.arange(99, 95, -1, dtype=np.int32))
ids = st.lists(st.integers(2, 90), max_size=12).map(lambda values: np.array(values, np.int32))


def test_worked_example():
    row = TextToText(inputs_length=4, targets_length=3)(
        np.array([7, 8], np.int32), np.array([4, 5, 6, 7], np.int32), SPECIAL, example_id=12
    )
    assert row["encoder_input_tokens"].tolist() == [7, 8, 1, 0]
    assert row["encoder_segment_ids"].tolist() == [1, 1, 1, 0]
    assert row["decoder_target_tokens"].tolist() == [4, 5, 6]
    assert row["decoder_input_tokens"].tolist() == [0, 4, 5]
    assert row["decoder_loss_weights"].tolist() == [1.0, 1.0, 1.0]
    assert row["example_ids"] == 12
    assert row["example_ids"].dtype == np.int64


def test_worked_example_with_begin_marks():
    special = SpecialTokens(
        1, np.array([], np.int32), pad_id=3, begin_ids=(9,), decoder_start_id=2, target_begin_ids=(9,)
    )
    row = TextToText(inputs_length=4, targets_length=3)(np.array([7]), np.array([4]), special, example_id=0)
    assert row["encoder_input_tokens"].tolist() == [9, 7, 1, 3]
    assert row["encoder_segment_ids"].tolist() == [1, 1, 1, 0]
    assert row["decoder_target_tokens"].tolist() == [9, 4, 1]
    assert row["decoder_input_tokens"].tolist() == [2, 9, 4]
    assert {row[name].dtype for name in row if name.endswith("_tokens")} == {np.dtype(np.int32)}


@settings(deadline=None, max_examples=50)
@given(inputs=ids, targets=ids, inputs_length=st.integers(1, 9), targets_length=st.integers(1, 9))
def test_each_side_ends_with_the_end_mark_unless_it_was_trimmed(
    inputs, targets, inputs_length, targets_length
):
    row = TextToText(inputs_length=inputs_length, targets_length=targets_length)(inputs, targets, SPECIAL, 0)
    for text, length, tokens, segments in (
        (inputs, inputs_length, "encoder_input_tokens", "encoder_segment_ids"),
        (targets, targets_length, "decoder_target_tokens", "decoder_segment_ids"),
    ):
        real = row[tokens][row[segments] == 1]
        assert row[tokens].shape == (length,)
        assert real.tolist() == [*text.tolist(), 1][:length]
        assert (1 in real) == (len(text) < length)


@pytest.mark.parametrize("name", ["inputs_length", "targets_length"])
def test_lengths_must_be_positive(name):
    with pytest.raises(UserError, match=f"{name} must be at least 1"):
        TextToText(**{"inputs_length": 4, "targets_length": 4, name: 0})
