"""What every user of ids depends on: the interface of a vocabulary, and how one is named, loaded and saved.

kind             families                    a folder of it holds, beside vocabulary.json   in t5like/data/
sentencepiece    T5, mT5, UMT5               spiece.model                                   sentencepiece_vocabulary.py
wordpiece        BERT, DistilBERT            vocab.txt                                      wordpiece.py
byte_level_bpe   GPT-2, RoBERTa, BART        vocab.json, merges.txt                         byte_level_bpe.py
bytes            ByT5                        nothing                                        byte_vocabulary.py

A folder of our own has vocabulary.json, which says kind, settings and digest. A public folder is laid out as
Transformers lays it out, with the family (`model_type`) in config.json and settings in tokenizer_config.json.
"""

import abc
import contextlib
import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from t5like.batch import SpecialTokens
from t5like.data.offsets import without_spaces
from t5like.data.vocabulary_files import (
    CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILE,
    Folder,
    PublicFolder,
    json_bytes,
    read_json,
    write_files,
)
from t5like.errors import UserError

BYTES = "bytes"
"""What names the vocabulary of bytes, which has no files."""
DESCRIPTION_FILE = "vocabulary.json"

_SENTENCE_ENDS = (".", "!", "?")
_EMBEDDINGS_MULTIPLE = 128
_BYTE_TOKENIZER = "ByT5Tokenizer"
_KIND_OF_FAMILY = {
    "t5": "sentencepiece",
    "mt5": "sentencepiece",
    "umt5": "sentencepiece",
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "gpt2": "byte_level_bpe",
    "roberta": "byte_level_bpe",
    "bart": "byte_level_bpe",
}


class Token(NamedTuple):
    """What an id is, seen by itself."""

    text: str  # with the spaces it brings along
    starts_word: bool
    is_special: bool  # a mark, or an id that no text is encoded to


