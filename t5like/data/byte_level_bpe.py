"""The vocabularies of GPT-2, RoBERTa and BART: pairs of bytes merged again and again, the commonest first.

text     Hello world
bytes    H e l l o Ġ w o r l d      each byte as a letter that can be seen, a space as Ġ
pieces   Hello Ġworld               every text has pieces, and they give it back to the letter
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import tokenizers

from t5like.batch import SpecialTokens
from t5like.data.tokenizers_vocabulary import TokenizerSettings, TokenizersVocabulary
from t5like.data.vocabulary import Token
from t5like.data.vocabulary_files import PublicFolder, read_json, read_text
from t5like.errors import UserError

VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"

_MERGES_HEADER = "#version: 0.2"
_CLASS_OF_FAMILY = {"gpt2": "GPT2Tokenizer", "roberta": "RobertaTokenizer", "bart": "BartTokenizer"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByteLevelBPESettings(TokenizerSettings):
    """How a family reads a text and marks it; `GPT2`, `ROBERTA` and `BART` are the families' own.

    Attributes:
      layout: the family whose marks an input gets: gpt2, roberta or bart.
      adds_prefix_space: whether a space is put before a text that does not begin with one.

    Raises:
      UserError: the layout is none of the three.
    """

    layout: str
    adds_prefix_space: bool = False

    def __post_init__(self) -> None:
        if self.layout not in _CLASS_OF_FAMILY:
            raise UserError(f"layout must be one of {', '.join(_CLASS_OF_FAMILY)}, not {self.layout!r}.")

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Returns the names that a field has in a public folder; GPT-2 has but one token for everything."""
        if self.layout == "gpt2":
            return {"end_token": ("eos_token", "bos_token", "unk_token"), "padding_token": ("pad_token",)}
        more = {"begin_token": ("cls_token", "bos_token"), "end_token": ("sep_token", "eos_token")}
        return super().roles() | more


GPT2 = ByteLevelBPESettings(
    layout="gpt2",
    begin_token=None,
    end_token="<|endoftext|>",
    padding_token=None,
    unknown_token=None,
    mask_token=None,
)
ROBERTA = ByteLevelBPESettings(
    layout="roberta",
    begin_token="<s>",
    end_token="</s>",
    padding_token="<pad>",
    unknown_token="<unk>",
    mask_token="<mask>",
)
BART = dataclasses.replace(ROBERTA, layout="bart")
_SETTINGS_OF_FAMILY = {settings.layout: settings for settings in (GPT2, ROBERTA, BART)}


