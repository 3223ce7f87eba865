"""Lines of files, found from any byte without reading what comes before.

A line starts at byte 0 and after every LF. Those that start in a stretch of bytes belong to it, to their ends, which may
be beyond it; so every line is in exactly one of the stretches that a file is cut into.

Cut at every third byte:  ab.cdefg..h  ('.' is LF)  ->  [ab.] [cdefg.] [] [. h]
"""

from collections.abc import Iterator
from typing import BinaryIO

from t5like.data.sources.fields import RecordError
from t5like.data.sources.files import File

MAX_LINE_BYTES = 64 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_READ_BYTES = 256 * 1024
# Read behind a stretch, in which its last line mostly ends: a second request would take far longer than these.
_BEYOND_BYTES = 8 * 1024


def first_line(file: File, start: int, end: int) -> tuple[int, bytes]:
    """Returns where the first line of a stretch starts, and what the stretch holds from there on.

    It is `end`, and nothing, where no line starts in the stretch.
    """
    offset, content, _ = _stretch(file, start, end, 0)
    return offset, content


def lines_of(file: File, start: int, end: int) -> Iterator[bytes | RecordError]:
    """Yields the lines of a stretch, without LF; in place of one that is longer than a line may be, what to say of it."""
    offset, content, beyond = _stretch(file, start, end, _BEYOND_BYTES)
    *lines, last = _without_mark(offset, content).split(b"\n")
    yield from lines
    if last:
        try:
            yield last + _rest_of_line(file, offset + len(content), beyond, len(last)).removesuffix(b"\n")
        except RecordError as error:
            yield error


def passage_of(file: File, start: int, end: int) -> tuple[int, bytes]:
    """Returns the offset of the lines of a stretch, and the lines in one piece, each with its LF.

    Raises:
      RecordError: the last one is longer than a line may be.
    """
    offset, content, beyond = _stretch(file, start, end, _BEYOND_BYTES)
    if content and not content.endswith(b"\n"):
        last = len(content) - content.rfind(b"\n") - 1
        content += _rest_of_line(file, offset + len(content), beyond, last)
    return offset, _without_mark(offset, content)


def line_number(file: File, offset: int) -> int:
    """Returns the number, from 1, of the line that starts at a byte; it reads all that comes before."""
    piece = 4 * 1024 * 1024
    return 1 + sum(
        file.read(start, min(start + piece, offset)).count(b"\n") for start in range(0, offset, piece)
    )


def lines_of_stream(stream: BinaryIO) -> Iterator[bytes | RecordError]:
    """Yields all lines of a stream, as `lines_of` those of a stretch."""
    pending: list[bytes] = []  # the parts of a line without its end
    mark, unread = _BYTE_ORDER_MARK, b""
    while content := unread or stream.read1(_READ_BYTES):  # type: ignore[attr-defined]
        unread = b""
        *lines, rest = content.split(b"\n")
        if lines:
            lines[0] = b"".join((*pending, lines[0])).removeprefix(mark)
            pending, mark = [], b""
            yield from lines
        pending.append(rest)
        if sum(map(len, pending)) > MAX_LINE_BYTES:
            yield _too_long()
            pending, mark, unread = [], b"", _skip_line(stream)[1]
    if last := b"".join(pending).removeprefix(mark):
        yield last


def passages_of_stream(stream: BinaryIO, num_bytes: int) -> Iterator[tuple[int, bytes | RecordError]]:
    """Yields (number of the first line from 1, its lines in one piece) of the stretches of `num_bytes` that have lines.

    In place of lines of which the last is longer than a line may be, it yields what to say of them.
    """
    content, offset, number = bytearray(), 0, 1
    num_searched, is_whole = 0, False
    while content or not is_whole:
        last = num_bytes - offset % num_bytes - 1  # lines that start behind this byte are of other stretches
        end = content.find(b"\n", max(last, num_searched)) + 1
        if not end and not is_whole:
            if len(content) - content.rfind(b"\n", 0, last) - 1 > MAX_LINE_BYTES:
                yield number, _too_long()
                num_skipped, rest = _skip_line(stream)
                number += content.count(b"\n") + 1
                offset += len(content) + num_skipped
                content, num_searched = bytearray(rest), 0
                continue
            num_searched = len(content)
            more = stream.read1(_READ_BYTES)  # type: ignore[attr-defined]
            content += more
            is_whole = not more
            continue
        lines = bytes(content[: end or None])
        yield number, _without_mark(offset, lines)
        number += lines.count(b"\n")
        offset += len(lines)
        del content[: len(lines)]
        num_searched = 0


def _stretch(file: File, start: int, end: int, num_beyond: int) -> tuple[int, bytes, bytes]:
    """Returns what `first_line` does, and up to `num_beyond` bytes that follow, from one read."""
    before, end = max(start - 1, 0), min(end, file.size)
    content = file.read(before, min(end + num_beyond, file.size))
    stretch, beyond = content[: end - before], content[end - before :]
    first = stretch.find(b"\n") + 1 if start else 0
    return (before + first, stretch[first:], beyond) if first or not start else (end, b"", beyond)


def _rest_of_line(file: File, start: int, beyond: bytes, num_bytes_before: int) -> bytes:
    """Returns what there is from byte `start` to the end of the line, with its LF if it has one.

    Args:
      beyond: what was read already, from `start` on.
      num_bytes_before: of the line.
    """
    parts: list[bytes] = []
    content, piece = beyond, 64 * 1024
    while not (end := content.find(b"\n") + 1):
        parts.append(content)
        start += len(content)
        num_bytes_before += len(content)
        if num_bytes_before > MAX_LINE_BYTES:
            raise _too_long()
        if start == file.size:
            return b"".join(parts)
        content = file.read(start, min(start + piece, file.size))
        piece = min(2 * piece, 4 * 1024 * 1024)
    return b"".join((*parts, content[:end]))


def _skip_line(stream: BinaryIO) -> tuple[int, bytes]:
    """Reads to the end of a line; returns the number of bytes up to there, LF included, and what was read beyond."""
    num_bytes = 0
    while content := stream.read1(_READ_BYTES):  # type: ignore[attr-defined]
        if end := content.find(b"\n") + 1:
            return num_bytes + end, content[end:]
        num_bytes += len(content)
    return num_bytes, b""


def _without_mark(offset: int, content: bytes) -> bytes:
    return content if offset else content.removeprefix(_BYTE_ORDER_MARK)


def _too_long() -> RecordError:
    return RecordError(
        f"a line is longer than {MAX_LINE_BYTES >> 20} MiB, and none may be: break it into several, or its text into "
        "several documents"
    )
