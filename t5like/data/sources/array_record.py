"""ArrayRecord files of tf.train.Example, in which every record can be had by its number."""

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from t5like.data.sources.block_sizes import records_per_block
from t5like.data.sources.examples import text_of_example
from t5like.data.sources.file_source import Format
from t5like.data.sources.files import File, in_parallel
from t5like.errors import DamagedDataError, UserError

_NUM_OPEN = 64
_READ_LITTLE = "readahead_buffer_size:0"


class ArrayRecord(Format):
    """ArrayRecord files on disk: a block is a range of records."""

    block_name = "range of records"

    def __init__(self, files: Sequence[File], text_field: str) -> None:
        """Counts the records of the files.

        Raises:
          UserError: a file is not on a disk, or there is no package that reads it on this system.
          DamagedDataError: a file is none of ArrayRecord.
        """
        self._text_field = text_field
        self._num_records = dict(zip((file.path for file in files), in_parallel(_count, files), strict=True))
        self._block_records = records_per_block(sum(self._num_records.values()))
        self.layout = f"array_record text_field={text_field!r} block_records={self._block_records}"

    def num_blocks(self, file: File) -> int:
        """Returns the ranges of records that a file has."""
        return -(-self._num_records[file.path] // self._block_records)

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the records."""
        first = block * self._block_records
        end = min(first + self._block_records, self._num_records[file.path])
        reader = _kept_reader(file, threading.get_ident())
        for number in range(first + start, end):
            yield text_of_example(_read(file, reader, number), self._text_field)

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the number of a record in its file."""
        return f"{file.name}, record {block * self._block_records + record}"


def _read(file: File, reader: Any, number: int) -> bytes:
    try:
        # One at a time: for more, the package starts threads, which take twice the processor's time.
        (record,) = reader.read(number, number + 1)
    except Exception as error:  # the package raises what its C++ says
        raise _damaged(f"{file.name}, record {number}: it cannot be read", error) from error
    return record


def _count(file: File) -> int:
    reader = _open(file)
    try:
        return reader.num_records()
    finally:
        reader.close()


@functools.lru_cache(_NUM_OPEN)
def _kept_reader(file: File, thread: int) -> Any:
    """Returns a reader, of one thread, for the blocks to come: opening one takes as long as some hundred records."""
    return _open(file)


def _open(file: File) -> Any:
    """Returns a reader of records by number."""
    if not file.is_local:
        raise UserError(
            f"{file.name} is an ArrayRecord file, which is read from a disk only: copy it to one, or name TFRecord, "
            "Parquet or JSON Lines files."
        )
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise UserError(
            f"Reading {file.name} takes the package array_record, which there is for Linux and macOS: "
            "`pip install array_record`."
        ) from error
    with open(file.path, "rb"):  # an OSError with its reason
        pass
    try:
        reader = ArrayRecordReader(file.path, _READ_LITTLE)
        if not reader.ok():
            reader.close()  # it is this that says why
        return reader
    except Exception as error:
        raise _damaged(f"{file.name} is damaged, or not an ArrayRecord file", error) from error


def _damaged(what: str, error: Exception) -> DamagedDataError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return DamagedDataError(f"{what} ({reason[:200]}).")
