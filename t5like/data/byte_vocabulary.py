"""The vocabulary of ByT5: the bytes of UTF-8, with no file and no unknown text.

id       0      1     2      3  4  ...  99  100 ...  159              ...  257             258
token    <pad>  </s>  <unk>  0  1  ...  '`' 'a' ...  <extra_id_99>    ...  <extra_id_1>    <extra_id_0>
                                                     or byte 156           or byte 254     or byte 255
"""

import codecs
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from t5like.batch import SpecialTokens
from t5like.data.vocabulary import Token, Vocabulary, check_is_unicode
from t5like.data.vocabulary_files import PublicFolder

_NUM_SPECIAL, _NUM_BYTES, _NUM_SENTINELS = 3, 256, 100
_LARGEST_ID = _NUM_SPECIAL + _NUM_BYTES - 1
_SENTINEL_IN_TEXT = re.compile(r"<extra_id_(0|[1-9][0-9]?)>")
_BYTES_OF_NO_TEXT = {0xC0, 0xC1, *range(0xF5, 0x100)}
_FIRST_LEADING_BYTE = 0xC0  # from here on a byte begins a character of several, or is in none
_NUM_SENTINELS_OF_TRANSFORMERS = 125  # ids 259 up, which no model was trained with


class ByteVocabulary(Vocabulary):
    """The bytes of UTF-8, each at its value plus 3, and sentinels that share the ids of the last hundred.

    The first eleven sentinels are bytes that no UTF-8 has; those after them are what characters of other scripts
    begin with, so `decode` reads such an id as a sentinel only where it begins no character. 259 ids make 384 rows of an
    embedding table, as published.

    Source: Xue et al. 2022, ByT5, which reuses the final byte ids as sentinels. Transformers gives a sentinel spelt
    out in a text another id, from 259 up, which the published models never saw; here it is the one they know.
    """

    kind = "bytes"

    def __init__(self) -> None:
        self.num_tokens = _NUM_SPECIAL + _NUM_BYTES
        sentinel_ids = _LARGEST_ID - np.arange(_NUM_SENTINELS, dtype=np.int32)
        self.special_tokens = SpecialTokens(1, sentinel_ids, separator_ids=(1,), unk_id=2)
        self.sha256 = hashlib.sha256(b"bytes of UTF-8 from id 3").hexdigest()

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, no end mark added.

        `<extra_id_0>` in a text becomes that sentinel; there are a hundred, and `<extra_id_100>` is plain text.

            "a <extra_id_0>é"  ->  [100 35 258 198 172]

        Raises:
          UserError: a text holds lone surrogates.
        """
        return [self._with_sentinels(text) for text in texts]

    def _with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(ids, _byte_offsets(text)) for ids, text in zip(self.encode_batch(texts), texts, strict=True)]

    def encode_documents(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, in which a sentinel spelt out is plain text."""
        return [_byte_ids(text) for text in texts]

    def _with_sentinels(self, text: str) -> np.ndarray:
        first, *rest = _SENTINEL_IN_TEXT.split(text)  # text, number of a sentinel, text, number, ..., text
        ids = [_byte_ids(first)]
        for number, after in zip(rest[::2], rest[1::2], strict=True):
            ids += [self.special_tokens.sentinel_ids[int(number), None], _byte_ids(after)]
        return np.concatenate(ids)

    def _text_of(self, ids: list[int]) -> str:
        data = bytes(token - _NUM_SPECIAL for token in ids if token >= _NUM_SPECIAL)
        return data.decode("utf-8", errors=_stray_byte.__name__)

    def _tokens(self) -> Iterator[Token]:
        yield from [Token("", False, True)] * _NUM_SPECIAL
        for byte in range(_NUM_BYTES):
            text = chr(byte) if byte < 0x80 else ""
            yield Token(text, text.isspace(), byte in _BYTES_OF_NO_TEXT)

    def files(self) -> dict[str, bytes]:
        """Returns no files."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Returns no settings."""
        return {}

    @classmethod
    def from_folder(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> Self:
        """Returns the vocabulary; there is but one."""
        return cls()

    @classmethod
    def from_public_folder(cls, folder: PublicFolder, model_type: str) -> Self:
        """Returns the vocabulary; there is but one."""
        return cls()

    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns tokenizer_config.json of ByT5."""
        return {
            "tokenizer_class": "ByT5Tokenizer",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "extra_ids": _NUM_SENTINELS_OF_TRANSFORMERS,
        }


def _byte_ids(text: str) -> np.ndarray:
    try:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + _NUM_SPECIAL
    except UnicodeEncodeError:
        check_is_unicode(text)
        raise


def _byte_offsets(text: str) -> np.ndarray:
    """Returns start and end of the character that each byte of a text is of, or of the sentinel, which is one byte."""
    starts = np.arange(len(text), dtype=np.int32)
    ends, num_bytes = starts + 1, np.array([len(character.encode()) for character in text], np.int64)
    for sentinel in _SENTINEL_IN_TEXT.finditer(text):
        start, end = sentinel.span()
        ends[start], num_bytes[start], num_bytes[start + 1 : end] = end, 1, 0
    return np.repeat(np.stack([starts, ends], axis=1), num_bytes, axis=0)


def _stray_byte(error: UnicodeError) -> tuple[str, int]:
    """Returns what a byte that is part of no character reads as, and where to read on.

    A leading byte reads as the sentinel it shares its id with, unless the ids end in the middle of its character.
    """
    assert isinstance(error, UnicodeDecodeError)
    byte, is_cut_off = error.object[error.start], error.reason == "unexpected end of data"
    if byte < _FIRST_LEADING_BYTE or is_cut_off:
        return "", error.end
    return f"<extra_id_{_NUM_BYTES - 1 - byte}>", error.end


codecs.register_error(_stray_byte.__name__, _stray_byte)
