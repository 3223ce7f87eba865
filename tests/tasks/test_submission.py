"""Zips of predictions: what is written is valid and says what was predicted; each way to spoil one is found."""

import dataclasses
import io
import json
import random
import zipfile
from pathlib import Path

import pytest

from t5like.errors import UserError
from t5like.tasks import find_task, submission, submission_check, suites
from t5like.tasks.base import NO_CLASS, Example, Task
from t5like.tasks.submission import SplitAnswers, write_submission
from t5like.tasks.submission_check import MAX_PROBLEMS, check_submission, report_submission
from t5like.tasks.suites import SUPER_GLUE

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
QUESTIONS_A_PASSAGE, ANSWERS_A_QUESTION = 3, 5

# QQP's test set is as large as all others tenfold, and one test of it is enough.
GLUE = dataclasses.replace(
    suites.GLUE,
    tasks=tuple(
        dataclasses.replace(task, files=(dataclasses.replace(task.files[0], num_answers=1000),))
        if task.title == "QQP"
        else task
        for task in suites.GLUE.tasks
    ),
)
BOTH = pytest.mark.parametrize("suite", [GLUE, SUPER_GLUE], ids=lambda suite: suite.name)


@pytest.fixture(scope="module", autouse=True)
def _short_qqp():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission_check, "SUITES", (GLUE, SUPER_GLUE))
        yield


def a_task(file, labels=None):
    """A task with the labels of a file, by default in another order than the file's: ids mean nothing."""
    if labels is None:
        labels = tuple(reversed(file.cells))
    return Task(name=file.name, labels=labels, metrics=(), splits=("test",), read=lambda *_: [])


def row_ids(file):
    if file.layout != "nested":
        return list(range(file.num_answers))
    return [
        (answer // (QUESTIONS_A_PASSAGE * ANSWERS_A_QUESTION), answer // ANSWERS_A_QUESTION, answer)
        for answer in range(file.num_answers)
    ]


def answers_of(file, seed=0):
    """Made-up answers to the test split of a file, and what its file is to hold for each."""
    chance = random.Random(f"{file.name} {seed}")
    task = a_task(file)
    examples = [
        Example(index=index, inputs="", targets="", row_id=row_id)
        for index, row_id in enumerate(row_ids(file))
    ]
    if file.layout == "number":
        numbers = [chance.uniform(-1, 6) for _ in examples]
        return SplitAnswers(task, examples, numbers), [f"{min(max(n, 0), 5):.3f}" for n in numbers]
    if file.layout == "text":
        texts = [chance.choice(["", "New\nYork", "Zürich \U0001f642", 'the "Times"']) for _ in examples]
        return SplitAnswers(task, examples, texts), texts
    ids = [chance.randrange(len(task.labels)) for _ in examples]
    return SplitAnswers(task, examples, ids), [file.cells[task.labels[number]] for number in ids]


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """By suite: a zip of all its tasks, what was expected in its files, and what the writer said."""
    made = {}
    for suite in (GLUE, SUPER_GLUE):
        answers = {file.name: answers_of(file) for file in suite.files}
        path = tmp_path_factory.mktemp(suite.name) / "predictions.zip"
        notes = write_submission(suite, {name: given for name, (given, _) in answers.items()}, path)
        made[suite.name] = path, {name: cells for name, (_, cells) in answers.items()}, notes
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


def cells_read(file, text):
    """What a file says, read without the code under test: [(id, cell)]."""
    if file.layout == "nested":
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
    is_number = all(isinstance(cell, int) for cell in file.cells.values()) and file.cells
    return [(int(index), int(cell) if is_number else cell) for index, cell in cells]


@BOTH
def test_what_is_written_is_valid_and_holds_the_answers(suite, zips):
    path, cells, notes = zips[suite.name]
    assert check_submission(path) == []
    assert notes == []
    written = files_of(path)
    assert list(written) == [file.name for file in suite.files]
    for file in suite.files:
        read = cells_read(file, written[file.name].decode())
        assert read == list(zip(row_ids(file), cells[file.name], strict=True))
    assert not list(path.parent.glob("*.tmp"))


@BOTH
def test_equal_answers_in_any_order_make_equal_bytes(suite, zips, tmp_path):
    path, _, _ = zips[suite.name]
    answers = {}
    for file in suite.files:
        task, examples, given = answers_of(file)[0]
        order = random.Random(1).sample(range(len(given)), len(given))
        answers[file.name] = SplitAnswers(task, [examples[i] for i in order], [given[i] for i in order])
    write_submission(suite, answers, tmp_path / "again.zip")
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


@BOTH
def test_what_is_not_predicted_is_named_and_filled_only_where_asked(suite, tmp_path):
    path = tmp_path / "zip.zip"
    file = suite.files[0]
    given = {file.name: answers_of(file)[0]}
    with pytest.raises(UserError, match=f"lack {suite.files[1].name}, .*no predictions"):
        write_submission(suite, given, path)
    assert list(tmp_path.iterdir()) == []
    notes = write_submission(suite, given, path, fills_missing=True)
    assert check_submission(path) == []
    assert [note.split(" ")[0] for note in notes] == [e.name for e in suite.files[1:]]
    for file in suite.files[1:]:
        cells = {cell for _, cell in cells_read(file, files_of(path)[file.name].decode())}
        assert cells == {file.cells[file.majority] if file.cells else "2.700" if suite is GLUE else ""}


def test_the_official_qqp_is_written_and_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_check, "SUITES", suites.SUITES)
    write_submission(suites.GLUE, {}, tmp_path / "zip.zip", fills_missing=True)
    assert check_submission(tmp_path / "zip.zip") == []
    assert files_of(tmp_path / "zip.zip")["QQP.tsv"].endswith(b"\n390964\t0\n")