class ByteLevelBPEVocabulary(TokenizersVocabulary):
    """Pieces and the merges that make them.

    GPT-2 has no padding; `special_tokens` pads with its end mark, 50256 there.

    Source: Sennrich et al. 2016 on bytes, as in Radford et al. 2019 (GPT-2), Liu et al. 2019 (RoBERTa) and Lewis et
    al. 2020 (BART).
    """

    kind = "byte_level_bpe"
    _settings: ByteLevelBPESettings

    def __init__(
        self,
        pieces: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        settings: ByteLevelBPESettings,
        *,
        origin: str = "The vocabulary",
    ) -> None:
        """Builds the vocabulary.

        Args:
          pieces: the id of each piece.
          merges: which two pieces become one, the first of the list first.
          settings: the family's.
          origin: where this is from, for messages.

        Raises:
          UserError: pieces and merges do not belong together, a special token is missing, or an added token cannot
            have its id.
        """
        self._pieces = dict(pieces)
        self._merges: list[Any] = [tuple(merge) for merge in merges]  # pairs, or the library complains
        in_order = sorted(self._pieces.items(), key=lambda item: item[1])
        if len({token for _, token in in_order}) < len(in_order):
            raise UserError(f"{origin} is damaged: two of its pieces have the same id.")
        try:
            model = tokenizers.models.BPE(self._pieces, self._merges)
        except Exception as error:  # the library raises no other kind
            reason = " ".join(str(error).split())
            raise UserError(f"{origin} is damaged: its pieces and merges do not fit ({reason}).") from error
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=settings.adds_prefix_space
        )
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        content = [in_order, self._merges]
        super().__init__(tokenizer, settings, content=content, mask_strips_left=True, origin=origin)

    def _find_special_tokens(self) -> SpecialTokens:
        named, of = self._settings, self._ids
        end = of[named.end_token]
        begin = () if named.begin_token is None else (of[named.begin_token],)
        return SpecialTokens(
            end,
            np.array([], np.int32),
            pad_id=end if named.padding_token is None else of[named.padding_token],
            begin_ids=begin,
            separator_ids=() if named.layout == "gpt2" else (end, end),
            decoder_start_id=0 if named.layout == "roberta" else end,
            target_begin_ids=begin if named.layout == "bart" else (),
            mask_id=self._id_of(named.mask_token),
            unk_id=self._id_of(named.unknown_token),
        )

    def _text_of(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text.removeprefix(" ") if self._settings.adds_prefix_space else text

    def _token_of(self, piece: str) -> Token:
        text = self._tokenizer.decoder.decode([piece])
        return Token(text, text[:1].isspace(), False)

    def files(self) -> dict[str, bytes]:
        """Returns the pieces with their ids, and the merges, one a line."""
        merges = [_MERGES_HEADER, *(" ".join(merge) for merge in self._merges)]
        return {
            VOCABULARY_FILE: json.dumps(self._pieces, ensure_ascii=False).encode(),
            MERGES_FILE: "".join(f"{line}\n" for line in merges).encode(),
        }

    @classmethod
    def from_folder(cls, folder: pathlib.Path, settings: Mapping[str, Any]) -> Self:
        """Returns the vocabulary that `files` and `settings` were written of."""
        origin = f"The vocabulary in {folder}"
        return cls(*_read_pieces(folder), ByteLevelBPESettings.from_json(settings), origin=origin)

    @classmethod
    def from_public_folder(cls, folder: PublicFolder, model_type: str) -> Self:
        """Returns the vocabulary of a public GPT-2, RoBERTa or BART.

        Raises:
          UserError: its files are missing or damaged, or its tokenizer is not the family's.
        """
        folder.check_class(*dict.fromkeys([_CLASS_OF_FAMILY[model_type], *_CLASS_OF_FAMILY.values()]))
        model = folder.model(
            "BPE",
            {
                "model.dropout": None,
                "model.byte_fallback": False,
                "model.ignore_merges": False,
                "model.continuing_subword_prefix": "",
                "model.end_of_word_suffix": "",
                "normalizer": None,
                "pre_tokenizer.type": "ByteLevel",
                "pre_tokenizer.use_regex": True,
            },
        )
        if folder.has(VOCABULARY_FILE, MERGES_FILE):
            pieces, merges = _read_pieces(folder.path)
        elif model is not None:
            pieces, merges = _checked(model.get("vocab"), model.get("merges"), folder.path)
        else:
            raise UserError(
                f"{folder.path} holds no vocabulary: there are no {VOCABULARY_FILE} and {MERGES_FILE} in it."
            )
        before = folder.tokenizer.get("pre_tokenizer") or {}
        adds_prefix_space = folder.setting("add_prefix_space", before.get("add_prefix_space", False), bool)
        settings = _SETTINGS_OF_FAMILY[model_type].read_public(folder, adds_prefix_space=adds_prefix_space)
        return cls(pieces, merges, settings, origin=f"The vocabulary in {folder.path}")

    def public_config(self, model_type: str) -> dict[str, Any]:
        """Returns tokenizer_config.json of GPT-2, RoBERTa or BART.

        Raises:
          UserError: the family is another than that of the vocabulary.
        """
        if model_type != self._settings.layout:
            raise UserError(
                f"This vocabulary marks its inputs as {self._settings.layout} does; a {model_type} model cannot use it."
            )
        return {
            "tokenizer_class": _CLASS_OF_FAMILY[model_type],
            "add_prefix_space": self._settings.adds_prefix_space,
            **super().public_config(model_type),
        }

    def public_tokenizer(self, model_type: str) -> bytes:
        """Returns tokenizer.json: <s> text </s>, or <s> text </s> </s> text </s>; of GPT-2, the text alone."""
        begin, end = self._settings.begin_token, self._settings.end_token
        if begin is None:
            marks: Any = tokenizers.processors.ByteLevel(trim_offsets=False)
        else:
            begin_id = self._id_of(begin)
            assert begin_id is not None
            marks = tokenizers.processors.RobertaProcessing(
                (end, self.eos_id),
                (begin, begin_id),  # an argument whose name the library has changed
                add_prefix_space=self._settings.adds_prefix_space,
                trim_offsets=True,
            )
        return self._public_tokenizer(marks, tokenizers.decoders.ByteLevel())


def _read_pieces(folder: pathlib.Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = read_text(folder / MERGES_FILE).removesuffix("\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    return _checked(read_json(folder / VOCABULARY_FILE), lines, folder)


def _checked(pieces: Any, merges: Any, folder: pathlib.Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Returns pieces and merges; a merge may be written "a b" or ["a", "b"].

    Raises:
      UserError: they are something else.
    """
    if not isinstance(pieces, dict) or not all(
        type(token) is int and token >= 0 for token in pieces.values()
    ):
        raise UserError(f"The vocabulary in {folder} is damaged: not all of its pieces have an id.")
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges or ()]
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise UserError(
            f"The vocabulary in {folder} is damaged: {' '.join(bad[0])!r} is no merge of two pieces."
        )
    return pieces, pairs
