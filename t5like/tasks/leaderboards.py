"""GLUE and SuperGLUE as their leaderboards have them: which tasks count, and what the files of predictions look like.

    CoLA.tsv    index<TAB>prediction       BoolQ.jsonl    {"idx": 0, "label": "true"}
                0<TAB>1                                   {"idx": 1, "label": "false"}

Source: Wang et al. 2018 and 2019; the sample submissions of gluebenchmark.com and super.gluebenchmark.com.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Cell = str | int
Layout = Literal["label", "number", "text", "nested"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One task of a leaderboard: a line of its table, and a file of its zip.

    Attributes:
      name: as the leaderboard writes it; its file has this name.
      task: name of the task that is predicted.
      trained_on: name of the task whose model predicts it.
      test_split: of the task.
      validation_split: of the task; None where no labels but those of the test split are published, if any.
      averaged_as: entries with the same one are one task in the average; None: it does not count.
      layout: `nested` is MultiRC's, whose labels stand in questions in passages.
      num_rows: predictions in the file.
      cells: label text -> what the file holds for it; empty for numbers and texts.
      majority: the label text most frequent where labels are published, of equals the first in the alphabet; of
        numbers their mean.
      is_majority_by_default: without predictions, the file holds the majority class. So for WNLI, whose training
        set misleads: models that learn from it do worse.
    """

    name: str
    task: str
    trained_on: str
    test_split: str = "test"
    validation_split: str | None = "validation"
    averaged_as: str | None
    layout: Layout = "label"
    num_rows: int
    cells: Mapping[str, Cell] = dataclasses.field(default_factory=dict)
    majority: str
    is_majority_by_default: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """A suite of tasks.

    Attributes:
      name: as tasks are named by, `glue/cola`.
      title: as people write it.
      suffix: of the files of predictions.
      entries: in the order of the leaderboard's table, those that do not count last.
    """

    name: str
    title: str
    suffix: str
    entries: tuple[Entry, ...]

    @property
    def averaged(self) -> tuple[str, ...]:
        """What counts, each once, in the order of the table."""
        return tuple(dict.fromkeys(entry.averaged_as for entry in self.entries if entry.averaged_as))

    def file_name(self, entry: Entry) -> str:
        """Returns the name of an entry's file of predictions."""
        return entry.name + self.suffix


_NLI_TEXTS = {text: text for text in ("entailment", "neutral", "contradiction")}
_RTE_TEXTS = {text: text for text in ("entailment", "not_entailment")}
_LOWER_BOOLEANS = {"False": "false", "True": "true"}


def _entry(suite: str, name: str, task: str, **fields: object) -> Entry:
    """Returns an entry that counts under its own name, predicted by the task's own model."""
    defaults = {"trained_on": f"{suite}/{task}", "averaged_as": name}
    return Entry(name=name, task=f"{suite}/{task}", **(defaults | fields))  # type: ignore[arg-type]


def _mnli(name: str, split: str, num_rows: int) -> Entry:
    return _entry(
        *("glue", name, "mnli"),
        test_split=f"test_{split}",
        validation_split=f"validation_{split}",
        averaged_as="MNLI",
        num_rows=num_rows,
        cells=_NLI_TEXTS,
        majority="entailment",
    )


def _numbered(*labels: str) -> dict[str, Cell]:
    return {label: number for number, label in enumerate(labels)}


GLUE = Leaderboard(
    name="glue",
    title="GLUE",
    suffix=".tsv",
    entries=(
        _entry(
            *("glue", "CoLA", "cola"),
            num_rows=1063,
            cells=_numbered("unacceptable", "acceptable"),
            majority="acceptable",
        ),
        _entry(
            *("glue", "SST-2", "sst2"),
            num_rows=1821,
            cells=_numbered("negative", "positive"),
            majority="positive",
        ),
        _entry(
            *("glue", "MRPC", "mrpc"),
            num_rows=1725,
            cells=_numbered("not_equivalent", "equivalent"),
            majority="equivalent",
        ),
        _entry("glue", "STS-B", "stsb", num_rows=1379, layout="number", majority="2.7"),
        _entry(
            *("glue", "QQP", "qqp"),
            num_rows=390_965,
            cells=_numbered("not_duplicate", "duplicate"),
            majority="not_duplicate",
        ),
        _mnli("MNLI-m", "matched", 9796),
        _mnli("MNLI-mm", "mismatched", 9847),
        _entry("glue", "QNLI", "qnli", num_rows=5463, cells=_RTE_TEXTS, majority="not_entailment"),
        _entry("glue", "RTE", "rte", num_rows=3000, cells=_RTE_TEXTS, majority="entailment"),
        _entry(
            *("glue", "WNLI", "wnli"),
            num_rows=146,
            cells=_numbered("not_entailment", "entailment"),
            majority="not_entailment",
            is_majority_by_default=True,
        ),
        _entry(
            *("glue", "AX", "ax"),
            trained_on="glue/mnli",
            validation_split=None,
            averaged_as=None,
            num_rows=1104,
            cells=_NLI_TEXTS,
            majority="entailment",
        ),
    ),
)

SUPER_GLUE = Leaderboard(
    name="super_glue",
    title="SuperGLUE",
    suffix=".jsonl",
    entries=(
        _entry("super_glue", "BoolQ", "boolq", num_rows=3245, cells=_LOWER_BOOLEANS, majority="True"),
        _entry("super_glue", "CB", "cb", num_rows=250, cells=_NLI_TEXTS, majority="contradiction"),
        _entry(
            *("super_glue", "COPA", "copa"),
            num_rows=500,
            cells=_numbered("choice1", "choice2"),
            majority="choice2",
        ),
        _entry(
            *("super_glue", "MultiRC", "multirc"),
            layout="nested",
            num_rows=9693,
            cells=_numbered("False", "True"),
            majority="False",
        ),
        _entry("super_glue", "ReCoRD", "record", layout="text", num_rows=10_000, majority=""),
        _entry("super_glue", "RTE", "rte", num_rows=3000, cells=_RTE_TEXTS, majority="entailment"),
        _entry("super_glue", "WiC", "wic", num_rows=1400, cells=_LOWER_BOOLEANS, majority="False"),
        _entry(
            *("super_glue", "WSC", "wsc"),
            num_rows=146,
            cells={"False": "False", "True": "True"},  # with capitals, unlike BoolQ and WiC
            majority="False",
        ),
        *(
            _entry(
                *("super_glue", name, task),
                trained_on="super_glue/rte",
                validation_split=None,
                averaged_as=None,
                num_rows=num_rows,
                cells=_RTE_TEXTS,
                majority=majority,
            )
            for name, task, num_rows, majority in (
                ("AX-b", "axb", 1104, "not_entailment"),
                ("AX-g", "axg", 356, "entailment"),
            )
        ),
    ),
)

LEADERBOARDS = (GLUE, SUPER_GLUE)
