"""What WordPiece and byte-level BPE share: they are computed by the Tokenizers library, and find added tokens first."""

import abc
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import tokenizers

from t5like.batch import SpecialTokens
from t5like.data.vocabulary import Token, Vocabulary, check_is_unicode
from t5like.data.vocabulary_files import AddedToken, PublicFolder
from t5like.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The special tokens of a vocabulary by name, and all tokens that are found in a text first.

    Attributes:
      begin_token: what an input begins with; None: nothing.
      end_token: what an input ends with, and what stands between two texts.
      padding_token: None: the end mark pads.
      unknown_token: what cannot be written otherwise; None: there is no such text.
      mask_token: None: there is none.
      added_tokens: in order of id. A token named above is found in a text whether or not it is listed.
    """

    begin_token: str | None
    end_token: str
    padding_token: str | None
    unknown_token: str | None
    mask_token: str | None
    added_tokens: tuple[AddedToken, ...] = ()

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Returns the names that a field has in a public folder, the one it is read from first."""
        return {
            "begin_token": ("cls_token",),
            "end_token": ("sep_token",),
            "padding_token": ("pad_token",),
            "unknown_token": ("unk_token",),
            "mask_token": ("mask_token",),
        }

    def named(self) -> dict[str, str]:
        """Returns the special tokens that there are, by field."""
        named = {field: getattr(self, field) for field in self.roles()}
        return {field: token for field, token in named.items() if token is not None}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Self:
        """Returns the settings that `dataclasses.asdict` and JSON carried."""
        added_tokens = tuple(AddedToken(**token) for token in settings["added_tokens"])
        return cls(**{**settings, "added_tokens": added_tokens})

    def read_public(self, folder: PublicFolder, **more: Any) -> Self:
        """Returns these settings with what a public folder says instead, and `more`."""
        tokens: dict[str, Any] = {
            field: folder.token(names[0], getattr(self, field)) for field, names in self.roles().items()
        }
        if tokens["padding_token"] == tokens["end_token"]:
            tokens["padding_token"] = None
        return dataclasses.replace(self, **tokens, added_tokens=tuple(folder.added_tokens()), **more)


