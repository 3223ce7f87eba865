"""Texts, or pairs of texts, for an encoder that gives each row a label or a number."""

from collections.abc import Sequence

import numpy as np

from t5like.batch import Features, SpecialTokens, encoder_pair_rows, encoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError


def text_rows(texts: Sequence[tuple[str, ...]], vocabulary: Vocabulary, *, length: int) -> Features:
    """Returns what an encoder reads of texts or pairs, [num_rows, length], cut where they are too long.

    Args:
      texts: one or two for each row, the same number for all.

    Raises:
      UserError: the marks alone do not fit.
    """
    special_tokens = vocabulary.special_tokens
    num_marks = count_marks(special_tokens, is_pair=len(texts[0]) == 2)
    if length <= num_marks:
        raise UserError(f"inputs_length {length} has no room for text: {num_marks} marks stand around it.")
    sides = [vocabulary.encode_batch(list(side)) for side in zip(*texts, strict=True)]
    if len(sides) == 1:
        cut = [ids[: length - num_marks] for ids in sides[0]]
        return encoder_rows(*joined(cut), special_tokens, length=length)
    pairs = [cut_pair(first, second, length - num_marks) for first, second in zip(*sides, strict=True)]
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    return encoder_pair_rows(*joined(firsts), *joined(seconds), special_tokens, length=length)


def count_marks(special_tokens: SpecialTokens, *, is_pair: bool) -> int:
    """Returns how many marks stand around a text or a pair: 2 and 3 in BERT, 2 and 4 in RoBERTa."""
    between = len(special_tokens.separator_ids) if is_pair else 0
    return len(special_tokens.begin_ids) + between + 1


def cut_pair(first: np.ndarray, second: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both texts cut to `length` ids together, the longer one first, as Transformers' tokenizers cut them.

    With length 5:  [1 2 3 4] [5]          ->  [1 2 3 4] [5]
                    [1 2 3 4 6] [5]        ->  [1 2 3 4] [5]
                    [1 2 3 4] [5 6 7 8]    ->  [1 2] [5 6 7]
    """
    if len(first) + len(second) <= length:
        return first, second
    shorter = min(len(first), len(second), length // 2)
    if len(first) > len(second):
        return first[: length - shorter], second[:shorter]
    return first[:shorter], second[: length - shorter]


def joined(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids one after another [any] int32, and how many are of each text [num_texts]."""
    return np.concatenate([*texts, np.zeros(0, np.int32)]), np.array([len(ids) for ids in texts], np.int64)
