"""GLUE and SuperGLUE as their leaderboards list them: what is averaged, and how predictions are written for them."""

import dataclasses
from collections.abc import Callable
from typing import Any

from t5like.tasks import glue, super_glue
from t5like.tasks.base import NO_CLASS, Answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """A file of predictions for one split.

    Attributes:
      file: its name, at the root of the zip.
      split: whose examples it answers, each named by its `row_id` and in their order.
      num_answers: how many there are in the published split. ReCoRD's are queries and MultiRC's are options, which
        stand nested by passage and question.
      cell: answer -> what the file says: a text, or in JSON a number. No label at all is written as the first one,
        because a leaderboard takes nothing else.
    """

    file: str
    split: str = "test"
    num_answers: int
    cell: Callable[[Answer], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteTask:
    """A task of a suite.

    Attributes:
      task: its name.
      trained_on: the task whose model answers it, where it has no training data of its own.
      validation: the splits whose scores are averaged into the task's.
      submissions: its files.
      is_averaged: whether it counts in the suite's average, in which all tasks weigh the same.
    """

    task: str
    trained_on: str | None = None
    validation: tuple[str, ...] = ("validation",)
    submissions: tuple[Submission, ...]
    is_averaged: bool = True

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits that the files answer."""
        return tuple(submission.split for submission in self.submissions)


def one_of(*cells: Any) -> Callable[[Answer], Any]:
    """Returns what writes class ids: those of a label as its cell, and no label as the first."""
    return lambda answer: cells[0 if answer == NO_CLASS else answer]


def three_decimals(answer: float) -> str:
    """Returns a number as STS-B's file has it: 3.8 -> '3.800'."""
    return f"{answer:.3f}"


def as_it_is(answer: Answer) -> Answer:
    """Returns an answer that is written as it is."""
    return answer


_LABELS = {task.name: task.labels for task in (*glue.TASKS, *super_glue.TASKS)}
_NUMBERS = one_of(0, 1)


def _glue(name: str, file: str, num_answers: int, cell: Callable[[Answer], Any]) -> SuiteTask:
    submission = Submission(file=f"{file}.tsv", num_answers=num_answers, cell=cell)
    return SuiteTask(task=f"glue/{name}", submissions=(submission,))


def _super_glue(name: str, file: str, num_answers: int, cell: Callable[[Answer], Any]) -> SuiteTask:
    submission = Submission(file=f"{file}.jsonl", num_answers=num_answers, cell=cell)
    return SuiteTask(task=f"super_glue/{name}", submissions=(submission,))


def _diagnostic(entry: SuiteTask, trained_on: str) -> SuiteTask:
    return dataclasses.replace(entry, trained_on=trained_on, validation=(), is_averaged=False)


_MNLI_CELLS = one_of(*_LABELS["glue/mnli"])
_RTE_CELLS = one_of(*_LABELS["super_glue/rte"])

GLUE = (
    _glue("cola", "CoLA", 1063, _NUMBERS),
    _glue("sst2", "SST-2", 1821, _NUMBERS),
    _glue("mrpc", "MRPC", 1725, _NUMBERS),
    _glue("stsb", "STS-B", 1379, three_decimals),
    _glue("qqp", "QQP", 390965, _NUMBERS),
    SuiteTask(
        task="glue/mnli",
        validation=("validation_matched", "validation_mismatched"),
        submissions=(
            Submission(file="MNLI-m.tsv", split="test_matched", num_answers=9796, cell=_MNLI_CELLS),
            Submission(file="MNLI-mm.tsv", split="test_mismatched", num_answers=9847, cell=_MNLI_CELLS),
        ),
    ),
    _glue("qnli", "QNLI", 5463, one_of(*_LABELS["glue/qnli"])),
    _glue("rte", "RTE", 3000, one_of(*_LABELS["glue/rte"])),
    _glue("wnli", "WNLI", 146, _NUMBERS),
    _diagnostic(_glue("ax", "AX", 1104, _MNLI_CELLS), "glue/mnli"),
)

# BoolQ and WiC want small letters, and WSC wants capitals.
SUPER_GLUE = (
    _super_glue("boolq", "BoolQ", 3245, one_of("false", "true")),
    _super_glue("cb", "CB", 250, one_of(*_LABELS["super_glue/cb"])),
    _super_glue("copa", "COPA", 500, _NUMBERS),
    _super_glue("multirc", "MultiRC", 9693, _NUMBERS),
    _super_glue("record", "ReCoRD", 10000, as_it_is),
    _super_glue("rte", "RTE", 3000, _RTE_CELLS),
    _super_glue("wic", "WiC", 1400, one_of("false", "true")),
    _super_glue("wsc", "WSC", 146, one_of("False", "True")),
    _diagnostic(_super_glue("axb", "AX-b", 1104, _RTE_CELLS), "super_glue/rte"),
    _diagnostic(_super_glue("axg", "AX-g", 356, _RTE_CELLS), "super_glue/rte"),
)
"""WSC may as well be answered by `super_glue/wsc_referent`, and WNLI by `glue/wnli_referent`: they answer alike."""
