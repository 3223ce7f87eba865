"""Tables in files: CSV, TSV and JSON Lines, a file for all rows or one for each split.

    csv    commas; cells may stand in quote marks, and then hold commas, line ends and doubled quote marks
    tsv    tabs; a quote mark is a letter like any other
    jsonl  an object a line, its fields are the columns; a value that is no text counts as it is written: true, 3.5

CSV and TSV open with a row of column names. Lines of white space do not count.
"""

import csv
import dataclasses
import difflib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from t5like.errors import UserError
from t5like.tasks.text_files import nearest_name, read_lines

TableFormat = Literal["csv", "tsv", "jsonl"]

_SUFFIXES: dict[TableFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv", ".txt", ".tab"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
}
_SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev", "development", "trial"},
    "test": {"test"},
}
_MAX_COLUMNS_NAMED = 12


class Row(NamedTuple):
    """The cells of a row that were asked for, by column, and its file and line."""

    place: str
    cells: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of all splits.

    Attributes:
      format: how the files are written.
      paths: split -> its file; there is `train`. Without `validation` a tenth of the training rows is held out.
      text_columns: the columns whose texts make a row: copies of it are held out together.
      target_column: the column of the right answer, which `test` need not have.
    """

    format: TableFormat
    paths: dict[str, pathlib.Path]
    text_columns: tuple[str, ...]
    target_column: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return ("train", "validation", *(["test"] if "test" in self.paths else []))

    def rows(self, split: str) -> list[Row]:
        """Returns the rows of a split, at least one, in the order of the file.

        Raises:
          UserError: the file is broken, or has no such column; the message names file and line.
        """
        if split in self.paths and (split == "test" or "validation" in self.paths):
            return self._rows_of_file(split)
        train, held_out = hold_out(self._rows_of_file("train"), self.text_columns)
        if not held_out:
            raise UserError(
                f"{self.paths['train']} has one text only, so that none can be held out: add more."
            )
        return train if split == "train" else held_out

    def labels(self) -> tuple[str, ...]:
        """Returns what stands in the target column of the training file, held-out rows included, stripped and sorted.

        Raises:
          UserError: as `rows`.
        """
        cells = {row.cells[self.target_column].strip() for row in self._rows_of_file("train")}
        return tuple(sorted(cells - {""}))

    def _rows_of_file(self, split: str) -> list[Row]:
        optional = (self.target_column,) if split == "test" else ()
        needed = [column for column in (*self.text_columns, self.target_column) if column not in optional]
        rows = read_rows(self.format, self.paths[split], needed, optional)
        if not rows:
            raise UserError(f"{self.paths[split]} holds no rows: put back what it held.")
        return rows


def hold_out(rows: Sequence[Row], text_columns: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Returns the rows to train on and those held out, both in order: one text in ten, by nothing but the texts.

    Of the n distinct texts, those are held out whose SHA-256 is among the round(n / 10), at least 1, smallest, with all
    their rows. So no text is on both sides, and other rows move few from one side to the other. Of one text, none is.
    """
    digests = [
        hashlib.sha256(json.dumps([row.cells[column] for column in text_columns]).encode()).digest()
        for row in rows
    ]
    distinct = sorted(set(digests))
    num_held_out = max(1, round(len(distinct) / 10)) if len(distinct) > 1 else 0
    held_out = set(distinct[:num_held_out])
    return (
        [row for row, digest in zip(rows, digests, strict=True) if digest not in held_out],
        [row for row, digest in zip(rows, digests, strict=True) if digest in held_out],
    )


def find_splits(form: TableFormat, location: str) -> dict[str, pathlib.Path]:
    """Returns split -> file: of a file itself for `train`, of a folder by the words in the names of its files.

        train.csv  SICK_train.txt   train, training
        dev.csv    SICK_trial.txt   validation, valid, val, dev, development, trial
        test.csv   test_labels.csv  test

    Of several for a split, the one whose whole name is the word.

    Raises:
      UserError: nothing is there, there are no training rows, or several files might hold a split.
    """
    path = pathlib.Path(location).expanduser()
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise UserError(f"There is no {path}{nearest_name(path)}: give a file, or a folder of files.")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES[form] and p.is_file())
    found = {
        split: file for split in _SPLIT_WORDS if (file := _file_of_split(path, files, split)) is not None
    }
    if "train" not in found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:_MAX_COLUMNS_NAMED]) or "nothing"
        raise UserError(
            f"{path} holds no training rows for {form}: it needs a file like train{_SUFFIXES[form][0]}, and there is "
            f"{there}."
        )
    return found


