"""Laws of packing: every example whole and once, no row over its length, and rows nearly full."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.batch import EXAMPLE_IDS, SpecialTokens, encoder_decoder_rows
from t5like.data.packing import first_fit, pack
from t5like.errors import UserError

SPECIAL = SpecialTokens(1, np.array([99], np.int32))


def _examples(pairs, *, inputs_length=8, targets_length=6, special=SPECIAL):
    """One example for each pair of lengths, every token with an id of its own, end marks after both sides."""
    inputs, targets = np.array(pairs).reshape(-1, 2).T
    ids = np.arange(100, 100 + inputs.sum() + targets.sum(), dtype=np.int32)
    rows = encoder_decoder_rows(
        ids[: inputs.sum()],
        inputs,
        ids[inputs.sum() :],
        targets,
        special,
        inputs_length=inputs_length,
        targets_length=targets_length,
    )
    return {**rows, EXAMPLE_IDS: np.arange(50, 50 + len(pairs))}


def _segments(rows, side, names):
    """Of each example id, its tokens of one side as they lie in the packed rows, in each of the named features."""
    segments = {}
    for row in range(len(rows[EXAMPLE_IDS])):
        for segment, example in enumerate(rows[EXAMPLE_IDS][row], start=1):
            if example >= 0:
                is_own = rows[f"{side}_segment_ids"][row] == segment
                assert example not in segments
                segments[int(example)] = {
                    name: rows[f"{side}_{name}"][row][is_own].tolist() for name in names
                }
    return segments


def test_first_fit_as_in_the_docstring():
    rows = first_fit(np.array([[5], [3], [4], [8], [2]]), np.array([8]))
    assert rows.tolist() == [1, 1, 2, 0, 2]


def test_a_packed_row_as_in_the_docstring():
    examples = {
        "encoder_input_tokens": np.array([[7, 8, 0, 0], [9, 0, 0, 0]], np.int32),
        "encoder_segment_ids": np.array([[1, 1, 0, 0], [1, 0, 0, 0]], np.int32),
        EXAMPLE_IDS: np.array([4, 5]),
    }
    packed = pack(examples, pad_id=0)
    assert {name: feature.tolist() for name, feature in packed.items()} == {
        "encoder_input_tokens": [[7, 8, 9, 0]],
        "encoder_segment_ids": [[1, 1, 2, 0]],
        "encoder_positions": [[0, 1, 0, 0]],
        EXAMPLE_IDS: [[4, 5]],
    }


pairs_of_lengths = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=30)


@settings(deadline=None)
@given(pairs_of_lengths)
def test_every_example_is_whole_and_once_on_both_sides(pairs):
    examples = _examples(pairs)
    packed = pack(examples, pad_id=0)
    for side, names in (
        ("encoder", ("input_tokens", "positions")),
        ("decoder", ("input_tokens", "target_tokens", "loss_weights", "positions")),
    ):
        segments = _segments(packed, side, names)
        assert sorted(segments) == list(range(50, 50 + len(pairs)))
        for number in range(len(pairs)):
            is_real = examples[f"{side}_segment_ids"][number] > 0
            own = segments[50 + number]
            assert own.pop("positions") == list(range(is_real.sum()))
            assert own == {name: examples[f"{side}_{name}"][number][is_real].tolist() for name in own}
        for name, feature in packed.items():
            if name.startswith(side):
                assert feature.dtype == examples.get(name, packed[f"{side}_segment_ids"]).dtype
                is_padding = packed[f"{side}_segment_ids"] == 0
                assert not feature[is_padding].any()
                # Real tokens first, segments in order.
                numbers = [n for n in packed[f"{side}_segment_ids"].T.tolist() if any(n)]
                assert all(np.diff(row[row > 0]).min(initial=0) >= 0 for row in np.array(numbers).T)


@settings(deadline=None)
@given(pairs_of_lengths)
def test_first_fit_leaves_no_two_rows_that_would_go_together(pairs):
    lengths = np.array(pairs) + 1
    capacities = np.array([8, 6])
    rows = first_fit(lengths, capacities)
    filled = np.stack([lengths[rows == row].sum(axis=0) for row in range(rows.max() + 1)])
    assert (filled <= capacities).all()
    for a in range(len(filled)):
        for b in range(a):
            assert (filled[a] + filled[b] > capacities).any()


def test_padding_is_the_familys_and_an_id_of_padding_in_a_segment_is_legal():
    special = SpecialTokens(1, np.array([99], np.int32), pad_id=3)
    examples = _examples([(2, 2), (1, 1), (6, 3)], special=special)
    examples["encoder_input_tokens"][0, 0] = 3
    packed = pack(examples, pad_id=3)
    is_padding = packed["encoder_segment_ids"] == 0
    assert is_padding.any()
    assert (packed["encoder_input_tokens"][is_padding] == 3).all()
    assert (packed["decoder_loss_weights"][packed["decoder_segment_ids"] == 0] == 0).all()
    assert 3 in _segments(packed, "encoder", ("input_tokens",))[50]["input_tokens"]


def test_no_examples_make_no_rows():
    packed = pack({name: feature[:0] for name, feature in _examples([(1, 1)]).items()}, pad_id=0)
    assert packed["encoder_input_tokens"].shape == (0, 8)
    assert packed[EXAMPLE_IDS].shape[0] == 0


def test_what_belongs_to_a_row_cannot_be_packed():
    examples = {**_examples([(1, 1)]), "next_sentence_labels": np.zeros(1, np.int32)}
    with pytest.raises(UserError, match="next_sentence_labels cannot be packed"):
        pack(examples, pad_id=0)
