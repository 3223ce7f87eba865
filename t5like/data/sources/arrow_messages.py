"""Where the record batches of an Arrow file are, and some rows of one column of them, without mapping the file.

A mapped file that is cut while it is read ends the process. So no more than is asked for is read, and a read that comes
short is an error like any other. Of a batch that is not compressed, rows are read by themselves: a batch may be the whole
file.

A file is messages, each a length, metadata and a body: the schema, then batches of rows and the dictionaries they use, and
a mark of the end. The kind with a footer starts with a magic, and has its footer and the magic behind that.
Source: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

import bisect
import functools
import itertools
import mmap
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from t5like.data.sources.files import File

_MAGIC = b"ARROW1"  # what the kind with a footer starts and ends with
_MAGIC_BYTES = 8  # with its padding
_TAIL = struct.Struct("<i6s")  # the length of the footer, and the magic
_CONTINUATION = b"\xff\xff\xff\xff"  # before a length; files of before 2019 lack it
_SCHEMA, _DICTIONARIES, _ROWS = 1, 2, 3  # what a message may be, by the number in its metadata
_NUM_UNPACKED = 4  # batches of which a column is kept where it takes the whole of one to read a row
# The types whose rows are read by themselves, and the type of the offsets at which they start.
_OFFSETS: dict[pa.DataType, np.dtype[Any]] = {
    pa.string(): np.dtype("<i4"),
    pa.binary(): np.dtype("<i4"),
    pa.large_string(): np.dtype("<i8"),
    pa.large_binary(): np.dtype("<i8"),
}


class _Message(NamedTuple):
    """Where a message is in its file, and what its metadata say."""

    kind: int
    start: int
    body: int  # where its body starts
    end: int
    num_rows: int  # 0 where it is none of rows
    is_compressed: bool


class _Batch(NamedTuple):
    message: _Message
    first_row: int
    num_dictionaries: int  # of the file's, how many it uses


class ArrowFile:
    """Where the batches of a file are.

    Attributes:
      schema: of all columns.
      num_rows: of all batches.
    """

    def __init__(self, file: File) -> None:
        """Reads the metadata of all batches.

        Raises:
          pa.ArrowException: it is no Arrow, or damaged, or not whole.
          OSError: it cannot be read.
        """
        self._file = file
        try:
            with file.open() as content:
                messages = list(_messages(content, file.size))
                if not messages or messages[0].kind != _SCHEMA:
                    raise pa.ArrowInvalid("it has no schema")
                self._schema_message = _read(content, messages[0].start, messages[0].end)
            self.schema = pa.ipc.read_schema(pa.py_buffer(self._schema_message))
            _ = self.schema.names  # that they are text is seen here
        except (struct.error, UnicodeDecodeError) as error:
            raise pa.ArrowInvalid("it is no Arrow, or damaged") from error
        has_footer = messages[0].start > 0  # in this kind a dictionary may be behind the rows that use it
        self._dictionaries = [message for message in messages if message.kind == _DICTIONARIES]
        self._batches: list[_Batch] = []
        self.num_rows = num_dictionaries = 0
        for message in messages:
            num_dictionaries += message.kind == _DICTIONARIES
            if message.num_rows:
                used = len(self._dictionaries) if has_footer else num_dictionaries
                self._batches.append(_Batch(message, self.num_rows, used))
                self.num_rows += message.num_rows

    def read(self, column: int, first: int, end: int, most: int) -> Iterator[pa.Array]:
        """Yields the rows of a column from `first` to before `end`, `most` at a time or fewer; what they hold is not checked.

        Raises:
          pa.ArrowException: the row that would come next, or its batch, is damaged.
          OSError: it cannot be read, or has become shorter.
        """
        if end > self.num_rows:
            raise OSError("it has become shorter since it was opened")
        index = bisect.bisect_right(self._batches, first, key=lambda batch: batch.first_row) - 1
        with self._file.open() as content:
            while first < end:
                batch = self._batches[index]
                start, stop = first - batch.first_row, min(end - batch.first_row, batch.message.num_rows)
                bounds = itertools.pairwise([*range(start, stop, most), stop])
                if self.schema.field(column).type in _OFFSETS and not batch.message.is_compressed:
                    yield from self._read_by_rows(content, batch, column, bounds)
                else:
                    rows = _unpacked(self, batch, column)
                    yield from (rows.slice(start, stop - start) for start, stop in bounds)
                first, index = batch.first_row + stop, index + 1

    def unpack(self, batch: _Batch, column: int) -> pa.Array:
        """Returns a column of a batch, for which the whole of that is read."""
        with self._file.open() as content:
            return self._decoded(content, batch, column, reads_body=True)[0]

    def _read_by_rows(
        self, content: BinaryIO, batch: _Batch, column: int, bounds: Iterable[tuple[int, int]]
    ) -> Iterator[pa.Array]:
        # Arrow itself says where in the body the column is, by where it finds it in memory that is never touched.
        rows, address = self._decoded(content, batch, column, reads_body=False)
        validity, offsets, values = rows.buffers()
        offset_type = _OFFSETS[rows.type]

        def read(buffer: pa.Buffer | None, start: int, end: int) -> bytes:
            if start >= end:
                return b""
            if buffer is None or end > buffer.size:
                raise pa.ArrowInvalid("a batch of rows is shorter than it says")
            position = batch.message.body + buffer.address - address
            return _read(content, position + start, position + end)

        for start, end in bounds:
            skipped = start % 8  # the rows before, in the first byte of the validity
            width = offset_type.itemsize
            starts = np.frombuffer(read(offsets, start * width, (end + 1) * width), offset_type)
            size = 0 if values is None else values.size
            is_whole = (starts[:-1] >= 0) & (starts[:-1] <= starts[1:]) & (starts[1:] <= size)
            num_whole = end - start if is_whole.all() else int(np.argmin(is_whole))
            parts = (
                None if validity is None else read(validity, start // 8, -(-end // 8)),
                bytes(skipped * width) + (starts[: num_whole + 1] - starts[0]).tobytes(),
                read(values, int(starts[0]), int(starts[num_whole])) if num_whole else b"",
            )
            buffers = [part if part is None else pa.py_buffer(part) for part in parts]
            if num_whole:
                yield pa.Array.from_buffers(rows.type, num_whole, buffers, offset=skipped)
            if num_whole < end - start:
                raise pa.ArrowInvalid("it leads out of its batch")

    def _decoded(
        self, content: BinaryIO, batch: _Batch, column: int, *, reads_body: bool
    ) -> tuple[pa.Array, int]:
        """Returns a column of a batch, and the address of the batch's body, which is all zero if it is not read."""
        dictionaries = self._dictionaries[: batch.num_dictionaries]
        spans = [(message.start, message.end) for message in dictionaries]
        spans.append((batch.message.start, batch.message.body))
        head = b"".join([self._schema_message, *(_read(content, start, end) for start, end in spans)])
        # Arrow reads a stream of the schema, the dictionaries, and this batch.
        stream = mmap.mmap(-1, len(head) + batch.message.end - batch.message.body)
        stream[: len(head)] = head
        if reads_body:
            stream[len(head) :] = _read(content, batch.message.body, batch.message.end)
        buffer = pa.py_buffer(stream)
        options = pa.ipc.IpcReadOptions(included_fields=[column], use_threads=False)
        try:
            rows = pa.ipc.open_stream(buffer, options=options).read_next_batch()
        except StopIteration as error:
            raise pa.ArrowInvalid("its metadata mark an end where a batch is") from error
        if len(rows) != batch.message.num_rows:
            raise pa.ArrowInvalid("its metadata have changed since it was opened")
        return rows.column(0), buffer.address + len(head)


