"""Texts in files: which block is in which file, whatever kinds the files are of."""

import abc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from t5like.data.sources.base import Source
from t5like.data.sources.fields import FieldError, RecordError, WrongFieldError
from t5like.data.sources.files import File
from t5like.errors import DamagedDataError, DamagedRecordError, UserError


class Format(abc.ABC):
    """How files of one kind hold texts; one object serves all files of the kind in a source.

    Attributes:
      layout: all that decides blocks and texts beside what the files hold, for fingerprints.
      block_name: what a block is in such a file, for messages.
    """

    layout: str
    block_name: ClassVar[str]

    @abc.abstractmethod
    def num_blocks(self, file: File) -> int:
        """Returns the blocks of a file, without reading it."""

    @abc.abstractmethod
    def read(self, file: File, block: int, start: int) -> Iterator[str]:
        """Yields the texts of a block of a file from its record number `start` on.

        Raises:
          RecordError: of the record that would come next, which is not what it should be; those that follow it can be
            read from their numbers on.
          DamagedDataError: of anything else that is wrong with the content.
          UserError: the file is of another kind than its name says.
          OSError: the file cannot be read.
        """

    @abc.abstractmethod
    def place(self, file: File, block: int, record: int) -> str:
        """Returns the name of the file and where in it a record is."""


class FileSource(Source):
    """The texts of files, in the order of the files, each read by its kind."""

    def __init__(self, location: str, files: Sequence[tuple[File, Format]]) -> None:
        """Takes the files of a location.

        Raises:
          UserError: together they hold no text, or the first record of a kind has no text in the field asked for.
        """
        self.location = location
        self._files = files
        # The first block of each file, and one more: files are many and blocks far more.
        counts = [0, *(form.num_blocks(file) for file, form in files)]
        self._first_blocks = np.cumsum(counts, dtype=np.int64)
        self.num_blocks = int(self._first_blocks[-1])
        # Damage that is met here is for whoever reads the texts, and may leave some of it out.
        self._look_at_first_records()
        self._look_for_text()

    def _look_at_first_records(self) -> None:
        seen: set[str] = set()
        for index, (_, form) in enumerate(self._files):
            if form.layout not in seen and self._first_blocks[index] < self._first_blocks[index + 1]:
                seen.add(form.layout)
                try:
                    next(self.read(int(self._first_blocks[index])), None)
                except WrongFieldError as error:
                    raise UserError(str(error)) from error
                except DamagedDataError:
                    pass

    def _look_for_text(self) -> None:
        try:
            for block in range(self.num_blocks):
                if any(text.strip() for text in self.read(block)):
                    return
        except DamagedDataError:
            return
        raise UserError(f"{self.location} holds no text.")

    def _find(self, block: int) -> tuple[File, Format, int]:
        """Returns the file that a block is in, its format, and the number of the block in it."""
        if not 0 <= block < self.num_blocks:
            raise IndexError(f"block {block} of {self.num_blocks}")
        index = int(np.searchsorted(self._first_blocks, block, side="right")) - 1
        return *self._files[index], block - int(self._first_blocks[index])

    def read(self, block: int, start: int = 0) -> Iterator[str]:
        """Yields the texts of a block from its record number `start` on."""
        file, form, inner = self._find(block)
        record = start
        try:
            for text in form.read(file, inner, start):
                yield text
                record += 1
        except RecordError as error:
            kind = WrongFieldError if isinstance(error, FieldError) else DamagedRecordError
            raise kind(f"{self.place(block, record)}: {error}.") from error
        except DamagedDataError as error:
            error.what_is_lost = f"the rest of this {form.block_name}"
            raise
        except Exception as error:
            if isinstance(error, UserError) or not file.may_raise(error):
                raise
            reason = (isinstance(error, OSError) and error.strerror) or error or type(error).__name__
            damage = DamagedDataError(f"Cannot read {_place_by_number(file, form, inner, record)}: {reason}.")
            damage.what_is_lost = f"the rest of this {form.block_name}"
            raise damage from error

    def place(self, block: int, record: int) -> str:
        """Returns where a record is, by its number in its block where the file cannot be read to find out."""
        file, form, inner = self._find(block)
        try:
            return form.place(file, inner, record)
        except Exception as error:
            if not file.may_raise(error):
                raise
            return _place_by_number(file, form, inner, record)

    def fingerprint(self) -> str:
        """Returns a sha256 in hex of the paths, sizes and numbers of blocks of the files, and of how each is read."""
        return _sha256(
            [file.relative, file.size, form.num_blocks(file), form.layout] for file, form in self._files
        )

    def digest(self, file_digest: Callable[[str], str]) -> str:
        """Returns a sha256 in hex of those of the files' content in order, and of how and how far each is read."""
        # The size is that of the file when it was found: one that has grown since is read up to there.
        return _sha256([file_digest(file.name), file.size, form.layout] for file, form in self._files)


def _place_by_number(file: File, form: Format, block: int, record: int) -> str:
    within = f" of its block {block}" if form.num_blocks(file) > 1 else ""
    return f"{file.name}, record {record}{within}"


def _sha256(rows: Iterator[list[str | int]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
