"""JSON Lines: an object a line, the text in one field of it; lines of white space do not count."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from t5like.data.sources.block_sizes import bytes_per_block
from t5like.data.sources.compression import COMPRESSED, open_stream
from t5like.data.sources.fields import RecordError, text_of_json
from t5like.data.sources.file_source import Format
from t5like.data.sources.files import File
from t5like.data.sources.lines import first_line, line_number, lines_of, lines_of_stream
from t5like.errors import UserError

_START_BYTES = 64 * 1024
# How a file begins that is one document: a line of its own that holds an object ends in a brace.
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{(?:[^\n]*[,{\[])?[ \t\r]*\n")


class JsonLines(Format):
    """Lines that are not compressed: a block is those that start in a stretch of bytes.

    The stretches of all files are of one power of two, such that there are some thousand of them: at least 16 KiB, of
    which there may be fewer, and at most 256 KiB, of which there may be more.
    """

    block_name = "stretch of the file"

    def __init__(self, files: Sequence[File], text_field: str, *, block_bytes: int | None = None) -> None:
        self._block_bytes = block_bytes or bytes_per_block(sum(file.size for file in files))
        self._text_field = text_field
        self.layout = f"jsonl text_field={text_field!r} block_bytes={self._block_bytes}"

    def num_blocks(self, file: File) -> int:
        """Returns the stretches of a file, those without a record included."""
        return -(-file.size // self._block_bytes)

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the lines; a UserError where the file is no lines, but one document."""
        try:
            yield from _texts(lines_of(file, *self._stretch(block)), self._text_field, start)
        except RecordError:
            _check_lines(file)
            raise

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the line of a record."""
        begin, end = self._stretch(block)
        number = line_number(file, first_line(file, begin, end)[0])
        return f"{file.name}, line {number + _lines_before(lines_of(file, begin, end), record)}"

    def _stretch(self, block: int) -> tuple[int, int]:
        return block * self._block_bytes, (block + 1) * self._block_bytes


class CompressedJsonLines(Format):
    """Compressed lines: a file is one block."""

    block_name = "file"

    def __init__(self, text_field: str) -> None:
        self._text_field = text_field
        self.layout = f"compressed jsonl text_field={text_field!r}"

    def num_blocks(self, file: File) -> int:
        """Returns 1."""
        return 1

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the lines; a UserError where the file is no lines, but one document."""
        try:
            with open_stream(file) as stream:
                yield from _texts(lines_of_stream(stream), self._text_field, start)
        except RecordError:
            _check_lines(file)
            raise

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the line of a record."""
        with open_stream(file) as stream:
            return f"{file.name}, line {1 + _lines_before(lines_of_stream(stream), record)}"


def _texts(lines: Iterable[bytes | RecordError], text_field: str, start: int) -> Iterator[str]:
    for line in lines:
        if not _is_record(line):
            continue
        if start:
            start -= 1
            continue
        if isinstance(line, RecordError):
            raise line
        yield text_of_json(line, text_field)


def _check_lines(file: File) -> None:
    """Looks how a file begins of which a line is not what it should be.

    Raises:
      UserError: it is an array of objects, or an object of several lines.
    """
    with open_stream(file) as stream:
        start = stream.read(_START_BYTES)
    stem, suffix = os.path.splitext(file.name)
    is_compressed = suffix.lower() in COMPRESSED
    for begins, query in ((_ARRAY, ".[]"), (_OBJECT, ".")):
        if begins.match(start):
            raise UserError(
                f"{file.name} is one JSON document; {'decompress it, and ' * is_compressed}write an object a line "
                f"(`jq -c '{query}' {shlex.quote(stem if is_compressed else file.name)}`)."
            )


def _lines_before(lines: Iterable[bytes | RecordError], record: int) -> int:
    """Returns the number of lines before that of a record, and of all lines where there is no such record."""
    number = 0
    for line in lines:
        if _is_record(line):
            if not record:
                break
            record -= 1
        number += 1
    return number


def _is_record(line: bytes | RecordError) -> bool:
    return isinstance(line, RecordError) or not (not line or line.isspace())
