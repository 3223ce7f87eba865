"""A task of the user's own: the documented file works, and every mistake a newcomer makes is told in a sentence."""

import inspect
import pathlib

import pytest

from t5like.errors import UserError
from t5like.tasks import find_task, task_file
from t5like.tasks.base import Example

DOCUMENTED = inspect.cleandoc((task_file.__doc__ or "").split("gives it:")[1])


def _write(tmp_path: pathlib.Path, text: str) -> str:
    path = tmp_path / "my_task.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_documented_file_works(tmp_path):
    task = find_task(_write(tmp_path, DOCUMENTED))
    assert (task.name, task.labels) == ("my/mood", ("negative", "positive"))
    assert task.load("validation") == [
        Example(index=0, inputs="mood: good", targets="positive", texts=("good",), answer=1)
    ]
    assert len(task.load("train")) == 2


def test_get_task_is_called(tmp_path):
    text = DOCUMENTED.replace("TASK =", "def get_task(): return")
    assert find_task(_write(tmp_path, text)).name == "my/mood"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TASK =", "MY_TASK =", "defines no task: add `TASK = Task(...)`"),
        ("TASK = Task(", "def get_task(): pass\nTASK = Task(", "defines both TASK and get_task()"),
        ("TASK = Task(", "TASK = dict(", "gives a dict where a t5like.tasks.base.Task belongs"),
        ("LABELS = (", "LABELS = (,", "my_task.py, line 4 does not run: SyntaxError"),
        ("import ACCURACY", "import ACURACY", "my_task.py, line 2 does not run: ImportError"),
        ("metrics=", "metric=", "does not run: TypeError"),
        ("TASK =", "raise SystemExit(3)\nTASK =", "does not run: SystemExit: 3"),
        ("labels=LABELS", "labels=LABELS[:1]", "needs two labels or more, all different, not ('negative',)"),
        ("labels=LABELS", "labels=LABELS + LABELS", "all different"),
        ("labels=LABELS", "kind='class', labels=LABELS", "kind 'class' is none of label, number, tags"),
        ("(ACCURACY,)", "ACCURACY", "metrics must be a tuple like (ACCURACY,), not Metric"),
        ("(ACCURACY,)", "('accuracy',)", "metrics must be a tuple like (ACCURACY,)"),
        ("(ACCURACY,)", "()", "metrics must be a tuple"),
        ('("train", "validation")', '"train"', "splits must be a tuple like"),
        ("read=read", "read=LABELS", "read must be a function of (split, data_dir)"),
    ],
)
def test_files_that_define_no_task_that_can_work_are_refused(tmp_path, old, new, message):
    assert old in DOCUMENTED
    path = _write(tmp_path, DOCUMENTED.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        find_task(path)
    assert str(caught.value).startswith(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "answer=label",
            "answer=LABELS[label]",
            "example 0: the answer must be the number of a label, 0 to 1, not",
        ),
        (
            "answer=label",
            "answer=label + 1",
            "example 0: the answer must be the number of a label, 0 to 1, not 2",
        ),
        ("answer=label", "answer=bool(label)", "must be the number of a label"),
        ("index=i", "index=i + 1", "example 0 has index 1: indices are 0, 1, 2"),
        ("texts=(text,)", "texts=text", "example 0: texts must be a tuple of one text or two"),
        ("texts=(text,)", "texts=(text,) * 3", "texts must be a tuple of one text or two"),
        ("texts=(text,)", "texts=(text,) * (i + 1)", "example 1 has 2 texts, and example 0 1"),
        ("targets=LABELS[label]", "targets=label", "example 0: inputs and targets must be texts"),
        ("Example(index=i", "dict(index=i", "read gives a dict where a t5like.tasks.base.Example belongs"),
        ('("fine", 1), ("dull", 0)', "", "read gives no examples"),
        ("[split]", "[split + 's']", "my_task.py, line 7 does not read the split 'train': KeyError"),
        ("labels=LABELS", "kind='number'", ""),
        ("labels=LABELS", "kind='text'", "example 0: the answer must be a text, not 1"),
        (
            "labels=LABELS",
            "kind='tags', labels=LABELS",
            "must be a tuple of 1 of the labels, one for each word",
        ),
    ],
)
def test_examples_that_cannot_work_are_refused(tmp_path, old, new, message):
    assert old in DOCUMENTED
    task = find_task(_write(tmp_path, DOCUMENTED.replace(old, new, 1)))
    if not message:
        assert [example.answer for example in task.load("train")] == [1, 0]
        return
    with pytest.raises(UserError) as caught:
        task.load("train")
    assert str(tmp_path / "my_task.py") in str(caught.value)
    assert message in str(caught.value)


def test_errors_for_users_are_passed_on(tmp_path):
    text = DOCUMENTED.replace("    texts = {", "    raise UserError('Give a --data_dir.')\n    texts = {")
    task = find_task(_write(tmp_path, f"from t5like.errors import UserError\n{text}"))
    with pytest.raises(UserError, match=r"^Give a --data_dir\.$"):
        task.load("train")


def test_missing_file_is_answered_with_the_nearest(tmp_path):
    _write(tmp_path, DOCUMENTED)
    with pytest.raises(UserError, match=r"There is no task file .*; the nearest name there is 'my_task\.py'"):
        find_task(str(tmp_path / "mytask.py"))
