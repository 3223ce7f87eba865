"""A tiny vocabulary whose ids say what they are, and documents made of it.

id       0     1    2       3        4       5         6      7      8     9
token    pad   end  begin   between  mask    unknown   99     98     97    none     (99 to 97: sentinels)
id       10 .. 199
token    words' beginnings where the id is even, insides of words where it is odd; those that end in 8 or 9 end sentences
"""

from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import strategies as st

from t5like.batch import Features, SpecialTokens

FIRST_ID, NUM_TOKENS = 10, 200


class FakeVocabulary:
    """What objectives ask of a vocabulary."""

    num_tokens = NUM_TOKENS

    def __init__(
        self,
        *,
        begin_ids: tuple[int, ...] = (2,),
        separator_ids: tuple[int, ...] = (3,),
        target_begin_ids: tuple[int, ...] = (),
        sentinel_ids: Sequence[int] = (6, 7, 8),
        mask_id: int | None = 4,
        decoder_start_id: int = 0,
    ) -> None:
        self.special_tokens = SpecialTokens(
            1,
            np.array(sentinel_ids, np.int32),
            begin_ids=begin_ids,
            separator_ids=separator_ids,
            target_begin_ids=target_begin_ids,
            mask_id=mask_id,
            unk_id=5,
            decoder_start_id=decoder_start_id,
        )
        ids = np.arange(NUM_TOKENS)
        self.is_special = ids < FIRST_ID
        self.starts_word = self.is_special | (ids % 2 == 0)
        self.ends_sentence = ~self.is_special & (ids % 10 >= 8)

    def encode(self, text: str) -> np.ndarray:
        """Returns a token for each letter."""
        return np.array([FIRST_ID + ord(letter) % 64 for letter in text], np.int32)


TINY = FakeVocabulary()

documents = st.lists(
    st.lists(st.integers(FIRST_ID, NUM_TOKENS - 1), max_size=40).map(lambda ids: np.array(ids, np.int32)),
    max_size=6,
)
"""Some documents, among them empty ones and such of one token."""

seeds = st.integers(0, 2**32 - 1)


def num_rows(rows: Features) -> int:
    """Returns how many rows there are, the same of every feature."""
    (number,) = {len(feature) for feature in rows.values()}
    return number


def real_tokens(rows: Features, name: str) -> list[list[int]]:
    """Returns the tokens of a feature in each row, without padding, which must all be at the end and 0."""
    side = name.split("_")[0]
    tokens = []
    for row, segment_ids in zip(rows[name], rows[f"{side}_segment_ids"], strict=True):
        number = int(segment_ids.sum())
        assert segment_ids.tolist() == [1] * number + [0] * (len(row) - number)
        assert not row[number:].any()
        tokens.append(row[:number].tolist())
    return tokens


def flat(texts: Iterable[Iterable[int]]) -> list[int]:
    """Returns the tokens of all texts."""
    return [int(token) for text in texts for token in text]


def check_features(rows: Features, lengths: dict[str, int]) -> None:
    """Asserts names, shapes and dtypes, that ids are ids, and that weights lie on real tokens alone.

    Args:
      lengths: of the rows of each side.
    """
    for name, feature in rows.items():
        side = name.split("_")[0]
        assert feature.dtype == (np.float32 if name.endswith("weights") else np.int32), name
        assert feature.shape == (num_rows(rows), *([lengths[side]] if side in lengths else [])), name
        if name.endswith("tokens"):
            assert feature.min(initial=0) >= 0
            assert feature.max(initial=0) < NUM_TOKENS
        if name.endswith("weights"):
            assert set(np.unique(feature)) <= {0.0, 1.0}
            assert not feature[rows[f"{side}_segment_ids"] == 0].any()


def is_the_same(first: Features, second: Features) -> bool:
    """Returns whether two sets of rows are equal."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
