"""Files that appear whole or not at all, whatever becomes of the process that writes them."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".writing"
_ABANDONED_SECONDS = 24 * 3600.0


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the name `path` at the end, or goes away after an error.

    Raises:
      OSError: it cannot be written.
    """
    file, temporary = _open_locked(path)
    try:
        with file:
            yield file
            file.flush()
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
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
