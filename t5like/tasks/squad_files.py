"""Files in SQuAD's JSON layout: articles of paragraphs, and questions with answers that stand in their paragraph.

    {"version": "v2.0", "data": [{"title": "Ada", "paragraphs": [{"context": "Ada left.", "qas": [
        {"id": "q0", "question": "Who left?", "answers": [{"text": "Ada", "answer_start": 0}], "is_impossible": false},
        {"id": "q1", "question": "Who stayed?", "answers": [], "is_impossible": true}]}]}]}

SQuAD 1.1 has no `is_impossible`. A question without `answers` is one whose answers are not published.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from t5like.errors import UserError
from t5like.objectives.answer_spans import Span
from t5like.tasks.text_files import nearest_name, read_lines

_SPLITS = {
    "train": "train",
    "dev": "validation",
    "validation": "validation",
    "valid": "validation",
    "test": "test",
}
_ORDER = ("train", "validation", "test")
_FILE = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_.](.+))?\.json")
_IMPOSSIBLE = re.compile(rb'"is_impossible"\s*:\s*true')
_MAX_SHIFT = 2  # characters; some files that are passed on count them a little differently


class Question(NamedTuple):
    """A question, and what answers it.

    Attributes:
      answers: without repetitions; () where there is none, None where they are not published.
    """

    question_id: str
    text: str
    context: str
    answers: tuple[Span, ...] | None


def read_questions(path: pathlib.Path) -> list[Question]:
    """Returns the questions of a file in order, at least one.

    Raises:
      UserError: the file is missing, empty, or not laid out like this, or an answer does not stand where it says.
    """
    try:
        content = json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): fetch the file again.") from error
    questions = [
        _question(f"{path}, question {_field(qa, 'id', str, path)!r}", qa, context)
        for article in _field(content, "data", list, path)
        for paragraph in _field(article, "paragraphs", list, path)
        for context in [_field(paragraph, "context", str, path)]
        for qa in _field(paragraph, "qas", list, path)
    ]
    if not questions:
        raise UserError(f"{path} holds no questions: put back what it held.")
    return questions


def _question(place: str, qa: dict[str, Any], context: str) -> Question:
    answers: tuple[Span, ...] | None = None
    if qa.get("is_impossible") is True:
        answers = ()
    elif "answers" in qa:
        spans = [_answer(place, answer, context) for answer in _field(qa, "answers", list, place)]
        if not spans:
            raise UserError(f"{place} has no answer and is not marked as impossible: mend the file.")
        answers = tuple(dict.fromkeys(spans))
    return Question(qa["id"], _field(qa, "question", str, place), context, answers)


def _answer(place: str, answer: Any, context: str) -> Span:
    text, start = _field(answer, "text", str, place), _field(answer, "answer_start", int, place)
    for shift in sorted(range(-_MAX_SHIFT, _MAX_SHIFT + 1), key=abs):
        if text.strip() and start + shift >= 0 and context.startswith(text, start + shift):
            return Span(text, start + shift)
    raise UserError(
        f"{place}: the answer {text[:40]!r} is not in the context at character {start}: mend the file, or fetch it again."
    )


def _field(holder: Any, name: str, kind: type, place: object) -> Any:
    """Returns a field of a JSON object.

    Raises:
      UserError: there is none, or it is of another type.
    """
    if not isinstance(holder, dict) or type(holder.get(name)) is not kind:
        raise UserError(
            f"{place} is not laid out as SQuAD is: a {name!r} is missing or no {kind.__name__}: is it another file?"
        )
    return holder[name]


def marks_impossible(path: pathlib.Path) -> bool:
    """Returns whether a question of a file is marked as impossible.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        return _IMPOSSIBLE.search(path.read_bytes()) is not None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check who may read it.") from error


def find_splits(path: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    """Returns split -> file, of a folder or of one version of the files in it.

        path           files                                          split
        data           data/train.json      data/train-v1.1.json      train
                       data/dev.json        data/dev-v1.1.json        validation, or with the word in place of dev
                       data/test.json       data/test-v1.1.json       test
        data/v1.1                           the right column, where there are files of several versions

    Args:
      path: a folder, or a folder and what stands between `train-` and `.json`.
      name: of the task, for messages.

    Raises:
      UserError: there is no such folder or version, several versions or two files for a split.
    """
    folder, version = (path, None) if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}{nearest_name(folder)}: give the one that holds the files."
        )
    versions: dict[str, dict[str, pathlib.Path]] = {}
    for file, split, of_version in _files_of(folder):
        if split in versions.setdefault(of_version, {}):
            raise UserError(
                f"{folder} holds {versions[of_version][split].name} and {file.name}, and which is the {split} split "
                "nobody can tell: leave one there."
            )
        versions[of_version][split] = file
    if not versions:
        raise UserError(f"{folder} holds no files like train.json or dev-v1.1.json.")
    if version is None and len(versions) > 1 and "" not in versions:
        named = " or ".join(f"{name.rstrip('/')}/{version}" for version in versions)
        raise UserError(f"{folder} holds several versions of the files: write {named}.")
    if version is None:
        version = "" if "" in versions else next(iter(versions))
    if version not in versions:
        raise UserError(
            f"{folder} holds no train-{version}.json and no dev-{version}.json; its versions are "
            f"{', '.join(filter(None, versions)) or 'without a name'}."
        )
    return {split: versions[version][split] for split in _ORDER if split in versions[version]}


def _files_of(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str, str]]:
    """Yields (file, split, version) in order of the names."""
    for file in sorted(folder.iterdir()):
        if (match := _FILE.fullmatch(file.name)) and file.is_file():
            yield file, _SPLITS[match[1]], match[2] or ""
