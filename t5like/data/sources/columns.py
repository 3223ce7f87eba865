"""Tables that keep their columns apart: Parquet, read by row group, and Arrow, read by rows.

Only the column of the text is read.
"""

import functools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from t5like.data.sources.arrow_messages import ArrowFile
from t5like.data.sources.block_sizes import records_per_block
from t5like.data.sources.fields import missing_field, text_of_value
from t5like.data.sources.file_source import Format
from t5like.data.sources.files import File, in_parallel
from t5like.errors import DamagedDataError, UserError

_BATCH_ROWS = 64
_PAGE_BYTES = 1024 * 1024
_NUM_OPEN = 64
# What a column of text may be, and the same as bytes.
_TEXT_TYPES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
    pa.binary(): pa.binary(),
    pa.large_binary(): pa.large_binary(),
    pa.binary_view(): pa.binary_view(),
}


class Parquet(Format):
    """Parquet files: a block is a row group, of which no more than some pages are held."""

    block_name = "row group"

    def __init__(self, files: Sequence[File], text_field: str) -> None:
        """Reads the footers of the files.

        Raises:
          UserError: a file has no column of that name, or one that is not text.
          DamagedDataError: a file is none of Parquet.
        """
        self._text_field = text_field
        self.layout = f"parquet text_field={text_field!r}"
        counts = in_parallel(lambda file: _num_row_groups(file, text_field), files)
        self._num_row_groups = dict(zip((file.path for file in files), counts, strict=True))

    def num_blocks(self, file: File) -> int:
        """Returns the row groups of a file."""
        return self._num_row_groups[file.path]

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the rows."""
        row = 0
        try:
            with file.open() as content, _open_parquet(content, _metadata(file)) as table:
                for batch in table.iter_batches(
                    _BATCH_ROWS, row_groups=[block], columns=[self._text_field], use_threads=False
                ):
                    if row + len(batch) > start:
                        yield from _texts(batch.column(0).slice(max(0, start - row)), self._text_field)
                    row += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(
                f"{self.place(file, block, row)}: it cannot be read ({_reason(error)})."
            ) from error

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the number of the row group, and of the row in it."""
        return f"{file.name}, row group {block}, row {record}"


def _open_parquet(content: object, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        content, metadata=metadata, buffer_size=_PAGE_BYTES, pre_buffer=False, page_checksum_verification=True
    )


@functools.lru_cache(_NUM_OPEN)
def _metadata(file: File) -> pq.FileMetaData:
    with file.open() as content, _open_parquet(content) as table:
        return table.metadata


def _num_row_groups(file: File, text_field: str) -> int:
    try:
        with file.open() as content, _open_parquet(content) as table:
            _check_column(file, table.schema_arrow, text_field)
            return table.num_row_groups
    except UserError:
        raise
    except Exception as error:
        if not (file.may_raise(error) or isinstance(error, pa.ArrowException)):
            raise
        raise DamagedDataError(f"Cannot read {file.name} as Parquet: {_reason(error)}.") from error


class Arrow(Format):
    """Arrow files on disk, the kind that streams and that Hugging Face datasets keep, or the kind with a footer.

    A block is a range of rows.
    """

    block_name = "range of rows"

    def __init__(self, files: Sequence[File], text_field: str) -> None:
        """Counts the rows of the files.

        Raises:
          UserError: a file is not on a disk, or has no column of that name, or one that is not text.
          DamagedDataError: a file is none of Arrow, or not whole.
        """
        self._text_field = text_field
        counts = in_parallel(lambda file: _table(file, text_field).num_rows, files)
        self._num_rows = dict(zip((file.path for file in files), counts, strict=True))
        self._block_rows = records_per_block(sum(counts))
        self.layout = f"arrow text_field={text_field!r} block_rows={self._block_rows}"

    def num_blocks(self, file: File) -> int:
        """Returns the ranges of rows that a file has."""
        return -(-self._num_rows[file.path] // self._block_rows)

    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of the rows."""
        first = block * self._block_rows + start
        end = min((block + 1) * self._block_rows, self._num_rows[file.path])
        table = _table(file, self._text_field)
        column = table.schema.get_field_index(self._text_field)
        row = first
        try:
            for rows in table.read(column, first, end, _BATCH_ROWS):
                # A damaged index would lead out of its dictionary, so rows are looked at before they are read.
                num_whole = len(rows) if _is_whole(rows) else _num_whole(rows)
                yield from _texts(rows.slice(0, num_whole), self._text_field)
                row += num_whole
                if num_whole < len(rows):
                    raise DamagedDataError(f"{file.name}, row {row}: it is damaged.")
        except pa.ArrowException as error:
            raise DamagedDataError(f"{file.name}, row {row}: it is damaged ({_reason(error)}).") from error

    def place(self, file: File, block: int, record: int) -> str:
        """Returns the number of the row in its file."""
        return f"{file.name}, row {block * self._block_rows + record}"


@functools.lru_cache(_NUM_OPEN)
def _table(file: File, text_field: str) -> ArrowFile:
    if not file.is_local:
        raise UserError(
            f"{file.name} is an Arrow file, which is read from a disk only: copy it to one, or name Parquet or JSON "
            "Lines files."
        )
    try:
        table = ArrowFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DamagedDataError(f"Cannot read {file.name} as Arrow: {_reason(error)}.") from error
    _check_column(file, table.schema, text_field)
    return table


def _num_whole(rows: pa.Array) -> int:
    """Returns how many rows come before the first that cannot be read."""
    return next(row for row in range(len(rows)) if not _is_whole(rows.slice(row, 1)))


def _is_whole(rows: pa.Array) -> bool:
    try:
        rows.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def _check_column(file: File, schema: pa.Schema, text_field: str) -> None:
    if text_field not in schema.names:
        raise UserError(f"{file.name}: {missing_field(text_field, schema.names)}.")
    if schema.names.count(text_field) > 1:
        raise UserError(
            f"{file.name}: it has {schema.names.count(text_field)} columns named {text_field!r}; give them names of their "
            "own, and say which one with --text_field."
        )
    kind = schema.field(text_field).type
    if (kind.value_type if pa.types.is_dictionary(kind) else kind) not in _TEXT_TYPES:
        raise UserError(f"{file.name}: the column {text_field!r} is {kind}, not text.")


def _texts(values: pa.Array, text_field: str) -> Iterator[str]:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    # As bytes, of which damaged ones are told like those of any other kind.
    for value in values.cast(_TEXT_TYPES[values.type]):
        yield text_of_value(value.as_py(), text_field)


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
