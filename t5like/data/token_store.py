"""The token store: ids of texts that were encoded before, so that a run need not.

A run reads the same ids with a store as without one, so a store may appear, grow or vanish between two starts. Under
one root there is a folder for each content and vocabulary, named by a hash of both:

    digests.json                              see file_digests.py
    3f9c.../description.json                  what it was made of, for people
    3f9c.../part-00042-of-00100               the ids of some neighbouring blocks, see token_parts.py

A part is whole or absent. What is not stored, or damaged, is read and encoded as if there were no store.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t5like.data.encoded import Encoded
from t5like.data.file_digests import FileDigests, FileStates, file_states
from t5like.data.processes import in_processes
from t5like.data.quarantine import Retried
from t5like.data.sources.base import Source
from t5like.data.token_parts import DamagedPartError, Part, PartName, PartSize, write_part
from t5like.data.vocabulary import Vocabulary, load_vocabulary, save_vocabulary
from t5like.errors import DamagedDataError, UserError
from t5like.whole_files import remove_abandoned, whole_file

# Raised whenever parts are laid out otherwise, or the same text and vocabulary give other ids.
_FORMAT = 1
_MAX_PARTS = 4096

# What computes ids, and may do so otherwise in another version.
_LIBRARIES = {
    "sentencepiece": ("sentencepiece",),
    "wordpiece": ("tokenizers",),
    "byte_level_bpe": ("tokenizers",),
    "bytes": (),
}
_DESCRIPTION_FILE = "description.json"
_DIGESTS_FILE = "digests.json"

Note = Callable[[str], None]


class _Layout(NamedTuple):
    """Where the ids of a block are: decided without reading anything, so that builders need not agree."""

    folder: Path
    key: str
    num_blocks: int
    id_dtype: np.dtype

    @property
    def blocks_per_part(self) -> int:
        return _blocks_per_part(self.num_blocks)

    @property
    def num_parts(self) -> int:
        return count_parts(self.num_blocks)

    def blocks(self, part: int) -> range:
        first = part * self.blocks_per_part
        return range(first, min(first + self.blocks_per_part, self.num_blocks))

    def path(self, part: int) -> Path:
        return self.folder / f"part-{part:05}-of-{self.num_parts:05}"

    def name(self, part: int) -> PartName:
        return PartName(bytes.fromhex(self.key), part, self.id_dtype)

    def open(self, part: int) -> Part:
        return Part(self.path(part), self.name(part))


def count_parts(num_blocks: int) -> int:
    """Returns into how many parts a source of so many blocks is stored."""
    return -(-num_blocks // _blocks_per_part(num_blocks))


def _blocks_per_part(num_blocks: int) -> int:
    """Returns the smallest power of two that makes no more parts than there may be: of 10,000 blocks 4."""
    return 1 << (-(-num_blocks // _MAX_PARTS) - 1).bit_length()


class TokenStore:
    """The ids of each text of a source, in its blocks, from a store or else from the texts."""

    blank = Encoded.blank

    def __init__(self, layout: _Layout, source: Source, vocabulary: Vocabulary, note: Note) -> None:
        self.folder = layout.folder
        self.num_blocks = layout.num_blocks
        self.num_parts = layout.num_parts
        self._layout, self._note = layout, note
        self._encoded = Encoded(source, vocabulary)
        self._damaged: set[int] = set()

    def read(self, block: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yields the ids [num_tokens] int32 of each record of a block, from record `start` on.

        Raises:
          DamagedDataError: it is not stored, and `Encoded` raises it.
        """
        number = block // self._layout.blocks_per_part
        if number not in self._damaged:
            try:
                with self._layout.open(number) as part:
                    for ids in part.read(block, start):
                        yield ids
                        start += 1
                return
            except FileNotFoundError:
                pass
            except (DamagedPartError, OSError) as error:
                self._damaged.add(number)
                self._note(
                    f"{self._layout.path(number)} is damaged and not used, {_reason(error)}; `t5like tokenize` makes "
                    "it anew"
                )
        yield from self._encoded.read(block, start)

    @property
    def num_parts_stored(self) -> int:
        """How many parts are there by now."""
        return sum(self._layout.path(number).exists() for number in range(self.num_parts))

    @property
    def is_complete(self) -> bool:
        """Whether all parts are there."""
        return self.num_parts_stored == self.num_parts

    @property
    def size(self) -> PartSize:
        """Records, ids and bytes of the parts that are there and can be read."""
        total = PartSize()
        for number in range(self.num_parts):
            with contextlib.suppress(DamagedPartError, OSError), self._layout.open(number) as part:
                total = total.plus(part.size)
        return total