def test_wnli_is_the_majority_class_unless_predicted(tmp_path):
    given = {file.name: answers_of(file)[0] for file in GLUE.files if file.name != "WNLI.tsv"}
    notes = write_submission(GLUE, given, tmp_path / "zip.zip")
    assert notes == ["WNLI.tsv is not predicted: every row says 'not_entailment', the majority class."]
    assert set(files_of(tmp_path / "zip.zip")["WNLI.tsv"].split()[3::2]) == {b"0"}


def test_an_answer_that_is_no_label_is_the_majority_class_and_told(tmp_path):
    given = {file.name: answers_of(file)[0] for file in GLUE.files}
    for name, invalid in (("MRPC.tsv", NO_CLASS), ("STS-B.tsv", float("nan"))):
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
    (file, *_) = GLUE.files
    given = task, examples, answers = answers_of(file)[0]

    def refused(given, message, **options):
        with pytest.raises(UserError, match=message) as raised:
            write_submission(GLUE, given, options.pop("path", path), fills_missing=True)
        assert "\n" not in str(raised.value)
        assert [file.name for file in tmp_path.iterdir()] == ["zip.zip"]
        assert path.read_bytes() == b"an earlier one"

    refused({"CoLA": given}, "GLUE has no file 'CoLA': its files are CoLA.tsv, SST-2.tsv, ")
    fewer = SplitAnswers(task, examples[:-1], answers[:-1])
    refused({"CoLA.tsv": fewer}, "would refuse zip.zip: CoLA.tsv has 1,062 predictions where 1,063 belong")
    twice = SplitAnswers(task, [examples[1], *examples[1:]], answers)
    refused({"CoLA.tsv": twice}, r"CoLA.tsv, line 2: index is 1 where 0 belongs.* \(and 1 more\)")
    other = SplitAnswers(a_task(file, ("LABEL_0", "LABEL_1")), examples, answers)
    refused(
        {"CoLA.tsv": other}, "CoLA.tsv cannot hold the label 'LABEL_[01]' of CoLA.tsv: its labels are unacc"
    )
    refused({"CoLA.tsv": answers_of(file)[0]}, "cannot be written", path=tmp_path / "no" / "zip.zip")
    with pytest.raises(ValueError, match="shorter"):
        write_submission(
            GLUE, {"CoLA.tsv": SplitAnswers(task, examples, answers[:-1])}, path, fills_missing=True
        )


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
    suite = GLUE if name.endswith(".tsv") else SUPER_GLUE
    files = files_of(zips[suite.name][0])
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
            lambda f: f.update({"../CoLA.tsv": f.pop("CoLA.tsv")}),
            ["../CoLA.tsv lies in a folder: the zip", "CoLA.tsv is missing"],
        ),
        (lambda f: f.update({"/etc/passwd": b""}), ["/etc/passwd lies in a folder: the zip"]),
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
    ids=[
        "left out",
        "too many",
        "in a folder",
        "a folder",
        "above",
        "elsewhere",
        "case",
        "name",
        "suffix",
        "exchanged",
    ],
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


