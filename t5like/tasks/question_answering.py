"""Extractive question answering: SQuAD 1.1 and 2.0, of an encoder as two ends in the context, and in T5's text-to-text form.

    texts     ("Who left?", "Ada (b. 1815) left.")
    answer    "Ada"
    inputs    "question: Who left ? context: Ada ( b . 1815 ) left . "
    targets   "Ada"                                                      "unanswerable" where there is no answer

T5 has no SQuAD 2.0; the target for no answer is our own.
"""

import functools
import pathlib
import re
from collections.abc import Callable

from t5like.errors import UserError
from t5like.tasks.base import NO_LABEL, Answer, Example, Task
from t5like.tasks.squad_files import Question, find_splits, marks_impossible, read_questions
from t5like.tasks.squad_metrics import EXACT_MATCH, RECORD_F1, TOKEN_F1

PREFIX = "squad"
"""What the name of a task of the user's own files begins with, before a colon and the folder."""
UNANSWERABLE = "unanswerable"
"""What an encoder-decoder writes where there is no answer."""

PathOf = Callable[[str, pathlib.Path | None], pathlib.Path]

# As RE2 has them in [[:punct:]] and \s.
_PUNCTUATION, _SPACES = r"!-/:-@\[-`{-~", r"\t\n\f\r "
_PIECE = re.compile(rf"[{_PUNCTUATION}]|[^{_PUNCTUATION}\s]+")


def pad_punctuation(text: str) -> str:
    """Returns a text with blanks around each mark of ASCII punctuation, and one blank for several.

    'Ada  (b. 1815) left.' -> 'Ada ( b . 1815 ) left . '

    Source: `_pad_punctuation` of T5's SQuAD.
    """
    return re.sub(rf"[{_SPACES}]+", " ", re.sub(rf"([{_PUNCTUATION}])", r" \1 ", text))


def prompt(question: str, context: str) -> str:
    """Returns what an encoder-decoder reads of a question."""
    joined = f"question: {pad_punctuation(question)} context: {pad_punctuation(context)}"
    return re.sub(f"[{_SPACES}]+", " ", joined)


def as_in_context(written: str, context: str) -> str:
    """Returns the first place of the context that reads as what was written, blanks aside; without one, the text itself.

    So that an answer written with blanks around punctuation is compared as the letters that it stands for:

        written '( b . 1815 )', context 'Ada (b. 1815) left.'   ->   '(b. 1815)'
    """
    pieces = _PIECE.findall(written)
    places = list(_PIECE.finditer(context))
    for start in range(len(places) - len(pieces) + 1 if pieces else 0):
        if all(place[0] == piece for place, piece in zip(places[start:], pieces, strict=False)):
            return context[places[start].start() : places[start + len(pieces) - 1].end()]
    return written


def squad_task(location: str) -> Task:
    """Returns the task `squad:FOLDER`, or `squad:FOLDER/VERSION`; see `find_splits` for the names of its files.

    It is one of SQuAD 2.0 where a question of one of the files is marked as impossible.

    Raises:
      UserError: there is no such folder, or no such files in it.
    """
    name = f"{PREFIX}:{location}"
    files = find_splits(pathlib.Path(location).expanduser(), name)

    def path_of(split: str, data_dir: pathlib.Path | None) -> pathlib.Path:
        if data_dir is not None:
            raise UserError(f"{name} names its files: leave out --data_dir {data_dir}.")
        return files[split]

    return _task(name, tuple(files), path_of, any(map(marks_impossible, files.values())))


def _official_path(version: str, split: str, data_dir: pathlib.Path | None) -> pathlib.Path:
    file = f"{'train' if split == 'train' else 'dev'}-{version}.json"
    if data_dir is None:
        raise UserError(
            f"SQuAD is read from its official files: pass --data_dir with the folder that holds {file}."
        )
    path = pathlib.Path(data_dir) / file
    if not path.is_file():
        raise UserError(
            f"There is no {path}: --data_dir must be a folder that holds {file}. Files of other names are those of the "
            f"task {PREFIX}:FOLDER."
        )
    return path


def _task(name: str, splits: tuple[str, ...], path_of: PathOf, may_have_no_answer: bool) -> Task:
    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        path = path_of(split, data_dir)
        examples = []
        for index, question in enumerate(read_questions(path)):
            if question.answers == () and not may_have_no_answer:
                raise UserError(
                    f"{path}: question {question.question_id!r} has no answer, but to {name} every question has one: "
                    "take the task squad/v2, or squad:FOLDER."
                )
            examples.append(_example(index, question))
        return examples

    def parse(written: str, example: Example) -> Answer:
        if may_have_no_answer and written.strip() == UNANSWERABLE:
            return ""
        return as_in_context(written, example.texts[1])

    # The F1 of ReCoRD is that of SQuAD 1.1; in 2.0 two answers without words are equal.
    return Task(
        name=name,
        kind="span",
        metrics=(EXACT_MATCH, TOKEN_F1 if may_have_no_answer else RECORD_F1),
        splits=splits,
        may_have_no_answer=may_have_no_answer,
        read=read,
        parse=parse,
    )


def _example(index: int, question: Question) -> Example:
    first = question.answers[0].text if question.answers else ""
    targets = NO_LABEL if question.answers is None else pad_punctuation(first) or UNANSWERABLE
    return Example(
        index=index,
        inputs=prompt(question.text, question.context),
        targets=targets,
        texts=(question.text, question.context),
        answer=None if question.answers is None else first,
        accepted=tuple(answer.text for answer in question.answers or ()),
        starts=tuple(answer.start for answer in question.answers or ()),
        row_id=question.question_id,
    )


TASKS = tuple(
    _task(
        f"squad/v{version[1]}",
        ("train", "validation"),
        functools.partial(_official_path, version),
        version == "v2.0",
    )
    for version in ("v1.1", "v2.0")
)