def open_store(root: Path, source: Source, vocabulary: Vocabulary, *, note: Note) -> TokenStore | None:
    """Returns the store of exactly this content and vocabulary, whole or partial; None where there is none.

    The content is read where it may have changed since it was last.

    Args:
      note: told of what is damaged, and of much to read.

    Raises:
      UserError: the content cannot be read.
    """
    if not any(_may_be_of(path, source, vocabulary) for path in root.glob(f"*/{_DESCRIPTION_FILE}")):
        return None
    digest = FileDigests(root / _DIGESTS_FILE, note).of(source)
    layout = _layout(root, digest, source, vocabulary)
    return TokenStore(layout, source, vocabulary, note) if layout.folder.is_dir() else None


def build_store(
    root: Path,
    source: Source,
    vocabulary: Vocabulary,
    *,
    num_processes: int,
    note: Note,
    progress: Callable[[int, PartSize], None] = lambda num_parts, made: None,
) -> TokenStore:
    """Returns the store of a source, having made every part that was missing or damaged.

    It may be killed at any time, and others may build the same store beside it. A part in which data are damaged is left
    out. A process holds some megabytes of text and ids beside what the source itself needs.

    Args:
      note: told of what is left out, and of much to read.
      progress: told after every part how many are done, and what those hold that were made now.

    Raises:
      UserError: the store cannot be written, the content cannot be read, or it changed meanwhile.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        states = file_states(source)
        digest = FileDigests(root / _DIGESTS_FILE, note).of(source)
        layout = _layout(root, digest, source, vocabulary)
        layout.folder.mkdir(exist_ok=True)
        for folder in (root, layout.folder):
            remove_abandoned(folder)
        _describe(layout, source, digest, vocabulary)
    except OSError as error:
        raise _unwritable(root, error) from error
    made = []
    try:
        # From anywhere on, so that several builders are in different places.
        first = secrets.randbelow(layout.num_parts)
        numbers = [(first + k) % layout.num_parts for k in range(layout.num_parts)]
        made_size = PartSize()
        builder = _Builder(layout, source, vocabulary, states)
        with contextlib.closing(_results(builder, numbers, num_processes)) as results:
            for num_done, result in enumerate(results, 1):
                if result.is_made:
                    made.append(result.number)
                    made_size = made_size.plus(result.size)
                if result.remark is not None:
                    note(f"{layout.path(result.number).name}: {result.remark}")
                progress(num_done, made_size)
    finally:
        with contextlib.suppress(OSError):
            remove_abandoned(layout.folder)  # of processes that were ended
        if is_changed := not _are_still(source, states):
            for number in made:  # of one content or the other
                layout.path(number).unlink(missing_ok=True)
    if is_changed:
        raise _changed(source)
    return TokenStore(layout, source, vocabulary, note)


class _Result(NamedTuple):
    """What became of a part."""

    number: int
    size: PartSize
    is_made: bool
    remark: str | None


def _results(builder: "_Builder", numbers: list[int], num_processes: int) -> Generator[_Result, None, None]:
    """Yields what became of each part, as it comes."""
    if num_processes == 1:
        yield from map(builder, numbers)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_vocabulary(builder.vocabulary, folder)  # not all kinds can be pickled
        prepare = functools.partial(_load_builder, builder.layout, builder.source, folder, builder.states)
        yield from in_processes(prepare, numbers, num_processes=num_processes)


def _load_builder(layout: _Layout, source: Source, vocabulary_folder: str, states: FileStates) -> "_Builder":
    return _Builder(layout, source, load_vocabulary(vocabulary_folder), states)


class _Builder:
    """Makes a part that is missing or damaged, and says what it holds.

    Attributes:
      states: of the files, as they were before the content was hashed.
    """

    def __init__(self, layout: _Layout, source: Source, vocabulary: Vocabulary, states: FileStates) -> None:
        self.layout, self.source, self.vocabulary, self.states = layout, source, vocabulary, states
        self._encoded = Retried(Encoded(source, vocabulary))

    def _check_is_still(self) -> None:
        """Returns if the files on this machine are as they were; others are asked for at the end."""
        if not _are_still(self.source, self.states, local_only=True):
            raise _changed(self.source)

    def __call__(self, number: int) -> _Result:
        path, remark = self.layout.path(number), None
        try:
            with self.layout.open(number) as part:
                part.check()
                return _Result(number, part.size, False, None)
        except FileNotFoundError:
            pass
        except (DamagedPartError, OSError) as error:
            remark = f"was damaged and is made anew, {_reason(error)}"
        try:
            try:
                write_part(
                    path,
                    self.layout.name(number),
                    self._encoded,
                    self.layout.blocks(number),
                    check=self._check_is_still,
                )
            except DamagedDataError as error:
                if remark is not None:  # what is there is known to be damaged
                    path.unlink(missing_ok=True)
                return _Result(number, PartSize(), False, f"is left out, {error}")
            with self.layout.open(number) as part:
                return _Result(number, part.size, True, remark)
        except OSError as error:
            raise _unwritable(path, error) from error


def _layout(root: Path, source_digest: str, source: Source, vocabulary: Vocabulary) -> _Layout:
    content = json.dumps([_FORMAT, source_digest, source.num_blocks, _preprocessing(vocabulary)])
    key = hashlib.sha256(content.encode()).hexdigest()
    is_narrow = vocabulary.num_tokens <= 2**16
    return _Layout(root / key, key, source.num_blocks, np.dtype("<u2" if is_narrow else "<i4"))


def _preprocessing(vocabulary: Vocabulary) -> dict[str, Any]:
    """Returns what decides the ids of a text, in JSON's terms."""
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES[vocabulary.kind]}
    return {"vocabulary_sha256": vocabulary.sha256, "libraries": versions}


