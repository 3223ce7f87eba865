"""Classification, and numbers to predict, from any table: the user names its columns.

    --task csv:reviews.csv --text_columns text --label_column stars
    --task tsv:sick --text_columns sentence_A,sentence_B --label_column entailment_judgment
    --task tsv:sick --text_columns sentence_A,sentence_B --label_column relatedness_score --label_kind number

What stands behind the colon is a file, of which one text in ten is held out, or a folder with a file for each split,
see `find_splits` and `hold_out` of table_files.py. An encoder reads one text or a pair, and an encoder-decoder

    sick sentence_A: A dog runs. sentence_B: An animal runs.

in the order the columns were named, behind the name of the file or folder, and writes the label as it is in the file.
"""

import csv
import dataclasses
import math
import pathlib
import typing
from collections.abc import Callable
from typing import Literal

from t5like.errors import UserError
from t5like.tasks.base import NO_LABEL, Answer, Example, Task
from t5like.tasks.metrics import ACCURACY, PEARSON, SPEARMAN
from t5like.tasks.table_files import Row, Table, TableFormat, find_splits

LabelKind = Literal["label", "number"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Which columns of a table make a task, as the command line names them; what is empty was not given.

    Attributes:
      text_columns: names with commas between them; one that holds a comma stands in quote marks, as in CSV.
      label_column: the name of the column with the right answer.
      label_kind: whether its cells are labels, though they be digits, or numbers to come close to.
    """

    text_columns: str = ""
    label_column: str = ""
    label_kind: LabelKind = "label"

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the text columns."""
        return tuple(next(csv.reader([self.text_columns]), ()))


def table_task(
    location: str,
    *,
    text_columns: tuple[str, ...],
    label_column: str,
    label_kind: LabelKind = "label",
    prompt_name: str | None = None,
) -> Task:
    """Returns a task on the rows of a table.

    Args:
      location: `csv:`, `tsv:` or `jsonl:` and a file or folder, see the top of this file.
      text_columns: one or two columns of texts.
      label_column: the column of the right answer; a test file may have none, or empty cells.
      label_kind: `label`: one of those that the training file holds, sorted, white space around them left out;
        `number`: a number, where a text that an encoder-decoder writes and is none counts as 1 below the smallest of
        the training rows, as T5's -1 for the similarities from 0 to 5.
      prompt_name: the first word of the prompt; None: the name of the file or folder without its suffix.

    Raises:
      UserError: there is no such file or column, or the labels of the training file are fewer than two or no numbers.
    """
    form, _, path = location.partition(":")
    if form not in typing.get_args(TableFormat) or not path:
        raise UserError(f"{location!r} names no table: write csv:, tsv: or jsonl: and a file or folder.")
    if not 1 <= len(text_columns) <= 2 or not label_column:
        raise UserError(
            f"{location} needs --text_columns, one or two with a comma between them, and --label_column: got "
            f"{', '.join(text_columns) or 'no text column'} and {label_column or 'no label column'}."
        )
    if label_column in text_columns or len(set(text_columns)) < len(text_columns):
        raise UserError(
            f"{location}: a column is named twice among {', '.join((*text_columns, label_column))}."
        )
    table_format = typing.cast(TableFormat, form)
    table = Table(
        format=table_format,
        paths=find_splits(table_format, path),
        text_columns=tuple(text_columns),
        target_column=label_column,
    )
    name = prompt_name or pathlib.Path(path).expanduser().resolve().stem
    return (_label_task if label_kind == "label" else _number_task)(location, table, name)


def _label_task(location: str, table: Table, prompt_name: str) -> Task:
    labels = table.labels()
    train = table.paths["train"]
    if len(labels) < 2:
        only = f"only the label {labels[0]!r}" if labels else "no label"
        raise UserError(
            f"{train} has {only} in column {table.target_column!r}: there must be two, or nothing is to be learnt."
        )
    ids = {label: number for number, label in enumerate(labels)}

    def answer(row: Row) -> int:
        label = row.cells[table.target_column].strip()
        if label not in ids:
            shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise UserError(
                f"{row.place}: label {label!r} is none of those in {train} ({shown}): mend it, or train on it as well."
            )
        return ids[label]

    return Task(
        name=location,
        labels=labels,
        metrics=(ACCURACY,),
        splits=table.splits,
        read=_reader(location, table, prompt_name, answer),
    )


def _number_task(location: str, table: Table, prompt_name: str) -> Task:
    def answer(row: Row) -> float:
        number = _number(row.cells[table.target_column])
        if number is None:
            raise UserError(
                f"{row.place}: {row.cells[table.target_column]!r} in column {table.target_column!r} is no number: "
                "mend it, or take the column for labels."
            )
        return number

    no_number = min(answer(row) for row in table.rows("train")) - 1.0

    def parse(text: str, _: Example) -> float:
        number = _number(text)
        return no_number if number is None else number

    return Task(
        name=location,
        kind="number",
        metrics=(PEARSON, SPEARMAN),
        splits=table.splits,
        read=_reader(location, table, prompt_name, answer),
        parse=parse,
        no_number=no_number,
    )


def _reader(
    location: str, table: Table, prompt_name: str, answer: Callable[[Row], Answer]
) -> Callable[[str, pathlib.Path | None], list[Example]]:
    """Returns what reads a split of a table."""

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        if data_dir is not None:
            raise UserError(f"{location} says itself where its files are: leave out --data_dir {data_dir}.")
        examples = []
        for index, row in enumerate(table.rows(split)):
            target = row.cells[table.target_column].strip()
            is_published = target != "" or split != "test"
            examples.append(
                Example(
                    index=index,
                    inputs=" ".join(
                        [prompt_name, *(f"{column}: {row.cells[column]}" for column in table.text_columns)]
                    ),
                    targets=target if is_published else NO_LABEL,
                    texts=tuple(row.cells[column] for column in table.text_columns),
                    answer=answer(row) if is_published else None,
                )
            )
        return examples

    return read


def _number(text: str) -> float | None:
    """Returns the number that a text is; None where it is none, or none that can be compared, such as nan."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
