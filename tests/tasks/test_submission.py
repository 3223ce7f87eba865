"""Zips of predictions: what is written is valid and says what was predicted; each way to spoil one is found."""

import dataclasses
import io
import json
import random
import zipfile
from pathlib import Path

import pytest

from t5like.errors import UserError
from t5like.tasks import leaderboards, submission, submission_check
from t5like.tasks.base import NO_CLASS, Example, Task
from t5like.tasks.leaderboards import SUPER_GLUE
from t5like.tasks.submission import SplitAnswers, write_submission
from t5like.tasks.submission_check import MAX_PROBLEMS, check_submission, report_submission

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
QUESTIONS_A_PASSAGE, ANSWERS_A_QUESTION = 3, 5

# QQP's test set is as large as all others tenfold, and one test of it is enough.
GLUE = dataclasses.replace(
    leaderboards.GLUE,
    entries=tuple(
        dataclasses.replace(entry, num_rows=1000) if entry.name == "QQP" else entry
        for entry in leaderboards.GLUE.entries
    ),
)
BOARDS = pytest.mark.parametrize("board", [GLUE, SUPER_GLUE], ids=lambda board: board.name)


@pytest.fixture(scope="module", autouse=True)
def _short_qqp():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission_check, "LEADERBOARDS", (GLUE, SUPER_GLUE))
        yield


def a_task(entry, labels=None):
    """A task with the labels of an entry, by default in another order than the file's: ids mean nothing."""
    if labels is None:
        labels = tuple(reversed(entry.cells))
    return Task(name=entry.task, labels=labels, metrics=(), splits=("test",), read=lambda *_: [])


