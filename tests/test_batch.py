"""Rows of a batch: what pads them, what the decoder starts with."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.batch import (
    SpecialTokens,
    decoder_rows,
    encoder_decoder_row,
    encoder_decoder_rows,
    encoder_pair_rows,
    encoder_rows,
    with_marks,
)

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


SPECIAL = SpecialTokens(3, np.zeros(0, np.int32), begin_ids=(2,), separator_ids=(3,))


def test_worked_examples_of_rows():
    rows = encoder_rows(np.array([7, 8, 9]), np.array([2, 1]), SPECIAL, length=4)
    assert rows["encoder_input_tokens"].tolist() == [[2, 7, 8, 3], [2, 9, 3, 0]]
    assert rows["encoder_segment_ids"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    rows = encoder_pair_rows(np.array([7, 8]), np.array([2]), np.array([9]), np.array([1]), SPECIAL, length=7)
    assert rows["encoder_input_tokens"].tolist() == [[2, 7, 8, 3, 9, 3, 0]]
    assert rows["encoder_segment_ids"].tolist() == [[1, 1, 1, 1, 1, 1, 0]]
    assert rows["encoder_token_types"].tolist() == [[0, 0, 0, 0, 1, 1, 0]]
    rows = decoder_rows(np.array([5, 6, 7]), np.array([2, 1]), np.array([9, 8]), length=3, pad_id=0)
    assert rows["decoder_target_tokens"].tolist() == [[5, 6, 0], [7, 0, 0]]
    assert rows["decoder_input_tokens"].tolist() == [[9, 5, 0], [8, 0, 0]]
    tokens, lengths = with_marks(np.array([7, 8, 9]), np.array([2, 1]), before=(2,), after=(3,))
    assert tokens.tolist() == [2, 7, 8, 3, 2, 9, 3]
    assert lengths.tolist() == [4, 3]


@settings(deadline=None, max_examples=100)
@given(
    texts=st.lists(st.tuples(ids, ids), max_size=4),
    begin=st.lists(st.integers(0, 9), max_size=2),
    target_begin=st.lists(st.integers(0, 9), max_size=2),
    start=st.integers(0, 9),
)
def test_many_rows_are_rows_one_by_one(texts, begin, target_begin, start):
    special = SpecialTokens(
        1,
        np.zeros(0, np.int32),
        pad_id=3,
        begin_ids=tuple(begin),
        target_begin_ids=tuple(target_begin),
        decoder_start_id=start,
    )
    nothing = np.zeros(0, np.int32)
    inputs, targets = ([pair[side] for pair in texts] for side in (0, 1))
    rows = encoder_decoder_rows(
        np.concatenate([*inputs, nothing]),
        np.array([len(text) for text in inputs], np.int64),
        np.concatenate([*targets, nothing]),
        np.array([len(text) for text in targets], np.int64),
        special,
        inputs_length=12,
        targets_length=11,
    )
    for row, pair in enumerate(texts):
        one = encoder_decoder_row(
            np.concatenate([begin, pair[0], [1]]),
            np.concatenate([target_begin, pair[1], [1]]),
            inputs_length=12,
            targets_length=11,
            pad_id=3,
            decoder_start_id=start,
        )
        assert one.keys() == rows.keys()
        for name, feature in one.items():
            np.testing.assert_array_equal(rows[name][row], feature)
            assert rows[name].dtype == feature.dtype
