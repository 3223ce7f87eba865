import gzip
import itertools
import json
import os

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data import standard_library
from t5like.data.documents import read_documents, split_documents
from t5like.errors import UserError

_COMPRESS = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def _write(path, content, compression=""):
    path = path.with_name(path.name + compression)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_COMPRESS[compression](content if isinstance(content, bytes) else content.encode()))
    return path


def _read(location):
    return list(read_documents(str(location), split="train"))


def _error(location, **arguments):
    with pytest.raises(UserError) as caught:
        list(read_documents(str(location), split="train", **arguments))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_embedded_is_the_standard_library():
    assert read_documents("embedded", split="validation") == standard_library.documents("validation")


@pytest.mark.parametrize("compression", _COMPRESS)
def test_a_text_file_is_one_document_and_a_jsonl_line_is_one(tmp_path, compression):
    text = _write(tmp_path / "a.md", "One\n\ntwo é", compression)
    lines = _write(tmp_path / "b.jsonl", '{"text": "x\\ny", "n": 1}\n\n{"text": "z"}', compression)
    assert _read(text) == ["One\n\ntwo é"]
    assert _read(lines) == ["x\ny", "z"]


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_files_set_end_to_end_decompress_as_one(tmp_path, compression):
    compress = _COMPRESS[compression]
    (tmp_path / f"a.txt{compression}").write_bytes(compress(b"one ") + compress(b"two"))
    assert _read(tmp_path) == ["one two"]


def test_another_text_field_can_be_named(tmp_path):
    path = _write(tmp_path / "b.jsonl", '{"text": "no", "content": "yes"}')
    assert read_documents(str(path), split="train", text_field="content") == ["yes"]


def test_folders_are_read_recursively_and_sorted_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.rst", ".hidden", ".git/x.txt"):
        _write(tmp_path / name, name)
    assert _read(tmp_path) == ["a/b/c.rst", "a/z.txt", "b.txt"]


def test_globs_descend_and_the_home_folder_expands(tmp_path, monkeypatch):
    for name in ("top.txt", "a/b/deep.txt", "a/b/deep.md", "a[1].txt"):
        _write(tmp_path / name, name)
    assert _read(tmp_path / "**/*.txt") == ["a/b/deep.txt", "a[1].txt", "top.txt"]
    assert _read(tmp_path / "a[1].txt") == ["a[1].txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _read("~/top.txt") == _read("~/t*.txt") == ["top.txt"]


def test_byte_order_marks_and_carriage_returns_go(tmp_path):
    assert _read(_write(tmp_path / "a.txt", b"\xef\xbb\xbfa\r\nb\n")) == ["a\nb\n"]
    assert _read(_write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n')) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", ["holds no text"]),
        ("a.jsonl", b" \n\n", ["holds no text"]),
        ("a.txt", b"abc\xff", ["not UTF-8", "byte 3"]),
        ("a.txt", "text".encode("utf-16"), ["not UTF-8", "byte 0"]),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', ["line 3", "not JSON"]),
        ("a.jsonl", b"[" * 100_000, ["line 1", "not JSON"]),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b", "id": 1}', ["line 2", "no field 'text'", "txt, id"]),
        ("a.jsonl", b'["text"]', ["line 1", "no field 'text'", "list"]),
        ("a.jsonl", b'{"text": null}', ["line 1", "'text' is null"]),
        ("a.jsonl", b'{"text": "\\ud83d"}', ["line 1", "surrogate"]),
        ("a.txt.gz", gzip.compress(b"text" * 99)[:-9], ["decompress", "truncated"]),
        ("a.txt.gz", b"text", ["decompress"]),
        ("a.txt.gz", gzip.compress(b"text")[:-8] + b"\0" * 8, ["decompress"]),
        ("a.txt.zst", zstandard.ZstdCompressor().compress(b"text" * 99)[:-3], ["decompress", "truncated"]),
        ("a.txt.zst", b"text, not compressed", ["decompress"]),
    ],
)
def test_bad_files_are_named_with_the_place_in_them(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    message = _error(path)
    assert str(path) in message
    for word in words:
        assert word in message


def test_nothing_there_names_the_nearest_thing_that_is(tmp_path):
    _write(tmp_path / "corpus/train.txt", "text")
    assert repr(str(tmp_path / "corpus")) in _error(tmp_path / "corpse/train.txt")
    assert repr(str(tmp_path / "corpus/train.txt")) in _error(tmp_path / "corpus/trian.txt")
    assert "holds no 'zzz'" in _error(tmp_path / "zzz")
    assert "*.md" in _error(tmp_path / "corpus/*.md")
    (tmp_path / "empty").mkdir()
    assert "without files" in _error(tmp_path / "empty")


def test_a_file_that_cannot_be_opened_is_a_user_error(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "link.txt")
    assert "link.txt: No such file" in _error(tmp_path)


def test_split_as_in_the_docstring():
    assert split_documents(list("abcde")) == (list("abde"), ["c"])


@settings(deadline=None)
@given(st.integers(2, 2000))
def test_split_holds_out_two_percent_evenly_and_loses_nothing(num_documents):
    documents = [str(number) for number in range(num_documents)]
    training, held_out = split_documents(documents)
    assert sorted(training + held_out, key=int) == documents
    assert training == sorted(training, key=int)
    assert len(training) >= 1
    assert max(1, 0.02 * num_documents - 1) <= len(held_out) <= max(1, 0.02 * num_documents + 1)
    gaps = {int(b) - int(a) for a, b in itertools.pairwise(held_out)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("documents", [[], ["one"]])
def test_a_single_document_cannot_be_split(documents):
    with pytest.raises(UserError, match="--validation_data"):
        split_documents(documents)


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A folder with the prepared TFDS data set `stories`."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core.utils import file_utils

    folder = tmp_path_factory.mktemp("tfds")

    class Stories(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")
        name = "stories"

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "raw": tfds.features.Text(),
                    "year": tfds.features.Scalar(np.int32),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples(12)}

        def _generate_examples(self, num_examples):
            for number in range(num_examples):
                yield number, {"text": f"story é {number}", "raw": b"\xff", "year": number}

    tfds.disable_progress_bar()
    Stories(data_dir=folder).download_and_prepare(file_format="array_record")
    tfds.core.add_data_dir(folder)
    yield folder
    file_utils.clear_registered_data_dirs()


@pytest.mark.parametrize("name", ["stories", "stories:1.2.0"])
def test_prepared_tfds_data_is_read_by_record(tfds_folder, name):
    documents = read_documents(f"tfds:{name}", split="train")
    assert len(documents) == 12
    assert sorted(documents) == sorted(f"story é {number}" for number in range(12))
    assert documents[-1] == documents[11]
    with pytest.raises(IndexError):
        documents[12]


def test_tfds_errors_name_the_data_set_and_the_record(tfds_folder):
    assert "stories has no field 'body', only " in _error("tfds:stories", text_field="body")
    assert "stories, record 0: the field 'year' is not text" in _error("tfds:stories", text_field="year")
    assert "stories, record 0 is not UTF-8" in _error("tfds:stories", text_field="raw")
    with pytest.raises(UserError, match="stories has no split 'validation', only train"):
        read_documents("tfds:stories", split="validation")


def test_a_record_keeps_its_text_through_json(tmp_path):
    texts = ["a\u2028b", '"quoted"', "tab\tnew\nline", "é" * 10]
    path = _write(
        tmp_path / "a.jsonl", "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    )
    assert _read(path) == texts
