"""GLUE and SuperGLUE as their leaderboards have them: what is averaged, and what files of predictions look like.

    CoLA.tsv    index<TAB>prediction       BoolQ.jsonl    {"idx": 0, "label": "true"}
                0<TAB>1                                   {"idx": 1, "label": "false"}

Source: Wang et al. 2018 and 2019; the sample submissions of gluebenchmark.com and super.gluebenchmark.com.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal

Cell = str | int
Layout = Literal["label", "number", "text", "nested"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubmissionFile:
    """A file of predictions for one split, at the root of the zip.

    Attributes:
      name: CoLA.tsv, say.
      split: whose examples it answers, each named by its `row_id` and in their order.
      num_answers: how many there are in the published split. ReCoRD's are queries and MultiRC's are options.
      layout: what an answer is; `nested` is MultiRC's, whose labels stand in questions in passages.
      cells: label text -> what the file says for it, in JSON a text or a number; empty for numbers and texts.
      majority: the label text most frequent where labels are published, of equals the first in the alphabet; of
        numbers their mean, of texts none.
    """

    name: str
    split: str = "test"
    num_answers: int
    layout: Layout = "label"
    cells: Mapping[str, Cell] = dataclasses.field(default_factory=dict)
    majority: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteTask:
    """A task of a suite.

    Attributes:
      title: as the leaderboard writes it.
      task: its name.
      trained_on: the task whose model answers it, where it has no training data of its own.
      validation: the splits whose scores are averaged into the task's.
      files: of its predictions.
      is_averaged: whether it counts in the suite's average, in which all tasks weigh the same.
      is_majority_by_default: it is answered with its majority class unless someone asks for more. So WNLI, whose
        training set misleads: models that learn from it do worse.
    """

    title: str
    task: str
    trained_on: str | None = None
    validation: tuple[str, ...] = ("validation",)
    files: tuple[SubmissionFile, ...]
    is_averaged: bool = True
    is_majority_by_default: bool = False

    @property
    def short_name(self) -> str:
        """`rte` of super_glue/rte."""
        return self.task.rpartition("/")[2]

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits that the files answer."""
        return tuple(file.split for file in self.files)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """A benchmark of several tasks.

    Attributes:
      name: what its tasks' names begin with.
      title: as people write it.
      tasks: in the order of the leaderboard, those that are not averaged last.
    """

    name: str
    title: str
    tasks: tuple[SuiteTask, ...]

    @property
    def files(self) -> tuple[SubmissionFile, ...]:
        """All files of its zip."""
        return tuple(file for task in self.tasks for file in task.files)


_NLI = {text: text for text in ("entailment", "neutral", "contradiction")}
_TWO_WAY = {text: text for text in ("entailment", "not_entailment")}
_SMALL = {"False": "false", "True": "true"}
_CAPITAL = {"False": "False", "True": "True"}


def _numbered(*labels: str) -> dict[str, Cell]:
    """Returns the cells of labels that are written as 0, 1, ..."""
    return {label: number for number, label in enumerate(labels)}


def _task(
    suite: str,
    name: str,
    title: str,
    num_answers: int,
    cells: Mapping[str, Cell],
    majority: str,
    layout: Layout = "label",
) -> SuiteTask:
    """Returns a task with a file of its title."""
    file = SubmissionFile(
        name=title + (".tsv" if suite == "glue" else ".jsonl"),
        num_answers=num_answers,
        layout=layout,
        cells=cells,
        majority=majority,
    )
    return SuiteTask(title=title, task=f"{suite}/{name}", files=(file,))


_glue, _super_glue = functools.partial(_task, "glue"), functools.partial(_task, "super_glue")


def _diagnostic(task: SuiteTask, trained_on: str) -> SuiteTask:
    return dataclasses.replace(task, trained_on=trained_on, validation=(), is_averaged=False)


_MNLI = SuiteTask(
    title="MNLI",
    task="glue/mnli",
    validation=("validation_matched", "validation_mismatched"),
    files=tuple(
        SubmissionFile(name=name, split=split, num_answers=num_answers, cells=_NLI, majority="entailment")
        for name, split, num_answers in (
            ("MNLI-m.tsv", "test_matched", 9796),
            ("MNLI-mm.tsv", "test_mismatched", 9847),
        )
    ),
)
_WNLI = dataclasses.replace(
    _glue("wnli", "WNLI", 146, _numbered("not_entailment", "entailment"), "not_entailment"),
    is_majority_by_default=True,
)

GLUE = Suite(
    name="glue",
    title="GLUE",
    tasks=(
        _glue("cola", "CoLA", 1063, _numbered("unacceptable", "acceptable"), "acceptable"),
        _glue("sst2", "SST-2", 1821, _numbered("negative", "positive"), "positive"),
        _glue("mrpc", "MRPC", 1725, _numbered("not_equivalent", "equivalent"), "equivalent"),
        _glue("stsb", "STS-B", 1379, {}, "2.7", layout="number"),
        _glue("qqp", "QQP", 390_965, _numbered("not_duplicate", "duplicate"), "not_duplicate"),
        _MNLI,
        _glue("qnli", "QNLI", 5463, _TWO_WAY, "not_entailment"),
        _glue("rte", "RTE", 3000, _TWO_WAY, "entailment"),
        _WNLI,
        _diagnostic(_glue("ax", "AX", 1104, _NLI, "entailment"), "glue/mnli"),
    ),
)
"""WNLI may be answered by `glue/wnli_referent`: that answers alike."""

SUPER_GLUE = Suite(
    name="super_glue",
    title="SuperGLUE",
    tasks=(
        # BoolQ and WiC want small letters, and WSC wants capitals.
        _super_glue("boolq", "BoolQ", 3245, _SMALL, "True"),
        _super_glue("cb", "CB", 250, _NLI, "contradiction"),
        _super_glue("copa", "COPA", 500, _numbered("choice1", "choice2"), "choice2"),
        _super_glue("multirc", "MultiRC", 9693, _numbered("False", "True"), "False", layout="nested"),
        _super_glue("record", "ReCoRD", 10_000, {}, "", layout="text"),
        _super_glue("rte", "RTE", 3000, _TWO_WAY, "entailment"),
        _super_glue("wic", "WiC", 1400, _SMALL, "False"),
        _super_glue("wsc", "WSC", 146, _CAPITAL, "False"),
        _diagnostic(_super_glue("axb", "AX-b", 1104, _TWO_WAY, "not_entailment"), "super_glue/rte"),
        _diagnostic(_super_glue("axg", "AX-g", 356, _TWO_WAY, "entailment"), "super_glue/rte"),
    ),
)
"""WSC may as well be answered by `super_glue/wsc_referent`: it answers alike."""

SUITES = (GLUE, SUPER_GLUE)
