"""Tasks by name: those that are listed, those that a name describes, and what is said of other names."""

import pathlib
import subprocess
import sys

import pytest

from t5like.errors import UserError
from t5like.tasks import TASKS, find_task
from t5like.tasks.tables import TableColumns

ROWS = "text,label,article,highlights\n" + "".join(f"t{n},{n % 2},a{n},h{n}\n" for n in range(20))
COLUMNS = TableColumns(text_columns="text", label_column="label")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a table in every format and two files of parallel text."""
    (tmp_path / "train.csv").write_text(ROWS)
    (tmp_path / "train.tsv").write_text(ROWS.replace(",", "\t"))
    lines = [line.split(",") for line in ROWS.splitlines()[1:]]
    (tmp_path / "train.jsonl").write_text(
        "".join(
            f'{{"text": "{t}", "label": "{y}", "article": "{a}", "highlights": "{h}"}}\n'
            for t, y, a, h in lines
        )
    )
    for code in ("en", "de"):
        (tmp_path / f"train.{code}").write_text("x\n")
    return tmp_path


def test_listed_tasks_go_by_their_names():
    for name, task in TASKS.items():
        assert task.name == name
        assert find_task(name) is task


def test_described_tasks_go_by_what_describes_them(folder):
    tables = [find_task(f"{form}:{folder}", COLUMNS) for form in ("csv", "tsv", "jsonl")]
    for task in tables:
        assert find_task(task.name, COLUMNS).load("train") == task.load("train") == tables[0].load("train")
    for name in (f"translation:en-de:{folder}", f"summarisation:{folder}"):
        assert find_task(name).name == name
        assert find_task(name).load("train")


def test_columns_are_for_tables_only(folder):
    for name in ("glue/rte", f"translation:en-de:{folder}", "my_task.py", f"conll:{folder}"):
        with pytest.raises(UserError, match="has columns of its own: leave out --text_columns"):
            find_task(name, COLUMNS)


@pytest.mark.parametrize("name", ["glue/mrcp", "", "CSV:x", "translation/multi30k", "my_task"])
def test_other_names_are_answered_with_all_that_there_is(name):
    with pytest.raises(UserError) as caught:
        find_task(name)
    assert f"There is no task {name!r}: did you mean " in str(caught.value)
    for known in (*TASKS, "csv:FILE", "tsv:FILE", "translation:en-de:FOLDER", "summarisation:FILE"):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csv", "names no table: write csv:"),
        ("csv:", "names no table: write csv:, tsv: or jsonl: and a file or folder"),
        ("summarisation:", "name a file or folder"),
        ("nowhere.py", "There is no task file nowhere.py"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name, message):
    with pytest.raises(UserError) as caught:
        find_task(name, COLUMNS if name.startswith("csv") else None)
    assert message in str(caught.value)


def test_nothing_heavy_is_imported_with_the_tasks():
    heavy = (
        "jax",
        "sklearn",
        "scipy",
        "sacrebleu",
        "rouge_score",
        "nltk",
        "tensorflow",
        "tensorflow_datasets",
    )
    code = f"import sys, t5like.tasks; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