def row_ids(entry):
    if entry.layout != "nested":
        return list(range(entry.num_rows))
    return [
        (answer // (QUESTIONS_A_PASSAGE * ANSWERS_A_QUESTION), answer // ANSWERS_A_QUESTION, answer)
        for answer in range(entry.num_rows)
    ]


def answers_of(entry, seed=0):
    """Made-up answers to the test split of an entry, and what its file is to hold for each."""
    chance = random.Random(f"{entry.name} {seed}")
    task = a_task(entry)
    examples = [
        Example(index=index, inputs="", targets="", row_id=row_id)
        for index, row_id in enumerate(row_ids(entry))
    ]
    if entry.layout == "number":
        numbers = [chance.uniform(-1, 6) for _ in examples]
        return SplitAnswers(task, examples, numbers), [f"{min(max(n, 0), 5):.3f}" for n in numbers]
    if entry.layout == "text":
        texts = [chance.choice(["", "New\nYork", "Zürich \U0001f642", 'the "Times"']) for _ in examples]
        return SplitAnswers(task, examples, texts), texts
    ids = [chance.randrange(len(task.labels)) for _ in examples]
    return SplitAnswers(task, examples, ids), [entry.cells[task.labels[number]] for number in ids]


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """By suite: a zip of all its tasks, what was expected in its files, and what the writer said."""
    made = {}
    for board in (GLUE, SUPER_GLUE):
        answers = {entry.name: answers_of(entry) for entry in board.entries}
        path = tmp_path_factory.mktemp(board.name) / "predictions.zip"
        notes = write_submission(board, {name: given for name, (given, _) in answers.items()}, path)
        made[board.name] = path, {name: cells for name, (_, cells) in answers.items()}, notes
    return made


def files_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, files):
    """Writes a zip of files, a mapping or (name, content) pairs, and returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return path


def cells_read(entry, text):
    """What a file says, read without the code under test: [(id, cell)]."""
    if entry.layout == "nested":
        return [
            ((passage["idx"], question["idx"], answer["idx"]), answer["label"])
            for passage in map(json.loads, text.splitlines())
            for question in passage["passage"]["questions"]
            for answer in question["answers"]
        ]
    if text.startswith("{"):
        return [(row["idx"], row["label"]) for row in map(json.loads, text.splitlines())]
    header, *rows = text.splitlines()
    assert header == "index\tprediction"
    cells = [row.split("\t") for row in rows]
    is_number = all(isinstance(cell, int) for cell in entry.cells.values()) and entry.cells
    return [(int(index), int(cell) if is_number else cell) for index, cell in cells]


@BOARDS
def test_what_is_written_is_valid_and_holds_the_answers(board, zips):
    path, cells, notes = zips[board.name]
    assert check_submission(path) == []
    assert notes == []
    files = files_of(path)
    assert list(files) == [board.file_name(entry) for entry in board.entries]
    for entry in board.entries:
        read = cells_read(entry, files[board.file_name(entry)].decode())
        assert read == list(zip(row_ids(entry), cells[entry.name], strict=True))
    assert not list(path.parent.glob("*.tmp"))


@BOARDS
def test_equal_answers_in_any_order_make_equal_bytes(board, zips, tmp_path):
    path, _, _ = zips[board.name]
    answers = {}
    for entry in board.entries:
        task, examples, given = answers_of(entry)[0]
        order = random.Random(1).sample(range(len(given)), len(given))
        answers[entry.name] = SplitAnswers(task, [examples[i] for i in order], [given[i] for i in order])
    write_submission(board, answers, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_the_forms_are_those_of_the_sample_submissions(zips):
    glue, super_glue = (files_of(zips[name][0]) for name in ("glue", "super_glue"))
    first = {name: content.decode().splitlines()[:2] for name, content in (glue | super_glue).items()}
    assert first["CoLA.tsv"][1] in ("0\t0", "0\t1")
    assert first["MNLI-mm.tsv"][1] in ("0\tentailment", "0\tneutral", "0\tcontradiction")
    assert first["WNLI.tsv"][1] in ("0\t0", "0\t1")
    assert first["BoolQ.jsonl"][0] in ('{"idx": 0, "label": "true"}', '{"idx": 0, "label": "false"}')
    assert first["WSC.jsonl"][0] in ('{"idx": 0, "label": "True"}', '{"idx": 0, "label": "False"}')
    assert first["COPA.jsonl"][0] in ('{"idx": 0, "label": 0}', '{"idx": 0, "label": 1}')
    passage = json.loads(first["MultiRC.jsonl"][1])
    assert passage["idx"] == 1
    assert [question["idx"] for question in passage["passage"]["questions"]] == [3, 4, 5]
    assert [answer["idx"] for answer in passage["passage"]["questions"][0]["answers"]] == [*range(15, 20)]


@BOARDS
def test_what_is_not_predicted_is_named_and_filled_only_where_asked(board, tmp_path):
    path = tmp_path / "zip.zip"
    entry = board.entries[0]
    given = {entry.name: answers_of(entry)[0]}
    with pytest.raises(UserError, match=f"lack {board.file_name(board.entries[1])}, .*no predictions"):
        write_submission(board, given, path)
    assert list(tmp_path.iterdir()) == []
    notes = write_submission(board, given, path, fills_missing=True)
    assert check_submission(path) == []
    assert [note.split(" ")[0] for note in notes] == [board.file_name(e) for e in board.entries[1:]]
    for entry in board.entries[1:]:
        cells = {cell for _, cell in cells_read(entry, files_of(path)[board.file_name(entry)].decode())}
        assert cells == {entry.cells[entry.majority] if entry.cells else "2.700" if board is GLUE else ""}


def test_the_official_qqp_is_written_and_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_check, "LEADERBOARDS", leaderboards.LEADERBOARDS)
    write_submission(leaderboards.GLUE, {}, tmp_path / "zip.zip", fills_missing=True)
    assert check_submission(tmp_path / "zip.zip") == []
    assert files_of(tmp_path / "zip.zip")["QQP.tsv"].endswith(b"\n390964\t0\n")


def test_wnli_is_the_majority_class_unless_predicted(tmp_path):
    given = {entry.name: answers_of(entry)[0] for entry in GLUE.entries if entry.name != "WNLI"}
    notes = write_submission(GLUE, given, tmp_path / "zip.zip")
    assert notes == ["WNLI.tsv is not predicted: every row says 'not_entailment', the majority class."]
    assert set(files_of(tmp_path / "zip.zip")["WNLI.tsv"].split()[3::2]) == {b"0"}


def test_an_answer_that_is_no_label_is_the_majority_class_and_told(tmp_path):
    given = {entry.name: answers_of(entry)[0] for entry in GLUE.entries}
    for name, invalid in (("MRPC", NO_CLASS), ("STS-B", float("nan"))):
        task, examples, answers = given[name]
        given[name] = SplitAnswers(task, examples, [invalid, invalid, *answers[2:]])
    notes = write_submission(GLUE, given, tmp_path / "zip.zip")
    assert notes == [
        "MRPC.tsv: 2 of 1,725 answers are none that the file can hold; 'equivalent' stands for them.",
        "STS-B.tsv: 2 of 1,379 answers are none that the file can hold; '2.7' stands for them.",
    ]
    files = files_of(tmp_path / "zip.zip")
    assert files["MRPC.tsv"].startswith(b"index\tprediction\n0\t1\n1\t1\n")
    assert files["STS-B.tsv"].startswith(b"index\tprediction\n0\t2.700\n1\t2.700\n")


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "zip.zip"
    path.write_bytes(b"an earlier one")
    (entry, *_) = GLUE.entries
    task, examples, answers = answers_of(entry)[0]

    def refused(given, message, **options):
        with pytest.raises(UserError, match=message) as raised:
            write_submission(GLUE, given, options.pop("path", path), fills_missing=True)
        assert "\n" not in str(raised.value)
        assert [file.name for file in tmp_path.iterdir()] == ["zip.zip"]
        assert path.read_bytes() == b"an earlier one"

    refused({"CoLa": (task, examples, answers)}, "GLUE has no 'CoLa': its tasks are CoLA, SST-2, ")
    fewer = SplitAnswers(task, examples[:-1], answers[:-1])
    refused({"CoLA": fewer}, "would refuse zip.zip: CoLA.tsv has 1,062 predictions where 1,063 belong")
    twice = SplitAnswers(task, [examples[1], *examples[1:]], answers)
    refused({"CoLA": twice}, r"CoLA.tsv, line 2: index is 1 where 0 belongs.* \(and 1 more\)")
    other = SplitAnswers(a_task(entry, ("LABEL_0", "LABEL_1")), examples, answers)
    refused({"CoLA": other}, "CoLA.tsv cannot hold the label 'LABEL_[01]' of glue/cola: its labels are unacc")
    refused({"CoLA": answers_of(entry)[0]}, "cannot be written", path=tmp_path / "no" / "zip.zip")
    with pytest.raises(ValueError, match="shorter"):
        write_submission(GLUE, {"CoLA": SplitAnswers(task, examples, answers[:-1])}, path, fills_missing=True)


def test_the_zip_is_checked_before_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "check_submission", lambda path: ["CoLA.tsv is spoilt."])
    with pytest.raises(UserError, match=r"GLUE would refuse zip\.zip: CoLA\.tsv is spoilt\."):
        write_submission(GLUE, {}, tmp_path / "zip.zip", fills_missing=True)
    assert list(tmp_path.iterdir()) == []


# (suite, file, how its bytes are spoilt, what the checker says of it)
SPOILT = {
    "another header": ("CoLA.tsv", lambda b: b.replace(b"index", b"id", 1), "line 1: the header is 'id"),
    "capital header": ("RTE.tsv", lambda b: b.replace(b"index", b"Index", 1), "line 1: the header is 'Index"),
    "no header": ("RTE.tsv", lambda b: b.split(b"\n", 1)[1], "line 1: the header is '0"),
    "commas": ("SST-2.tsv", lambda b: b.replace(b"\t", b","), "line 1: the header"),
    "one comma": ("SST-2.tsv", lambda b: b.replace(b"\n5\t", b"\n5,"), "line 7: '5,"),
    "a third column": ("QNLI.tsv", lambda b: b.replace(b"\n5\t", b"\n5\t\t"), "line 7: 3 columns"),
    "a row left out": ("CoLA.tsv", lambda b: without_line(b, 5), "line 6: index is 5 where 4 belongs"),
    "the last row left out": ("CoLA.tsv", lambda b: without_line(b, -1), "has 1,062 predictions where 1,063"),
    "a row too many": ("CoLA.tsv", lambda b: b + b"1063\t1\n", "has 1,064 predictions where 1,063 belong"),
    "a row twice": ("CoLA.tsv", lambda b: with_line_twice(b, 5), "line 7: index 4 is here a second time"),
    "another order": (
        "MRPC.tsv",
        lambda b: with_lines_swapped(b, 3, 4),
        "line 4: index is 3 where 2 belongs",
    ),
    "ids from 1": ("AX.tsv", lambda b: renumbered(b, 1), "line 2: index is 1 where 0 belongs"),
    "a blank line": ("CoLA.tsv", lambda b: b.replace(b"\n7\t", b"\n\n7\t"), "line 9: the line is blank"),
    "a blank line at the end": ("CoLA.tsv", lambda b: b + b"\n", "line 1065: the line is blank"),
    "an id with a point": ("CoLA.tsv", lambda b: b.replace(b"\n7\t", b"\n7.0\t"), "line 9: index '7.0'"),
    "an id with a zero before": ("CoLA.tsv", lambda b: b.replace(b"\n7\t", b"\n07\t"), "line 9: index '07'"),
    "a text for a number": (
        *("CoLA.tsv", lambda b: with_cell(b, 3, b"acceptable")),
        "line 4: prediction 'acceptable' is none of 0, 1.",
    ),
    "a number for a text": (
        "MNLI-m.tsv",
        lambda b: with_cell(b, 3, b"2"),
        "line 4: prediction '2' is none of",
    ),
    "a capital": (
        *("QNLI.tsv", lambda b: with_cell(b, 3, b"Entailment")),
        "line 4: prediction 'Entailment' is none of entailment, not_entailment: did you mean entailment?",
    ),
    "two classes for three": ("AX.tsv", lambda b: with_cell(b, 3, b"not_entailment"), "line 4: prediction"),
    "a space": ("RTE.tsv", lambda b: with_cell(b, 3, b"entailment "), "did you mean entailment?"),
    "a float for a label": ("WNLI.tsv", lambda b: with_cell(b, 3, b"1.0"), "line 4: prediction '1.0'"),
    "no number": ("STS-B.tsv", lambda b: with_cell(b, 3, b"nan"), "line 4: prediction 'nan' is no number"),
    "a number too high": ("STS-B.tsv", lambda b: with_cell(b, 3, b"5.001"), "from 0 to 5, such as 3.125"),
    "a negative number": ("STS-B.tsv", lambda b: with_cell(b, 3, b"-1.0"), "line 4: prediction '-1.0'"),
    "not UTF-8": ("RTE.tsv", lambda b: with_cell(b, 3, b"entailm\xe9nt"), "line 4: not UTF-8"),
    "UTF-16": ("RTE.tsv", lambda b: b.decode().encode("utf-16"), "line 1: not UTF-8"),
    "a byte order mark": ("RTE.tsv", lambda b: b"\xef\xbb\xbf" + b, "line 1: a byte order mark"),
    "ends of lines": ("RTE.tsv", lambda b: b.replace(b"\n", b"\r\n"), "line 1: a carriage return"),
    "nothing": ("RTE.tsv", lambda b: b"", "is empty"),
    "white space": ("BoolQ.jsonl", lambda b: b"\n \n", "is empty"),
    "True": (
        *("BoolQ.jsonl", lambda b: with_label(b, 3, "True")),
        'line 4: label "True" is none of "false", "true": did you mean "true"?',
    ),
    "true": (
        "WSC.jsonl",
        lambda b: with_label(b, 3, "true"),
        'is none of "False", "True": did you mean "True"?',
    ),
    "a boolean": ("WiC.jsonl", lambda b: with_label(b, 3, True), "line 4: label true is none of"),
    "a boolean for a number": (
        "COPA.jsonl",
        lambda b: with_label(b, 3, True),
        "line 4: label true is none of",
    ),
    "a text for 0": ("COPA.jsonl", lambda b: with_label(b, 3, "0"), 'line 4: label "0" is none of 0, 1'),
    "a class id": ("CB.jsonl", lambda b: with_label(b, 3, 2), "line 4: label 2 is none of"),
    "a number for an entity": ("ReCoRD.jsonl", lambda b: with_label(b, 3, 7), "line 4: label 7 is no text"),
    "null": ("ReCoRD.jsonl", lambda b: with_label(b, 3, None), "line 4: label null is no text"),
    "an id of text": ("AX-b.jsonl", lambda b: with_idx(b, 3, "3"), 'line 4: idx "3" is no whole number'),
    "a boolean id": ("AX-b.jsonl", lambda b: with_idx(b, 1, True), "line 2: idx true is no whole number"),
    "an id that is a float": (
        "AX-g.jsonl",
        lambda b: with_idx(b, 3, 3.0),
        "line 4: idx 3.0 is no whole number",
    ),
    "a nested id": ("ReCoRD.jsonl", lambda b: with_idx(b, 3, {"query": 3}), "line 4: idx {"),
    "an id twice": ("RTE.jsonl", lambda b: with_idx(b, 3, 2), "line 4: idx 2 is here a second time"),
    "a line left out": ("RTE.jsonl", lambda b: without_line(b, 5), "line 6: idx is 6 where 5 belongs"),
    "a line too many": (
        "AX-g.jsonl",
        lambda b: with_line_twice(b, -1),
        "has 357 predictions where 356 belong",
    ),
    "a field too many": ("RTE.jsonl", lambda b: b.replace(b"{", b'{"p": 1, ', 1), "and no more belongs"),
    "a field twice": (
        "RTE.jsonl",
        lambda b: b.replace(b"{", b'{"idx": 0, ', 1),
        "line 1: no JSON (a field is",
    ),
    "another field": (
        "RTE.jsonl",
        lambda b: b.replace(b"label", b"prediction", 1),
        'object of "idx", "label"',
    ),
    "a cut line": ("RTE.jsonl", lambda b: b.replace(b"}\n", b"\n", 1), "line 1: no JSON"),
    "one array": (
        "AX-g.jsonl",
        lambda b: b"[" + b",".join(b.split(b"\n")[:-1]) + b"]",
        "line 1: the line is [",
    ),
    "a text": ("AX-g.jsonl", lambda b: b'"entailment"\n' + b, 'line 1: "entailment" is no object'),
    "a flat line": ("MultiRC.jsonl", lambda b: b'{"idx": 0, "label": 1}\n' + b, 'object of "idx", "passage"'),
    "no questions": (
        *("MultiRC.jsonl", lambda b: edited(b, 0, lambda r: r["passage"]["questions"].clear())),
        "line 1: questions is [] where a list",
    ),
    "ids of questions from 0 in each passage": (
        *("MultiRC.jsonl", lambda b: edited(b, 1, lambda r: r["passage"]["questions"][0].update(idx=0))),
        "line 2: idx of a question 0 is here a second time",
    ),
    "an answer left out": (
        *("MultiRC.jsonl", lambda b: edited(b, 1, lambda r: r["passage"]["questions"][0]["answers"].pop())),
        "has 9,692 predictions where 9,693 belong",
    ),
    "a text in an answer": (
        "MultiRC.jsonl",
        lambda b: edited(b, 1, lambda r: r["passage"]["questions"][0]["answers"][0].update(label="1")),
        'line 2: label "1" is none of 0, 1',
    ),
    "a question that is none": (
        *("MultiRC.jsonl", lambda b: edited(b, 1, lambda r: r["passage"]["questions"].append(7))),
        "line 2: a question is 7",
    ),
    "an empty passage": (
        *("MultiRC.jsonl", lambda b: edited(b, 1, lambda r: r.update(passage=None))),
        "line 2: its passage is null",
    ),
}


def without_line(content, number):
    lines = content.splitlines(keepends=True)
    del lines[number]
    return b"".join(lines)


def with_line_twice(content, number):
    lines = content.splitlines(keepends=True)
    lines.insert(number, lines[number])
    return b"".join(lines)


def with_lines_swapped(content, one, other):
    lines = content.splitlines(keepends=True)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def with_cell(content, number, cell):
    lines = content.split(b"\n")
    lines[number] = lines[number].split(b"\t")[0] + b"\t" + cell
    return b"\n".join(lines)


def renumbered(content, first):
    header, *rows = content.decode().splitlines()
    cells = [row.split("\t")[1] for row in rows]
    numbered = [f"{first + number}\t{cell}" for number, cell in enumerate(cells)]
    return "\n".join([header, *numbered, ""]).encode()


def edited(content, number, edit):
    lines = content.splitlines()
    row = json.loads(lines[number])
    edit(row)
    lines[number] = json.dumps(row).encode()
    return b"\n".join(lines) + b"\n"


def with_label(content, number, label):
    return edited(content, number, lambda row: row.update(label=label))


def with_idx(content, number, idx):
    return edited(content, number, lambda row: row.update(idx=idx))


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_spoilt_in_a_file_is_found_in_that_file_alone(kind, zips, tmp_path):
    name, spoil, message = SPOILT[kind]
    board = GLUE if name.endswith(".tsv") else SUPER_GLUE
    files = files_of(zips[board.name][0])
    assert spoil(files[name]) != files[name]
    files[name] = spoil(files[name])
    problems = check_submission(packed(tmp_path / "spoilt.zip", files))
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith(name) and "\n" not in problem for problem in problems)
    assert len(problems) <= MAX_PROBLEMS + 1


def test_one_gap_is_one_problem_beside_the_count(zips, tmp_path):
    files = files_of(zips["glue"][0])
    files["CoLA.tsv"] = without_line(files["CoLA.tsv"], 5)
    assert len(check_submission(packed(tmp_path / "gap.zip", files))) == 2


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda f: f.pop("QQP.tsv"), ["QQP.tsv is missing: GLUE takes all 11 files or none."]),
        (lambda f: f.update({"notes.txt": b""}), ["notes.txt is no file of GLUE: leave it out."]),
        (
            lambda f: f.update({"glue/CoLA.tsv": f.pop("CoLA.tsv")}),
            ["glue/CoLA.tsv lies in a folder: the zip", "CoLA.tsv is missing"],
        ),
        (lambda f: f.update({"glue/": b""}), ["glue/ is a folder: the zip"]),
        (
            lambda f: f.update({"cola.tsv": f.pop("CoLA.tsv")}),
            ["cola.tsv is no file of GLUE: did you mean CoLA.tsv?", "CoLA.tsv is missing"],
        ),
        (
            lambda f: f.update({"MNLI_m.tsv": f.pop("MNLI-m.tsv")}),
            ["MNLI_m.tsv is no file of GLUE: did you mean MNLI-m.tsv?", "MNLI-m.tsv is missing"],
        ),
        (
            lambda f: f.update({"RTE.jsonl": f.pop("RTE.tsv")}),
            ["RTE.jsonl is no file of GLUE: ", "RTE.tsv is missing"],
        ),
        (
            lambda f: f.update({"MNLI-m.tsv": f["MNLI-mm.tsv"], "MNLI-mm.tsv": f["MNLI-m.tsv"]}),
            ["MNLI-m.tsv has 9,847 predictions where 9,796", "MNLI-mm.tsv has 9,796 predictions where 9,847"],
        ),
    ],
    ids=["left out", "too many", "in a folder", "a folder", "case", "name", "suffix", "exchanged"],
)
def test_names_that_are_wrong_are_found(change, messages, zips, tmp_path):
    files = files_of(zips["glue"][0])
    change(files)
    problems = check_submission(packed(tmp_path / "names.zip", files))
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert problem.startswith(message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_found(zips, tmp_path):
    files = files_of(zips["glue"][0])
    problems = check_submission(packed(tmp_path / "twice.zip", [*files.items(), *list(files.items())[:1]]))
    assert problems == ["CoLA.tsv is in the zip 2 times: leave one."]


def test_what_is_no_zip_of_predictions_is_one_problem(zips, tmp_path):
    whole = zips["glue"][0].read_bytes()

    def problem(content):
        path = tmp_path / "given.zip"
        path.write_bytes(content)
        (found,) = check_submission(path)
        assert found.startswith(str(path))
        return found

    assert "is no zip" in problem(b"")
    assert "is no zip" in problem(b"index\tprediction\n0\t1\n")
    assert "is no zip" in problem(whole[:-30])
    assert "holds no file of GLUE or SuperGLUE" in problem(packed(io.BytesIO(), {}).getvalue())
    assert "holds no file of GLUE or SuperGLUE" in problem(packed(io.BytesIO(), {"a.txt": b"a"}).getvalue())
    assert "No such file" in check_submission(tmp_path / "none.zip")[0]
    assert "cannot be read" in check_submission(tmp_path)[0]


def test_bytes_that_are_damaged_or_locked_or_too_many_are_found(zips, tmp_path, monkeypatch):
    files = files_of(zips["super_glue"][0])
    path = tmp_path / "stored.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"idx": 0, "label": "', b'{"idx": 0, "lAbel": "', 1))
    assert [problem.split(" (")[0] for problem in check_submission(path)] == [
        "BoolQ.jsonl cannot be unpacked"
    ]
    locked = bytearray(whole)
    locked[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption, of the first file in the directory
    path.write_bytes(locked)
    assert check_submission(path) == ["BoolQ.jsonl has a password: pack it without."]
    path.write_bytes(whole)
    largest = max(files, key=lambda name: len(files[name]))
    monkeypatch.setattr(submission_check, "MAX_BYTES", sorted(len(content) for content in files.values())[-2])
    (problem,) = check_submission(path)
    assert problem.startswith(f"{largest} is ")


def test_the_command_prints_what_is_valid_or_every_problem(zips, tmp_path, capsys):
    path = zips["super_glue"][0]
    report_submission(path)
    num_rows = 3245 + 250 + 500 + 9693 + 10_000 + 3000 + 1400 + 146 + 1104 + 356
    expected = f"valid: {path} holds {num_rows:,} predictions in the 10 files of SuperGLUE\n"
    assert capsys.readouterr().out == expected
    files = files_of(path)
    del files["CB.jsonl"]
    files["WSC.jsonl"] = with_label(files["WSC.jsonl"], 0, "true")
    spoilt = packed(tmp_path / "spoilt.zip", files)
    with pytest.raises(UserError, match=r"spoilt\.zip would be refused for the 2 problems above") as raised:
        report_submission(spoilt)
    assert raised.value.exit_code == 2
    assert capsys.readouterr().out.splitlines() == check_submission(spoilt)


def tsv_column(path, column, *, first=1):
    return [
        line.rstrip("\r").split("\t")[column] for line in path.read_text("utf-8").split("\n")[first:] if line
    ]


def jsonl_values(path, field):
    return [json.loads(line)[field] for line in path.read_text("utf-8").split("\n") if line]


def test_majority_classes_are_those_of_the_published_labels():
    if not (DATA / "glue").is_dir():
        pytest.skip("the data sets are not beside the checkout, in ../shared/data")

    def share(entry, labels):
        cell = entry.cells[entry.majority]
        counts = {label: labels.count(label) for label in set(labels)}
        assert counts[str(cell)] == max(counts.values()), entry.name

    columns = {"CoLA": (1, 0), "SST-2": (1, 1), "MRPC": (0, 1), "QQP": (5, 1), "RTE": (3, 1)}
    for entry in GLUE.entries:
        if entry.name in columns:
            column, first = columns[entry.name]
            share(entry, tsv_column(DATA / f"glue/{entry.name}/train.tsv", column, first=first))
        elif entry.name == "QNLI":
            share(entry, tsv_column(DATA / "glue/QNLI/dev.tsv", 3))
        elif entry.name == "STS-B":
            numbers = [*map(float, tsv_column(DATA / "glue/STS-B/train.tsv", 9))]
            assert float(entry.majority) == pytest.approx(sum(numbers) / len(numbers), abs=0.05)
        elif entry.name == "AX":
            share(entry, tsv_column(DATA / "glue/AX/diagnostic-full.tsv", 7))
    files = {"BoolQ": "val", "COPA": "train", "RTE": "train", "WiC": "train", "WSC": "train"}
    files |= {"AX-b": "AX-b", "AX-g": "AX-g"}
    for entry in SUPER_GLUE.entries:
        if entry.name in files:
            labels = jsonl_values(DATA / f"super_glue/{entry.name}/{files[entry.name]}.jsonl", "label")
            shown = [str(label).lower() if entry.name in ("BoolQ", "WiC") else str(label) for label in labels]
            share(entry, shown)


def test_row_counts_are_those_of_the_official_test_files():
    if not (DATA / "glue").is_dir():
        pytest.skip("the data sets are not beside the checkout, in ../shared/data")
    num_found = 0
    for board in leaderboards.LEADERBOARDS:
        for entry in board.entries:
            folder = DATA / board.name / entry.name
            for file, num_headers in (
                ("test.tsv", 1),
                ("diagnostic.tsv", 1),
                ("test.jsonl", 0),
                (f"{entry.name}.jsonl", 0),
            ):
                if (folder / file).is_file():
                    lines = [line for line in (folder / file).read_text("utf-8").split("\n") if line]
                    assert len(lines) - num_headers == entry.num_rows, file
                    num_found += 1
    assert num_found == 12
