"""SuperGLUE's data as flat records, from the official JSON Lines or through TFDS, which come to the same."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5like.data.tfds_source import open_data_source
from t5like.errors import UserError
from t5like.tasks.suite_files import find_file, json_rows

Record = Mapping[str, Any]
"""Texts and numbers by name, `idx`, a number or numbers, and `label`, a class id or None where it is not published."""

# FewGLUE, which has 32 examples a task, calls its validation data dev32.
FILES = {"train": ("train.jsonl",), "validation": ("val.jsonl", "dev32.jsonl"), "test": ("test.jsonl",)}
BOOLEANS = (False, True)
NUMBERS = (0, 1)

_LEVELS = ("paragraph", "passage", "question", "query", "answer")  # of nested numbers, outermost first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where and how one task's records are stored.

    Attributes:
      folder: of its files inside SuperGLUE.
      tfds_config: its TFDS configuration.
      fields: what a record holds beside `idx` and `label`: texts, or numbers where the name ends in `_index`.
      label_cells: what files hold for the label, by class id; empty where the task has no labels.
      expand: object of a line -> its records, with the label of the file.
      files: split -> names that its file may have.
    """

    folder: str
    tfds_config: str
    fields: tuple[str, ...]
    label_cells: tuple[Any, ...] = ()
    expand: Callable[[dict[str, Any]], Iterator[dict[str, Any]]] = lambda row: iter([row])
    files: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=lambda: FILES)

    def read(self, split: str, data_dir: pathlib.Path | None) -> Iterator[Record]:
        """Yields a split from files under `data_dir`, or from TFDS, which may download it, where it is None.

        Raises:
          UserError: the data are missing, empty or broken.
        """
        return _of_tfds(self, split) if data_dir is None else _of_file(self, split, data_dir)


def expand_multirc(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a record for each option of each question on a passage; `idx` is (passage, question, answer)."""
    for question in row["passage"]["questions"]:
        for answer in question["answers"]:
            label = {"label": answer["label"]} if "label" in answer else {}
            yield {
                "paragraph": row["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "idx": (row["idx"], question["idx"], answer["idx"]),
                **label,
            }


def expand_record(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a record for each query on a passage, with its distinct entities and answers in order of the alphabet.

    `idx` is (passage, query). Source: TFDS's `super_glue/record`, from which T5 was trained.
    """
    text = row["passage"]["text"]
    entities = sorted({text[entity["start"] : entity["end"] + 1] for entity in row["passage"]["entities"]})
    for query in row["qas"]:
        yield {
            "passage": text,
            "query": query["query"],
            "entities": entities,
            "answers": sorted({answer["text"] for answer in query.get("answers", [])}),
            "idx": (row["idx"], query["idx"]),
        }


def expand_wsc(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the record with its spans beside its text."""
    yield {**row, **row["target"]}


def _of_file(layout: Layout, split: str, data_dir: pathlib.Path) -> Iterator[Record]:
    path = find_file("SuperGLUE", [layout.folder], layout.files[split], data_dir)
    is_empty = True
    for line, row in json_rows(path):
        try:
            records = [_checked(layout, record, needs_label=split != "test") for record in layout.expand(row)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else error
            raise UserError(
                f"{path}, line {line}: {what}: is this the {layout.folder} file of SuperGLUE?"
            ) from error
        is_empty = is_empty and not records
        yield from records
    if is_empty:
        raise UserError(f"{path} holds no examples: fetch the file again.")


def _checked(layout: Layout, record: dict[str, Any], *, needs_label: bool) -> Record:
    """Returns a record with its class id.

    Raises:
      KeyError: a field is missing.
      TypeError: a field is of another type.
      ValueError: the label is none of the task's.
    """
    for name in layout.fields:
        kind, what = (int, "a number") if name.endswith("_index") else (str, "a text")
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is {json.dumps(record[name]):.60} and not {what}")
    idx = record["idx"]
    idx = tuple(map(int, idx)) if isinstance(idx, tuple) else int(idx)  # AX-b's are texts
    label = None
    if layout.label_cells and (needs_label or "label" in record):
        label = _class_of(record["label"], layout.label_cells)
    return {**record, "idx": idx, "label": label}


def _class_of(label: Any, cells: tuple[Any, ...]) -> int:
    for number, cell in enumerate(cells):
        if cell == label and type(cell) is type(label):  # Python's True equals 1
            return number
    raise ValueError(f"label {json.dumps(label):.60} is none of {', '.join(map(json.dumps, cells))}")


def _of_tfds(layout: Layout, split: str) -> Iterator[Record]:
    """Yields records in the order of the official file."""
    rows = open_data_source(
        f"super_glue/{layout.tfds_config}",
        split,
        alternative=f"pass --data_dir with the folder of SuperGLUE that holds {layout.folder}/",
    )
    for record in sorted(map(_plain, rows[:]), key=lambda record: record["idx"]):
        label = record.get("label", -1)
        yield {**record, "label": None if label < 0 else label}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    idx = row["idx"]
    if isinstance(idx, dict):
        idx = tuple(int(idx[level]) for level in _LEVELS if level in idx)
    values = {name: _plain_value(value) for name, value in row.items() if name != "idx"}
    return {**values, "idx": idx if isinstance(idx, tuple) else int(idx)}


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return [item.decode("utf-8") for item in value] if np.ndim(value) else int(value)
