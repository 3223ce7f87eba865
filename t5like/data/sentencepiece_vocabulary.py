"""SentencePiece vocabularies with T5's conventions: padding is 0, sentinels are the last ids, counted downwards.

id       0      1     2      3  ...  31999   32000          ...  32098         32099
piece    <pad>  </s>  <unk>  the model's     <extra_id_99>  ...  <extra_id_1>  <extra_id_0>
"""

import hashlib
import io
import itertools
import multiprocessing
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
import sentencepiece

from t5like.batch import SpecialTokens
from t5like.data.vocabulary import Token, Vocabulary, check_is_unicode
from t5like.data.vocabulary_files import TOKENIZER_FILE, Folder, PublicFolder, read_bytes, write_file
from t5like.errors import UserError

MODEL_FILE = "spiece.model"

# What Transformers calls the model in the folders of T5's relatives and of other families, of which some fit.
_PUBLIC_FILES = (MODEL_FILE, "tokenizer.model", "sentencepiece.bpe.model")
_SENTINELS_OF_FAMILY = {"t5": 100, "mt5": 100, "umt5": 300}

_SPACE = "▁"
_SENTINEL_IN_TEXT = re.compile(r"\s*(<extra_id_\d+>)")
_LENGTH_DELIMITED, _PIECES_FIELD, _NORMALIZER_FIELD = 2, 1, 3  # see _holds_settings
_MIN_SIZE = 4  # padding, end mark, unknown and one piece of text
# Tokenising is a matter of speed alone here, the ids are the same; a small host has better uses for its threads, and so
# has one where several processes tokenise.
_IS_WORKER = multiprocessing.parent_process() is not None
_NUM_THREADS = 1 if _IS_WORKER else max(1, min(8, (os.cpu_count() or 1) // 2))

# Unigram training is linear in the text, some 3 s a megabyte; what comes later hardly moves the pieces.
MAX_TRAINING_CHARACTERS = 20_000_000
_MAX_LINE_CHARACTERS = 4096
_MAX_BYTES_PER_CHARACTER = 4


class SentencePieceVocabulary(Vocabulary):
    """A SentencePiece model and the sentinels that T5 adds to it; padding is 0, and in T5 `</s>` 1 and `<unk>` 2.

    Attributes:
      model_bytes: the model as it was read, without the added sentinels.
      num_extra_ids: sentinels added to the model; 0 where the model holds its own.
    """

    kind = "sentencepiece"

    def __init__(self, model_bytes: bytes, *, extra_ids: int, origin: str) -> None:
        """Builds the vocabulary from the bytes of a SentencePiece model.

        Args:
          model_bytes: what `load` reads and `save` writes.
          extra_ids: sentinels to add, unless the model has sentinels of its own.
          origin: where the bytes are from, for messages.

        Raises:
          UserError: the bytes are no SentencePiece model, or one that T5's conventions do not fit.
        """
        self.model_bytes = model_bytes
        self.num_extra_ids = 0
        self._processor = _processor(model_bytes, origin)
        if not _sentinel_ids(self._processor, _SPACE) and not _sentinel_ids(self._processor, ""):
            self.num_extra_ids = extra_ids
            self._processor = _processor(_with_sentinels(model_bytes, extra_ids), origin)
        self.num_tokens = self._processor.vocab_size()
        pad_id, eos_id = self._processor.pad_id(), self._processor.eos_id()
        if pad_id != 0:
            raise UserError(f"{origin} must give padding the id 0, but gives it {pad_id}.")
        if eos_id < 0:
            raise UserError(f"{origin} has no end mark (</s>); use a model trained with one.")
        # T5's sentinel pieces begin a word; models trained elsewhere may have them without the mark of one.
        word_sentinel_ids = _sentinel_ids(self._processor, _SPACE)
        self._sentinels_begin_words = bool(word_sentinel_ids)
        sentinel_ids = np.array(word_sentinel_ids or _sentinel_ids(self._processor, ""), np.int32)
        self.special_tokens = SpecialTokens(
            eos_id, sentinel_ids, separator_ids=(eos_id,), unk_id=self._processor.unk_id()
        )
        self.sha256 = hashlib.sha256(model_bytes + b"\n%d extra ids" % self.num_extra_ids).hexdigest()

    @classmethod
    def load(cls, path: Folder, *, extra_ids: int = 100) -> Self:
        """Returns the vocabulary in the SentencePiece model file `path`.

        Raises:
          UserError: the file is missing, unreadable or truncated, or not a model that T5's conventions fit.
        """
        return cls(read_bytes(pathlib.Path(path)), extra_ids=extra_ids, origin=f"The vocabulary {path}")

    @classmethod
    def from_folder(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> Self:
        """Returns the vocabulary that `files` and `settings` were written of."""
        return cls.load(folder / MODEL_FILE, extra_ids=settings["extra_ids"])

    @classmethod
    def from_public_folder(cls, folder: PublicFolder, model_type: str) -> Self:
        """Returns the vocabulary of a public T5, mT5 or UMT5.

        Raises:
          UserError: there is no SentencePiece model, or one that T5's conventions do not fit, or tokens are added to it
            that are no sentinels.
        """
        folder.check_class("T5Tokenizer", "MT5Tokenizer")
        name = next(filter(folder.has, _PUBLIC_FILES), None)
        if name is not None:
            num_sentinels = folder.num_sentinels(_SENTINELS_OF_FAMILY[model_type])
            vocabulary = cls.load(folder.path / name, extra_ids=num_sentinels)
            for token in folder.added_tokens():
                if token.token_id >= vocabulary.num_tokens:
                    raise UserError(
                        f"The tokenizer in {folder.path} adds the token {token.text!r} (id {token.token_id}) to its "
                        "SentencePiece model; only sentinels can be added here."
                    )
            return vocabulary
        if folder.has(TOKENIZER_FILE):
            raise UserError(
                f"{folder.path} holds a Unigram model in {TOKENIZER_FILE} alone; put the {MODEL_FILE} it was made "
                "from beside it."
            )
        raise UserError(f"{folder.path} holds no vocabulary: there is no {MODEL_FILE} in it.")

    def files(self) -> dict[str, bytes]:
        """Returns the model, without the added sentinels."""
        return {MODEL_FILE: self.model_bytes}

    def settings(self) -> dict[str, Any]:
        """Returns how many sentinels are added."""
        return {"extra_ids": self.num_extra_ids}

    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns tokenizer_config.json of T5 and its relatives."""
        piece = self._processor.id_to_piece
        return {
            "tokenizer_class": "T5Tokenizer",
            "eos_token": piece(self.eos_id),
            "unk_token": piece(self._processor.unk_id()),
            "pad_token": piece(self.pad_id),
            "extra_ids": self.num_extra_ids,
            "additional_special_tokens": [f"<extra_id_{number}>" for number in range(self.num_extra_ids)],
            "legacy": True,  # a word begins after a sentinel, as in the published models
        }

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, no end mark added.

        `<extra_id_0>` in a text becomes that sentinel, whether or not a space is before it. With T5's vocabulary:

            "The <extra_id_0> walks in<extra_id_1> park"  ->  [37 32099 10681 16 32098 2447]

        Raises:
          UserError: a text holds lone surrogates, which no UTF-8 can express.
        """
        return self._encoded(texts, "numpy")

    def _with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        pairs = []
        for text, encoded in zip(texts, self._encoded(texts, "offset_mapping"), strict=True):
            spans = np.array(encoded["offsets"], np.int32).reshape(-1, 2)
            if self._spaces_sentinels(text):
                spans = _places_before_spacing(text)[spans]
            pairs.append((np.array(encoded["ids"], np.int32), spans))
        return pairs

    def _encoded(self, texts: list[str], return_type: Literal["numpy", "offset_mapping"]) -> list[Any]:
        spaced = [self._space_sentinels(text) for text in texts]
        try:
            return self._processor.encode(spaced, return_type=return_type, num_threads=_NUM_THREADS)
        except (RuntimeError, TypeError):
            for text in texts:
                check_is_unicode(text)
            raise

    def encode_documents(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text without the sentinels that are spelt out in it."""
        sentinel_ids = self.special_tokens.sentinel_ids
        return [
            ids[~np.isin(ids, sentinel_ids)] if "<extra_id_" in text else ids
            for ids, text in zip(self.encode_batch(texts), texts, strict=True)
        ]

    def _text_of(self, ids: list[int]) -> str:
        return self._processor.decode(ids)

    def _tokens(self) -> Iterator[Token]:
        pieces, sentinels = self._processor, set(self.special_tokens.sentinel_ids.tolist())
        for token in range(self.num_tokens):
            piece = pieces.id_to_piece(token)
            is_text = not (pieces.is_control(token) or pieces.is_unknown(token) or pieces.is_unused(token))
            yield Token(
                piece.replace(_SPACE, " "), piece.startswith(_SPACE), not is_text or token in sentinels
            )

    def _spaces_sentinels(self, text: str) -> bool:
        # A sentinel piece that begins a word is not found in text that touches the word before it.
        return self._sentinels_begin_words and "<extra_id_" in text

    def _space_sentinels(self, text: str) -> str:
        return _SENTINEL_IN_TEXT.sub(r" \1", text) if self._spaces_sentinels(text) else text


def _places_before_spacing(text: str) -> np.ndarray:
    """Returns where each place of a text with spaces before its sentinels is in the text itself, [num_places + 1] int.

    "a<extra_id_0>"  spaced to  "a <extra_id_0>"   ->   [0 1 1 2 3 ... 13]
    """
    runs, start = [], 0
    for sentinel in _SENTINEL_IN_TEXT.finditer(text):
        runs += [np.arange(start, sentinel.start()), [sentinel.start()]]
        start = sentinel.start(1)
    return np.concatenate([*runs, np.arange(start, len(text) + 1)]).astype(np.int32)


def train_vocabulary(documents: Iterable[str], *, size: int, path: str | os.PathLike[str]) -> None:
    """Writes a SentencePiece unigram model of `size` pieces, sentinels not counted, trained on `documents`.

    The same text gives the same bytes. Of a large corpus the first 20 million characters are used.

    Source: trained as T5's own: pad 0, end mark 1, unknown 2, no start mark, NFKC, no byte pieces.

    Args:
      documents: text; order matters.
      size: pieces in the model, padding, end mark and unknown among them.
      path: the model file; its folder is made if need be. It appears whole or not at all.

    Raises:
      UserError: there is too little text for `size`, or `size` is below the number of characters in use, or
        the file cannot be written.
    """
    if size < _MIN_SIZE:
        raise UserError(f"A vocabulary has at least {_MIN_SIZE} pieces, not {size}.")
    model = io.BytesIO()
    lines = list(_training_lines(documents))
    if not lines:
        raise UserError("Cannot train a vocabulary: the training documents hold no text.")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            max_sentence_length=_MAX_LINE_CHARACTERS * _MAX_BYTES_PER_CHARACTER,
            num_threads=16,  # a part of the result, so not the number of cores
            minloglevel=3,
        )
    except (RuntimeError, ValueError) as error:
        raise _training_error(str(error), size) from error
    write_file(pathlib.Path(path), model.getvalue())


def _training_lines(documents: Iterable[str]) -> Iterator[str]:
    """Yields lines of text, the long ones in parts, up to the limit of the training text."""
    num_characters = 0
    for line in itertools.chain.from_iterable(document.split("\n") for document in documents):
        check_is_unicode(line)
        for start in range(0, len(line), _MAX_LINE_CHARACTERS):
            part = line[start : start + _MAX_LINE_CHARACTERS]
            if not part.isspace():
                yield part
                num_characters += len(part)
        if num_characters >= MAX_TRAINING_CHARACTERS:
            return


def _training_error(message: str, size: int) -> UserError:
    if match := re.search(r"value <= (\d+)", message):
        return UserError(
            f"There is too little text for a vocabulary of {size} pieces; the largest it can give is {match[1]}."
        )
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"A vocabulary of {size} pieces cannot hold the characters of this text; "
            f"the smallest that can has {match[1]}."
        )
    return UserError(
        f"Cannot train a vocabulary of {size} pieces on this text: SentencePiece says {message!r}."
    )


def _processor(model_bytes: bytes, origin: str) -> sentencepiece.SentencePieceProcessor:
    # A file cut between two pieces would load, as a smaller vocabulary.
    if not _holds_settings(model_bytes):
        raise UserError(f"{origin} is truncated or not a SentencePiece model.")
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    except RuntimeError as error:
        raise UserError(f"{origin} is not a usable SentencePiece model: {error}.") from error


def _holds_settings(model_bytes: bytes) -> bool:
    """Returns whether this is a whole model: the pieces, and after them the settings of the normaliser.

    Source: Protocol Buffers' wire format, of which a model is a series of fields (number, length, content). Read
    here by hand because SentencePiece's own Python reader demands a protobuf newer than many machines have.
    """
    position, field_numbers = 0, set()
    try:
        while position < len(model_bytes):
            tag, position = _read_varint(model_bytes, position)
            length, position = _read_varint(model_bytes, position)
            if tag % 8 != _LENGTH_DELIMITED:
                return False
            field_numbers.add(tag // 8)
            position += length
    except IndexError:
        return False
    return position == len(model_bytes) and {_PIECES_FIELD, _NORMALIZER_FIELD} <= field_numbers


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns the number at `position`, seven bits a byte and the lowest first, and the position after it."""
    value = shift = 0
    while data[position] >= 0x80:
        value |= (data[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | data[position] << shift, position + 1


def _with_sentinels(model_bytes: bytes, num_sentinels: int) -> bytes:
    """Returns the model with the pieces of `num_sentinels` sentinels after its own, the highest number first.

    Protocol Buffers read messages set end to end as one, so the pieces are appended: text in field 1, the score 0
    in field 2, the type "user defined" in field 3.
    """
    fields = []
    for number in reversed(range(num_sentinels)):
        text = f"{_SPACE}<extra_id_{number}>".encode()
        piece = b"\x0a%c%b" % (len(text), text) + b"\x15\x00\x00\x00\x00" + b"\x18\x04"
        fields.append(b"\x0a%c%b" % (len(piece), piece))
    return model_bytes + b"".join(fields)


def _sentinel_ids(processor: sentencepiece.SentencePieceProcessor, prefix: str) -> list[int]:
    """Returns the ids of the pieces `<extra_id_0>`, `<extra_id_1>` and so on, up to the first that is missing."""
    ids = (processor.piece_to_id(f"{prefix}<extra_id_{number}>") for number in itertools.count())
    return list(itertools.takewhile(lambda token: token != processor.unk_id(), ids))
