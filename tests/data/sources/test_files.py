import os
import uuid
from unittest import mock

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from t5like.data.sources import open_source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import WRITERS, unicode_texts, write_bytes

TEXTS = unicode_texts(100, seed=1)


def _read(location):
    return read_all(open_source(str(location)))


def _error(location) -> str:
    with pytest.raises(UserError) as caught:
        open_source(str(location))
    message = str(caught.value)
    assert "\n" not in message
    assert not isinstance(caught.value, DamagedDataError)
    return message


def test_folders_are_read_recursively_by_path_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.rst", "a-b.txt", ".hidden", ".git/x.txt"):
        write_bytes(tmp_path / name, name.encode())
    assert _read(tmp_path) == ["a-b.txt", "a/b/c.rst", "a/z.txt", "b.txt"]
    assert _read(f"{tmp_path}/") == _read(tmp_path)


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    write_bytes(tmp_path / "elsewhere/part/b.txt", b"b")
    write_bytes(tmp_path / "corpus/a.txt", b"a")
    os.symlink(tmp_path / "elsewhere", tmp_path / "corpus/linked")
    os.symlink(tmp_path / "elsewhere", tmp_path / "corpus/twice")
    os.symlink(tmp_path / "corpus", tmp_path / "corpus/itself")
    os.symlink(tmp_path / "corpus", tmp_path / "elsewhere/part/back")
    source = open_source(str(tmp_path / "corpus"))
    assert read_all(source) == ["a", "b", "b"]
    assert source.place(1, 0) == f"{tmp_path}/corpus/linked/part/b.txt, line 1"
    os.symlink(tmp_path / "corpus", tmp_path / "whole")
    assert _read(tmp_path / "whole") == ["a", "b", "b"]


def test_globs_descend_and_the_home_folder_expands(tmp_path, monkeypatch):
    for name in ("top.txt", "a/b/deep.txt", "a/b/deep.md", "a[1].txt"):
        write_bytes(tmp_path / name, name.encode())
    assert _read(tmp_path / "**/*.txt") == ["a/b/deep.txt", "a[1].txt", "top.txt"]
    assert _read(tmp_path / "a[1].txt") == ["a[1].txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _read("~/top.txt") == _read("~/t*.txt") == ["top.txt"]


def test_a_relative_location_is_named_as_it_was_written(tmp_path, monkeypatch):
    write_bytes(tmp_path / "corpus/a.txt", b"text")
    monkeypatch.chdir(tmp_path)
    for location in ("corpus", "corpus/a.txt", "corpus/*"):
        source = open_source(location)
        assert source.location == location
        assert source.place(0, 0) == "corpus/a.txt, line 1"
    assert open_source("corpus").fingerprint() == open_source(str(tmp_path / "corpus")).fingerprint()


def test_nothing_there_names_the_nearest_thing_that_is(tmp_path):
    write_bytes(tmp_path / "corpus/train.txt", b"text")
    assert repr(str(tmp_path / "corpus")) in _error(tmp_path / "corpse/train.txt")
    assert repr(str(tmp_path / "corpus/train.txt")) in _error(tmp_path / "corpus/trian.txt")
    assert "holds no 'zzz'" in _error(tmp_path / "zzz")
    assert "*.md" in _error(tmp_path / "corpus/*.md")
    (tmp_path / "empty").mkdir()
    assert "without files" in _error(tmp_path / "empty")


def test_what_cannot_be_read_is_told_before_anything_is(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "link.txt")
    assert "link.txt: No such file" in _error(tmp_path)
    assert "link.txt: No such file" in _error(tmp_path / "link.txt")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", ["a.txt", "is empty"]),
        ("a.jsonl", b"", ["a.jsonl", "is empty"]),
        ("a.jsonl", b" \n\n", ["holds no text"]),
        ("a.jsonl", b'{"text": " "}\n', ["holds no text"]),
        ("a.txt", b"\r\n \n", ["holds no text"]),
        ("a.txt.gz", b"\r\n \n", ["holds no text"]),
        ("a.zip", b"PK", ["a.zip", "archive", "unpack"]),
        ("a.tar.gz", b"PK", ["a.tar.gz", "archive", "unpack"]),
        ("a.parquet.gz", b"PAR1", ["a.parquet.gz", "decompress it"]),
        ("a.array_record.zst", b"", ["a.array_record.zst", "decompress it"]),
    ],
)
def test_files_that_are_not_what_can_be_read_are_refused_when_opened(tmp_path, name, content, words):
    write_bytes(tmp_path / name, content)
    for location in (tmp_path, tmp_path / name, tmp_path / "a.*"):
        message = _error(location)
        for word in words:
            assert word in message


