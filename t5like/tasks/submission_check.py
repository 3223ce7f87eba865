"""Says what a leaderboard would refuse in a zip of predictions, and where it stands.

Nobody publishes the rules as a program, so this is stricter than a leaderboard may be: each file is to be letter for
letter in the form of the sample submissions.
"""

import difflib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from t5like.errors import UserError
from t5like.tasks.suites import SUITES, SubmissionFile, Suite

TSV_HEADER = "index\tprediction"
HIGHEST_NUMBER = 5.0  # of STS-B, whose lowest is 0
MAX_PROBLEMS = 10  # told of each file
MAX_BYTES = 64 * 2**20  # of a file unpacked: ten times the largest

_DECIMAL = re.compile(r"\d+(\.\d+)?")


def report_submission(path: str | os.PathLike[str]) -> None:
    """Prints that a zip is valid, or its problems, one a line: `t5like benchmark check FILE.zip`.

    Raises:
      UserError: it is not valid.
    """
    problems = check_submission(path)
    for problem in problems:
        print(problem)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{path} would be refused for the {count} above: mend the files, and check again.")
    with zipfile.ZipFile(path) as archive:
        suite = _suite_of(archive.namelist())
    assert suite is not None
    num_answers = sum(file.num_answers for file in suite.files)
    print(f"valid: {path} holds {num_answers:,} predictions in the {len(suite.files)} files of {suite.title}")


def check_submission(path: str | os.PathLike[str]) -> list[str]:
    """Returns what is wrong with a zip of predictions, one sentence each with file and line; nothing: it is valid.

    Whose zip it is is told from the names of its files. Of each file the first `MAX_PROBLEMS` are told.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            suite = _suite_of(archive.namelist())
            if suite is None:
                example = ", ".join(suite.files[0].name for suite in SUITES)
                return [
                    f"{os.fspath(path)} holds no file of GLUE or SuperGLUE: put in files named as {example}."
                ]
            problems = list(_name_problems(archive, suite))
            for file in suite.files:
                if file.name in archive.namelist():
                    problems += _first_problems(archive, file)
            return problems
    except zipfile.BadZipFile as error:
        return [f"{os.fspath(path)} is no zip, or a damaged one ({error}): pack the files again."]
    except OSError as error:
        return [f"{os.fspath(path)} cannot be read ({error.strerror or error}): give the path of a zip."]


def _suite_of(names: list[str]) -> Suite | None:
    """Returns whose files these are most of all, folders and case aside; None: nobody's."""
    given = {name.rpartition("/")[2].casefold() for name in names}
    shares = [len(given & {file.name.casefold() for file in suite.files}) for suite in SUITES]
    return SUITES[shares.index(max(shares))] if any(shares) else None


def _name_problems(archive: zipfile.ZipFile, suite: Suite) -> Iterator[str]:
    """Yields what is wrong with the names in the zip."""
    known = [file.name for file in suite.files]
    given = archive.namelist()
    for name in dict.fromkeys(given):
        if given.count(name) > 1:
            yield f"{name} is in the zip {given.count(name)} times: leave one."
        if name in known:
            continue
        folder, _, base = name.rpartition("/")
        if folder:
            what = "is a folder" if not base else "lies in a folder"
            yield f"{name} {what}: the zip is to hold the files themselves, without folders."
            continue
        near = {n.casefold(): n for n in known if n not in given}
        hint = difflib.get_close_matches(name.casefold(), near, n=1, cutoff=0.75)
        advice = f"did you mean {near[hint[0]]}?" if hint else "leave it out."
        yield f"{name} is no file of {suite.title}: {advice}"
    for name in known:
        if name not in given:
            yield f"{name} is missing: {suite.title} takes all {len(known)} files or none."


def _first_problems(archive: zipfile.ZipFile, file: SubmissionFile) -> list[str]:
    name = file.name
    problems: list[str] = []
    for problem in _file_problems(archive, name, _checker(file)):
        if len(problems) == MAX_PROBLEMS:
            return [*problems, f"{name} has more problems than these {MAX_PROBLEMS}: mend these first."]
        problems.append(name + problem)
    return problems


# What follows yields problems without the name of the file: ", line 3: the line is blank."
LineProblems = Callable[[list[str]], Iterator[str]]


