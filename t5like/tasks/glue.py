"""GLUE: texts and labels of each task, from the official TSV files or through TFDS, in T5's form and for encoders."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from t5like.data.tfds_source import open_data_source
from t5like.errors import UserError
from t5like.tasks.base import NO_LABEL, NO_NUMBER, Answer, Example, Kind, Task
from t5like.tasks.metrics import ACCURACY, F1, MATTHEWS, PEARSON, SPEARMAN, Metric
from t5like.tasks.suite_files import find_file
from t5like.tasks.text_files import read_lines

_FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
_PAIR = {"sentence1": "sentence1", "sentence2": "sentence2"}
_NLI_LABELS = ("entailment", "neutral", "contradiction")
_MNLI_COLUMNS = (
    *("index", "promptID", "pairID", "genre"),
    *("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"),
    *("sentence1", "sentence2"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueFormat:
    """One GLUE task: its prompt, its labels, and where its files hold them.

    Attributes:
      name: of the task, and of the TFDS configuration.
      prompt_name: the prompt's first word, where that is another.
      folders: the folder of the task's files inside GLUE, by the names it goes by.
      texts: prompt key -> column, in the order in which an encoder reads them; the prompt has them in the alphabet's.
      labels: label texts by class id; of numbers empty.
      label_column: column of the label.
      label_cells: what that column holds, by class id; of numbers empty.
      columns: all columns of files with labels, which their header repeats.
      test_columns: all columns of files without, which their header repeats; the first is what names a row.
      files: split -> file. Those of `test` splits have no labels.
      tfds_splits: split -> split of TFDS, where that is another.
      has_header: files with labels open with a header. Those without always do.
      has_spare_labels: before the last column stand any number of columns label1, label2, ..., and rows may lack some.
      skips_short_rows: rows with labels that have too few cells are left out: line ends inside texts tore them.
      metrics: what is reported.
    """

    name: str
    prompt_name: str = ""
    folders: tuple[str, ...]
    texts: Mapping[str, str]
    labels: tuple[str, ...] = ()
    label_column: str = "label"
    label_cells: tuple[str, ...] = ()
    columns: tuple[str, ...]
    test_columns: tuple[str, ...]
    files: Mapping[str, str] = dataclasses.field(default_factory=lambda: _FILES)
    tfds_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_header: bool = True
    has_spare_labels: bool = False
    skips_short_rows: bool = False
    metrics: tuple[Metric, ...] = (ACCURACY,)

    @property
    def kind(self) -> Kind:
        """What is asked: a label, or a number where there are none."""
        return "label" if self.labels else "number"

    def prompt(self, texts: Mapping[str, str]) -> str:
        """Returns the input text, {sentence1: A, sentence2: B} -> `mrpc sentence1: A sentence2: B`."""
        return " ".join(
            [self.prompt_name or self.name, *(f"{key}: {texts[key]}" for key in sorted(self.texts))]
        )

    def example(
        self, index: int, texts: Mapping[str, str], answer: Answer, row_id: int | None = None
    ) -> Example:
        """Returns an example in both forms; `answer` is None where it is not published."""
        if self.kind == "number":
            targets = number_text(NO_NUMBER if answer is None else answer)
        else:
            targets = NO_LABEL if answer is None else self.labels[answer]
        return Example(
            index=index,
            inputs=self.prompt(texts),
            targets=targets,
            texts=tuple(texts[key] for key in self.texts),
            answer=answer,
            row_id=row_id,
        )

    def read(self, split: str, data_dir: pathlib.Path | None) -> list[Example]:
        """Returns a split from TSV files under `data_dir`, or from TFDS, which may download it, where it is None.

        Raises:
          UserError: the data are missing, empty or broken.
        """
        if data_dir is None:
            return _read_tfds(self, split)
        path = find_file("GLUE", self.folders, [self.files[split]], data_dir)
        return _read_tsv(self, path, is_labelled=not split.startswith("test"))


def number_text(number: float) -> str:
    """Returns a similarity as T5 writes it: to the nearest fifth, halves to the even one, with one decimal.

        3.8 -> '3.8'     4.25 -> '4.2'     2.5 -> '2.4' (12.5 fifths are 12)     no number, -1 -> '-1.0'

    Source: T5's `stsb` preprocessor, which computes in float32.
    """
    return f"{np.rint(np.float32(number) * np.float32(5)) / np.float32(5):.1f}"


def parse_number(text: str, _: Example) -> float:
    """Returns the number that was written, `NO_NUMBER` where that is none or not finite, which T5 lets pass."""
    try:
        number = float(text)
    except ValueError:
        return NO_NUMBER
    return number if math.isfinite(number) else NO_NUMBER


FORMATS = (
    GlueFormat(
        name="cola",
        folders=("CoLA",),
        texts={"sentence": "sentence"},
        labels=("unacceptable", "acceptable"),
        label_cells=("0", "1"),
        columns=("source", "label", "author's mark", "sentence"),
        test_columns=("index", "sentence"),
        has_header=False,
        metrics=(MATTHEWS,),
    ),
    GlueFormat(
        name="sst2",
        folders=("SST-2",),
        texts={"sentence": "sentence"},
        labels=("negative", "positive"),
        label_cells=("0", "1"),
        columns=("sentence", "label"),
        test_columns=("index", "sentence"),
    ),
    GlueFormat(
        name="mrpc",
        folders=("MRPC",),
        texts={"sentence1": "#1 String", "sentence2": "#2 String"},
        labels=("not_equivalent", "equivalent"),
        label_column="Quality",
        label_cells=("0", "1"),
        columns=("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        test_columns=("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        metrics=(F1, ACCURACY),
    ),
    GlueFormat(
        name="stsb",
        folders=("STS-B",),
        texts=_PAIR,
        label_column="score",
        columns=(
            *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
            *("sentence1", "sentence2", "score"),
        ),
        test_columns=(
            *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
            *("sentence1", "sentence2"),
        ),
        metrics=(PEARSON, SPEARMAN),
    ),
    GlueFormat(
        name="qqp",
        folders=("QQP",),
        texts={"question1": "question1", "question2": "question2"},
        labels=("not_duplicate", "duplicate"),
        label_column="is_duplicate",
        label_cells=("0", "1"),
        columns=("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
        test_columns=("id", "question1", "question2"),
        skips_short_rows=True,
        metrics=(F1, ACCURACY),
    ),
    GlueFormat(
        name="mnli",
        folders=("MNLI",),
        texts={"premise": "sentence1", "hypothesis": "sentence2"},
        labels=_NLI_LABELS,
        label_column="gold_label",
        label_cells=_NLI_LABELS,
        columns=(*_MNLI_COLUMNS, "gold_label"),
        test_columns=_MNLI_COLUMNS,
        files={
            "train": "train.tsv",
            "validation": "dev_matched.tsv",
            "validation_matched": "dev_matched.tsv",
            "validation_mismatched": "dev_mismatched.tsv",
            "test_matched": "test_matched.tsv",
            "test_mismatched": "test_mismatched.tsv",
        },
        tfds_splits={"validation": "validation_matched"},
        has_spare_labels=True,
    ),
    GlueFormat(
        name="qnli",
        folders=("QNLI",),
        texts={"question": "question", "sentence": "sentence"},
        labels=("entailment", "not_entailment"),
        label_cells=("entailment", "not_entailment"),
        columns=("index", "question", "sentence", "label"),
        test_columns=("index", "question", "sentence"),
    ),
    GlueFormat(
        name="rte",
        folders=("RTE",),
        texts=_PAIR,
        labels=("entailment", "not_entailment"),
        label_cells=("entailment", "not_entailment"),
        columns=("index", "sentence1", "sentence2", "label"),
        test_columns=("index", "sentence1", "sentence2"),
    ),
    GlueFormat(
        name="wnli",
        folders=("WNLI",),
        texts=_PAIR,
        labels=("not_entailment", "entailment"),
        label_cells=("0", "1"),
        columns=("index", "sentence1", "sentence2", "label"),
        test_columns=("index", "sentence1", "sentence2"),
    ),
)

WNLI = next(form for form in FORMATS if form.name == "wnli")

# GLUE's own zip has the diagnostic set without labels; a second file with them is published beside it.
_AX = GlueFormat(
    name="ax",
    prompt_name="mnli",
    folders=("AX", "diagnostic"),
    texts={"premise": "sentence1", "hypothesis": "sentence2"},
    labels=_NLI_LABELS,
    columns=(),
    test_columns=("index", "sentence1", "sentence2"),
    files={"test": "diagnostic.tsv"},
    metrics=(MATTHEWS,),
)
_AX_WITH_LABELS = dataclasses.replace(
    _AX,
    texts={"premise": "Premise", "hypothesis": "Hypothesis"},
    label_column="Label",
    label_cells=_NLI_LABELS,
    columns=(
        *("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain"),
        *("Premise", "Hypothesis", "Label"),
    ),
)


def _read_ax(split: str, data_dir: pathlib.Path | None) -> list[Example]:
    """Returns the diagnostic set, with answers where `diagnostic-full.tsv` is there.

    Raises:
      UserError: neither file is there, or it is broken.
    """
    if data_dir is None:
        return _AX.read(split, None)
    path = find_file("GLUE", _AX.folders, ["diagnostic-full.tsv", "diagnostic.tsv"], data_dir)
    is_labelled = path.name == "diagnostic-full.tsv"
    return _read_tsv(_AX_WITH_LABELS if is_labelled else _AX, path, is_labelled=is_labelled)


def _read_tsv(form: GlueFormat, path: pathlib.Path, *, is_labelled: bool) -> list[Example]:
    """Returns the examples of an official file in the order of its rows.

    Raises:
      UserError: the file is empty or broken; the message names file and line.
    """
    examples: list[Example] = []
    for line, row in _rows(form, path, is_labelled=is_labelled):
        texts = {key: row[column] for key, column in form.texts.items()}
        try:
            answer = _answer(form, row[form.label_column]) if is_labelled else None
            row_id = None if is_labelled else _row_id(form.test_columns[0], row)
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
        examples.append(form.example(len(examples), texts, answer, row_id))
    if not examples:
        raise UserError(f"{path} holds no examples: fetch the file again.")
    return examples


def _answer(form: GlueFormat, cell: str) -> Answer:
    """Returns the answer that a cell holds.

    Raises:
      UserError: it holds none.
    """
    if form.labels:
        if cell not in form.label_cells:
            raise UserError(
                f"label {cell!r} is none of {', '.join(form.label_cells)}: is this the {form.folders[0]} file of GLUE?"
            )
        return form.label_cells.index(cell)
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 5:
        raise UserError(f"{form.label_column} {cell!r} is no number from 0 to 5: mend the line.")
    return number


def _row_id(column: str, row: Mapping[str, str]) -> int:
    """Returns what names a row of a file without labels.

    Raises:
      UserError: it is no number.
    """
    if not (row[column].isascii() and row[column].isdigit()):
        raise UserError(
            f"{column} {row[column]!r} is no number, so predictions cannot name the row: mend the line."
        )
    return int(row[column])


def _rows(form: GlueFormat, path: pathlib.Path, *, is_labelled: bool) -> Iterator[tuple[int, dict[str, str]]]:
    r"""Yields (line number from 1, column -> cell) for each row of a TSV file; quote marks are letters like any other.

    Raises:
      UserError: the file is not UTF-8, its header is another, or a row has too few or too many cells.
    """
    columns = form.columns if is_labelled else form.test_columns
    allows_spare = form.has_spare_labels and is_labelled
    num_spare = 0
    for line, text in enumerate(read_lines(path), start=1):
        cells = text.split("\t")
        if line == 1 and (form.has_header or not is_labelled):
            num_spare = len(cells) - len(columns) if allows_spare else 0
            spare = [f"label{number}" for number in range(1, num_spare + 1)]
            if cells != [*columns[:-1], *spare, columns[-1]]:
                raise UserError(
                    f"{path}, line 1: the header must be the {len(columns)} columns {', '.join(columns)}, "
                    f"not {text[:100]!r}: is this the file of another task or split?"
                )
            continue
        if allows_spare and len(columns) < len(cells) <= len(columns) + num_spare:
            cells = [*cells[: len(columns) - 1], cells[-1]]
        if len(cells) < len(columns) and form.skips_short_rows and is_labelled:
            continue
        if len(cells) != len(columns):
            raise UserError(
                f"{path}, line {line}: {len(cells)} columns where {len(columns)} belong "
                f"({', '.join(columns)}): mend the line, or fetch the file again."
            )
        yield line, dict(zip(columns, cells, strict=True))


def _read_tfds(form: GlueFormat, split: str) -> list[Example]:
    """Returns the examples of a split of a TFDS data set, in the order of the official file.

    Raises:
      UserError: the data are not on this machine and cannot be fetched, or cannot be read.
    """
    records = open_data_source(
        f"glue/{form.name}",
        form.tfds_splits.get(split, split),
        alternative=f"pass --data_dir with the folder of GLUE that holds {form.folders[0]}/",
    )
    examples = []
    for index, row in enumerate(sorted(records[:], key=lambda row: row["idx"])):
        texts = {key: row[key].decode("utf-8") for key in form.texts}
        # A float32 is as the file has it in its shortest form: 3.8, not 3.799999952.
        answer = int(row["label"]) if form.labels else float(str(row["label"]))
        row_id = int(row["idx"]) if split.startswith("test") else None
        examples.append(form.example(index, texts, None if answer < 0 else answer, row_id))
    return examples


TASKS = tuple(
    Task(
        name=f"glue/{form.name}",
        kind=form.kind,
        labels=form.labels,
        metrics=form.metrics,
        splits=tuple(form.files),
        read=_read_ax if form is _AX else form.read,
        parse=None if form.labels else parse_number,
    )
    for form in (*FORMATS, _AX)
)
