"""Documents to pre-train on, from the standard library, from local files or from a TFDS data set.

A location is one of

    embedded                        the text that comes with Python, see standard_library.py
    corpus.txt  corpus.jsonl.zst    a file: one document, or for .jsonl one document a line
    ~/corpus  corpus/**/*.md.gz     a folder, read recursively, or a glob of such files
    tfds:lm1b  tfds:c4/en:3.0.1     a TFDS data set, read record by record; downloaded and prepared first if need be

Files are UTF-8, plain or compressed (.gz, .zst). Local text is held in memory; a corpus that does not fit belongs in TFDS.
"""

import difflib
import glob
import gzip
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import zstandard

from t5like.data import standard_library
from t5like.data.standard_library import Split
from t5like.data.tfds_source import open_data_source
from t5like.errors import UserError

EMBEDDED = "embedded"
TFDS_PREFIX = "tfds:"

_HELD_OUT_FRACTION = 0.02


def read_documents(location: str, *, split: Split, text_field: str = "text") -> Sequence[str]:
    """Returns the documents at `location`, in a fixed order: files sorted by path, records as they are stored.

    Args:
      location: `embedded`, a file, folder or glob, or `tfds:name`; see above.
      split: which part of `embedded` or of a TFDS data set; local files have no parts, see `split_documents`.
      text_field: the field that holds the text, in .jsonl files and TFDS data sets.

    Raises:
      UserError: nothing is there, or something there is not text; the message names the file and the line.
    """
    if location == EMBEDDED:
        return standard_library.documents(split)
    if location.startswith(TFDS_PREFIX):
        return _open_tfds(location.removeprefix(TFDS_PREFIX), split, text_field)
    paths = _matching_files(location)
    return list(itertools.chain.from_iterable(_documents_in_file(path, text_field) for path in paths))


def has_own_splits(location: str) -> bool:
    """Returns whether the data at `location` say themselves which part is held out."""
    return location == EMBEDDED or location.startswith(TFDS_PREFIX)


def split_documents(documents: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns (training, held-out) documents: one in fifty is held out, at least one, evenly spaced, order kept.

    With 5 documents:  [a b c d e]  ->  [a b d e], [c]

    Raises:
      UserError: there is a single document.
    """
    if len(documents) < 2:
        raise UserError(
            "The training data is a single document, so none can be held out; "
            "name held-out text with --validation_data."
        )
    num_held_out = max(1, round(len(documents) * _HELD_OUT_FRACTION))
    held_out = {(2 * k + 1) * len(documents) // (2 * num_held_out) for k in range(num_held_out)}
    return (
        [documents[index] for index in range(len(documents)) if index not in held_out],
        [documents[index] for index in sorted(held_out)],
    )


def _matching_files(location: str) -> list[str]:
    pattern = os.path.expanduser(location)
    if os.path.isdir(pattern):
        paths = sorted(_files_under(pattern))
    elif os.path.exists(pattern):
        paths = [pattern]
    else:
        paths = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not paths:
        raise UserError(f"No file matches {location!r}{_hint(pattern)}.")
    return paths


def _files_under(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(parent, name) for name in names if not name.startswith("."))


def _raise_unreadable(error: OSError) -> None:
    raise UserError(f"Cannot read {error.filename}: {error.strerror}.") from error


def _hint(pattern: str) -> str:
    """Returns what to say of the existing path nearest to one that matches nothing."""
    if os.path.isdir(pattern):
        return ", a folder without files"
    parent, missing = os.path.split(pattern.rstrip(os.sep))
    while parent and not os.path.isdir(parent):
        parent, missing = os.path.split(parent)
    if glob.has_magic(missing):
        return ""
    if close := difflib.get_close_matches(missing, os.listdir(parent or os.curdir), n=1):
        return f"; the nearest name there is {os.path.join(parent, close[0])!r}"
    return f"; {parent or 'the current folder'} holds no {missing!r}"


def _documents_in_file(path: str, text_field: str) -> Iterator[str]:
    text = _read_text(path)
    if not text.strip():
        raise UserError(f"{path} holds no text.")
    if not path.lower().removesuffix(".gz").removesuffix(".zst").endswith(".jsonl"):
        yield text
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _text_of_line(line, text_field, f"{path}, line {number}")


def _text_of_line(line: str, text_field: str, place: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}).") from error
    if not isinstance(record, dict) or text_field not in record:
        fields = ", ".join(record) if isinstance(record, dict) else f"a {type(record).__name__}"
        raise UserError(f"{place}: no field {text_field!r}, only {fields or 'an empty object'}.")
    text = record[text_field]
    if not isinstance(text, str):
        raise UserError(f"{place}: the field {text_field!r} is {json.dumps(text)[:40]}, not a string.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: the field {text_field!r} holds half of a surrogate pair.") from error
    return text


def _read_text(path: str) -> str:
    """Returns the text of a file, decompressed, without a byte order mark and with LF line ends."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        if path.lower().endswith(".gz"):
            content = gzip.decompress(content)
        elif path.lower().endswith(".zst"):
            content = _decompress_zst(content)
    except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"Cannot decompress {path}, which is truncated or damaged: {error}.") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _decompress_zst(content: bytes) -> bytes:
    parts = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(content))
        if not frame.eof:
            raise EOFError("the file ends inside a frame")
        content = frame.unused_data
    return b"".join(parts)


class _TfdsDocuments(Sequence[str]):
    """The text of a TFDS split, each record read when it is asked for."""

    def __init__(self, records: Sequence[dict[str, Any]], text_field: str, name: str) -> None:
        self._records = records
        self._text_field = text_field
        self._name = name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        text = self._records[number][self._text_field]
        if isinstance(text, str):
            return text
        if not isinstance(text, bytes):
            raise UserError(
                f"TFDS data set {self._name}, record {number}: the field {self._text_field!r} is not text."
            )
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"TFDS data set {self._name}, record {number} is not UTF-8 text at byte {error.start}."
            ) from error


def _open_tfds(name: str, split: Split, text_field: str) -> Sequence[str]:
    records = open_data_source(name, split, alternative="name files of text instead")
    fields = records[0]
    if text_field not in fields:
        raise UserError(f"TFDS data set {name} has no field {text_field!r}, only {', '.join(fields)}.")
    return _TfdsDocuments(records, text_field, name)
