"""GLUE in T5's text-to-text form, from the official TSV files or through TFDS."""

import codecs
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

from t5like.data.tfds_source import open_data_source
from t5like.errors import UserError
from t5like.tasks.base import NO_LABEL, Example, Task
from t5like.tasks.metrics import ACCURACY, F1, MATTHEWS, Metric

_FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueFormat:
    """One GLUE task: its prompt, its labels, and where its files hold them.

    Attributes:
      name: the prompt's first word, and the name of the TFDS configuration.
      folder: the folder of the task's files inside GLUE.
      texts: prompt key -> column, in the order of the prompt, which in T5 is the alphabet's.
      labels: label texts by class id.
      label_column: column of the label.
      label_cells: what that column holds, by class id.
      columns: all columns of train.tsv and dev.tsv, which their header repeats.
      test_columns: all columns of test.tsv, which its header repeats; there is no label.
      has_header: train.tsv and dev.tsv open with a header. test.tsv always does.
      metrics: what is reported.
    """

    name: str
    folder: str
    texts: Mapping[str, str]
    labels: tuple[str, ...]
    label_column: str
    label_cells: tuple[str, ...]
    columns: tuple[str, ...]
    test_columns: tuple[str, ...]
    has_header: bool = True
    metrics: tuple[Metric, ...] = (ACCURACY,)

    def prompt(self, texts: Mapping[str, str]) -> str:
        """Returns the input text, {sentence1: A, sentence2: B} -> `mrpc sentence1: A sentence2: B`."""
        return " ".join([self.name, *(f"{key}: {texts[key]}" for key in self.texts)])

    def example(self, index: int, texts: Mapping[str, str], label: str | None) -> Example:
        """Returns an example in both forms."""
        return Example(
            index=index,
            inputs=self.prompt(texts),
            targets=NO_LABEL if label is None else label,
            texts=tuple(texts[key] for key in self.texts),
            answer=None if label is None else self.labels.index(label),
        )

    def read(self, split: str, data_dir: pathlib.Path | None) -> list[Example]:
        """Returns a split from TSV files under `data_dir`, or from TFDS, which may download it, where it is None."""
        return _read_tfds(self, split) if data_dir is None else _read_tsv(self, split, data_dir)


FORMATS = (
    GlueFormat(
        name="cola",
        folder="CoLA",
        texts={"sentence": "sentence"},
        labels=("unacceptable", "acceptable"),
        label_column="label",
        label_cells=("0", "1"),
        columns=("source", "label", "author's mark", "sentence"),
        test_columns=("index", "sentence"),
        has_header=False,
        metrics=(MATTHEWS,),
    ),
    GlueFormat(
        name="mrpc",
        folder="MRPC",
        texts={"sentence1": "#1 String", "sentence2": "#2 String"},
        labels=("not_equivalent", "equivalent"),
        label_column="Quality",
        label_cells=("0", "1"),
        columns=("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        test_columns=("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        metrics=(F1, ACCURACY),
    ),
    GlueFormat(
        name="rte",
        folder="RTE",
        texts={"sentence1": "sentence1", "sentence2": "sentence2"},
        labels=("entailment", "not_entailment"),
        label_column="label",
        label_cells=("entailment", "not_entailment"),
        columns=("index", "sentence1", "sentence2", "label"),
        test_columns=("index", "sentence1", "sentence2"),
    ),
    GlueFormat(
        name="sst2",
        folder="SST-2",
        texts={"sentence": "sentence"},
        labels=("negative", "positive"),
        label_column="label",
        label_cells=("0", "1"),
        columns=("sentence", "label"),
        test_columns=("index", "sentence"),
    ),
)


def _read_tsv(form: GlueFormat, split: str, data_dir: pathlib.Path) -> list[Example]:
    """Returns the examples of an official file in the order of its rows.

    Raises:
      UserError: the file is missing, empty or broken; the message names file and line.
    """
    path = _find_file(form, _FILES[split], pathlib.Path(data_dir))
    is_labelled = split != "test"
    labels = dict(zip(form.label_cells, form.labels, strict=True))
    examples: list[Example] = []
    for line, row in _rows(
        path,
        columns=form.columns if is_labelled else form.test_columns,
        has_header=form.has_header or not is_labelled,
    ):
        if is_labelled and row[form.label_column] not in labels:
            raise UserError(
                f"{path}, line {line}: label {row[form.label_column]!r} is none of {', '.join(labels)}: "
                f"is this the {form.folder} file of GLUE?"
            )
        texts = {key: row[column] for key, column in form.texts.items()}
        label = labels[row[form.label_column]] if is_labelled else None
        examples.append(form.example(len(examples), texts, label))
    if not examples:
        raise UserError(f"{path} holds no examples: fetch the file again.")
    return examples


def _find_file(form: GlueFormat, file_name: str, data_dir: pathlib.Path) -> pathlib.Path:
    folder = data_dir / form.folder
    for path in (folder / file_name, data_dir / file_name):
        if path.is_file():
            return path
    raise UserError(
        f"There is no {folder / file_name}: --data_dir must be the folder of GLUE that holds {form.folder}/, or "
        f"{form.folder}/ itself, with {file_name} in it."
    )


def _rows(
    path: pathlib.Path, *, columns: tuple[str, ...], has_header: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    r"""Yields (line number from 1, column -> cell) for each row of a TSV file.

    Rows end at \n alone, quote marks are letters like any other, and a byte order mark and the \r of \r\n go.

    Raises:
      UserError: the file is not UTF-8, its header is another, or a row has too few or too many cells.
    """
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check who may read it.") from error
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8: convert the file, or fetch it again.") from error
    if lines[-1] == "":
        lines.pop()
    for line, text in enumerate(lines, start=1):
        cells = text.removesuffix("\r").split("\t")
        if has_header and line == 1:
            if cells != list(columns):
                raise UserError(
                    f"{path}, line 1: the header must be the {len(columns)} columns {', '.join(columns)}, "
                    f"not {text[:100]!r}: is this the file of another task or split?"
                )
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
        split,
        alternative=f"pass --data_dir with the folder of GLUE that holds {form.folder}/",
    )
    rows = sorted(records[:], key=lambda row: row["idx"])
    return [
        form.example(
            index,
            {key: row[key].decode("utf-8") for key in form.texts},
            form.labels[row["label"]] if row["label"] >= 0 else None,
        )
        for index, row in enumerate(rows)
    ]


TASKS = tuple(
    Task(
        name=f"glue/{form.name}",
        labels=form.labels,
        metrics=form.metrics,
        splits=tuple(_FILES),
        read=form.read,
    )
    for form in FORMATS
)
