"""Writes the zip of predictions that a leaderboard takes, whole or not at all; see `submission_check` for its rules."""

import io
import json
import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5like.errors import UserError
from t5like.tasks.base import Answer, Example, Task
from t5like.tasks.submission_check import HIGHEST_NUMBER, TSV_HEADER, check_submission
from t5like.tasks.suites import Cell, Layout, SubmissionFile, Suite
from t5like.whole_files import whole_file

_DATE = (1980, 1, 1, 0, 0, 0)  # of every file, so that equal predictions make equal bytes


class SplitAnswers(NamedTuple):
    """The answers to a test split, in the order of its examples."""

    task: Task  # what the class ids mean is read from its labels
    examples: Sequence[Example]
    answers: Sequence[Answer]


def write_submission(
    suite: Suite,
    answers: Mapping[str, SplitAnswers],
    path: str | os.PathLike[str],
    *,
    fills_missing: bool = False,
) -> list[str]:
    """Writes the zip, having checked it, and returns what in it is not predicted: a sentence each, naming the file.

    Where an answer is no label, the majority class stands; numbers out of range become the nearest in it.

    Args:
      suite: whose zip.
      answers: name of a file -> the answers to its test split. Ids are the examples' `row_id`, of MultiRC
        (passage, question, answer); their order does not matter.
      path: the zip; one that is there is replaced.
      fills_missing: files without answers hold the majority class, as those of tasks that are
        `is_majority_by_default` do anyway.

    Raises:
      UserError: answers are missing, or do not fit the leaderboard, or `path` cannot be written; nothing was written.
      ValueError: there are not as many answers as examples.
    """
    path = Path(path)
    _check_names(suite, answers, path, fills_missing=fills_missing)
    notes: list[str] = []
    texts = {}
    for file in suite.files:
        if file.name in answers:
            rows, num_replaced = _predicted(file, answers[file.name])
            if num_replaced:
                notes.append(
                    f"{file.name}: {num_replaced:,} of {len(rows):,} answers are none that the file can hold; "
                    f"{file.majority!r} stands for them."
                )
        else:
            rows = _filled(file)
            notes.append(f"{file.name} is not predicted: {_FILLED_WITH[file.layout].format(file.majority)}.")
        texts[file.name] = _text(file, rows)
    _write(path, texts, suite)
    return notes


_FILLED_WITH: dict[Layout, str] = {
    "label": "every row says {!r}, the majority class",
    "number": "every row says {}, the mean",
    "text": "every row holds an empty text",
    "nested": "every row says {!r}, the majority class, and one question holds them all, for the real ones are unknown",
}


def _check_names(
    suite: Suite, answers: Mapping[str, SplitAnswers], path: Path, *, fills_missing: bool
) -> None:
    """Raises UserError if answers are to something else, or some are missing that may not be filled in."""
    names = [file.name for file in suite.files]
    if unknown := [name for name in answers if name not in names]:
        raise UserError(f"{suite.title} has no file {unknown[0]!r}: its files are {', '.join(names)}.")
    missing = [
        file.name
        for task in suite.tasks
        for file in task.files
        if file.name not in answers and not task.is_majority_by_default
    ]
    if missing and not fills_missing:
        raise UserError(
            f"{path.name} would lack {', '.join(missing)}, for there are no predictions: run these tasks with their "
            "test data, or have their files filled with the majority class."
        )


def _predicted(file: SubmissionFile, given: SplitAnswers) -> tuple[list[tuple[Any, Cell]], int]:
    """Returns (id, cell) of each row in the order of ids, and how many answers had no cell."""
    rows, num_replaced = [], 0
    for example, answer in zip(given.examples, given.answers, strict=True):
        cell = _cell(file, given.task, answer)
        num_replaced += cell is None
        rows.append((_row_id(file, example), _majority_cell(file) if cell is None else cell))
    return sorted(rows, key=lambda row: row[0]), num_replaced


def _row_id(file: SubmissionFile, example: Example) -> Any:
    """Returns what names a row: a number, or three of them; data sets may hold them as texts."""
    row_id: Any = example.index if example.row_id is None else example.row_id
    return tuple(map(int, row_id)) if file.layout == "nested" else int(row_id)


def _cell(file: SubmissionFile, task: Task, answer: Answer) -> Cell | None:
    """Returns what the file holds for an answer, None where the answer is no label or number.

    Raises:
      UserError: the task's labels are others than the file's.
    """
    if file.layout == "number":
        return f"{min(max(answer, 0.0), HIGHEST_NUMBER):.3f}" if math.isfinite(answer) else None
    if file.layout == "text":
        return str(answer)
    if not 0 <= answer < len(task.labels):
        return None
    label = task.labels[answer]
    if label not in file.cells:
        raise UserError(
            f"{file.name} cannot hold the label {label!r} of {task.name}: its labels are {', '.join(file.cells)}."
        )
    return file.cells[label]


def _majority_cell(file: SubmissionFile) -> Cell:
    if file.layout == "number":
        return f"{float(file.majority):.3f}"
    return file.cells[file.majority] if file.cells else file.majority


def _filled(file: SubmissionFile) -> list[tuple[Any, Cell]]:
    """Returns (id, cell) of each row, all of the majority class."""
    ids: Iterable[Any] = range(file.num_answers)
    if file.layout == "nested":
        ids = ((0, 0, answer) for answer in range(file.num_answers))
    return [(row_id, _majority_cell(file)) for row_id in ids]


def _text(file: SubmissionFile, rows: Sequence[tuple[Any, Cell]]) -> str:
    """Returns what the file holds."""
    if file.name.endswith(".tsv"):
        lines = [TSV_HEADER, *(f"{row_id}\t{cell}" for row_id, cell in rows)]
    elif file.layout == "nested":
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


def _write(path: Path, texts: Mapping[str, str], suite: Suite) -> None:
    """Writes the zip if the leaderboard would take it.

    Raises:
      UserError: it would not, or the zip cannot be written.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text.encode("utf-8"))
    try:
        with whole_file(path) as file:
            file.write(packed.getvalue())
            file.flush()
            if problems := check_submission(Path(file.name)):
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise UserError(f"{suite.title} would refuse {path.name}: {problems[0]}{more}")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): give a file in a folder that is there."
        ) from error
