"""Words to tag, for an encoder: the first token of a word is asked, and what it says goes for the word."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import Features, encoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.classification import count_marks, joined

NOT_ASKED = -1
OUTSIDE = "O"
"""The tag of a word that is part of nothing."""


class TaggingRows(NamedTuple):
    """Rows, one a text, and where their words are asked.

    Attributes:
      features: what `encoder_rows` gives, `tag_ids` [num_rows, length] int32 and `tag_weights` likewise float32.
      places: of each row, the column of the first token of each word, [num_words] int; `NOT_ASKED` of a word that has
        no token or stands beyond the end of the row.
    """

    features: Features
    places: list[np.ndarray]


def tagging_rows(
    texts: Sequence[str], tag_ids: Sequence[Sequence[int]], vocabulary: Vocabulary, *, length: int
) -> TaggingRows:
    """Returns one row a text, cut where it is too long; the tags of other tokens are 0 and count nothing.

    With length 7, and a vocabulary that cuts "Paddington" in two:

        words                  Old  Paddington   calls     tag ids   0 3 0
        encoder_input_tokens   [CLS] old paddi ##ngton calls [SEP] [PAD]
        tag_ids                  0    0    3      0      0     0     0
        tag_weights              0    1    1      0      1     0     0
        places                 [1 2 4]

    Args:
      texts: words with single spaces between them.
      tag_ids: of each word of each text.
      vocabulary: the model's.
      length: columns of a row.

    Raises:
      UserError: the marks alone do not fit.
      ValueError: a text does not have as many words as tags.
    """
    special_tokens = vocabulary.special_tokens
    num_marks, num_before = count_marks(special_tokens, is_pair=False), len(special_tokens.begin_ids)
    if length <= num_marks:
        raise UserError(f"inputs_length {length} has no room for text: {num_marks} marks stand around it.")
    row_ids = np.zeros((len(texts), length), np.int32)
    weights = np.zeros((len(texts), length), np.float32)
    tokens, places = [], []
    for row, (ids, spans) in enumerate(vocabulary.encode_with_offsets(list(texts))):
        tokens.append(ids[: length - num_marks])
        first_tokens = _first_tokens(texts[row], spans[: length - num_marks])
        if len(first_tokens) != len(tag_ids[row]):
            raise ValueError(f"text {row}: {len(first_tokens)} words but {len(tag_ids[row])} tags")
        is_asked = first_tokens != NOT_ASKED
        places.append(np.where(is_asked, first_tokens + num_before, NOT_ASKED))
        asked = places[-1][is_asked]
        row_ids[row, asked], weights[row, asked] = np.asarray(tag_ids[row], np.int32)[is_asked], 1.0
    rows = encoder_rows(*joined(tokens), special_tokens, length=length)
    return TaggingRows({**rows, "tag_ids": row_ids, "tag_weights": weights}, places)


def tags_of_words(predicted: np.ndarray, places: np.ndarray, tags: Sequence[str]) -> tuple[str, ...]:
    """Returns the tag of each word of a row; a word that was not asked is `OUTSIDE`.

    Args:
      predicted: [at least the row's tokens] int, a tag id for each token.
      places: of the row, from `TaggingRows`.
      tags: by tag id.
    """
    return tuple(OUTSIDE if place == NOT_ASKED else tags[predicted[place]] for place in places.tolist())


def _first_tokens(text: str, spans: np.ndarray) -> np.ndarray:
    """Returns the first token that spells something of each word, [num_words] int, `NOT_ASKED` where there is none."""
    word_lengths = np.array([len(word) for word in text.split(" ")])
    word_starts = np.cumsum(word_lengths + 1) - word_lengths - 1
    spelling = np.flatnonzero(spans[:, 1] > spans[:, 0])
    words = np.searchsorted(word_starts, spans[spelling, 0], side="right") - 1
    first_tokens = np.full(len(word_starts), NOT_ASKED)
    words, first = np.unique(words, return_index=True)
    first_tokens[words] = spelling[first]
    return first_tokens
