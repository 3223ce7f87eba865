"""Plain text: files of any length, cut at ends of lines into passages of some 64 KiB, each of them a document."""

from collections.abc import Iterator

from t5like.data.sources.compression import open_stream
from t5like.data.sources.fields import RecordError
from t5like.data.sources.file_source import Format
from t5like.data.sources.files import File
from t5like.data.sources.lines import first_line, line_number, passage_of, passages_of_stream
from t5like.errors import DamagedRecordError

PASSAGE_BYTES = 64 * 1024


class Text(Format):
    """Text that is not compressed: block i is the passage of the lines that start in the i-th stretch of 64 KiB.

    A file of at most 64 KiB is one document. A block of white space, or in which no line starts, has no record.
    """

    block_name = "stretch of the file"

    def __init__(self, *, passage_bytes: int = PASSAGE_BYTES) -> None:
        self._passage_bytes = passage_bytes
        self.layout = f"text passage_bytes={passage_bytes}"

    def num_blocks(self, file: File) -> int:
        """Returns the stretches of a file, those without a record included."""
        return -(-file.size // self._passage_bytes)

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the passage, if there is one."""
        if start:
            return
        offset, content = passage_of(file, *self._stretch(block))
        try:
            text = _decode(content)
        except UnicodeDecodeError as error:
            raise _not_text(file, line_number(file, offset), error) from error
        if text.strip():
            yield text

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the line that the passage starts with."""
        offset, _ = first_line(file, *self._stretch(block))
        return f"{file.name}, line {line_number(file, offset)}"

    def _stretch(self, block: int) -> tuple[int, int]:
        return block * self._passage_bytes, (block + 1) * self._passage_bytes


class CompressedText(Format):
    """Compressed text: a file is one block, and the passages it would have if it were not compressed are its records."""

    block_name = "file"

    def __init__(self, *, passage_bytes: int = PASSAGE_BYTES) -> None:
        self._passage_bytes = passage_bytes
        self.layout = f"compressed text passage_bytes={passage_bytes}"

    def num_blocks(self, file: File) -> int:
        """Returns 1."""
        return 1

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the passages."""
        record = 0
        with open_stream(file) as stream:
            for first, content in passages_of_stream(stream, self._passage_bytes):
                if record < start:
                    record += _has_text(content)
                    continue
                if isinstance(content, RecordError):
                    raise content
                try:
                    text = _decode(content)
                except UnicodeDecodeError as error:
                    raise _not_text(file, first, error) from error
                if text.strip():
                    yield text

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the line that a passage starts with."""
        number = 1
        with open_stream(file) as stream:
            for first, content in passages_of_stream(stream, self._passage_bytes):
                number = first
                if _has_text(content):
                    if not record:
                        break
                    record -= 1
        return f"{file.name}, line {number}"


def _has_text(content: bytes | RecordError) -> bool:
    return isinstance(content, RecordError) or bool(content.decode("utf-8", "replace").strip())


def _decode(content: bytes) -> str:
    """Returns lines as text with LF line ends."""
    return content.decode("utf-8").replace("\r\n", "\n")


def _not_text(file: File, first_line: int, error: UnicodeDecodeError) -> DamagedRecordError:
    """Returns what to say of lines that are not UTF-8, of which the first has the given number."""
    number = first_line + error.object.count(b"\n", 0, error.start)
    byte = error.start - error.object.rfind(b"\n", 0, error.start) - 1
    return DamagedRecordError(
        f"{file.name}, line {number}: not UTF-8 text: {error.reason} at byte {byte} of the line."
    )