def test_a_suite_says_of_its_tasks_what_they_say_themselves():
    for suite in suites.SUITES:
        assert len({file.name for file in suite.files}) == len(suite.files)
        for entry in suite.tasks:
            task = find_task(entry.task)
            assert entry.task.startswith(f"{suite.name}/")
            assert {*entry.validation, *entry.test_splits} <= set(task.splits)
            assert find_task(entry.trained_on or entry.task).labels == task.labels
            for file in entry.files:
                assert set(file.cells) == set(task.labels)
                assert not task.labels or file.majority in task.labels
                assert (file.layout == "number") == (task.kind == "number")
    assert [task.title for task in suites.GLUE.tasks if not task.is_averaged] == ["AX"]
    assert [task.title for task in SUPER_GLUE.tasks if not task.is_averaged] == ["AX-b", "AX-g"]
    assert [sum(task.is_averaged for task in suite.tasks) for suite in suites.SUITES] == [9, 8]


def data_of(suite):
    if not (DATA / suite.name).is_dir():
        pytest.skip("the data sets are not beside the checkout, in ../shared/data")
    return DATA / suite.name


@BOTH
def test_real_test_files_make_a_valid_zip(suite, tmp_path):
    data_dir = data_of(suite)
    answers = {}
    for entry in suite.tasks:
        task = find_task(entry.task)
        for file in entry.files:
            try:
                examples = task.load(file.split, data_dir)
            except UserError:
                continue  # not all are published where we found the others
            answer = {"label": 0, "number": 2.0}[task.kind]
            answers[file.name] = SplitAnswers(task, examples, [answer] * len(examples))
    stems = {"glue": "CoLA SST-2 MRPC STS-B QNLI RTE AX", "super_glue": "COPA WiC WSC AX-b AX-g"}
    assert {name.partition(".")[0] for name in answers} == set(stems[suite.name].split())
    notes = write_submission(suite, answers, tmp_path / "zip.zip", fills_missing=True)
    assert len(notes) == len(suite.files) - len(answers)
    assert check_submission(tmp_path / "zip.zip") == []


@BOTH
def test_majority_classes_are_those_of_the_published_labels(suite):
    data_dir = data_of(suite)
    num_found = 0
    for entry in suite.tasks:
        task = find_task(entry.task)
        for split in ("train", "validation", "test"):
            try:
                answers = [example.answer for example in task.load(split, data_dir)]
            except UserError:
                continue  # as above
            majority = entry.files[0].majority
            if task.kind == "number":
                assert float(majority) == pytest.approx(sum(answers) / len(answers), abs=0.05)
            elif answers[0] is not None:
                counts = {label: answers.count(task.labels.index(label)) for label in sorted(task.labels)}
                assert majority == max(counts, key=counts.get), entry.title
            num_found += 1
            break
    assert num_found == {"glue": 8, "super_glue": 8}[suite.name]