class Vocabulary(abc.ABC):
    """From text to ids and back.

    Attributes:
      kind: which of the four kinds it is.
      num_tokens: ids in use, added tokens and sentinels included.
      special_tokens: the ids that have a meaning of their own.
      sha256: hash of all that decides the ids, settings included: equal for vocabularies that give equal ids.
    """

    kind: ClassVar[str]
    num_tokens: int
    special_tokens: SpecialTokens
    sha256: str

    @property
    def num_embeddings(self) -> int:
        """`num_tokens` rounded up to a multiple of 128, the rows of an embedding table made for it."""
        return -(-self.num_tokens // _EMBEDDINGS_MULTIPLE) * _EMBEDDINGS_MULTIPLE

    @property
    def pad_id(self) -> int:
        """The id of padding."""
        return self.special_tokens.pad_id

    @property
    def eos_id(self) -> int:
        """The id of the end mark."""
        return self.special_tokens.eos_id

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token; None where every text can be written without one."""
        return self.special_tokens.unk_id

    @functools.cached_property
    def is_special(self) -> np.ndarray:
        """Which ids are no text, [num_tokens] bool: all marks, sentinels, the unknown token and ids without a token."""
        return np.array([token.is_special for token in self._tokens()])

    @functools.cached_property
    def starts_word(self) -> np.ndarray:
        """Which tokens begin a word, [num_tokens] bool; special ones are words of their own.

        The first token of a text begins one too, which need not show in its id: GPT-2 has another id for a word after
        a space. Where spaces are all that parts words, punctuation belongs to the word before it.
        """
        return np.array([token.starts_word or token.is_special for token in self._tokens()])

    @functools.cached_property
    def ends_sentence(self) -> np.ndarray:
        """Which tokens end in a full stop, an exclamation or a question mark, [num_tokens] bool."""
        return np.array(
            [
                not token.is_special and token.text.rstrip().endswith(_SENTENCE_ENDS)
                for token in self._tokens()
            ]
        )

    @abc.abstractmethod
    def _tokens(self) -> Iterable[Token]:
        """Returns what the ids are, in order, `num_tokens` of them."""

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids [num_tokens] int32 of `text`, no begin or end mark added; see `encode_batch`."""
        return self.encode_batch([text])[0]

    @abc.abstractmethod
    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, no begin or end mark added.

        Raises:
          UserError: a text holds lone surrogates, which no UTF-8 can express.
        """

    def encode_with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns of each text the ids of `encode_batch`, and the characters that each spells, [num_tokens, 2] int32.

        These are (start, end) in the text, in order, without the spaces around them. A token of spaces alone spells
        nothing, and a character of several tokens is spelt by each of them:

            "Ça va"  ->  BERT    ca (0, 2)  va (3, 5)
                         ByT5    Ç (0, 1) (0, 1)  a (1, 2)  space (3, 3)  v (3, 4)  a (4, 5)

        Raises:
          UserError: a text holds lone surrogates.
        """
        return [
            (ids, without_spaces(spans, text))
            for (ids, spans), text in zip(self._with_offsets(texts), texts, strict=True)
        ]

    @abc.abstractmethod
    def _with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns what `encode_with_offsets` does, with such spaces as the kind counts to a token."""

    @abc.abstractmethod
    def encode_documents(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text without those that a special token spelt out in it gives.

        In raw text such a string is an accident, and its id would read as one that an objective put there.

        Raises:
          UserError: a text holds lone surrogates.
        """

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids` up to the first end mark, padding and begin marks dropped.

        Ids outside the vocabulary read as the unknown token, or as nothing where there is none.
        """
        special = self.special_tokens
        dropped = {special.pad_id, *special.begin_ids}
        kept = []
        for token in map(int, ids):
            if token == special.eos_id:
                break
            if not 0 <= token < self.num_tokens:
                if special.unk_id is not None:
                    kept.append(special.unk_id)
            elif token not in dropped:
                kept.append(token)
        return self._text_of(kept)

    def decode_all(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids`, what stands after end marks too; marks and padding are dropped."""
        special = self.special_tokens
        dropped = {special.pad_id, special.eos_id, *special.begin_ids, *special.separator_ids}
        return self._text_of([token for token in map(int, ids) if token not in dropped])

    def save(self, folder: Folder) -> None:
        """Writes the public files of the vocabulary, which its kind reads; see `save_vocabulary` for all of it.

        Raises:
          UserError: a file cannot be written.
        """
        write_files(folder, self.files())

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """Returns the public files by name: spiece.model, vocab.txt, ..."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Returns what the public files do not say and the ids depend on, in the words of JSON."""

    @classmethod
    @abc.abstractmethod
    def from_folder(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> Self:
        """Returns the vocabulary that `files` and `settings` were written of.

        Raises:
          UserError: a file cannot be read, or is damaged.
        """

    @classmethod
    @abc.abstractmethod
    def from_public_folder(cls, folder: PublicFolder, model_type: str) -> Self:
        """Returns the vocabulary of a public model; see `load_public_vocabulary`."""

    @abc.abstractmethod
    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns tokenizer_config.json for a family of Transformers.

        Raises:
          UserError: the family has no such vocabulary.
        """

    def public_tokenizer(self, model_type: str) -> bytes | None:
        """Returns tokenizer.json for a family of Transformers, None where the family does without."""
        return None

    @abc.abstractmethod
    def _text_of(self, ids: list[int]) -> str:
        """Returns the text of ids that are all in the vocabulary."""


def find_vocabulary(name: str, *, extra_ids: int) -> Vocabulary:
    """Returns the vocabulary that a user names.

    Args:
      name: a SentencePiece model; a folder that `save_vocabulary` wrote, or that of a public model; or `bytes`.
      extra_ids: sentinels added to a SentencePiece model that has none; folders say themselves how many.

    Raises:
      UserError: there is no such vocabulary, or it is damaged.
    """
    from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary

    if name == BYTES:
        return _kinds()[BYTES].from_folder(pathlib.Path(), {})
    path = pathlib.Path(name).expanduser()
    if (path / DESCRIPTION_FILE).is_file():
        return load_vocabulary(path)
    if path.is_dir():
        return load_public_vocabulary(path, _model_type(PublicFolder(path)))
    return SentencePieceVocabulary.load(path, extra_ids=extra_ids)


def save_vocabulary(vocabulary: Vocabulary, folder: Folder) -> None:
    """Writes a vocabulary into a folder, made if need be, each file whole or not at all and vocabulary.json last.

    Raises:
      UserError: a file cannot be written.
    """
    description = {
        "kind": vocabulary.kind,
        "settings": vocabulary.settings(),
        "sha256": vocabulary.sha256,
    }
    vocabulary.save(folder)
    write_files(folder, {DESCRIPTION_FILE: json_bytes(description)})


def load_vocabulary(folder: Folder) -> Vocabulary:
    """Returns the vocabulary that `save_vocabulary` wrote.

    Raises:
      UserError: a file is missing or damaged, or is not the one that was written.
    """
    path = pathlib.Path(folder).expanduser() / DESCRIPTION_FILE
    description = read_json(path)
    kind, settings = description.get("kind"), description.get("settings")
    if not isinstance(kind, str) or kind not in _kinds():
        raise UserError(f"{path} is damaged: its kind is {kind!r:.60}, none of {', '.join(_kinds())}.")
    with _damage_named(f"{path} is damaged: its settings are none of a {kind} vocabulary"):
        vocabulary = _kinds()[kind].from_folder(path.parent, dict(settings or {}))
    if vocabulary.sha256 != description.get("sha256"):
        raise UserError(
            f"The vocabulary in {path.parent} is not the one that was saved there: a file or a setting of it has "
            "changed; put the original files back."
        )
    return vocabulary


def load_public_vocabulary(folder: Folder, model_type: str) -> Vocabulary:
    """Returns the vocabulary of a public model, from the files in its folder alone.

    Read are spiece.model, vocab.txt, or vocab.json and merges.txt, and where the last three are missing what
    tokenizer.json holds of them; settings come from tokenizer_config.json, special_tokens_map.json and the lists of
    added tokens. Where these are silent, the family's own habits hold: BERT lowercases, T5 has 100 sentinels.

    Args:
      folder: where the files are.
      model_type: the family, as config.json names it; a folder of `t5` may be one of ByT5.

    Raises:
      UserError: the family is none of ours, a file is missing or damaged, or the tokenizer does something that ours
        for this family does not.
    """
    public = PublicFolder(folder)
    tokenizer_class = str(public.config.get("tokenizer_class") or _named_in_config(public))
    is_bytes = model_type == "t5" and tokenizer_class == _BYTE_TOKENIZER
    kind = BYTES if is_bytes else _kind_of_family(model_type)
    with _damage_named(f"The tokenizer files in {public.path} are damaged: they are not laid out as {kind}"):
        return _kinds()[kind].from_public_folder(public, model_type)


def _named_in_config(folder: PublicFolder) -> str | None:
    """Returns the tokenizer's class that config.json names, as early checkpoints of ByT5 do."""
    return (
        read_json(folder.path / "config.json").get("tokenizer_class") if folder.has("config.json") else None
    )


def save_public_vocabulary(
    vocabulary: Vocabulary, folder: Folder, model_type: str, model_max_length: int | None = None
) -> None:
    """Writes the folder that Transformers' `AutoTokenizer` loads and gives the same ids from.

    It holds the vocabulary's own files, tokenizer_config.json, special_tokens_map.json and, for WordPiece and BPE,
    tokenizer.json, which adds the family's begin and end marks.

    Args:
      vocabulary: one of the kind that the family has.
      folder: made if need be.
      model_type: the family, as its config.json names it.
      model_max_length: most tokens of an input, which Transformers cuts to where it is asked to.

    Raises:
      UserError: the family has no such vocabulary, or a file cannot be written.
    """
    config = check_is_public(vocabulary, model_type)
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    tokenizer = vocabulary.public_tokenizer(model_type)
    files = vocabulary.files() | ({TOKENIZER_FILE: tokenizer} if tokenizer is not None else {})
    files[SPECIAL_TOKENS_FILE] = json_bytes({role: text for role, text in config.items() if _is_role(role)})
    files[CONFIG_FILE] = json_bytes(config)
    write_files(folder, files)


def check_is_public(vocabulary: Vocabulary, model_type: str) -> dict[str, Any]:
    """Returns tokenizer_config.json of the vocabulary for a family, if `save_public_vocabulary` can write it.

    Raises:
      UserError: the family has no such vocabulary.
    """
    if vocabulary.kind not in (_kind_of_family(model_type), BYTES if model_type == "t5" else None):
        raise UserError(f"A {model_type} model has no {vocabulary.kind} vocabulary in Transformers.")
    return vocabulary.public_config(model_type)


def check_is_unicode(text: str) -> None:
    """Returns if the text can be written in UTF-8.

    Raises:
      UserError: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"Text is not valid Unicode at character {error.start}, {text[error.start]!r}, of {text[:40]!r}."
        ) from error


@functools.cache
def _kinds() -> Mapping[str, type[Vocabulary]]:
    # Here and not above: each of them builds on this file.
    from t5like.data.byte_level_bpe import ByteLevelBPEVocabulary
    from t5like.data.byte_vocabulary import ByteVocabulary
    from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary
    from t5like.data.wordpiece import WordPieceVocabulary

    kinds = (SentencePieceVocabulary, WordPieceVocabulary, ByteLevelBPEVocabulary, ByteVocabulary)
    return {kind.kind: kind for kind in kinds}


@contextlib.contextmanager
def _damage_named(what: str) -> Iterator[None]:
    """Reports what a reader of JSON meets in a file that somebody else wrote as a UserError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{what} ({type(error).__name__}: {error}).") from error


def _kind_of_family(model_type: str) -> str:
    if model_type not in _KIND_OF_FAMILY:
        raise UserError(
            f"There is no vocabulary for models of the type {model_type!r}; there is for "
            f"{', '.join(_KIND_OF_FAMILY)}."
        )
    return _KIND_OF_FAMILY[model_type]


def _model_type(folder: PublicFolder) -> str:
    """Returns the family of a public folder, from its config.json or else from the files that only one kind has."""
    if folder.has("config.json"):
        given = read_json(folder.path / "config.json").get("model_type")
        if given not in [*_KIND_OF_FAMILY]:  # a list, for what is given may be anything
            raise UserError(
                f"{folder.path / 'config.json'}: there is no vocabulary for models of the type {given!r:.60}; there is for "
                f"{', '.join(_KIND_OF_FAMILY)}."
            )
        return str(given)
    if str(folder.config.get("tokenizer_class")) == _BYTE_TOKENIZER or folder.has("spiece.model"):
        return "t5"
    if folder.has("vocab.txt"):
        return "bert"
    if folder.has("vocab.json", "merges.txt"):
        raise UserError(
            f"The vocabulary in {folder.path} may be one of GPT-2, RoBERTa or BART; add the config.json of its model, "
            "or one that holds its model_type alone."
        )
    raise UserError(
        f"{folder.path} holds no vocabulary: there is no vocabulary.json, spiece.model, vocab.txt or config.json in it."
    )


def _is_role(name: str) -> bool:
    return name.endswith("_token") or name == "additional_special_tokens"
