"""The files that a location names, on disk or wherever fsspec reaches, and stretches of their bytes."""

import dataclasses
import difflib
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from t5like.errors import UserError

_Result = TypeVar("_Result")

_NUM_THREADS = 16  # they wait for a network far more than they compute


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file as it was when the location was looked at. It holds nothing open, so it may be sent to other processes.

    Attributes:
      path: as the file system takes it.
      name: the same as the user wrote it, for messages.
      relative: the part of the path that a copy of the whole location elsewhere shares, with slashes.
      size: bytes.
    """

    filesystem: fsspec.AbstractFileSystem
    path: str
    name: str
    relative: str
    size: int

    @property
    def is_local(self) -> bool:
        """Returns whether it is on a disk of this machine."""
        return isinstance(self.filesystem, LocalFileSystem)

    def may_raise(self, error: Exception) -> bool:
        """Returns whether an error may come of reading it: a remote file system raises what it likes."""
        return isinstance(error, OSError) or not self.is_local

    def open(self) -> BinaryIO:
        """Returns it opened for reading, with seeking.

        Raises:
          OSError: it cannot be opened, or, here and in reading, whatever a remote file system says.
        """
        return open(self.path, "rb") if self.is_local else self.filesystem.open(self.path, "rb")

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes from `start` to before `end`, which is at most `size`, in one request.

        Raises:
          OSError: it cannot be read, or it has become shorter, or whatever a remote file system says.
        """
        if start >= end:
            return b""
        if self.is_local:
            with open(self.path, "rb") as file:
                file.seek(start)
                content = file.read(end - start)
        else:
            content = self.filesystem.cat_file(self.path, start=start, end=end)
        if len(content) != end - start:
            raise OSError(
                f"it has {self.size} bytes, and {len(content)} instead of {end - start} came from {start} on"
            )
        return content


def find_files(location: str) -> list[File]:
    """Returns the files of a location, at least one, by path: hidden ones are left out.

    Args:
      location: a file, a folder, read recursively, or a glob; on disk, or a URL like gs://bucket/folder.

    Raises:
      UserError: nothing is there, it cannot be looked at, or a file there is empty.
    """
    files = _remote_files(location) if "://" in location else _local_files(os.path.expanduser(location))
    if not files:
        raise UserError(f"No file matches {location!r}{_hint(location)}.")
    for file in files:
        if not file.size:
            raise UserError(f"{file.name} holds no text: it is empty; remove it, or put back what it held.")
    return sorted(files, key=lambda file: file.relative)


def in_parallel(function: Callable[[File], _Result], files: Iterable[File]) -> list[_Result]:
    """Returns what `function` gives for each file, in order: what waits for many files waits for them together."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(function, files))


def _local_files(pattern: str) -> list[File]:
    if os.path.isdir(pattern):
        root, paths = pattern, list(_files_under(pattern))
    elif os.path.lexists(pattern):
        root, paths = os.path.dirname(pattern), [pattern]
    else:
        root = _root_of_glob(pattern)
        paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    filesystem = LocalFileSystem()
    return [
        File(
            filesystem=filesystem,
            path=os.path.abspath(path),
            name=path,
            relative=os.path.relpath(path, root or os.curdir).replace(os.sep, "/"),
            size=_size_on_disk(path),
        )
        for path in paths
    ]


def _files_under(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Yields the files of a folder and of those in it; links are followed, but not to a folder that they are in.

    Args:
      above: device and inode of the folders that this one was found in.
    """
    try:
        stat = os.stat(folder)
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"Cannot read {folder}: {error.strerror}.") from error
    if (own := (stat.st_dev, stat.st_ino)) in above:
        return
    for entry in entries:
        if os.path.isdir(entry.path):
            yield from _files_under(entry.path, above | {own})
        else:
            yield entry.path


def _size_on_disk(path: str) -> int:
    try:
        with open(path, "rb") as file:  # what may not be read is told now
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


def _root_of_glob(pattern: str) -> str:
    """Returns the folder above the first part of a pattern that has wildcards."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _remote_files(location: str) -> list[File]:
    filesystem, path = _filesystem_of(location)
    try:
        root, sizes = _remote_sizes(filesystem, path)
    except FileNotFoundError:
        return []
    except Exception as error:
        # A file system says what it likes of a bucket that is gone, or closed to this user.
        raise UserError(f"Cannot look at {location}: {_first_line(error)}.") from error
    typed_root = location.rstrip("/").removesuffix(path.removeprefix(root))
    relative = {path: path.removeprefix(root).lstrip("/") for path in sizes}
    return [
        File(
            filesystem=filesystem,
            path=path,
            name=f"{typed_root.rstrip('/')}/{relative[path]}",
            relative=relative[path],
            size=size,
        )
        for path, size in sizes.items()
        if not any(part.startswith(".") for part in relative[path].split("/"))
    ]


def _remote_sizes(filesystem: fsspec.AbstractFileSystem, path: str) -> tuple[str, dict[str, int]]:
    """Returns the folder that names count from, and the size of each file at `path`, a file, folder or glob."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        if not glob.has_magic(path):
            raise
        root, found = _root_of_glob(path), filesystem.glob(path, detail=True)
    else:
        if info["type"] == "directory":
            root, found = path, filesystem.find(path, detail=True)
        else:
            root, found = os.path.dirname(path), {path: info}
    return root, {path: info["size"] for path, info in found.items() if info["type"] == "file"}


def _filesystem_of(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    protocol = location.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(location)
    except ImportError as error:
        package = "gcsfs: pip install gcsfs" if protocol in ("gs", "gcs") else f"another package ({error})"
        raise UserError(f"Reading {location} takes {package}.") from error
    except ValueError as error:
        raise UserError(
            f"Cannot open {location}: fsspec knows no file system named {protocol!r}; name files on disk, or a URL "
            "like gs://bucket/folder."
        ) from error


def _hint(location: str) -> str:
    """Returns what to say of the existing path nearest to one that matches nothing."""
    is_remote = "://" in location
    pattern = location if is_remote else os.path.expanduser(location)
    filesystem = _filesystem_of(location)[0] if is_remote else LocalFileSystem()
    try:
        if filesystem.isdir(pattern):
            return ", a folder without files"
        parent, missing = os.path.split(pattern.rstrip("/"))
        while parent and not filesystem.isdir(parent):
            parent, missing = os.path.split(parent)
        if glob.has_magic(missing) or (is_remote and not parent):
            return ""
        names = [os.path.basename(path) for path in filesystem.ls(parent or os.curdir, detail=False)]
    except Exception:  # there is an error to tell already
        return ""
    if close := difflib.get_close_matches(missing, names, n=1):
        return f"; the nearest name there is {os.path.join(parent, close[0])!r}"
    return f"; {parent or 'the current folder'} holds no {missing!r}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
