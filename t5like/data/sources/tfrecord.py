"""TFRecord files of tf.train.Example, read without TensorFlow.

A record is its length in 8 bytes, a checksum of these in 4, the data, and a checksum of the data in 4, little endian.

Source: TensorFlow's tfrecord_writer; a checksum is CRC-32C, turned right by 15 bits, and 0xA282EAD8 added.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from t5like.data.sources.compression import open_stream
from t5like.data.sources.crc32c import crc32c
from t5like.data.sources.examples import text_of_example
from t5like.data.sources.fields import RecordError
from t5like.data.sources.file_source import Format
from t5like.data.sources.files import File
from t5like.errors import DamagedDataError

_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4
_MAX_RECORD_BYTES = 1 << 30


class TFRecord(Format):
    """TFRecord files, compressed or not: a file is one block, as records can only be found one after the other."""

    block_name = "file"

    def __init__(self, text_field: str) -> None:
        self._text_field = text_field
        self.layout = f"tfrecord text_field={text_field!r}"

    def num_blocks(self, file: File) -> int:
        """Returns 1."""
        return 1

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the records; of those left out it reads the lengths."""
        with open_stream(file) as stream:
            for record in _records(file, stream, start):
                yield text_of_example(record, self._text_field)

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the number of a record."""
        return f"{file.name}, record {record}"


def _records(file: File, stream: BinaryIO, start: int) -> Iterator[bytes]:
    number = 0

    def damaged(reason: str) -> DamagedDataError:
        return DamagedDataError(f"{file.name}, record {number}: {reason}.")

    while header := stream.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise damaged("the file ends in the middle of it")
        length, checksum = _HEADER.unpack(header)
        if _masked(crc32c(header[:8])) != checksum:
            raise damaged("its length is damaged, or this is not a TFRecord file")
        if length > _MAX_RECORD_BYTES:
            raise damaged(f"it is of {length} bytes, which no text is")
        if number < start and stream.seekable():
            stream.seek(length + _CHECKSUM_BYTES - 1, 1)
            if not stream.read(1):
                raise damaged("the file ends in the middle of it")
        else:
            data = stream.read(length + _CHECKSUM_BYTES)
            if len(data) < length + _CHECKSUM_BYTES:
                raise damaged("the file ends in the middle of it")
            if number >= start:
                record = data[:length]
                if _masked(crc32c(record)) != int.from_bytes(data[length:], "little"):
                    raise RecordError("its content is damaged: it fails its checksum")
                yield record
        number += 1


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
