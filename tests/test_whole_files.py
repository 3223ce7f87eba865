"""A file appears whole or not at all, and nobody takes it from whoever writes it."""

import fcntl
import resource
import threading

import pytest

from t5like import whole_files
from t5like.whole_files import is_being_written, remove_abandoned, whole_file, write_json, write_text


def test_it_has_its_name_once_it_is_whole(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_an_error_of_the_disk_names_the_file(tmp_path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    try:
        with (
            pytest.raises(OSError, match=f"File too large: '{tmp_path}/a'"),
            whole_file(tmp_path / "a") as file,
        ):
            file.write(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("write", "wrong", "error"),
    [(write_json, {"a": object()}, TypeError), (write_text, "\ud800", ValueError)],
)
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, write, wrong, error):
    write_json(tmp_path / "a", {"a": 1})
    with pytest.raises(error):
        write(tmp_path / "a", wrong)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{\n  "a": 1\n}\n']


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"before")

    def write_half():
        with whole_file(tmp_path / "a") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_what_is_written_is_not_abandoned_and_what_nobody_writes_is(tmp_path):
    (tmp_path / f".b.0{whole_files._SUFFIX}").write_bytes(b"half")
    with whole_file(tmp_path / "a") as file:
        remove_abandoned(tmp_path)
        (draft,) = tmp_path.iterdir()
        assert is_being_written(draft)
        file.write(b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_new_file_that_a_cleaner_locked_first_is_left_to_it(tmp_path, monkeypatch):
    taken = []
    original = fcntl.flock

    def flock(file, flags):
        if not taken:
            (path,) = tmp_path.iterdir()
            cleaner = open(path, "rb")  # noqa: SIM115
            original(cleaner, fcntl.LOCK_EX)
            taken.append((path, cleaner))
        original(file, flags)

    monkeypatch.setattr(whole_files.fcntl, "flock", flock)
    with whole_file(tmp_path / "a") as file:
        (path, cleaner) = taken[0]
        path.unlink()
        cleaner.close()
        file.write(b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_cleaners_and_writers_at_once_do_not_disturb_one_another(tmp_path):
    errors, is_over = [], threading.Event()

    def clean():
        while not is_over.is_set():
            try:
                remove_abandoned(tmp_path)
            except OSError as error:
                errors.append(error)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        for number in range(300):
            with whole_file(tmp_path / "a") as file:
                file.write(b"%d" % number)
    finally:
        is_over.set()
        for cleaner in cleaners:
            cleaner.join()
    assert errors == []
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"299"]
