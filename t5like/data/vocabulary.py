"""SentencePiece vocabularies with T5's conventions: padding is 0, sentinels are the last ids, counted downwards.

id       0      1     2      3  ...  31999   32000          ...  32098         32099
piece    <pad>  </s>  <unk>  the model's     <extra_id_99>  ...  <extra_id_1>  <extra_id_0>
"""

import hashlib
import io
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
import sentencepiece

from t5like.batch import SpecialTokens
from t5like.errors import UserError

_SENTINEL_IN_TEXT = re.compile(r"\s*(<extra_id_\d+>)")
_EMBEDDINGS_MULTIPLE = 128
_LENGTH_DELIMITED, _PIECES_FIELD, _NORMALIZER_FIELD = 2, 1, 3  # see _holds_settings
_MIN_SIZE = 4  # padding, end mark, unknown and one piece of text
# Tokenising is a matter of speed alone here, the ids are the same; a small host has better uses for its threads.
_NUM_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))

# Unigram training is linear in the text, some 3 s a megabyte; what comes later hardly moves the pieces.
_MAX_TRAINING_CHARACTERS = 20_000_000
_MAX_LINE_CHARACTERS = 4096
_MAX_BYTES_PER_CHARACTER = 4


class Vocabulary:
    """A SentencePiece model and the sentinels that T5 adds to it.

    Attributes:
      model_bytes: the model as it was read, without the added sentinels.
      num_extra_ids: sentinels added to the model; 0 where the model holds its own.
      num_tokens: ids in use, sentinels included.
      num_embeddings: `num_tokens` rounded up to a multiple of 128, the rows of T5's embedding table.
      pad_id: always 0.
      eos_id: the end mark `</s>`, 1 in T5.
      unk_id: the unknown token `<unk>`, 2 in T5.
      special_tokens: the end mark and the sentinels, `<extra_id_0>` first.
      sha256: hash of `model_bytes` and `num_extra_ids`: equal for vocabularies that give equal ids.
    """

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
        if not _sentinel_ids(self._processor, "▁") and not _sentinel_ids(self._processor, ""):
            self.num_extra_ids = extra_ids
            self._processor = _processor(_with_sentinels(model_bytes, extra_ids), origin)
        self.num_tokens: int = self._processor.vocab_size()
        self.num_embeddings = -(-self.num_tokens // _EMBEDDINGS_MULTIPLE) * _EMBEDDINGS_MULTIPLE
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        if self.pad_id != 0:
            raise UserError(f"{origin} must give padding the id 0, but gives it {self.pad_id}.")
        if self.eos_id < 0:
            raise UserError(f"{origin} has no end mark (</s>); use a model trained with one.")
        # T5's sentinel pieces begin a word; models trained elsewhere may have them without the mark of one.
        word_sentinel_ids = _sentinel_ids(self._processor, "▁")
        self._sentinels_begin_words = bool(word_sentinel_ids)
        sentinel_ids = np.array(word_sentinel_ids or _sentinel_ids(self._processor, ""), np.int32)
        self.special_tokens = SpecialTokens(self.eos_id, sentinel_ids)
        self.sha256 = hashlib.sha256(model_bytes + b"\n%d extra ids" % self.num_extra_ids).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, extra_ids: int = 100) -> "Vocabulary":
        """Returns the vocabulary in the SentencePiece model file `path`.

        Raises:
          UserError: the file is missing, unreadable or truncated, or not a model that T5's conventions fit.
        """
        try:
            model_bytes = pathlib.Path(path).expanduser().read_bytes()
        except OSError as error:
            raise UserError(f"Cannot read the vocabulary {path}: {error.strerror}.") from error
        return cls(model_bytes, extra_ids=extra_ids, origin=f"The vocabulary {path}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file, without the added sentinels, so that `load` gives this vocabulary again.

        Raises:
          UserError: the file cannot be written.
        """
        _write_atomically(pathlib.Path(path), self.model_bytes)

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids [num_tokens] int32 of `text`, no end mark added; see `encode_batch`."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, no end mark added.

        `<extra_id_0>` in a text becomes that sentinel, whether or not a space is before it. With T5's vocabulary:

            "The <extra_id_0> walks in<extra_id_1> park"  ->  [37 32099 10681 16 32098 2447]

        Raises:
          UserError: a text holds lone surrogates, which no UTF-8 can express.
        """
        spaced = [self._space_sentinels(text) for text in texts]
        try:
            ids_of_texts = self._processor.encode(spaced, return_type="numpy", num_threads=_NUM_THREADS)
        except (RuntimeError, TypeError):
            for text in texts:
                _check_is_unicode(text)
            raise
        return [np.array(ids, np.int32) for ids in ids_of_texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids` up to the first end mark, padding dropped.

        Sentinels come back as `<extra_id_N>`; ids outside the vocabulary read as the unknown token. With T5's:

            [37 32099 10681 0 16 32098 2447 1 37]  ->  "The <extra_id_0> walks in <extra_id_1> park"
        """
        kept = []
        for token in map(int, ids):
            if token == self.eos_id:
                break
            if token != self.pad_id:
                kept.append(token if 0 <= token < self.num_tokens else self.unk_id)
        return self._processor.decode(kept)

    def _space_sentinels(self, text: str) -> str:
        # A sentinel piece that begins a word is not found in text that touches the word before it.
        if self._sentinels_begin_words and "<extra_id_" in text:
            return _SENTINEL_IN_TEXT.sub(r" \1", text)
        return text


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
    _write_atomically(pathlib.Path(path), model.getvalue())


def _training_lines(documents: Iterable[str]) -> Iterator[str]:
    """Yields lines of text, the long ones in parts, up to the limit of the training text."""
    num_characters = 0
    for line in itertools.chain.from_iterable(document.split("\n") for document in documents):
        _check_is_unicode(line)
        for start in range(0, len(line), _MAX_LINE_CHARACTERS):
            part = line[start : start + _MAX_LINE_CHARACTERS]
            if not part.isspace():
                yield part
                num_characters += len(part)
        if num_characters >= _MAX_TRAINING_CHARACTERS:
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
        text = f"▁<extra_id_{number}>".encode()
        piece = b"\x0a%c%b" % (len(text), text) + b"\x15\x00\x00\x00\x00" + b"\x18\x04"
        fields.append(b"\x0a%c%b" % (len(piece), piece))
    return model_bytes + b"".join(fields)


def _sentinel_ids(processor: sentencepiece.SentencePieceProcessor, prefix: str) -> list[int]:
    """Returns the ids of the pieces `<extra_id_0>`, `<extra_id_1>` and so on, up to the first that is missing."""
    ids = (processor.piece_to_id(f"{prefix}<extra_id_{number}>") for number in itertools.count())
    return list(itertools.takewhile(lambda token: token != processor.unk_id(), ids))


def _check_is_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"Text is not valid Unicode at character {error.start}, {text[error.start]!r}, of {text[:40]!r}."
        ) from error


def _write_atomically(path: pathlib.Path, content: bytes) -> None:
    path = path.expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the vocabulary {path}: {error.strerror}.") from error
