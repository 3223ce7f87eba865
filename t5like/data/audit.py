"""The record of which examples a run learned from: one line a batch, `{"step": 7, "example_ids": [[...], ...]}`.

Line n is of the batch that made state n + 1. See `t5like.data.example_ids` for what an id says.
"""

import contextlib
import json
from pathlib import Path
from typing import IO

from t5like.batch import BatchIterator, DerivedBatches, Features, ids_of_examples
from t5like.errors import UserError

AUDIT_FILE = "audit.jsonl"


class Audited(DerivedBatches):
    """Batches whose example ids are written down when they are handed out."""

    def __init__(self, batches: BatchIterator, path: Path, *, first_step: int) -> None:
        """Cuts off what an earlier attempt wrote of batches that this one hands out again.

        Args:
          first_step: of the next batch.
        """
        super().__init__(batches)
        self._path, self._step = path, first_step
        self._file: IO[bytes] | None = None

    def __next__(self) -> Features:
        """Returns the next batch; its line is on disk, as far as the system sees to it, before the batch is used.

        Raises:
          UserError: the line cannot be written.
        """
        batch = next(self._batches)
        if self._file is None:
            self._file = _opened_at(self._path, self._step)
        row = {"step": self._step, "example_ids": ids_of_examples(batch)}
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error
        self._step += 1
        return batch

    def close(self) -> None:
        """Closes the file; the batches are for whoever made them to close."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # of a line that could not be written, which was said then
                self._file.close()


def _opened_at(path: Path, step: int) -> IO[bytes]:
    """Returns the file, open at its end, cut after the lines of earlier steps.

    Raises:
      UserError: it cannot be read or written, or holds something else.
    """
    try:
        file = path.open("r+b" if path.exists() else "w+b")
    except OSError as error:
        raise _unwritable(path, error) from error
    end = 0
    try:
        for line in file:
            # The last line of a run that was killed may be half one.
            if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                break
            end += len(line)
        file.truncate(end)
        file.seek(end)
    except OSError as error:
        file.close()
        raise _unwritable(path, error) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        file.close()
        raise UserError(f"{path} is damaged after byte {end}; remove it, or cut it there.") from error
    return file


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written: {error.strerror or error}; make room there, or leave --audits_examples out."
    )