def _file_of_split(folder: pathlib.Path, files: Sequence[pathlib.Path], split: str) -> pathlib.Path | None:
    words = _SPLIT_WORDS[split]
    candidates = [file for file in files if words & set(re.split("[^a-z]+", file.stem.lower()))]
    exact = [file for file in candidates if file.stem.lower() in words]
    candidates = exact or candidates
    if len(candidates) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(file.name for file in candidates)}, and which of them is the {split} split "
            f"nobody can tell: leave one there."
        )
    return candidates[0] if candidates else None


def read_rows(
    form: TableFormat, path: pathlib.Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[Row]:
    """Returns the rows of a file, of each the cells of some columns, without what stands in others.

    Args:
      columns: those that must be there.
      optional: those that may be missing, from the file or the row; the cell is empty then.

    Raises:
      UserError: a column is missing, or a line cannot be read; the message names file and line.
    """
    lines = read_lines(path)
    if form == "jsonl":
        return [
            _json_row(f"{path}, line {number}", line, columns, optional)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    split_lines = _csv_records(path, lines) if form == "csv" else _tsv_records(lines)
    _, header = next(split_lines, (1, []))
    if not header:
        raise UserError(f"{path} is empty: it must open with a row of column names.")
    for column in columns:
        if header.count(column) != 1:
            raise _no_column(f"{path}", column, header)
    wanted = {column: header.index(column) for column in (*columns, *optional) if column in header}
    rows = []
    for number, cells in split_lines:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells where the header has {len(header)} columns: mend the line."
            )
        given = {column: cells[place] for column, place in wanted.items()}
        rows.append(Row(f"{path}, line {number}", dict.fromkeys(optional, "") | given))
    return rows


def _tsv_records(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line from 1, cells)."""
    for number, line in enumerate(lines, 1):
        if line.strip(" "):
            yield number, line.split("\t")


def _csv_records(path: pathlib.Path, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line from 1 where the record starts, cells).

    Raises:
      UserError: a quote mark is never closed, or stands where none may.
    """
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    while True:
        number = reader.line_num + 1
        # The limit is one for all readers, and meant for those who do not know that their file has no end.
        limit = csv.field_size_limit(2**31 - 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: not CSV ({error}): mend the line.") from error
        finally:
            csv.field_size_limit(limit)
        if lines[number - 1].strip():
            yield number, cells


def _json_row(place: str, line: str, columns: Sequence[str], optional: Sequence[str]) -> Row:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}): mend the line.") from error
    if not isinstance(record, dict):
        raise UserError(f"{place}: a {type(record).__name__} where a JSON object belongs: mend the line.")
    for column in columns:
        if column not in record:
            raise _no_column(place, column, record)
    return Row(
        place, {column: _json_text(place, column, record.get(column)) for column in (*columns, *optional)}
    )


def _json_text(place: str, column: str, value: Any) -> str:
    """Returns a text as it is, null as nothing, and true, 3 or 3.5 as written."""
    if isinstance(value, dict | list):
        raise UserError(f"{place}: column {column!r} holds {json.dumps(value)[:40]}, which is no text.")
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: column {column!r} holds half of a surrogate pair: mend it.") from error
    return text


def _no_column(place: str, column: str, columns: Iterable[str]) -> UserError:
    names = list(columns)
    if names.count(column) > 1:
        return UserError(f"{place} has {names.count(column)} columns {column!r}: rename all but one.")
    if len(names) == 1 and re.search("[,;|\t]", names[0]):
        return UserError(
            f"{place} has one column only, {names[0]!r}: other marks than this format's stand between its cells."
        )
    near = difflib.get_close_matches(column, names, n=1)
    shown = ", ".join(names[:_MAX_COLUMNS_NAMED]) + (", ..." if len(names) > _MAX_COLUMNS_NAMED else "")
    advice = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"{place} has no column {column!r}: {advice}There is {shown or 'none'}.")
