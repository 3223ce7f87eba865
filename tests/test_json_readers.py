"""Whatever stands in a file of JSON that somebody else may have written is read, or refused in one sentence that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from t5like import workdir
from t5like.data import vocabulary_files
from t5like.data.audit import Audited
from t5like.data.sources import hugging_face, open_source
from t5like.data.vocabulary import find_vocabulary
from t5like.errors import UserError
from t5like.metrics_log import read_metrics
from t5like.report import write_report
from t5like.suite_results import read_seed_result
from t5like.tasks.squad_files import read_questions
from t5like.tasks.suite_files import json_rows
from t5like.tasks.table_files import read_rows
from t5like.weights.public_files import open_weights
from t5like.weights.t5x_checkpoint import open_t5x


class _NoBatches:
    def __next__(self) -> Any:
        return {"example_ids": np.zeros(1, int)}

    def close(self) -> None:
        pass


def _audit(path: Path) -> None:
    audited = Audited(_NoBatches(), path, first_step=3)  # type: ignore[arg-type]
    try:
        next(audited)
    finally:
        audited.close()


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a workdir's file": ("config.json", workdir.read_json),
    "a run's config": ("config.json", lambda path: workdir.load_config(path.parent)),
    "a run's model": ("model.json", lambda path: workdir.load_description(path.parent)),
    "a tokenizer's file": ("tokenizer.json", vocabulary_files.read_json),
    "a vocabulary": ("vocabulary.json", lambda path: find_vocabulary(str(path.parent), extra_ids=0)),
    "the splits of a data set": ("dataset_dict.json", lambda path: hugging_face.splits_of(str(path.parent))),
    "texts": ("a.jsonl", lambda path: list(open_source(str(path)).read(0))),
    "an index of shards": ("model.safetensors.index.json", open_weights),
    "the tree of a checkpoint": ("_METADATA", lambda path: open_t5x(path.parent)),
    "a log": ("metrics.jsonl", read_metrics),
    "an audit": ("audit.jsonl", _audit),
    "a result": ("result.json", read_seed_result),
    "questions": ("dev.json", read_questions),
    "rows of a suite": ("val.jsonl", lambda path: list(json_rows(path))),
    "rows of a table": ("rows.jsonl", lambda path: read_rows("jsonl", path, ["a"], ["b"])),
}

NAMES = st.sampled_from(
    [
        *(
            "__class__",
            "a",
            "b",
            "text",
            "step",
            "split",
            "loss",
            "weight_map",
            "tree_metadata",
            "splits",
            "kind",
        ),
        *("data", "paragraphs", "context", "qas", "metrics", "model", "vocabulary_sha256", "settings"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("train"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
LINES = st.lists(ANYTHING.map(json.dumps), min_size=1, max_size=3).map(
    lambda lines: "\n".join(lines).encode() + b"\n"
)


@pytest.mark.parametrize("kind", READERS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=LINES | st.binary(max_size=30))
@example(content=b"[" * 100_000 + b"\n")
@example(content=b'{"a":' * 100_000 + b"\n")
@example(content=b"[" * 400 + b"]" * 400 + b"\n")
@example(content=b'{"a": ' + b"9" * 5000 + b"}\n")
@example(content=b'{"a": "\\ud800"}\n')
def test_whatever_it_holds_is_read_or_refused_in_one_sentence(
    kind: str, content: bytes, tmp_path: Path
) -> None:
    name, read = READERS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        read(path)
        return
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert str(tmp_path) in sentence


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(LINES, min_size=5, max_size=5))
def test_a_report_is_written_of_whatever_there_is(contents: list[bytes], tmp_path: Path) -> None:
    names = ("config.json", "metrics.jsonl", "evaluation.json", "samples.json", "run.json")
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
    assert write_report(tmp_path).read_text("utf-8").rstrip().endswith("</html>")