def _file_problems(archive: zipfile.ZipFile, name: str, check_lines: LineProblems) -> Iterator[str]:
    """Yields what is wrong with one file: its bytes first, then its lines."""
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        yield " has a password: pack it without."
        return
    if info.file_size > MAX_BYTES:
        yield f" is {info.file_size / 2**20:,.0f} MiB unpacked, and can be at most {MAX_BYTES // 2**20}."
        return
    try:
        raw = archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        yield f" cannot be unpacked ({error}): pack it again."
        return
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield f", line {line}: not UTF-8: write the file as UTF-8."
        return
    if not text.strip():
        yield " is empty: put its predictions in."
        return
    if text.startswith("\ufeff"):
        yield ", line 1: a byte order mark opens the file: write it as UTF-8 without one."
        text = text.removeprefix("\ufeff")
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        yield f", line {line}: a carriage return: end lines in \\n alone."
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    yield from check_lines(lines)


def _checker(file: SubmissionFile) -> LineProblems:
    if file.name.endswith(".tsv"):
        return lambda lines: _tsv_problems(file, lines)
    if file.layout == "nested":
        return lambda lines: _nested_problems(file, lines)
    return lambda lines: _json_problems(file, lines)


class _Ids:
    """Ids that are to run from 0; after a gap they are to run on from there, so that one gap is one problem."""

    def __init__(self, name: str) -> None:
        self._name, self._next = name, 0
        self._seen: set[int] = set()

    def problem(self, given: int) -> str | None:
        """Returns what is wrong with the next id."""
        expected, self._next = self._next, given + 1
        is_repeated = given in self._seen
        self._seen.add(given)
        if is_repeated:
            return f"{self._name} {given} is here a second time: leave one row of each."
        if given != expected:
            return f"{self._name} is {given} where {expected} belongs: rows are to be in order from 0, none left out."
        return None


def _count_problem(num_answers: int, file: SubmissionFile) -> Iterator[str]:
    if num_answers != file.num_answers:
        yield f" has {num_answers:,} predictions where {file.num_answers:,} belong: predict the official test set."


def _tsv_problems(file: SubmissionFile, lines: list[str]) -> Iterator[str]:
    """Yields what is wrong with the lines of a TSV file."""
    if lines[0] != TSV_HEADER:
        yield f", line 1: the header is {lines[0][:60]!r} where {TSV_HEADER!r} belongs."
    num_headers = 0 if re.match(r"\d+\t", lines[0]) else 1
    ids = _Ids("index")
    for line, text in enumerate(lines[num_headers:], start=1 + num_headers):
        cells = text.split("\t")
        if len(cells) != 2:
            yield f", line {line}: {_cells(text, cells)} where an index, a tab and a prediction belong."
            continue
        index, prediction = cells
        if not re.fullmatch(r"0|[1-9]\d{0,8}", index, re.ASCII):
            yield f", line {line}: index {index[:60]!r} is no whole number: write 0, 1, 2, ..."
        elif problem := ids.problem(int(index)):
            yield f", line {line}: {problem}"
        if problem := _prediction_problem(file, prediction):
            yield f", line {line}: {problem}"
    yield from _count_problem(len(lines) - num_headers, file)


def _cells(text: str, cells: list[str]) -> str:
    return (
        f"{len(cells)} columns"
        if len(cells) > 1
        else repr(text[:60])
        if text.strip()
        else "the line is blank"
    )


def _prediction_problem(file: SubmissionFile, prediction: str) -> str | None:
    """Returns what is wrong with a cell of a TSV file."""
    if file.layout == "number":
        if _DECIMAL.fullmatch(prediction) and float(prediction) <= HIGHEST_NUMBER:
            return None
        return f"prediction {prediction[:60]!r} is no number from 0 to {HIGHEST_NUMBER:g}, such as 3.125."
    cells = {str(cell): cell for cell in file.cells.values()}
    if prediction in cells:
        return None
    return _label_problem("prediction", repr(prediction[:60]), list(cells), prediction)


