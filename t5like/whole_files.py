"""Files that appear whole or not at all, whatever becomes of the process, or the machine, that writes them."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_SUFFIX = ".writing"
_ABANDONED_SECONDS = 24 * 3600.0


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the name `path` at the end, or goes away after an error.

    Raises:
      OSError: it cannot be written; `filename` is that of the file or of its folder.
    """
    file, temporary = _open_locked(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the name could reach the disk before what it names
            os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a write that fails says not where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file of UTF-8 text whole or not at all; lines end as they do in `text`.

    Raises:
      OSError: it cannot be written.
    """
    content = text.encode("utf-8")
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON that people can read, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def being_written(path: Path) -> Path:
    """Returns the name that a file which is to be `path` has until then, or one that is never to be."""
    return path.with_name(f".{path.name}{_SUFFIX}")


def is_being_written(path: Path) -> bool:
    """Returns whether a file has its name only until it is whole, or was left so by a process that is gone."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_abandoned(folder: Path) -> None:
    """Removes the files in a folder that were being written by processes that are gone.

    Raises:
      OSError: one cannot be removed.
    """
    for path in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever writes it holds the lock
            except BlockingIOError:
                continue
            except OSError:  # a file system without locks
                if time.time() - os.fstat(file.fileno()).st_mtime < _ABANDONED_SECONDS:
                    continue
            path.unlink()


def _open_locked(path: Path) -> tuple[BinaryIO, Path]:
    """Returns a new file that is this process's for as long as it lives."""
    while True:
        temporary = being_written(path.with_name(f"{path.name}.{secrets.token_hex(8)}"))
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(temporary, "xb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # taken for abandoned before it was locked, and about to be removed
                continue
            except OSError:  # a file system without locks
                pass
            if temporary.exists():  # nor removed already
                stack.pop_all()
                return file, temporary
