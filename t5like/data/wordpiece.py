"""BERT's vocabularies: words cut into the longest pieces there are, those within a word marked with ##.

text     Unaffable cats, naïve
words    un aff able cats , naive        lowercased and without accents, cut at spaces and punctuation
pieces   un ##aff ##able cats , naive
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import tokenizers

from t5like.batch import SpecialTokens
from t5like.data.tokenizers_vocabulary import TokenizerSettings, TokenizersVocabulary
from t5like.data.vocabulary import Token
from t5like.data.vocabulary_files import PublicFolder, read_text
from t5like.errors import UserError

VOCABULARY_FILE = "vocab.txt"

_WITHIN_WORD = "##"
_MAX_IDS_PER_PIECE = 2
_CLASS_OF_FAMILY = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer"}
# In this order, on a whole text: what the spaces around punctuation and English suffixes come to.
_CLEAN_UP = [(f" {mark}", mark) for mark in (".", "?", "!", ",")] + [(" ' ", "'")]
_CLEAN_UP += [(f" {suffix}", suffix) for suffix in ("n't", "'m", "'s", "'ve", "'re")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPieceSettings(TokenizerSettings):
    """How BERT reads a text; the defaults are those of the uncased models.

    Attributes:
      lowercases: whether case is dropped.
      strips_accents: whether accents are dropped; None: as case is.
      splits_chinese: whether every Chinese character is a word of its own.
    """

    begin_token: str = "[CLS]"
    end_token: str = "[SEP]"
    padding_token: str = "[PAD]"
    unknown_token: str = "[UNK]"
    mask_token: str | None = "[MASK]"
    lowercases: bool = True
    strips_accents: bool | None = None
    splits_chinese: bool = True


class WordPieceVocabulary(TokenizersVocabulary):
    """A list of word pieces, and how a text is read before they are looked for.

    Source: Devlin et al. 2019, and the tokenizer published with BERT.
    """

    kind = "wordpiece"
    _settings: WordPieceSettings

    def __init__(
        self,
        pieces: Iterable[str],
        settings: WordPieceSettings | None = None,
        *,
        origin: str = "The vocabulary",
    ) -> None:
        """Builds the vocabulary.

        Args:
          pieces: in order of id; of two that are equal the later one counts.
          settings: those of the uncased models where left out.
          origin: where this is from, for messages.

        Raises:
          UserError: a special token is missing, or an added token cannot have its id.
        """
        self._pieces = list(pieces)
        settings = settings or WordPieceSettings()
        if settings.strips_accents is None:
            settings = dataclasses.replace(settings, strips_accents=settings.lowercases)
        vocab = {piece: token for token, piece in enumerate(self._pieces)}
        model = tokenizers.models.WordPiece(vocab, unk_token=settings.unknown_token)
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=settings.splits_chinese,
            strip_accents=settings.strips_accents,
            lowercase=settings.lowercases,
        )
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = tokenizers.decoders.WordPiece(_WITHIN_WORD, cleanup=False)
        super().__init__(
            tokenizer, settings, content=sorted(vocab.items()), mask_strips_left=False, origin=origin
        )

    def _find_special_tokens(self) -> SpecialTokens:
        named, of = self._settings, self._ids
        return SpecialTokens(
            of[named.end_token],
            np.array([], np.int32),
            pad_id=of[named.padding_token],
            begin_ids=(of[named.begin_token],),
            separator_ids=(of[named.end_token],),
            mask_id=self._id_of(named.mask_token),
            unk_id=of[named.unknown_token],
        )

    def _text_of(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        for spaced, clean in _CLEAN_UP:
            text = text.replace(spaced, clean)
        return text

    def _token_of(self, piece: str) -> Token:
        return Token(piece.removeprefix(_WITHIN_WORD), not piece.startswith(_WITHIN_WORD), False)

    def files(self) -> dict[str, bytes]:
        """Returns the pieces, one a line."""
        return {VOCABULARY_FILE: "".join(f"{piece}\n" for piece in self._pieces).encode()}

    @classmethod
    def from_folder(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> Self:
        """Returns the vocabulary that `files` and `settings` were written of."""
        pieces = _read_pieces(folder / VOCABULARY_FILE)
        return cls(pieces, WordPieceSettings.from_json(settings), origin=f"The vocabulary in {folder}")

    @classmethod
    def from_public_folder(cls, folder: PublicFolder, model_type: str) -> Self:
        """Returns the vocabulary of a public BERT or DistilBERT.

        Raises:
          UserError: its files are missing or damaged, or its tokenizer is not BERT's.
        """
        folder.check_class(*dict.fromkeys([_CLASS_OF_FAMILY[model_type], *_CLASS_OF_FAMILY.values()]))
        model = folder.model(
            "WordPiece",
            {
                "model.continuing_subword_prefix": _WITHIN_WORD,
                "normalizer.type": "BertNormalizer",
                "pre_tokenizer.type": "BertPreTokenizer",
            },
        )
        if folder.has(VOCABULARY_FILE):
            pieces = _read_pieces(folder.path / VOCABULARY_FILE)
        elif model is not None:
            pieces = _pieces_in_order(model.get("vocab"), folder)
        else:
            raise UserError(f"{folder.path} holds no vocabulary: there is no {VOCABULARY_FILE} in it.")
        normalizer = folder.tokenizer.get("normalizer") or {}
        settings = WordPieceSettings().read_public(
            folder,
            lowercases=folder.setting("do_lower_case", normalizer.get("lowercase", True), bool),
            strips_accents=folder.setting("strip_accents", normalizer.get("strip_accents"), bool),
            splits_chinese=folder.setting(
                "tokenize_chinese_chars", normalizer.get("handle_chinese_chars", True), bool
            ),
        )
        return cls(pieces, settings, origin=f"The vocabulary in {folder.path}")

    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns tokenizer_config.json of BERT or DistilBERT."""
        return {
            "tokenizer_class": _CLASS_OF_FAMILY[model_type],
            "do_lower_case": self._settings.lowercases,
            "strip_accents": self._settings.strips_accents,
            "tokenize_chinese_chars": self._settings.splits_chinese,
            "clean_up_tokenization_spaces": True,
            **super().public_config(model_type),
        }

    def public_tokenizer(self, model_type: str) -> bytes:
        """Returns tokenizer.json: [CLS] text [SEP], or [CLS] text [SEP] text [SEP] with the second text of type 1."""
        begin, end = self._settings.begin_token, self._settings.end_token
        template = tokenizers.processors.TemplateProcessing(
            single=f"{begin}:0 $A:0 {end}:0",
            pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
            special_tokens=[(begin, self._id_of(begin)), (end, self.eos_id)],
        )
        return self._public_tokenizer(template, tokenizers.decoders.WordPiece(_WITHIN_WORD))


def _read_pieces(path: pathlib.Path) -> list[str]:
    return read_text(path).removesuffix("\n").split("\n")


def _pieces_in_order(vocab: Any, folder: PublicFolder) -> list[str]:
    """Returns the pieces in order of id; ids without one, the earlier of two equal lines once, get the last piece.

    Raises:
      UserError: they are no pieces with an id each.
    """
    ids = list(vocab.values()) if isinstance(vocab, dict) else []
    if not ids or {type(token) for token in ids} != {int} or min(ids) < 0 or len(set(ids)) < len(ids):
        raise UserError(
            f"The vocabulary in {folder.path} is damaged: not all of its pieces have an id of their own."
        )
    if max(ids) > _MAX_IDS_PER_PIECE * len(ids):
        raise UserError(f"The vocabulary in {folder.path} is damaged: most ids have no piece.")
    pieces = [max(vocab, key=vocab.__getitem__)] * (max(ids) + 1)
    for piece, token in vocab.items():
        pieces[token] = piece
    return pieces
