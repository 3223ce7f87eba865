"""What a checkpoint's folder holds, file by file, written before the folder takes its name and compared when it is used.

manifest.json   {"format": 2, "files": {name: {"bytes": ..., "sha256": ...}}}
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from t5like.errors import UserError
from t5like.whole_files import write_json

MANIFEST = "manifest.json"
FORMAT = 2
"""Of checkpoints as they are written now. Those of format 1 have no manifest; a note in Orbax's own metadata tells them
from others whose manifest is gone."""

_METADATA = "_CHECKPOINT_METADATA"
# When the folder took its name is added to the metadata after that.
_ADDED_LATER = "commit_timestamp_nsecs"
_NUM_THREADS = 8


def notes(**more: Any) -> dict[str, Any]:
    """Returns what Orbax is asked to write into its own metadata: the format, and more that JSON can hold."""
    return {"format": FORMAT, **more}


def read_notes(folder: Path) -> dict[str, Any]:
    """Returns the `notes` of a checkpoint, of format 1 only that.

    Raises:
      ValueError: they cannot be read.
    """
    try:
        found = json.loads((folder / _METADATA).read_text("utf-8")).get("custom_metadata") or {"format": 1}
        if isinstance(found["format"], int):
            return dict(found)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    raise ValueError(f"{_METADATA} cannot be read")


def write_manifest(folder: Path) -> None:
    """Writes down what a folder holds, and returns when all of it is on the disk.

    Raises:
      OSError: a file cannot be read, or the manifest cannot be written.
    """
    names = _names(folder)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        entries = list(pool.map(lambda name: _entry(folder / name, syncs=True), names))
    write_json(folder / MANIFEST, {"format": FORMAT, "files": dict(zip(names, entries, strict=True))})
    for path in (*(p for p in folder.rglob("*") if p.is_dir()), folder):
        sync_folder(path)


def find_damage(folder: Path, *, item: str = "") -> str | None:
    """Returns in words what of a checkpoint is not as it was written, None where all is; one of format 1 cannot tell.

    Args:
      item: look only at what is in this folder of it, beside the metadata.

    Raises:
      UserError: it is of a later format.
    """
    try:
        written_as = read_notes(folder)["format"]
    except ValueError as error:
        return str(error)
    if written_as > FORMAT:
        raise UserError(
            f"The checkpoint {folder} is of format {written_as}, and this version of t5like reads formats up to {FORMAT}; "
            "install the version that wrote it, or a later one."
        )
    if written_as < FORMAT and not (folder / MANIFEST).exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files, is_of_format = manifest["files"], manifest["format"] == FORMAT
        is_of_format = is_of_format and isinstance(files, dict) and all(map(_is_within, files))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_of_format = False
    if not is_of_format:
        return f"{MANIFEST} cannot be read"
    names = sorted(name for name in files if name == _METADATA or name.startswith(f"{item}/" if item else ""))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = pool.map(lambda name: _difference(folder / name, files[name]), names)
        return next((f"{name} {what}" for name, what in zip(names, found, strict=True) if what), None)


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on the disk; where the file system has no such thing, at once."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError:
        pass
    finally:
        os.close(opened)


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _is_within(name: str) -> bool:
    """Returns whether a name is one that `_names` gives: nothing outside the folder is looked at."""
    parts = PurePosixPath(name).parts
    return bool(parts) and "/" not in parts and ".." not in parts and name.isprintable()


def _difference(path: Path, written: Any) -> str:
    """Returns what is the matter with a file, nothing where it is as it was."""
    try:
        entry = _entry(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not isinstance(written, dict) or entry["bytes"] != written.get("bytes"):
        return "is not as long as it was"
    return "" if entry["sha256"] == written.get("sha256") else "has changed"


def _entry(path: Path, *, syncs: bool = False) -> dict[str, Any]:
    with open(path, "rb") as file:
        if path.name == _METADATA:
            return _metadata_entry(file.read())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if syncs:
            os.fsync(file.fileno())
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


def _metadata_entry(content: bytes) -> dict[str, Any]:
    """Returns the entry of Orbax's metadata, without what it adds later."""
    try:
        fields = json.loads(content)
        fields.pop(_ADDED_LATER, None)
        content = json.dumps(fields, sort_keys=True).encode()
    except (ValueError, AttributeError, RecursionError):
        pass
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
