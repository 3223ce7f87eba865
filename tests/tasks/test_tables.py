"""Tasks on tables: examples in both forms, labels, numbers, and what is refused."""

import pathlib

import pytest

from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example, Task, score
from t5like.tasks.tables import TableColumns, table_task

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
SICK = SHARED / "sick"
needs_sick = pytest.mark.skipif(
    not SICK.exists(), reason="shared data not in this checkout: the real files of SICK"
)

PAIRS = "first\tsecond\tjudgment\nIt rains.\tIt is wet.\tyes\nIt rains.\tIt is dry.\tno\nIt snows.\tIt is cold.\tyes\n"
TEXTS = "text,stars\nfine,5\ndull,1.5\ngood,4\n"


def _folder(tmp_path: pathlib.Path, suffix: str, **files: str) -> str:
    """Returns the location of a folder `mood` with a file for each split."""
    (tmp_path / "mood").mkdir(exist_ok=True)
    for split, text in files.items():
        (tmp_path / "mood" / f"{split}.{suffix}").write_text(text, encoding="utf-8")
    return f"{suffix}:{tmp_path / 'mood'}"


def _pairs(tmp_path: pathlib.Path, **files: str) -> Task:
    return table_task(
        _folder(tmp_path, "tsv", **files), text_columns=("first", "second"), label_column="judgment"
    )


def _load_all(tmp_path: pathlib.Path, files: dict[str, str]) -> None:
    task = _pairs(tmp_path, **files)
    for split in task.splits:
        task.load(split)


def test_worked_example_of_a_pair(tmp_path):
    task = _pairs(tmp_path, train=PAIRS, dev=PAIRS, test="first\tsecond\nA.\tB.\n")
    assert (task.kind, task.labels, task.splits) == ("label", ("no", "yes"), ("train", "validation", "test"))
    assert task.load("train")[1] == Example(
        index=1,
        inputs="mood first: It rains. second: It is dry.",
        targets="no",
        texts=("It rains.", "It is dry."),
        answer=0,
    )
    assert task.load("test") == [
        Example(index=0, inputs="mood first: A. second: B.", targets="<unk>", texts=("A.", "B."))
    ]


def test_columns_stand_in_the_order_in_which_they_were_named(tmp_path):
    location = _folder(tmp_path, "tsv", train=PAIRS)
    task = table_task(location, text_columns=("second", "first"), label_column="judgment", prompt_name="rain")
    example = next(e for split in task.splits for e in task.load(split) if "dry" in e.inputs)
    assert example.inputs == "rain second: It is dry. first: It rains."
    assert example.texts == ("It is dry.", "It rains.")


def test_white_space_around_labels_does_not_count(tmp_path):
    task = _pairs(tmp_path, train=PAIRS.replace("yes", " yes"), dev=PAIRS.replace("no\n", "no \n"))
    assert task.labels == ("no", "yes")
    assert [example.targets for example in task.load("validation")] == ["yes", "no", "yes"]


def test_digits_are_labels_unless_numbers_are_asked_for(tmp_path):
    location = _folder(tmp_path, "csv", train=TEXTS, dev=TEXTS)
    task = table_task(location, text_columns=("text",), label_column="stars")
    assert (task.kind, task.labels) == ("label", ("1.5", "4", "5"))
    task = table_task(location, text_columns=("text",), label_column="stars", label_kind="number")
    assert (task.kind, task.labels) == ("number", ())
    assert [(example.targets, example.answer) for example in task.load("train")] == [
        ("5", 5.0),
        ("1.5", 1.5),
        ("4", 4.0),
    ]


def test_written_numbers_are_read_and_others_are_below_all(tmp_path):
    location = _folder(tmp_path, "csv", train=TEXTS, dev=TEXTS)
    task = table_task(location, text_columns=("text",), label_column="stars", label_kind="number")
    examples = task.load("validation")
    for example in examples:
        assert task.parsed(example.targets, example) == example.answer
        for text in ("", "five", "nan", "inf", "4 stars"):
            assert task.parsed(text, example) == 0.5
    perfect = score(task, examples, [example.answer for example in examples])
    assert perfect == {
        "pearson": pytest.approx(100.0),
        "spearman": pytest.approx(100.0),
        "invalid_rate": 0.0,
    }
    nothing = score(task, examples, [task.parsed("five", example) for example in examples])
    assert nothing == {"pearson": 0.0, "spearman": 0.0, "invalid_rate": 100.0}


