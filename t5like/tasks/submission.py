"""Writes the zip of predictions that a leaderboard takes, whole or not at all; see `submission_check` for its rules."""

import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from t5like.errors import UserError
from t5like.tasks.base import Answer, Example, Task
from t5like.tasks.leaderboards import Cell, Entry, Layout, Leaderboard
from t5like.tasks.submission_check import HIGHEST_NUMBER, TSV_HEADER, check_submission

_DATE = (1980, 1, 1, 0, 0, 0)  # of every file, so that equal predictions make equal bytes


class SplitAnswers(NamedTuple):
    """The answers to a test split, in the order of its examples."""

    task: Task  # what the class ids mean is read from its labels
    examples: Sequence[Example]
    answers: Sequence[Answer]


def write_submission(
    board: Leaderboard,
    answers: Mapping[str, SplitAnswers],
    path: str | os.PathLike[str],
    *,
    fills_missing: bool = False,
) -> list[str]:
    """Writes the zip, having checked it, and returns what in it is not predicted: a sentence each, naming the file.

    Where an answer is no label, the majority class stands; numbers out of range become the nearest in it.

    Args:
      board: whose zip.
      answers: name of an entry -> the answers to its test split. Ids are the examples' `row_id`, of MultiRC
        (passage, question, answer); their order does not matter.
      path: the zip; one that is there is replaced.
      fills_missing: files of entries without answers hold the majority class, as `is_majority_by_default` ones do
        anyway.

    Raises:
      UserError: answers are missing, or do not fit the leaderboard, or `path` cannot be written; nothing was written.
      ValueError: there are not as many answers as examples.
    """
    path = pathlib.Path(path)
    _check_names(board, answers, path, fills_missing=fills_missing)
    notes: list[str] = []
    files = {}
    for entry in board.entries:
        file_name = board.file_name(entry)
        if entry.name in answers:
            rows, num_replaced = _predicted(entry, answers[entry.name], file_name)
            if num_replaced:
                notes.append(
                    f"{file_name}: {num_replaced:,} of {len(rows):,} answers are none that the file can hold; "
                    f"{entry.majority!r} stands for them."
                )
        else:
            rows = _filled(entry)
            notes.append(
                f"{file_name} is not predicted: {_FILLED_WITH[entry.layout].format(entry.majority)}."
            )
        files[file_name] = _text(entry, board, rows)
    _write(path, files, board)
    return notes


_FILLED_WITH: dict[Layout, str] = {
    "label": "every row says {!r}, the majority class",
    "number": "every row says {}, the mean",
    "text": "every row holds an empty text",
    "nested": "every row says {!r}, the majority class, and one question holds them all, for the real ones are unknown",
}


def _check_names(
    board: Leaderboard, answers: Mapping[str, SplitAnswers], path: pathlib.Path, *, fills_missing: bool
) -> None:
    """Raises UserError if answers are to something else, or some are missing that may not be filled in."""
    names = [entry.name for entry in board.entries]
    if unknown := [name for name in answers if name not in names]:
        raise UserError(f"{board.title} has no {unknown[0]!r}: its tasks are {', '.join(names)}.")
    missing = [
        board.file_name(entry)
        for entry in board.entries
        if entry.name not in answers and not entry.is_majority_by_default
    ]
    if missing and not fills_missing:
        raise UserError(
            f"{path.name} would lack {', '.join(missing)}, for there are no predictions: run these tasks with their "
            "test data, or have their files filled with the majority class."
        )


def _predicted(entry: Entry, given: SplitAnswers, file_name: str) -> tuple[list[tuple[Any, Cell]], int]:
    """Returns (id, cell) of each row in the order of ids, and how many answers had no cell."""
    rows, num_replaced = [], 0
    for example, answer in zip(given.examples, given.answers, strict=True):
        cell = _cell(entry, given.task, answer, file_name)
        num_replaced += cell is None
        rows.append((_row_id(entry, example), _majority_cell(entry) if cell is None else cell))
    return sorted(rows, key=lambda row: row[0]), num_replaced


def _row_id(entry: Entry, example: Example) -> Any:
    """Returns what names a row: a number, or three of them; data sets may hold them as texts."""
    row_id: Any = example.index if example.row_id is None else example.row_id
    return tuple(map(int, row_id)) if entry.layout == "nested" else int(row_id)


def _cell(entry: Entry, task: Task, answer: Answer, file_name: str) -> Cell | None:
    """Returns what the file holds for an answer, None where the answer is no label or number.

    Raises:
      UserError: the task's labels are others than the file's.
    """
    if entry.layout == "number":
        return f"{min(max(answer, 0.0), HIGHEST_NUMBER):.3f}" if math.isfinite(answer) else None
    if entry.layout == "text":
        return str(answer)
    if not 0 <= answer < len(task.labels):
        return None
    label = task.labels[answer]
    if label not in entry.cells:
        raise UserError(
            f"{file_name} cannot hold the label {label!r} of {task.name}: its labels are {', '.join(entry.cells)}."
        )
    return entry.cells[label]


def _majority_cell(entry: Entry) -> Cell:
    if entry.layout == "number":
        return f"{float(entry.majority):.3f}"
    return entry.cells[entry.majority] if entry.cells else entry.majority


def _filled(entry: Entry) -> list[tuple[Any, Cell]]:
    """Returns (id, cell) of each row, all of the majority class."""
    ids: Iterable[Any] = range(entry.num_rows)
    if entry.layout == "nested":
        ids = ((0, 0, answer) for answer in range(entry.num_rows))
    return [(row_id, _majority_cell(entry)) for row_id in ids]


def _text(entry: Entry, board: Leaderboard, rows: Sequence[tuple[Any, Cell]]) -> str:
    """Returns what the file holds."""
    if board.suffix == ".tsv":
        lines = [TSV_HEADER, *(f"{row_id}\t{cell}" for row_id, cell in rows)]
    elif entry.layout == "nested":
        lines = [json.dumps(passage) for passage in _passages(rows)]
    else:
        lines = [json.dumps({"idx": row_id, "label": cell}) for row_id, cell in rows]
    return "".join(f"{line}\n" for line in lines)


def _passages(rows: Iterable[tuple[tuple[int, int, int], Cell]]) -> list[dict[str, Any]]:
    """Returns the lines of MultiRC's file.

    [((0, 0, 0), 1), ((0, 0, 1), 0)] -> [{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [
                                            {"idx": 0, "label": 1}, {"idx": 1, "label": 0}]}]}}]
    """
    passages: dict[int, dict[int, list[dict[str, Cell]]]] = {}
    for (passage, question, answer), cell in rows:
        labels = passages.setdefault(passage, {}).setdefault(question, [])
        labels.append({"idx": answer, "label": cell})
    return [
        {
            "idx": passage,
            "passage": {"questions": [{"idx": q, "answers": labels} for q, labels in questions.items()]},
        }
        for passage, questions in passages.items()
    ]


def _write(path: pathlib.Path, files: Mapping[str, str], board: Leaderboard) -> None:
    """Writes the zip if the leaderboard would take it.

    Raises:
      UserError: it would not, or the zip cannot be written.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text.encode("utf-8"))
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_bytes(packed.getvalue())
        if problems := check_submission(draft):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UserError(f"{board.title} would refuse {path.name}: {problems[0]}{more}")
        os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): give a file in a folder that is there."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
