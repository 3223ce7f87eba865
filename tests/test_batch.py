"""Rows of a batch: what pads them, what the decoder starts with."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.batch import encoder_decoder_row

ids = st.lists(st.integers(0, 9), max_size=8).map(lambda values: np.array(values, np.int32))
lengths = st.integers(1, 6)


def test_worked_examples():
    inputs, targets = np.array([7, 8, 1]), np.array([5, 6, 1])
    row = encoder_decoder_row(inputs, targets, inputs_length=4, targets_length=4)
    assert row["encoder_input_tokens"].tolist() == [7, 8, 1, 0]
    assert row["encoder_segment_ids"].tolist() == [1, 1, 1, 0]
    assert row["decoder_input_tokens"].tolist() == [0, 5, 6, 0]
    assert row["decoder_target_tokens"].tolist() == [5, 6, 1, 0]
    assert row["decoder_segment_ids"].tolist() == [1, 1, 1, 0]
    assert row["decoder_loss_weights"].tolist() == [1, 1, 1, 0]
    row = encoder_decoder_row(
        inputs, targets, inputs_length=4, targets_length=4, pad_id=3, decoder_start_id=2
    )
    assert row["encoder_input_tokens"].tolist() == [7, 8, 1, 3]
    assert row["decoder_input_tokens"].tolist() == [2, 5, 6, 3]
    assert row["decoder_target_tokens"].tolist() == [5, 6, 1, 3]


@settings(deadline=None, max_examples=100)
@given(inputs=ids, targets=ids, inputs_length=lengths, targets_length=lengths, pad_id=st.integers(0, 9))
def test_padding_is_where_the_segment_is_0_and_changes_nothing_else(
    inputs, targets, inputs_length, targets_length, pad_id
):
    plain, padded = (
        encoder_decoder_row(
            inputs,
            targets,
            inputs_length=inputs_length,
            targets_length=targets_length,
            pad_id=pad,
            decoder_start_id=5,
        )
        for pad in (11, pad_id)
    )
    for name, feature in padded.items():
        if name.endswith("_tokens"):
            is_padding = padded[f"{name.split('_')[0]}_segment_ids"] == 0
            assert (feature[is_padding] == pad_id).all()
            assert (plain[name] == 11)[is_padding].all()
            np.testing.assert_array_equal(feature[~is_padding], plain[name][~is_padding])
        else:
            np.testing.assert_array_equal(feature, plain[name])
    real = padded["decoder_segment_ids"] == 1
    np.testing.assert_array_equal(padded["decoder_input_tokens"][real], [5, *targets][: real.sum()])
