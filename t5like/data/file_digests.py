"""What the content of files hashes to, remembered so that a file which has not changed is not read again.

What is remembered is in a JSON file: by absolute path the size, times and inode that a file had when it was read. A
file that differs in any of them is read again, as git does it. The time of the last change of the inode is among them
because a program that changes a file can put its other times back.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from t5like.data.sources.base import Source
from t5like.errors import UserError
from t5like.phases import go_on
from t5like.whole_files import whole_file

# A file that was changed so lately may change once more without its times telling.
SETTLED_SECONDS = 2.0

# What remote stores say of a file that is another when its content is: names in the `info` of fsspec.
_REMOTE_TAGS = ("md5Hash", "content_md5", "ETag", "etag")

_NUM_THREADS = 8
_TOLD_BYTES = 2**30
_SAVE_SECONDS = 60.0


FileStates = dict[str, list[Any]]
"""By the name of a file, what tells whether it has been changed; by no name, how files are read."""


class FileDigests:
    """The digests of files, by a file that remembers them."""

    def __init__(self, remembered: Path, note: Callable[[str], None]) -> None:
        """Reads what is remembered; nothing is where the file is missing or damaged.

        Args:
          remembered: the JSON file; where it cannot be written, nothing new is remembered.
          note: told that much is to be read.
        """
        self._remembered = remembered
        self._note = note
        self._entries = _read(remembered)
        self._remote: dict[str, str] = {}

    def of(self, source: Source) -> str:
        """Returns the digest of a source: that of its content, and of how it is read.

        Raises:
          UserError: a file cannot be read.
        """
        paths: list[str] = []

        def collect(path: str) -> str:
            paths.append(path)
            return ""

        source.digest(collect)
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            local = dict(zip(paths, pool.map(_local_path, paths), strict=True))
            self._tell(sorted({path for path in local.values() if path is not None}))
            digests, saved_at = {}, time.monotonic()
            for path, digest in zip(paths, pool.map(self._digest, paths, local.values()), strict=True):
                digests[path] = digest
                go_on()
                if time.monotonic() - saved_at > _SAVE_SECONDS:  # who is stopped need not read it all again
                    self._save()
                    saved_at = time.monotonic()
        self._save()
        return source.digest(digests.__getitem__)

    def _digest(self, name: str, path: str | None) -> str:
        """Returns the digest of a file, by its path where it is on this machine."""
        if path is not None:
            return self._local_digest(path)
        if name not in self._remote:
            self._remote[name] = _remote_digest(name)
        return self._remote[name]

    def _local_digest(self, path: str) -> str:
        try:
            with open(path, "rb") as file:
                state = _state_of(file.fileno())
                if (digest := self._lookup(path, state)) is not None:
                    return digest
                started = time.time()
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                is_settled = max(state[1:3]) / 1e9 < started - SETTLED_SECONDS
                if is_settled and _state_of(file.fileno()) == state:
                    self._entries[path] = [*state, digest]
                return digest
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror}.") from error

    def _lookup(self, path: str, state: list[int]) -> str | None:
        match self._entries.get(path):
            case [*known, str(digest)] if known == state:
                return digest
        return None

    def _tell(self, paths: list[str]) -> None:
        num_bytes = 0
        for path in paths:
            with contextlib.suppress(OSError):  # reading it will tell
                state = _state_of(path)
                num_bytes += 0 if self._lookup(path, state) else state[0]
        if num_bytes >= _TOLD_BYTES:
            self._note(
                f"reading {num_bytes / 1e9:,.1f} GB of text to tell whether it is what a store was made of"
            )

    def _save(self) -> None:
        """Remembers what was read, beside what others have put there meanwhile."""
        others = _read(self._remembered)
        if others.items() >= self._entries.items():
            return
        self._entries = others | self._entries
        # Losing an entry costs reading a file once more, so there is no lock, and no error where nothing can be written.
        with contextlib.suppress(OSError), whole_file(self._remembered) as file:
            file.write(json.dumps(self._entries, indent=0).encode())


def file_states(source: Source, *, local_only: bool = False) -> FileStates:
    """Returns what tells whether a file of a source has been changed, by its name; nothing of what it says is read.

    Of a file on this machine that is its size, times and inode, of another one what its store says of it now.

    Args:
      local_only: leave out the others, of which each takes a request.

    Raises:
      UserError: a file is not there, or cannot be asked for.
    """
    names: list[str] = []

    def collect(name: str) -> str:
        names.append(name)
        return ""

    # Of a source that is no files this is all there is to tell.
    states: FileStates = {"": [source.digest(collect)]}
    for name in names:
        path = _local_path(name)
        if path is None and local_only:
            continue
        try:
            states[name] = _state_of(path) if path is not None else _remote_state(name)
        except Exception as error:  # a remote file system raises what it likes
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"Cannot read {name}: {reason}.") from error
    return states


def _remote_state(url: str) -> list[Any]:
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    info = filesystem.info(path)
    return [info["size"], *(str(info.get(name)) for name in (*_REMOTE_TAGS, "mtime", "updated", "created"))]


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _state_of(file: int | str) -> list[int]:
    """Returns size, times of the last change of content and of the inode in nanoseconds, and inode."""
    stat = os.stat(file)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _local_path(name: str) -> str | None:
    """Returns the absolute path of a file on this machine, None of any other."""
    if "://" not in name:
        return os.path.abspath(name)
    filesystem, path = fsspec.core.url_to_fs(name)
    return path if isinstance(filesystem, LocalFileSystem) else None


def _remote_digest(url: str) -> str:
    """Returns the sha256 of what the store says of the content, or of the content where it says nothing."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        info = filesystem.info(path)
        for tag in _REMOTE_TAGS:
            if info.get(tag) and not str(info[tag]).startswith("W/"):  # a weak tag may outlive its content
                return hashlib.sha256(f"{tag} {info[tag]} {info['size']}".encode()).hexdigest()
        with filesystem.open(path, "rb") as file:
            digest = hashlib.sha256()
            while content := file.read(2**20):
                digest.update(content)
            return digest.hexdigest()
    except Exception as error:  # a remote file system raises what it likes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"Cannot read {url}: {reason}.") from error
