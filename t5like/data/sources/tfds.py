"""TFDS data sets as sources: a block is a range of records."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from t5like.data.sources.base import Source
from t5like.data.sources.block_sizes import records_per_block
from t5like.data.sources.fields import FieldError, RecordError, WrongFieldError, missing_field, text_of_value
from t5like.data.standard_library import Split
from t5like.data.tfds_source import open_data_source
from t5like.errors import DamagedDataError, DamagedRecordError, UserError

_BATCH_RECORDS = 32


class Tfds(Source):
    """The records of a split of a TFDS data set."""

    def __init__(self, location: str, name: str, split: Split, text_field: str) -> None:
        """Opens a data set, which is downloaded and prepared first if need be.

        Raises:
          UserError: there is no such data set, split or field, or the data set can be neither read nor prepared here.
        """
        self.location = location
        self._name = name
        self._text_field = text_field
        alternative = "name files of text instead"
        if split == "validation":
            alternative = "name other held-out text with --validation_data"
        self._records = open_data_source(name, split, alternative=alternative)
        if text_field not in self._records.fields:
            raise UserError(f"TFDS data set {name} has {missing_field(text_field, self._records.fields)}.")
        self._block_records = records_per_block(len(self._records))
        self.num_blocks = -(-len(self._records) // self._block_records)
        try:
            next(self.read(0))
        except WrongFieldError as error:
            raise UserError(str(error)) from error
        except DamagedDataError:  # for whoever reads the texts, and may leave some of it out
            pass

    def read(self, block: int, start: int = 0) -> Iterator[str]:
        """Yields the texts of the records of a block."""
        first = block * self._block_records
        end = min(first + self._block_records, len(self._records))
        for begin in range(first + start, end, _BATCH_RECORDS):
            batch = self._records[begin : min(begin + _BATCH_RECORDS, end)]
            for number, record in enumerate(batch, begin):
                try:
                    yield text_of_value(record[self._text_field], self._text_field)
                except RecordError as error:
                    kind = WrongFieldError if isinstance(error, FieldError) else DamagedRecordError
                    raise kind(f"{self.place(block, number - first)}: {error}.") from error

    def place(self, block: int, record: int) -> str:
        """Returns the number of a record in its split."""
        return f"TFDS data set {self._name}, record {block * self._block_records + record}"

    def fingerprint(self) -> str:
        """Returns a sha256 in hex of the name with its version, of the names and sizes of its files, and of the layout."""
        return self._sha256([[os.path.basename(path), os.path.getsize(path)] for path in self._records.paths])

    def digest(self, file_digest: Callable[[str], str]) -> str:
        """Returns a sha256 in hex of those of its files, and of the layout."""
        return self._sha256([file_digest(path) for path in self._records.paths])

    def _sha256(self, files: list[Any]) -> str:
        layout = [self._records.full_name, len(self._records), self._block_records, self._text_field]
        return hashlib.sha256(json.dumps([layout, files]).encode()).hexdigest()
