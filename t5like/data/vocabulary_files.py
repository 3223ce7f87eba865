"""Files of vocabularies: those of a public model's folder, as Transformers lays it out, and how any are written."""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from t5like.errors import UserError
from t5like.whole_files import whole_file

Folder = str | os.PathLike[str]

CONFIG_FILE, SPECIAL_TOKENS_FILE = "tokenizer_config.json", "special_tokens_map.json"
TOKENIZER_FILE, ADDED_TOKENS_FILE = "tokenizer.json", "added_tokens.json"

# Say that tokenizer.json is all there is to know.
_ANY_TOKENIZER_CLASS = ("PreTrainedTokenizer", "TokenizersBackend")
_SENTINEL = re.compile(r"<extra_id_\d+>")


def read_bytes(path: pathlib.Path) -> bytes:
    """Returns the content of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read the vocabulary {path}: {error.strerror}.") from error


def read_text(path: pathlib.Path) -> str:
    r"""Returns the content of a UTF-8 file, its line ends (\n, \r\n) read as \n.

    Raises:
      UserError: it cannot be read, or is no UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: it is no UTF-8 text at byte {error.start}.") from error


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
      UserError: it cannot be read, or holds no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it holds no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds a {type(content).__name__} where an object belongs.")
    return content


def write_files(folder: Folder, files: Mapping[str, bytes]) -> None:
    """Writes the files into a folder, made if need be, in the order given, each whole or not at all.

    Raises:
      UserError: one cannot be written; it is as it was then.
    """
    for name, content in files.items():
        write_file(pathlib.Path(folder) / name, content)


def write_file(path: pathlib.Path, content: bytes) -> None:
    """Writes one file whole or not at all, and its folder if need be.

    Raises:
      UserError: it cannot be written; it is as it was then.
    """
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"Cannot write the vocabulary {path}: {error.strerror}.") from error