def test_every_target_is_parsed_to_its_answer(tmp_path):
    task = _pairs(tmp_path, train=PAIRS, dev=PAIRS)
    for example in task.load("train"):
        assert task.parsed(example.targets, example) == example.answer
        assert task.parsed(f" {example.targets}", example) == -1


def test_labels_that_are_held_out_of_a_file_are_known(tmp_path):
    lines = "".join(f'{{"text": "text {number}", "label": {number}}}\n' for number in range(20))
    task = table_task(_folder(tmp_path, "jsonl", train=lines), text_columns=("text",), label_column="label")
    assert len(task.labels) == 20
    assert (len(task.load("train")), len(task.load("validation"))) == (18, 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train": PAIRS.replace("no\n", "yes\n")},
            "train.tsv has only the label 'yes' in column 'judgment'",
        ),
        (
            {"train": PAIRS, "dev": PAIRS.replace("\tno", "\tmaybe")},
            "dev.tsv, line 3: label 'maybe' is none of those in",
        ),
        ({"train": PAIRS, "dev": PAIRS.replace("\tno", "\t")}, "dev.tsv, line 3: label '' is none of"),
        ({"train": PAIRS.replace("\tno", "\t ")}, "has only the label 'yes'"),
        (
            {"train": PAIRS, "dev": PAIRS, "test": PAIRS.replace("\tno", "\tmaybe")},
            "test.tsv, line 3: label 'maybe' is none of",
        ),
        ({"train": PAIRS.replace("second", "2nd")}, "train.tsv has no column 'second'"),
        ({"train": PAIRS, "dev": PAIRS.replace("judgment", "judgement")}, "did you mean 'judgement'?"),
    ],
)
def test_tables_that_cannot_work_are_refused_with_file_and_line(tmp_path, files, message):
    with pytest.raises(UserError) as caught:
        _load_all(tmp_path, files)
    assert message in str(caught.value)


@pytest.mark.parametrize("cell", ["", "many", "nan", "1,5"])
def test_cells_that_are_no_numbers_are_refused(tmp_path, cell):
    location = _folder(tmp_path, "csv", train=TEXTS.replace("1.5", f'"{cell}"'), dev=TEXTS)
    with pytest.raises(UserError, match=r"train\.csv, line 3: .* in column 'stars' is no number"):
        table_task(location, text_columns=("text",), label_column="stars", label_kind="number")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (TableColumns(), "needs --text_columns, one or two with a comma between them, and --label_column"),
        (TableColumns(text_columns="text"), "got text and no label column"),
        (TableColumns(label_column="stars"), "got no text column and stars"),
        (TableColumns(text_columns="a,b,c", label_column="stars"), "one or two"),
        (TableColumns(text_columns="text,text", label_column="stars"), "named twice among text, text, stars"),
        (TableColumns(text_columns="stars", label_column="stars"), "named twice"),
        (TableColumns(text_columns="txt", label_column="stars"), "did you mean 'text'?"),
        (TableColumns(text_columns="text", label_column="star"), "did you mean 'stars'?"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(tmp_path, columns, message):
    with pytest.raises(UserError) as caught:
        find_task(_folder(tmp_path, "csv", train=TEXTS), columns)
    assert message in str(caught.value)


def test_column_names_may_hold_commas_in_quote_marks():
    assert TableColumns().texts == ()
    assert TableColumns(text_columns="a,b c").texts == ("a", "b c")
    assert TableColumns(text_columns='"a, b",c').texts == ("a, b", "c")


def test_location_and_data_dir_are_not_both_given(tmp_path):
    with pytest.raises(UserError, match="leave out --data_dir"):
        _pairs(tmp_path, train=PAIRS, dev=PAIRS).load("train", tmp_path)


@needs_sick
@pytest.mark.parametrize(
    ("label_column", "label_kind"), [("entailment_judgment", "label"), ("relatedness_score", "number")]
)
def test_real_files_load_with_the_published_rows(label_column, label_kind):
    columns = TableColumns(
        text_columns="sentence_A,sentence_B", label_column=label_column, label_kind=label_kind
    )
    task = find_task(f"tsv:{SICK}", columns)
    splits = {split: task.load(split) for split in task.splits}
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 4500,
        "validation": 500,
        "test": 4927,
    }
    for examples in splits.values():
        if label_kind == "label":
            assert task.labels == ("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
            assert {example.answer for example in examples} == {0, 1, 2}
        else:
            assert all(1.0 <= example.answer <= 5.0 for example in examples)
        assert not any("\r" in text for example in examples for text in (*example.texts, example.targets))