def _may_be_of(path: Path, source: Source, vocabulary: Vocabulary) -> bool:
    """Returns whether it is worth hashing the content to know whether the store described here is that of it."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        return description["num_blocks"] == source.num_blocks and description[
            "preprocessing"
        ] == _preprocessing(vocabulary)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # it is the key that decides


def _are_still(source: Source, states: FileStates, *, local_only: bool = False) -> bool:
    try:
        now = file_states(source, local_only=local_only)
    except UserError:
        return False
    return all(states[name] == state for name, state in now.items())


def _changed(source: Source) -> UserError:
    return UserError(
        f"{source.location} changed while it was tokenised; start again when nothing writes to it."
    )


def _describe(layout: _Layout, source: Source, source_digest: str, vocabulary: Vocabulary) -> None:
    path = layout.folder / _DESCRIPTION_FILE
    description = {
        "format": _FORMAT,
        "location": source.location,
        "source_digest": source_digest,
        "num_blocks": layout.num_blocks,
        "num_parts": layout.num_parts,
        "preprocessing": _preprocessing(vocabulary),
        "vocabulary_kind": vocabulary.kind,
        "id_dtype": layout.id_dtype.name,
    }
    with whole_file(path) as file:
        file.write((json.dumps(description, indent=2) + "\n").encode())


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"The token store {path} cannot be written: {error.strerror or error}; make room there, or name another folder "
        "with --token_store. What was finished is kept."
    )


def _reason(error: Exception) -> str:
    return f"{(isinstance(error, OSError) and error.strerror) or error}"
