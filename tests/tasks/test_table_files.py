"""Tables: the same rows in every format, which rows are held out, and errors that name file and line."""

import csv
import io
import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks.table_files import Row, Table, find_splits, hold_out, read_rows

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)
ROWS = st.lists(st.tuples(CELL, CELL, CELL), max_size=8)
COLUMNS = ("a", "b", "c")


def _write(path: pathlib.Path, text: str | bytes) -> pathlib.Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def _as_csv(rows: list[tuple[str, ...]], end: str = "\n") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
    return file.getvalue()


def _row(text: str, place: str = "") -> Row:
    return Row(place, {"text": text})


def _cells(rows: list[Row]) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in rows]


# --- reading


@settings(deadline=None, max_examples=100)
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_rows_are_read_as_they_were_written(tmp_path_factory, rows, end, has_mark):
    folder = tmp_path_factory.mktemp("tables")
    mark = "\ufeff" if has_mark else ""
    as_csv = _write(folder / "a.csv", mark + _as_csv(rows, end))
    assert _cells(read_rows("csv", as_csv, COLUMNS)) == rows
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
    as_json = _write(folder / "a.jsonl", mark + end.join(lines))
    assert _cells(read_rows("jsonl", as_json, COLUMNS)) == rows
    plain = [row for row in rows if not set("\t\n") & set("".join(row)) and "".join(row).strip(" ")]
    as_tsv = _write(folder / "a.tsv", mark + end.join("\t".join(row) for row in [COLUMNS, *plain]) + end)
    assert _cells(read_rows("tsv", as_tsv, COLUMNS)) == plain


def test_only_the_columns_that_are_asked_for_are_read_in_any_order(tmp_path):
    path = _write(tmp_path / "a.csv", "a,b,c\n1,2,3\n")
    assert read_rows("csv", path, ["c", "a"], ["b", "d"])[0].cells == {"d": "", "c": "3", "a": "1", "b": "2"}


def test_places_are_the_lines_where_rows_start(tmp_path):
    path = _write(tmp_path / "a.csv", 'a,b\n\n"one\n\nrow",1\ntwo,2\n')
    assert [row.place for row in read_rows("csv", path, ["a"])] == [f"{path}, line 3", f"{path}, line 6"]
    assert read_rows("csv", path, ["a"])[0].cells["a"] == "one\n\nrow"
    path = _write(tmp_path / "a.jsonl", '\n{"a": "x"}\n  \n{"a": "y"}\n')
    assert [row.place for row in read_rows("jsonl", path, ["a"])] == [f"{path}, line 2", f"{path}, line 4"]
    path = _write(tmp_path / "a.tsv", "a\tb\n\n\t\nx\ty\n")
    assert [row.place for row in read_rows("tsv", path, ["a"])] == [f"{path}, line 3", f"{path}, line 4"]


def test_quote_marks_are_letters_in_tsv(tmp_path):
    path = _write(tmp_path / "a.tsv", 'a\tb\n"He said: ""no""\t"\n')
    assert _cells(read_rows("tsv", path, ["a", "b"])) == [('"He said: ""no""', '"')]


def test_values_of_json_that_are_no_texts_count_as_they_are_written(tmp_path):
    path = _write(tmp_path / "a.jsonl", '{"a": true, "b": 3.5, "c": null}\n{"a": 2, "b": "x", "c": -1}')
    assert _cells(read_rows("jsonl", path, COLUMNS)) == [("true", "3.5", ""), ("2", "x", "-1")]


def test_long_cells_are_read_and_the_limit_of_others_is_left(tmp_path):
    before = csv.field_size_limit()
    text = "word " * 100_000
    path = _write(tmp_path / "a.csv", f"a,b\n{text},1\n")
    assert read_rows("csv", path, ["a"])[0].cells["a"] == text
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\nx\n", "line 2: 1 cells where the header has 2 columns"),
        ("a.csv", "text,label\nx,y,z\n", "line 2: 3 cells where the header has 2"),
        ("a.csv", 'text,label\nx,y\n"open,1\nmore\n', "line 3: not CSV (unexpected end of data)"),
        ("a.csv", 'text,label\n"x"y,1\n', "line 2: not CSV"),
        ("a.csv", "text,label\rx,y\r", "line 1: not CSV"),
        ("a.csv", "txt,label\nx,y\n", "has no column 'text': did you mean 'txt'? There is txt, label."),
        ("a.csv", "text,text,label\nx,y,z\n", "has 2 columns 'text'"),
        ("a.csv", "", "is empty: it must open with a row of column names"),
        ("a.csv", b"text,label\nx,y\ncaf\xe9,y\n", "line 3: not UTF-8"),
        ("a.tsv", "text\tlabel\nx\ty\nz\n", "line 3: 1 cells where the header has 2"),
        ("a.tsv", "text,label\nx,y\n", "has one column only, 'text,label': other marks"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "x", label: 1}', "line 2: not JSON"),
        ("a.csv", "text;label\nx;y\n", "has one column only, 'text;label': other marks"),
        ("a.csv", "text\tlabel\nx\ty\n", "has one column only, 'text\\tlabel': other marks"),
        ("a.jsonl", '["x", 1]', "line 1: a list where a JSON object belongs"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"txet": "x", "label": 1}', "line 2 has no column 'text'"),
        ("a.jsonl", "{}", "line 1 has no column 'text': There is none."),
        ("a.jsonl", '{"text": ["x"], "label": 1}', "line 1: column 'text' holds [\"x\"], which is no text"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}', "line 1: column 'text' holds half of a surrogate"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path, name, text, message):
    path = _write(tmp_path / name, text)
    with pytest.raises(UserError) as caught:
        read_rows(path.suffix[1:], path, ["text", "label"])
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is held out