def test_a_file_that_is_gone_or_cut_when_it_is_read_is_damage_named_with_the_place(tmp_path):
    for name in ("a.txt", "b.txt", "c.jsonl", "d.txt.gz"):
        write_bytes(tmp_path / name, b'{"text": "some text"}\n' * 9)
    source = open_source(str(tmp_path))
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.jsonl").write_bytes(b"{}\n")
    (tmp_path / "d.txt.gz").unlink()
    assert len(list(source.read(0))) == 1
    for block, words in (
        (1, "b.txt, record 0: No such file"),
        (2, "c.jsonl, record 0: it has 198 bytes"),
        (3, "d.txt.gz"),
    ):
        with pytest.raises(DamagedDataError, match=f"Cannot read {tmp_path}/{words}"):
            list(source.read(block))


@pytest.fixture
def remote():
    """A folder of a file system that is not the disk, as a URL."""
    folder = f"memory://{uuid.uuid4().hex}"
    yield folder
    fsspec.filesystem("memory").rm(folder, recursive=True)


def _upload(folder, url):
    fsspec.filesystem("memory").put(str(folder), url, recursive=True)


ON_DISK_ONLY = ("stream.arrow", "file.arrow", "dataset", "a.array_record")


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ON_DISK_ONLY])
def test_a_url_is_read_as_the_disk_is(tmp_path, remote, name):
    (tmp_path / "corpus").mkdir()
    WRITERS[name](tmp_path / "corpus" / name, TEXTS)
    write_bytes(tmp_path / "corpus/.hidden/a.txt", b"no")
    _upload(tmp_path / "corpus", f"{remote}/corpus")
    local = open_source(str(tmp_path / "corpus"))
    for location in ("corpus", f"corpus/{name}", "corpus/a*", "**/a.*"):
        source = open_source(f"{remote}/{location}")
        assert read_all(source) == TEXTS
        place = local.place(0, 1).replace(str(tmp_path), remote)
        assert source.place(0, 1) == place
    assert open_source(f"{remote}/corpus").fingerprint() == local.fingerprint()


@pytest.mark.parametrize("name", ON_DISK_ONLY)
def test_what_is_read_from_a_disk_only_says_so_of_a_url(tmp_path, remote, name):
    WRITERS[name](tmp_path / name, TEXTS)
    _upload(tmp_path, remote)
    message = _error(f"{remote}/{name}")
    assert "from a disk" in message
    assert remote in message


def test_wrong_urls_are_one_sentence(tmp_path, remote):
    write_bytes(tmp_path / "corpus/train.txt", b"text")
    _upload(tmp_path / "corpus", f"{remote}/corpus")
    assert f"the nearest name there is '{remote}/corpus/train.txt'" in _error(f"{remote}/corpus/trian.txt")
    assert "No file matches" in _error(f"{remote}/*.md")
    assert "knows no file system named 'nosuch'" in _error("nosuch://bucket/a.txt")


def test_a_bucket_without_the_package_for_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(known_implementations, "gs", {"class": "no_such_package.GCS", "err": "not here"})
    assert "takes gcsfs: pip install gcsfs." in _error("gs://bucket/c4")


def test_a_failing_network_is_damage_with_the_place_and_passes(tmp_path, remote, monkeypatch):
    write_bytes(tmp_path / "a.jsonl", b'{"text": "some text"}\n' * 9)
    _upload(tmp_path, remote)
    source = open_source(remote)

    for error in (TimeoutError("no answer"), RuntimeError("HTTP 503")):
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "cat_file", mock.Mock(side_effect=error))
            with pytest.raises(DamagedDataError, match=f"a.jsonl, record 2: {error}"):
                list(source.read(0, 2))
    assert list(source.read(0, 2)) == ["some text"] * 7