class TokenizersVocabulary(Vocabulary):
    """A vocabulary computed by the Tokenizers library."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        settings: TokenizerSettings,
        *,
        content: Any,
        mask_strips_left: bool,
        origin: str,
    ) -> None:
        """Adds the added tokens to a tokenizer that has none, and finds out which ids are special.

        Args:
          tokenizer: owned by the vocabulary from here on.
          settings: `mask_token` may name a token that is not there; there is none then.
          content: what else decides the ids, in JSON's terms: the pieces in order of id, say.
          mask_strips_left: whether the spaces before a mask go with it, where `settings` does not list the mask.
          origin: where this is from, for messages.

        Raises:
          UserError: a special token is missing, or an added token cannot have its id.
        """
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab() | {token.text: token.token_id for token in settings.added_tokens}
        if settings.mask_token not in ids:
            settings = dataclasses.replace(settings, mask_token=None)
        added = {token.text: token for token in settings.added_tokens}
        for field, text in settings.named().items():
            if text not in ids:
                raise UserError(
                    f"{origin} has no {text!r}, its {field.replace('_', ' ')}; name the one it has in "
                    "tokenizer_config.json."
                )
            strips_left = mask_strips_left and field == "mask_token"
            token = added.get(text) or AddedToken(text=text, token_id=ids[text], strips_left=strips_left)
            if not token.is_special:  # added_tokens.json does not tell
                token = dataclasses.replace(token, is_special=True, is_normalized=False)
            added[text] = token
        in_order = tuple(sorted(added.values(), key=lambda token: token.token_id))
        self._settings = dataclasses.replace(settings, added_tokens=in_order)
        _add_tokens(tokenizer, in_order, origin)
        self._ids = tokenizer.get_vocab()
        self.num_tokens = max(self._ids.values()) + 1
        self.special_tokens = self._find_special_tokens()
        described = json.dumps([self.kind, content, self.settings()], sort_keys=True)
        self.sha256 = hashlib.sha256(described.encode()).hexdigest()
        # Not the unknown token: it is what plain text comes to as well.
        accidental = {token.token_id for token in in_order if token.is_special} - {self.unk_id}
        self._accidental_ids = np.array(sorted(accidental), np.int32)

    @abc.abstractmethod
    def _find_special_tokens(self) -> SpecialTokens:
        """Returns where the family puts which special token; called once `_id_of` works."""

    def _id_of(self, text: str | None) -> int | None:
        return None if text is None else self._ids[text]

    @abc.abstractmethod
    def _token_of(self, piece: str) -> Token:
        """Returns what a piece is that is not special."""

    def _tokens(self) -> Iterator[Token]:
        special = {token.text for token in self._settings.added_tokens if token.is_special}
        pieces = {token: piece for piece, token in self._ids.items()}
        for token in range(self.num_tokens):
            piece = pieces.get(token)
            if piece is None or piece in special:
                yield Token("", False, True)
            else:
                yield self._token_of(piece)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text, no begin or end mark added.

        A special token spelt out in a text is that token, as it is in Transformers.

        Raises:
          UserError: a text holds lone surrogates.
        """
        encodings = _encoded(self._tokenizer.encode_batch_fast, texts)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def _with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        encodings = _encoded(self._tokenizer.encode_batch, texts)
        return [
            (np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int32).reshape(-1, 2))
            for encoding in encodings
        ]

    def encode_documents(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids [num_tokens] int32 of each text without the special tokens that are spelt out in it."""
        return [ids[~np.isin(ids, self._accidental_ids)] for ids in self.encode_batch(texts)]

    def settings(self) -> dict[str, Any]:
        """Returns special tokens, added tokens and what the kind has beside them."""
        return dataclasses.asdict(self._settings)

    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns the part of tokenizer_config.json that tells of special and added tokens.

        Raises:
          UserError: the family has no such vocabulary.
        """
        tokens = {token.text: token for token in self._settings.added_tokens}
        roles = {
            role: text
            for field, text in self._settings.named().items()
            for role in self._settings.roles()[field]
        }
        config: dict[str, Any] = {
            role: {"__type": "AddedToken", **tokens[text].to_public()} if tokens[text].strips_left else text
            for role, text in roles.items()
        }
        config["added_tokens_decoder"] = {
            str(token.token_id): token.to_public() for token in self._settings.added_tokens
        }
        return config

    def _public_tokenizer(self, post_processor: Any, decoder: Any) -> bytes:
        """Returns tokenizer.json with a family's own begin and end marks, and its way of decoding."""
        tokenizer = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.post_processor, tokenizer.decoder = post_processor, decoder
        return tokenizer.to_str(pretty=True).encode()


def _encoded(encode: Callable[..., list[tokenizers.Encoding]], texts: list[str]) -> list[tokenizers.Encoding]:
    """Returns the encodings of texts without begin and end marks.

    Raises:
      UserError: a text holds lone surrogates.
    """
    try:
        return encode(texts, add_special_tokens=False)
    except (TypeError, UnicodeEncodeError):
        for text in texts:
            check_is_unicode(text)
        raise


def _add_tokens(tokenizer: tokenizers.Tokenizer, added_tokens: Iterable[AddedToken], origin: str) -> None:
    """Adds tokens, which come in order of id.

    Raises:
      UserError: one is in the vocabulary with another id, or leaves out ids.
    """
    for is_special, tokens in itertools.groupby(added_tokens, key=lambda token: token.is_special):
        add = tokenizer.add_special_tokens if is_special else tokenizer.add_tokens
        add(
            [
                tokenizers.AddedToken(
                    token.text,
                    lstrip=token.strips_left,
                    rstrip=token.strips_right,
                    single_word=token.is_single_word,
                    normalized=token.is_normalized,
                )
                for token in tokens
            ]
        )
    for token in added_tokens:
        if tokenizer.token_to_id(token.text) != token.token_id:
            raise UserError(
                f"{origin} adds the token {token.text!r} with the id {token.token_id}, but its place is "
                f"{tokenizer.token_to_id(token.text)}; its files do not belong together."
            )