@settings(deadline=None)
@given(st.lists(st.integers(0, 40).map(str), max_size=60))
def test_a_tenth_of_the_texts_is_held_out_with_all_their_copies(texts):
    rows = [_row(text, str(number)) for number, text in enumerate(texts)]
    train, held_out = hold_out(rows, ["text"])
    assert sorted(train + held_out, key=lambda row: int(row.place)) == rows
    assert train == [row for row in rows if row in train]  # each side in order
    sides = [{row.cells["text"] for row in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    num_texts = len(set(texts))
    assert len(sides[1]) == (max(1, round(num_texts / 10)) if num_texts > 1 else 0)


@settings(deadline=None)
@given(st.sets(st.text(max_size=4), min_size=2, max_size=30), st.randoms())
def test_what_is_held_out_hangs_on_the_texts_alone(texts, random):
    texts = sorted(texts)
    held_out = {row.cells["text"] for row in hold_out([_row(text) for text in texts], ["text"])[1]}
    random.shuffle(texts)
    rows = [Row("x", {"text": text, "label": "y"}) for text in texts]
    assert {row.cells["text"] for row in hold_out(rows, ["text"])[1]} == held_out


def test_a_folder_without_validation_holds_out_training_rows(tmp_path):
    lines = "".join(f"text {number},{number % 2}\n" for number in range(50))
    _write(tmp_path / "train.csv", f"text,label\n{lines}")
    _write(tmp_path / "test.csv", "text\nx\n")
    of_folder, of_file = (
        Table(
            format="csv",
            paths=find_splits("csv", str(location)),
            text_columns=("text",),
            target_column="label",
        )
        for location in (tmp_path, tmp_path / "train.csv")
    )
    assert of_folder.splits == ("train", "validation", "test")
    assert of_file.splits == ("train", "validation")
    for split, num_rows in (("train", 45), ("validation", 5)):
        assert len(of_folder.rows(split)) == num_rows
        assert of_folder.rows(split) == of_file.rows(split)
    assert _cells(of_folder.rows("test")) == [("", "x")]


def test_one_text_cannot_be_held_out(tmp_path):
    path = _write(tmp_path / "a.csv", "text,label\nx,1\nx,2\n")
    table = Table(format="csv", paths={"train": path}, text_columns=("text",), target_column="label")
    with pytest.raises(UserError, match="has one text only"):
        table.rows("validation")
    _write(path, "text,label\n")
    with pytest.raises(UserError, match=r"a\.csv holds no rows"):
        table.rows("train")


# --- which file is which split


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv", "dev.csv", "test.csv"], {"train": "train", "validation": "dev", "test": "test"}),
        (["SICK_train.csv", "SICK_trial.csv"], {"train": "SICK_train", "validation": "SICK_trial"}),
        (["train.csv", "train_small.csv", "notes.csv"], {"train": "train"}),
        (["a-training-1.csv", "VAL.csv"], {"train": "a-training-1", "validation": "VAL"}),
        (["train.csv", "constraint.csv", "latest.csv"], {"train": "train"}),  # words, not letters
        (["train.csv", "test.tsv", "dev.jsonl"], {"train": "train"}),
    ],
)
def test_files_of_splits_are_told_by_the_words_in_their_names(tmp_path, names, expected):
    for name in names:
        _write(tmp_path / name, "x")
    found = find_splits("csv", str(tmp_path))
    assert {split: path.stem for split, path in found.items()} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no training rows for csv: it needs a file like train.csv, and there is nothing."),
        (["train.tsv"], "it needs a file like train.csv, and there is train.tsv."),
        (
            ["train.csv", "val.csv", "dev.csv"],
            "holds dev.csv and val.csv, and which of them is the validation",
        ),
        (["a_train.csv", "b_train.csv"], "holds a_train.csv and b_train.csv, and which of them is the train"),
    ],
)
def test_folders_that_leave_a_doubt_are_refused(tmp_path, names, message):
    for name in names:
        _write(tmp_path / name, "x")
    with pytest.raises(UserError) as caught:
        find_splits("csv", str(tmp_path))
    assert message in str(caught.value)


def test_a_missing_file_is_answered_with_the_nearest(tmp_path):
    _write(tmp_path / "reviews.csv", "x")
    with pytest.raises(UserError, match=r"no .*review\.csv; the nearest name there is 'reviews\.csv'"):
        find_splits("csv", str(tmp_path / "review.csv"))
    with pytest.raises(UserError, match=r"There is no .*give a file, or a folder"):
        find_splits("csv", str(tmp_path / "nowhere" / "x"))
