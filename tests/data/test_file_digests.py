"""A file is read again when it may have changed, and only then."""

import hashlib
import json
import os
import shutil
import threading

import fsspec
import pytest

from t5like.data import file_digests
from t5like.data.file_digests import FileDigests
from t5like.data.sources import open_source
from t5like.errors import UserError


class Files:
    def __init__(self, *paths):
        self.paths = paths

    def digest(self, file_digest):
        return " ".join(file_digest(str(path)) for path in self.paths)


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", -1.0)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read."""
    read = []
    original = hashlib.file_digest

    def file_digest(file, name):
        read.append(os.path.basename(file.name))
        return original(file, name)

    monkeypatch.setattr(file_digests.hashlib, "file_digest", file_digest)
    return read


def of(tmp_path, *paths, notes=None):
    notes = [] if notes is None else notes
    return FileDigests(tmp_path / "digests.json", notes.append).of(Files(*paths))


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("settled")
def test_it_is_that_of_the_content_and_read_once(tmp_path, hashed):
    a, b = write(tmp_path / "a", b"one"), write(tmp_path / "b", b"two")
    expected = " ".join(hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))
    assert of(tmp_path, a, b) == of(tmp_path, a, b) == expected
    assert sorted(hashed) == ["a", "b"]


@pytest.mark.usefixtures("settled")
def test_the_same_file_by_another_name_is_not_read_again(tmp_path, hashed, monkeypatch):
    write(tmp_path / "a", b"one")
    monkeypatch.chdir(tmp_path)
    assert of(tmp_path, tmp_path / "a") == of(tmp_path, "a") == of(tmp_path, f"file://{tmp_path}/a")
    assert hashed == ["a"]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["content", "replaced", "moved over"])
def test_a_change_is_noticed_though_size_and_time_are_put_back(change, tmp_path):
    path = write(tmp_path / "a", b"one")
    of(tmp_path, path)
    before = path.stat()
    if change == "content":
        path.write_bytes(b"two")
    elif change == "replaced":
        path.unlink()
        path.write_bytes(b"two")
    else:
        os.replace(write(tmp_path / "b", b"two"), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert of(tmp_path, path) == hashlib.sha256(b"two").hexdigest()


def test_what_was_just_written_is_read_again(tmp_path, hashed):
    path = write(tmp_path / "a", b"one")
    of(tmp_path, path)
    of(tmp_path, path)
    assert hashed == ["a", "a"]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"PATH": 7}', b'{"PATH": []}', b'{"PATH": [1, 2, 3, 4, 5]}', b"\xff"]
)
def test_a_damaged_memory_is_no_memory(content, tmp_path):
    path = write(tmp_path / "a", b"one")
    write(tmp_path / "digests.json", content.replace(b"PATH", str(path).encode()))
    assert of(tmp_path, path) == hashlib.sha256(b"one").hexdigest()
    assert list(json.loads((tmp_path / "digests.json").read_text())) == [str(path)]


@pytest.mark.usefixtures("settled")
def test_writers_at_once_do_not_spoil_it_and_late_ones_keep_what_is_there(tmp_path, hashed):
    paths = [write(tmp_path / str(number), b"%d" % number) for number in range(20)]
    late = FileDigests(tmp_path / "digests.json", print)
    threads = [threading.Thread(target=of, args=(tmp_path, path)) for path in paths[:-1]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = set(json.loads((tmp_path / "digests.json").read_text()))
    assert known
    late.of(Files(paths[-1]))
    assert set(json.loads((tmp_path / "digests.json").read_text())) == known | {str(paths[-1])}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^Cannot read .*/a: No such file or directory\.$"):
        of(tmp_path, tmp_path / "a")
    with pytest.raises(UserError, match=r"^Cannot read memory://gone/a: "):
        of(tmp_path, "memory://gone/a")


def test_much_to_read_is_told_once_it_is_much(tmp_path, monkeypatch):
    path, notes = write(tmp_path / "a", b"one"), []
    of(tmp_path, path, notes=notes)
    assert notes == []
    monkeypatch.setattr(file_digests, "_TOLD_BYTES", 3)
    of(tmp_path, path, notes=notes)
    assert len(notes) == 1


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    path = write(tmp_path / "a", b"one")
    digests = FileDigests(tmp_path / "gone" / "digests.json", print)
    assert digests.of(Files(path)) == hashlib.sha256(b"one").hexdigest()


def test_remote_content_is_read_and_a_change_of_one_character_noticed(tmp_path):
    with fsspec.open("memory://digests/a.txt", "wb") as file:
        file.write(b"one")
    before = FileDigests(tmp_path / "digests.json", print).of(open_source("memory://digests/a.txt"))
    with fsspec.open("memory://digests/a.txt", "wb") as file:
        file.write(b"two")
    after = FileDigests(tmp_path / "digests.json", print).of(open_source("memory://digests/a.txt"))
    assert before != after


def test_a_remote_store_that_tells_content_apart_is_believed(tmp_path, monkeypatch):
    with fsspec.open("memory://digests/a.txt", "wb") as file:
        file.write(b"one")
    filesystem = fsspec.filesystem("memory")
    info = filesystem.info
    tag = {"ETag": '"1"'}
    monkeypatch.setattr(type(filesystem), "info", lambda self, path, **more: info(path, **more) | tag)
    monkeypatch.setattr(type(filesystem), "open", lambda *more: pytest.fail("it was read"))
    first = of(tmp_path, "memory://digests/a.txt")
    assert of(tmp_path, "memory://digests/a.txt") == first
    tag["ETag"] = '"2"'
    assert of(tmp_path, "memory://digests/a.txt") != first
    tag["ETag"] = 'W/"2"'
    with pytest.raises(BaseException, match="it was read"):
        of(tmp_path, "memory://digests/a.txt")


@pytest.mark.usefixtures("settled")
def test_a_copy_of_a_folder_elsewhere_has_the_same_digest(tmp_path):
    (tmp_path / "text").mkdir()
    write(tmp_path / "text" / "a.txt", b"one")
    shutil.copytree(tmp_path / "text", tmp_path / "copy")
    digests = FileDigests(tmp_path / "digests.json", print)
    assert digests.of(open_source(str(tmp_path / "text"))) == digests.of(open_source(str(tmp_path / "copy")))
