"""Every real file beside the checkout is read by a task, with as many rows as SOURCES.md gives for it.

What the rows hold is tested beside the tasks.
"""

import pathlib
from typing import NamedTuple

import pytest

from t5like.tasks import find_task
from t5like.tasks.tables import TableColumns
from tests.tasks.super_glue_rows import SHARED, needs

FOLDERS = ("glue", "super_glue", "fewglue_32", "sick", "squad_cs224n", "wnut17", "multi30k", "winogender")
NO_DATA = {
    *("glue/STS-B/LICENSE.txt", "glue/STS-B/readme.txt", "wnut17/README.md"),
    "glue/MRPC/dev_ids.tsv",  # names of rows of the next file, by which it was split
    "glue/MRPC/msr_paraphrase_train.txt",  # tested below
}
MSR_ROWS = 4076


class Real(NamedTuple):
    """Some real files, the task that reads them, how many examples it makes of them, and of how many rows they are."""

    files: tuple[str, ...]
    task: str
    split: str
    num_examples: int
    data_dir: str | None = None
    columns: TableColumns | None = None
    num_groups: int | None = None


def _suite(suite: str, folder: str, name: str, **splits: tuple[str, int]) -> list[Real]:
    """Returns the files of one task of GLUE or SuperGLUE."""
    root = {"glue": "glue", "super_glue": "super_glue", "fewglue_32": "super_glue"}[suite]
    return [
        Real((f"{suite}/{folder}/{file}",), f"{root}/{name}", split, num, data_dir=suite)
        for split, (file, num) in splits.items()
    ]


def _glue(folder: str, name: str, train: int = 0, dev: int = 0, test: int = 0) -> list[Real]:
    counts = {"train": ("train.tsv", train), "validation": ("dev.tsv", dev), "test": ("test.tsv", test)}
    return _suite("glue", folder, name, **{split: pair for split, pair in counts.items() if pair[1]})


def _super_glue(folder: str, name: str, train: int = 0, val: int = 0, test: int = 0) -> list[Real]:
    counts = {"train": ("train.jsonl", train), "validation": ("val.jsonl", val), "test": ("test.jsonl", test)}
    return _suite("super_glue", folder, name, **{split: pair for split, pair in counts.items() if pair[1]})


def _few_glue(folder: str, name: str, train: int) -> list[Real]:
    splits = {"train": ("train.jsonl", train), "validation": ("dev32.jsonl", 32)}
    return [real._replace(num_groups=32) for real in _suite("fewglue_32", folder, name, **splits)]