def _label_problem(name: str, shown: str, cells: list[str], given: object) -> str:
    near = {cell.strip('"').casefold(): cell for cell in cells}
    hint = near.get(str(given).strip().casefold())
    return f"{name} {shown} is none of {', '.join(cells)}" + (f": did you mean {hint}?" if hint else ".")


def _json_problems(file: SubmissionFile, lines: list[str]) -> Iterator[str]:
    """Yields what is wrong with the lines of a JSON Lines file."""
    ids = _Ids("idx")
    for line, text in enumerate(lines, start=1):
        for problem in _row_problems(text, file, ids):
            yield f", line {line}: {problem}"
    yield from _count_problem(len(lines), file)


def _row_problems(text: str, file: SubmissionFile, ids: _Ids) -> Iterator[str]:
    row = _parse(text)
    if isinstance(row, str):
        yield row
    else:
        yield from _labelled_problems(row, "the line", file, ids)


def _labelled_problems(row: Any, what: str, file: SubmissionFile, ids: _Ids) -> Iterator[str]:
    """Yields what is wrong with an object that is to be {"idx": number, "label": label}."""
    if problem := _field_problem(row, what, "idx", "label"):
        yield problem
        return
    if problem := _idx_problem(row["idx"], ids):
        yield problem
    label = row["label"]
    if file.layout == "text":
        if not isinstance(label, str):
            yield f"label {_shown(label)} is no text: write the entity in quote marks."
    elif not any(type(label) is type(cell) and label == cell for cell in file.cells.values()):
        yield _label_problem("label", _shown(label), [_shown(cell) for cell in file.cells.values()], label)


def _nested_problems(file: SubmissionFile, lines: list[str]) -> Iterator[str]:
    """Yields what is wrong with the lines of MultiRC's file."""
    passages, questions, answers = (
        _Ids("idx of a passage"),
        _Ids("idx of a question"),
        _Ids("idx of an answer"),
    )
    num_answers = 0
    for line, text in enumerate(lines, start=1):
        row = _parse(text)
        problem = row if isinstance(row, str) else _passage_problem(row)
        if problem is not None:
            yield f", line {line}: {problem}"
            continue
        if problem := _idx_problem(row["idx"], passages):
            yield f", line {line}: {problem}"
        for question in row["passage"]["questions"]:
            if problem := _idx_problem(question["idx"], questions):
                yield f", line {line}: {problem}"
            num_answers += len(question["answers"])
            for answer in question["answers"]:
                for problem in _labelled_problems(answer, "an answer", file, answers):
                    yield f", line {line}: {problem}"
    yield from _count_problem(num_answers, file)


def _passage_problem(row: Any) -> str | None:
    """Returns what keeps a line of MultiRC's file from being read down to its answers."""
    if problem := _field_problem(row, "the line", "idx", "passage"):
        return problem
    if problem := _field_problem(row["passage"], "its passage", "questions"):
        return problem
    if problem := _list_problem(row["passage"]["questions"], "questions"):
        return problem
    for question in row["passage"]["questions"]:
        problem = _field_problem(question, "a question", "idx", "answers")
        if problem := problem or _list_problem(question["answers"], "answers"):
            return problem
    return None


def _list_problem(value: Any, name: str) -> str | None:
    return (
        None
        if isinstance(value, list) and value
        else f"{name} is {_shown(value)} where a list of them belongs."
    )


def _field_problem(value: Any, what: str, *fields: str) -> str | None:
    """Returns what is wrong with a value that is to be an object of certain fields."""
    if isinstance(value, dict) and set(value) == set(fields):
        return None
    wanted = ", ".join(f'"{field}"' for field in fields)
    return f"{what} is {_shown(value)} where an object of {wanted} and no more belongs."


def _idx_problem(idx: Any, ids: _Ids) -> str | None:
    if type(idx) is not int or idx < 0:
        return f"idx {_shown(idx)} is no whole number: write 0, 1, 2, ... without quote marks."
    return ids.problem(idx)


def _parse(text: str) -> Any:
    """Returns the object on a line, or a text that says why there is none."""
    if not text.strip():
        return "the line is blank."
    try:
        row = json.loads(text, object_pairs_hook=_no_field_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return f"no JSON ({error}): write one object a line."
    return f"{_shown(row)} is no object." if isinstance(row, str) else row


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