def json_bytes(content: Any) -> bytes:
    """Returns an object as the JSON file that people read."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddedToken:
    """A string that is found in a text before anything else is, and becomes one id.

    Attributes:
      text: the string, such as `[MASK]`.
      token_id: the id it becomes, in the vocabulary or beyond its end.
      is_special: whether it has a meaning of its own and is no part of the text.
      strips_left: whether spaces before it go with it.
      strips_right: whether spaces after it go with it.
      is_single_word: whether it counts only where it is not a part of a word.
      is_normalized: whether it is looked for in the text as the normaliser left it, lowercased for instance.
    """

    text: str
    token_id: int
    is_special: bool = True
    strips_left: bool = False
    strips_right: bool = False
    is_single_word: bool = False
    is_normalized: bool = False

    def to_public(self) -> dict[str, Any]:
        """Returns it as Transformers writes it, without the id."""
        return {
            "content": self.text,
            "lstrip": self.strips_left,
            "normalized": self.is_normalized,
            "rstrip": self.strips_right,
            "single_word": self.is_single_word,
            "special": self.is_special,
        }

    @classmethod
    def from_public(cls, token_id: int, fields: Mapping[str, Any]) -> "AddedToken":
        """Returns it as Transformers or Tokenizers wrote it; what is left out is false."""
        return cls(
            text=str(fields["content"]),
            token_id=token_id,
            is_special=bool(fields.get("special", False)),
            strips_left=bool(fields.get("lstrip", False)),
            strips_right=bool(fields.get("rstrip", False)),
            is_single_word=bool(fields.get("single_word", False)),
            is_normalized=bool(fields.get("normalized", False)),
        )


class PublicFolder:
    """The tokenizer files of a public model's folder; any of them may be missing.

    Attributes:
      path: the folder.
      config: tokenizer_config.json, {} where it is missing.
    """

    def __init__(self, folder: Folder) -> None:
        """Opens a folder.

        Raises:
          UserError: there is none, or its tokenizer_config.json is damaged.
        """
        self.path = pathlib.Path(folder).expanduser()
        if not self.path.is_dir():
            raise UserError(f"There is no folder {folder}; give the folder of a public model.")
        self.config = self._optional_json(CONFIG_FILE)

    def has(self, *names: str) -> bool:
        """Returns whether all these files are there."""
        return all((self.path / name).is_file() for name in names)

    @functools.cached_property
    def tokenizer(self) -> dict[str, Any]:
        """tokenizer.json, {} where it is missing."""
        return self._optional_json(TOKENIZER_FILE)

    @functools.cached_property
    def _special_tokens(self) -> dict[str, Any]:
        return self._optional_json(SPECIAL_TOKENS_FILE)

    def _optional_json(self, name: str) -> dict[str, Any]:
        return read_json(self.path / name) if self.has(name) else {}

    def setting(self, name: str, default: Any, kind: type) -> Any:
        """Returns a setting of tokenizer_config.json, or the default where it is silent.

        Raises:
          UserError: the setting is not of this kind.
        """
        value = self.config.get(name)
        if value is None:
            return default
        if type(value) is not kind:
            raise UserError(
                f"{self.path / CONFIG_FILE} is damaged: {name} is {value!r:.60}, no {kind.__name__}."
            )
        return value

    def token(self, role: str, default: str | None) -> str | None:
        """Returns the string of a special token, such as that of `mask_token`, or the default."""
        for source in (self.config, self._special_tokens):
            value = source.get(role)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                return value
        return default

    def num_sentinels(self, default: int) -> int:
        """Returns how many sentinels the settings add to a model of SentencePiece, or the default.

        Raises:
          UserError: the number is no number.
        """
        named = {
            str(token.get("content") if isinstance(token, dict) else token)
            for field in ("additional_special_tokens", "extra_special_tokens")
            for token in self.config.get(field) or ()
        }
        num_named = len([token for token in named if _SENTINEL.fullmatch(token)])
        return self.setting("extra_ids", num_named or default, int)

    def added_tokens(self) -> list[AddedToken]:
        """Returns the tokens that are found in a text before the model sees it, those listed in the newest of the files.

        Raises:
          UserError: the file is damaged.
        """
        try:
            if self.config.get("added_tokens_decoder"):
                name = CONFIG_FILE
                listed = self.config["added_tokens_decoder"].items()
            elif self.tokenizer.get("added_tokens"):
                name = TOKENIZER_FILE
                listed = [(token["id"], token) for token in self.tokenizer["added_tokens"]]
            else:
                name = ADDED_TOKENS_FILE
                listed = [
                    (token_id, {"content": text, "normalized": True})
                    for text, token_id in self._optional_json(name).items()
                ]
            return [AddedToken.from_public(int(token_id), fields) for token_id, fields in listed]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path / name} is damaged: its list of added tokens cannot be read."
            ) from error

    def model(self, kind: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the model in tokenizer.json, None where there is no such file.

        Args:
          kind: type of the model, such as `WordPiece`.
          expected: what the model and the steps around it must be like, by path: `normalizer.type`, say. What the
            file leaves out, or null, is as expected.

        Raises:
          UserError: it is of another type, or does something else than expected.
        """
        if not self.tokenizer:
            return None
        for path, value in {"model.type": kind, **expected}.items():
            part: Any = self.tokenizer
            for name in path.split("."):
                part = part.get(name) if isinstance(part, dict) else None
            if part is not None and part != value:
                raise UserError(
                    f"{self.path / TOKENIZER_FILE} cannot be used: its {path} is {_short(part)}, where this family "
                    f"has {_short(value)}."
                )
        return self.tokenizer.get("model") or {}

    def check_class(self, *classes: str) -> None:
        """Returns if the folder's tokenizer is of one of these classes of Transformers, or of none in particular.

        Raises:
          UserError: it is of another class.
        """
        name = str(self.config.get("tokenizer_class") or classes[0])
        if name.removesuffix("Fast") not in (*classes, *_ANY_TOKENIZER_CLASS):
            raise UserError(
                f"The tokenizer in {self.path} is a {name}, which this family does not have; it has {classes[0]}."
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