_SICK = TableColumns(text_columns="sentence_A,sentence_B", label_column="entailment_judgment")
REAL = [
    *_glue("CoLA", "cola", 8551, 1043, 1063),
    *_glue("SST-2", "sst2", 67349, 872, 1821),
    *_glue("MRPC", "mrpc", 3668, 408, 1725),
    *_glue("STS-B", "stsb", 5749, 1500, 1379),
    *_glue("RTE", "rte", 2490, 277, 3000),
    *_glue("QNLI", "qnli", 0, 5463, 5463),
    *_glue("QQP", "qqp", 16000, 3497),
    Real(("glue/AX/diagnostic-full.tsv",), "glue/ax", "test", 1104, data_dir="glue"),
    *_super_glue("BoolQ", "boolq", 0, 3270),
    *_super_glue("COPA", "copa", 400, 100, 500),
    *(
        real._replace(num_groups=groups)
        for real, groups in zip(
            _super_glue("MultiRC", "multirc", 27243, 4848), (5131, 953), strict=True
        )  # questions
    ),
    *_super_glue("RTE", "rte", 2490, 277),
    *_super_glue("WiC", "wic", 5428, 638, 1400),
    *_super_glue("WSC", "wsc", 554, 104, 146),
    *_suite("super_glue", "AX-b", "axb", test=("AX-b.jsonl", 1104)),
    *_suite("super_glue", "AX-g", "axg", test=("AX-g.jsonl", 356)),
    *_few_glue("BoolQ", "boolq", 32),
    *_few_glue("CB", "cb", 32),
    *_few_glue("ReCoRD", "record", 44),  # a query of training is asked once for each of its answers
    *(
        Real((f"sick/SICK_{file}.txt",), f"tsv:{SHARED / 'sick'}", split, num, columns=_SICK)
        for file, split, num in (
            ("train", "train", 4500),
            ("trial", "validation", 500),
            ("test_annotated", "test", 4927),
        )
    ),
    Real(("squad_cs224n/dev-v2.0.json",), "squad/v2", "validation", 6078, data_dir="squad_cs224n"),
    *(
        Real(
            (f"squad_cs224n/{file}-v1.1-derived.json",),
            f"squad:{SHARED}/squad_cs224n/v1.1-derived",
            split,
            num,
        )
        for file, split, num in (("train", "train", 2054), ("dev", "validation", 856))
    ),
    *(
        Real((f"wnut17/{file}",), "ner/wnut17", split, num, data_dir="wnut17")
        for file, split, num in (
            ("wnut17train.conll", "train", 3394),
            ("emerging.dev.conll", "validation", 1009),
            ("emerging.test.annotated", "test", 1287),
        )
    ),
    *(
        Real(
            (f"multi30k/{file}.en", f"multi30k/{file}.de"),
            "translation/multi30k_en_de",
            split,
            num,
            data_dir="multi30k",
        )
        for file, split, num in (
            ("train", "train", 29000),
            ("val", "validation", 1014),
            ("test_2016_flickr", "test", 1000),
        )
    ),
    Real(
        ("winogender/all_sentences.tsv", "winogender/templates.tsv"),
        f"winogender:{SHARED / 'winogender'}",
        "validation",
        720,
        num_groups=240,
    ),
]


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened by their paths, as they come."""
    paths: list[pathlib.Path] = []
    real_open = pathlib.Path.open

    def recording(path: pathlib.Path, *args, **kwargs):
        paths.append(path)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "open", recording)
    return paths


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.files[0])
def test_a_file_has_the_rows_that_are_published(real, opened):
    for file in real.files:
        needs((SHARED / file).parent)
    task = find_task(real.task, real.columns)
    opened.clear()
    examples = task.load(real.split, None if real.data_dir is None else SHARED / real.data_dir)
    assert {SHARED / file for file in real.files} <= set(opened)
    assert [example.index for example in examples] == list(range(real.num_examples))
    if real.num_groups is not None:
        groups = {example.index if example.group is None else example.group for example in examples}
        assert len(groups) == real.num_groups


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_left_out(folder):
    needs(SHARED / folder)
    there = {path.relative_to(SHARED).as_posix() for path in (SHARED / folder).rglob("*") if path.is_file()}
    read = {file for real in REAL for file in real.files} | {"glue/AX/diagnostic.tsv"}
    assert there - read - NO_DATA == set()  # the last one is the first without its answers, see test_glue.py
    assert {file for file in read | NO_DATA if file.split("/")[0] == folder} == there


def test_counts_are_those_of_the_sources():
    needs(SHARED / "glue")
    text = (SHARED / "SOURCES.md").read_text(encoding="utf-8")
    for real in REAL:
        if real.task != "super_glue/record":  # which has no count of examples there
            assert str(real.num_examples) in text, real.files


def test_mrpc_is_what_its_authors_file_and_the_names_of_rows_make_of_it():
    needs(SHARED / "glue")
    folder = SHARED / "glue/MRPC"
    columns = TableColumns(text_columns="#1 String,#2 String", label_column="Quality")
    task = find_task(f"tsv:{folder / 'msr_paraphrase_train.txt'}", columns)
    assert sum(len(task.load(split)) for split in ("train", "validation")) == MSR_ROWS
    assert len((folder / "dev_ids.tsv").read_text(encoding="utf-8").splitlines()) == 408
    ours = sorted(e.texts for split in task.splits for e in task.load(split))
    mrpc = find_task("glue/mrpc")
    official = [e for split in ("train", "validation") for e in mrpc.load(split, SHARED / "glue")]
    assert sorted(example.texts for example in official) == ours
