"""Texts and pairs for encoders: cut as public tokenizers cut them, marks where the family has them."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.objectives.classification import count_marks, cut_pair, text_rows
from tests.tiny_models import vocabulary_of

WORDS = [f"w{number}" for number in range(12)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [5], ([1, 2, 3, 4], [5])),
        ([1, 2, 3, 4, 6], [5], ([1, 2, 3, 4], [5])),
        ([1, 2, 3, 4], [5, 6, 7, 8], ([1, 2], [5, 6, 7])),
    ],
)
def test_worked_examples(first, second, expected):
    cut = cut_pair(np.array(first), np.array(second), 5)
    assert tuple(side.tolist() for side in cut) == expected


@settings(deadline=None, max_examples=200)
@given(first=st.integers(0, 12), second=st.integers(0, 12), length=st.integers(1, 20))
def test_pairs_are_cut_as_the_public_tokenizers_cut_them(first, second, length):
    public = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "w0")
    )
    public.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    public.enable_truncation(length, strategy="longest_first")
    encoded = public.encode(" ".join(WORDS[:first]), " ".join(WORDS[:second]))
    cut = cut_pair(np.arange(first), np.arange(second), length)
    assert np.concatenate(cut).tolist() == encoded.ids
    assert len(cut[0]) == encoded.sequence_ids.count(0)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_rows_are_those_of_the_family(name):
    vocabulary = vocabulary_of(name)
    marks = vocabulary.special_tokens
    a, b = (vocabulary.encode(text).tolist() for text in ("the", "a b"))
    rows = text_rows([("the", "a b"), ("the", "")], vocabulary, length=12)
    expected = [*marks.begin_ids, *a, *marks.separator_ids, *b, marks.eos_id]
    assert rows["encoder_input_tokens"][0, : len(expected)].tolist() == expected
    assert rows["encoder_segment_ids"].sum(axis=1).tolist() == [len(expected), len(expected) - len(b)]
    first = len(marks.begin_ids) + len(a) + len(marks.separator_ids)
    assert rows["encoder_token_types"][0].tolist() == [0] * first + [1] * (len(expected) - first) + [0] * (
        12 - len(expected)
    )
    single = text_rows([("the",), ("a b",)], vocabulary, length=12)
    assert "encoder_token_types" not in single
    assert single["encoder_input_tokens"][0, : len(a) + 2].tolist() == [*marks.begin_ids, *a, marks.eos_id]


def test_a_long_text_keeps_its_marks():
    vocabulary = vocabulary_of("bert")
    for texts in (("a b c d e f g",), ("a b c d e f g", "h i j k")):
        (row,) = text_rows([texts], vocabulary, length=8)["encoder_input_tokens"]
        assert row[0] == vocabulary.special_tokens.begin_ids[0]
        assert row[-1] == vocabulary.eos_id
        assert (row == vocabulary.eos_id).sum() == len(texts)
    num_marks = count_marks(vocabulary.special_tokens, is_pair=True)
    with pytest.raises(UserError, match="no room for text"):
        text_rows([("a", "b")], vocabulary, length=num_marks)