@functools.lru_cache(_NUM_UNPACKED)
def _unpacked(table: ArrowFile, batch: _Batch, column: int) -> pa.Array:
    return table.unpack(batch, column)


def _messages(content: BinaryIO, size: int) -> Iterator[_Message]:
    """Yields the messages of a file in order, of which only the metadata are read."""
    position, end = 0, size
    has_footer = size >= _MAGIC_BYTES + _TAIL.size and content.read(len(_MAGIC)) == _MAGIC
    if has_footer:
        footer_bytes, magic = _TAIL.unpack(_read(content, size - _TAIL.size, size))
        position, end = _MAGIC_BYTES, size - _TAIL.size - footer_bytes
        if magic != _MAGIC or not position <= end <= size - _TAIL.size:
            raise pa.ArrowInvalid("it is not whole: its footer is missing")
    while not (has_footer and position == end):
        start = position
        if end - position < 4:
            raise pa.ArrowInvalid("it is not whole: it has no mark of its end")
        word = _read(content, position, position + 4)
        position += 4
        if word == _CONTINUATION and end - position >= 4:
            word = _read(content, position, position + 4)
            position += 4
        num_bytes = int.from_bytes(word, "little", signed=True)
        if not num_bytes:
            return
        if not 0 < num_bytes <= end - position:
            raise pa.ArrowInvalid("it is no Arrow, or not whole")
        kind, body_bytes, num_rows, is_compressed = _described(_read(content, position, position + num_bytes))
        body = position + num_bytes
        position = body + body_bytes
        if not body <= position <= end:
            raise pa.ArrowInvalid("it is not whole: its last batch of rows is cut")
        if num_rows < 0 or not (is_compressed or num_rows <= 8 * body_bytes):
            raise pa.ArrowInvalid("it is damaged: a batch has more rows than it has room for")
        yield _Message(kind, start, body, position, num_rows, is_compressed)


def _described(metadata: bytes) -> tuple[int, int, int, bool]:
    """Returns the kind of a message, the bytes of its body, its rows, and whether they are compressed.

    Metadata are tables of flatbuffers, of which the fields have these numbers: of a message, its kind 1, the table of that
    kind 2, the bytes of the body 3; of a batch of rows, their number 0, and how they are compressed 3.
    """

    def number(form: str, position: int) -> int:
        return int(struct.unpack_from(form, metadata, position)[0])

    def field(table: int, index: int) -> int | None:
        """Returns where a field of a table is."""
        fields = table - number("<i", table)
        entry = 4 + 2 * index
        offset = number("<H", fields + entry) if entry < number("<H", fields) else 0
        return table + offset if offset else None

    message = number("<I", 0)
    kind, header, body = (field(message, index) for index in (1, 2, 3))
    if kind is None or header is None:
        raise pa.ArrowInvalid("it is no Arrow, or damaged")
    body_bytes = number("<q", body) if body is not None else 0
    if number("<B", kind) != _ROWS:
        return number("<B", kind), body_bytes, 0, False
    rows = header + number("<I", header)
    num_rows = field(rows, 0)
    return (
        _ROWS,
        body_bytes,
        number("<q", num_rows) if num_rows is not None else 0,
        field(rows, 3) is not None,
    )


def _read(content: BinaryIO, start: int, end: int) -> bytes:
    content.seek(start)
    read = content.read(end - start)
    if len(read) != end - start:
        raise OSError("it has become shorter since it was opened")
    return read
