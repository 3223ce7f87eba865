"""A task of the user's own: one small Python file, which `--task my_task.py` names.

It defines `TASK`, or a `get_task()` that gives it:

    from t5like.tasks.base import Example, Task
    from t5like.tasks.metrics import ACCURACY

    LABELS = ("negative", "positive")

    def read(split, data_dir):
        texts = {"train": [("fine", 1), ("dull", 0)], "validation": [("good", 1)]}[split]
        return [
            Example(index=i, inputs=f"mood: {text}", targets=LABELS[label], texts=(text,), answer=label)
            for i, (text, label) in enumerate(texts)
        ]

    TASK = Task(name="my/mood", labels=LABELS, metrics=(ACCURACY,), splits=("train", "validation"), read=read)
"""

import dataclasses
import pathlib
import runpy
import traceback
from collections.abc import Sequence
from typing import Any, get_args

from t5like.errors import UserError
from t5like.tasks.base import Example, Kind, Metric, Task
from t5like.tasks.text_files import nearest_name


def task_of_file(path: pathlib.Path) -> Task:
    """Returns the task that a Python file defines; examples it reads are checked as they come.

    Raises:
      UserError: there is no such file, it does not run, or defines no task, or one that cannot work.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no task file {path}{nearest_name(path)}: give the path of a Python file.")
    try:
        module = runpy.run_path(str(path))
        task = module["get_task"]() if "get_task" in module else module.get("TASK")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{_line_of(path, error)} does not run: {type(error).__name__}: {error}") from error
    if "get_task" in module and "TASK" in module:
        raise UserError(
            f"{path} defines both TASK and get_task(): leave one, so that it is plain which is meant."
        )
    if "get_task" not in module and "TASK" not in module:
        raise UserError(f"{path} defines no task: add `TASK = Task(...)`, or a get_task() that returns one.")
    if not isinstance(task, Task):
        raise UserError(
            f"{path} gives a {type(task).__name__} where a t5like.tasks.base.Task belongs: write `Task(...)`."
        )
    if problem := _problem_of_task(task):
        raise UserError(f"{path}: {problem}.")
    return dataclasses.replace(task, read=_checked_read(path, task))


def _line_of(path: pathlib.Path, error: BaseException) -> str:
    """Returns the file, and its last line that was at work when an error came: `my_task.py, line 7`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _problem_of_task(task: Task) -> str | None:
    """Returns what is wrong with a task, None where nothing is."""
    if task.kind not in get_args(Kind):
        return f"kind {task.kind!r} is none of {', '.join(get_args(Kind))}"
    if task.kind in ("label", "tags") and (len(task.labels) < 2 or len(set(task.labels)) < len(task.labels)):
        return f"a task of kind {task.kind!r} needs two labels or more, all different, not {task.labels!r}"
    for field, kind, example in (
        ("metrics", Metric, "(ACCURACY,)"),
        ("splits", str, '("train", "validation")'),
    ):
        values = getattr(task, field)
        if (
            not isinstance(values, tuple)
            or not values
            or not all(isinstance(value, kind) for value in values)
        ):
            return f"{field} must be a tuple like {example}, not {values!r}"
    if not callable(task.read):
        return f"read must be a function of (split, data_dir), not {task.read!r}"
    return None


def _checked_read(path: pathlib.Path, task: Task) -> Any:
    """Returns the task's `read`, with errors that name the file and the example that is wrong."""

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        try:
            examples = list(task.read(split, data_dir))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{_line_of(path, error)} does not read the split {split!r}: {type(error).__name__}: {error}"
            ) from error
        if problem := _problem_of_examples(task, examples):
            raise UserError(f"{path}, split {split!r}: {problem}.")
        return examples

    return read


def _problem_of_examples(task: Task, examples: Sequence[Any]) -> str | None:
    """Returns what is wrong with the first example that cannot work, None where all can."""
    if not examples:
        return "read gives no examples"
    for number, example in enumerate(examples):
        if not isinstance(example, Example):
            return f"read gives a {type(example).__name__} where a t5like.tasks.base.Example belongs"
        if example.index != number:
            return f"example {number} has index {example.index}: indices are 0, 1, 2 and so on, in order"
        if not isinstance(example.inputs, str) or not isinstance(example.targets, str):
            return f"example {number}: inputs and targets must be texts"
        if not isinstance(example.texts, tuple) or len(example.texts) > 2:
            return f"example {number}: texts must be a tuple of one text or two, such as (text,)"
        if len(example.texts) != len(examples[0].texts):
            return f"example {number} has {len(example.texts)} texts, and example 0 {len(examples[0].texts)}"
        if example.answer is not None and (problem := _problem_of_answer(task, example)):
            return f"example {number}: the answer {problem}, not {example.answer!r}"
    return None


def _problem_of_answer(task: Task, example: Example) -> str | None:
    """Returns what the answer must be, None where it is that."""
    answer = example.answer
    if task.kind == "label":
        is_id = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(task.labels)
        return None if is_id else f"must be the number of a label, 0 to {len(task.labels) - 1}"
    if task.kind == "number":
        return None if isinstance(answer, int | float) and answer == answer else "must be a number"
    if task.kind == "tags":
        num_words = len(example.texts[0].split(" ")) if example.texts else len(answer)
        is_tags = isinstance(answer, tuple) and set(answer) <= set(task.labels) and len(answer) == num_words
        return None if is_tags else f"must be a tuple of {num_words} of the labels, one for each word"
    return None if isinstance(answer, str) else "must be a text"
