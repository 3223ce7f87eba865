"""A part of a token store: one file with the ids of the records of some neighbouring blocks.

    section section ... table footer

A section is what is read and checked at a time, some records of one block: their numbers of ids [num_records] uint32,
then the ids [num_ids] uint16 or int32. The table has a row for each section, see `_TABLE`. The footer says what the file
is, and ends it: a file that was cut has none. All numbers are little-endian.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from t5like.data.quarantine import Blocks
from t5like.whole_files import whole_file

# Small enough for the processor's cache, large enough that a section costs little beside its ids.
_SECTION_IDS, _SECTION_RECORDS = 2**18, 2**16

_TABLE = np.dtype(
    [
        ("block", "<u8"),
        ("num_records", "<u8"),
        ("num_ids", "<u8"),
        ("offset", "<u8"),  # in the file
        ("crc32", "<u4"),
    ]
)
# A mark, the key of the store, the number of the part, bytes of an id, sections, and the checksum of the table and of
# all this.
_FOOTER = struct.Struct("<8s32sQQQI")
_MARK = b"t5likeTP"


class DamagedPartError(Exception):
    """A file is no part, or not the part it should be; the message says why."""


class PartSize(NamedTuple):
    """How much a part holds, or several."""

    num_records: int = 0
    num_ids: int = 0
    num_bytes: int = 0

    def plus(self, other: "PartSize") -> "PartSize":
        """Returns how much both hold."""
        return PartSize(*(a + b for a, b in zip(self, other, strict=True)))


class PartName(NamedTuple):
    """Which part a file should be: of which store, which of its parts, and how wide its ids are."""

    key: bytes
    number: int
    id_dtype: np.dtype


class Part:
    """An open part; a context manager.

    What is read is checked first, every time: that costs less than reading it, and ids of a bad disk would train a model
    in silence. It is copied: a map of the file would hold a descriptor for as long as any of its documents is in use,
    thousands in all, and end the process where the disk fails.
    """

    def __init__(self, path: Path, name: PartName) -> None:
        """Opens a part.

        Raises:
          DamagedPartError: it is not that part.
          OSError: it cannot be read; FileNotFoundError: there is none.
        """
        self._id_dtype = name.id_dtype
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(open(path, "rb"))
            self._table = self._read_table(name)
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size(self) -> PartSize:
        """How much it holds."""
        num_bytes = os.fstat(self._file.fileno()).st_size
        return PartSize(int(self._table["num_records"].sum()), int(self._table["num_ids"].sum()), num_bytes)

    def read(self, block: int, start: int) -> Iterator[np.ndarray]:
        """Yields the ids [num_tokens] int32 of each record of a block from `start` on, a section at a time.

        Raises:
          DamagedPartError: of the section that comes next.
          OSError: the file cannot be read.
        """
        first, end = np.searchsorted(self._table["block"], [block, block + 1])
        for row in range(first, end):
            num_records = int(self._table["num_records"][row])
            if start >= num_records:
                start -= num_records
                continue
            lengths, ids = self._section(row)
            ends = np.cumsum(lengths, dtype=np.int64)[start:].tolist()
            begin = int(lengths[:start].sum())
            for stop in ends:
                yield ids[begin:stop]
                begin = stop
            start = 0

    def check(self) -> None:
        """Returns if every section is whole.

        Raises:
          DamagedPartError: one is not.
          OSError: the file cannot be read.
        """
        for row in range(len(self._table)):
            self._section(row)

    def _section(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lengths [num_records] uint32 and the ids [num_ids] int32 of a section."""
        num_records, num_ids = int(self._table["num_records"][row]), int(self._table["num_ids"][row])
        num_bytes = 4 * num_records + self._id_dtype.itemsize * num_ids
        content = self._read(int(self._table["offset"][row]), num_bytes)
        if zlib.crc32(content) != self._table["crc32"][row]:
            raise DamagedPartError("what it holds is not what was written")
        lengths = np.frombuffer(content, "<u4", num_records)
        ids = np.frombuffer(content, self._id_dtype, num_ids, offset=4 * num_records)
        return lengths, ids.astype(np.int32, copy=False)

    def _read_table(self, name: PartName) -> np.ndarray:
        size = os.fstat(self._file.fileno()).st_size
        footer = self._read(size - _FOOTER.size, _FOOTER.size)
        mark, key, number, id_bytes, num_sections, crc32 = _FOOTER.unpack(footer)
        if mark != _MARK:
            raise DamagedPartError("it was cut, or is something else")
        num_bytes = num_sections * _TABLE.itemsize
        table = self._read(size - _FOOTER.size - num_bytes, num_bytes)
        if zlib.crc32(footer[:-4], zlib.crc32(table)) != crc32:
            raise DamagedPartError("its table is not what was written")
        if (key, number, id_bytes) != (name.key, name.number, name.id_dtype.itemsize):
            raise DamagedPartError("it is a part of another store, or another part")
        return np.frombuffer(table, _TABLE)

    def _read(self, offset: int, num_bytes: int) -> bytes:
        if offset < 0:
            raise DamagedPartError("it is too short")
        self._file.seek(offset)
        content = self._file.read(num_bytes)
        if len(content) != num_bytes:
            raise DamagedPartError("it is too short")
        return content


def write_part(
    path: Path,
    name: PartName,
    documents: Blocks[np.ndarray],
    blocks: range,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Writes the ids of some blocks; the file appears whole or not at all.

    Args:
      check: called when all is written and before the file appears; what it raises prevents that.

    Raises:
      DamagedDataError: as `documents` raises it.
      OSError: the file cannot be written.
    """
    with whole_file(path) as file:
        rows = []
        for block in blocks:
            for records in _sections(documents.read(block)):
                lengths = np.array([len(ids) for ids in records], "<u4")
                content = lengths.tobytes() + _narrowed(np.concatenate(records), name.id_dtype)
                rows.append((block, len(records), int(lengths.sum()), file.tell(), zlib.crc32(content)))
                file.write(content)
        table = np.array(rows, _TABLE).tobytes()
        footer = _FOOTER.pack(_MARK, name.key, name.number, name.id_dtype.itemsize, len(rows), 0)[:-4]
        file.write(table + footer + struct.pack("<I", zlib.crc32(footer, zlib.crc32(table))))
        check()


def _sections(documents: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yields the records of a block, some at a time."""
    records: list[np.ndarray] = []
    num_ids = 0
    for ids in documents:
        records.append(ids)
        num_ids += len(ids)
        if num_ids >= _SECTION_IDS or len(records) >= _SECTION_RECORDS:
            yield records
            records, num_ids = [], 0
    if records:
        yield records


def _narrowed(ids: np.ndarray, id_dtype: np.dtype) -> bytes:
    narrow = ids.astype(id_dtype)
    if not np.array_equal(narrow, ids):
        raise ValueError(f"an id of the vocabulary is not below its number of tokens: {ids.max()}")
    return narrow.tobytes()
