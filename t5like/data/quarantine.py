"""What becomes of data that cannot be read: tried again, then left out and counted against a budget."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from t5like.errors import DamagedDataError, DamagedRecordError

_ATTEMPTS = 3
PAUSE_SECONDS = 0.5

Record = TypeVar("Record", covariant=True)


class Blocks(Protocol[Record]):
    """Records in blocks.

    Attributes:
      blank: what stands for a record that cannot be read, so that those that follow it keep their numbers.
    """

    num_blocks: int

    @property
    def blank(self) -> Record: ...

    def read(self, block: int, start: int = 0) -> Iterator[Record]:
        """Yields the records of a block from number `start` on; may raise DamagedDataError.

        After a DamagedRecordError, the records from the next number on can be read.
        """


class Quarantine:
    """Leaves out what stays unreadable, as long as there is not too much of it."""

    def __init__(self, budget: int, note: Callable[[str], None]) -> None:
        """Nothing is left out yet.

        Args:
          budget: places, each of a record or of the rest of a block, that may be left out before the run ends.
          note: told of each of them, in a sentence.
        """
        self._budget, self._note = budget, note
        self._damaged: set[str] = set()
        self._lock = threading.Lock()  # lanes read in several threads

    def read(self, blocks: Blocks[Record], block: int, start: int) -> Iterator[Record]:
        """Yields the records of a block from `start` on, up to damage that three attempts do not get over.

        A record that is damaged itself ends nothing: a blank one is yielded in its place.

        Raises:
          DamagedDataError: this is one place more than may be left out.
        """
        attempt = 1
        while True:
            try:
                for record in blocks.read(block, start):
                    yield record
                    start, attempt = start + 1, 1
                return
            except DamagedDataError as error:
                # The next epoch meets the same damage, and need not wait for it to pass.
                if attempt == _ATTEMPTS or str(error) in self._damaged:
                    self._leave_out(error)
                    if not isinstance(error, DamagedRecordError):
                        return
                    yield blocks.blank
                    start, attempt = start + 1, 1
                    continue
            time.sleep(PAUSE_SECONDS * attempt)
            attempt += 1

    def _leave_out(self, error: DamagedDataError) -> None:
        what = str(error)
        with self._lock:
            if what in self._damaged:
                return
            self._damaged.add(what)
            num_damaged = len(self._damaged)
        if num_damaged > self._budget:
            allowed = f"max_damaged_blocks allows {self._budget}" if self._budget else "none may be left out"
            raise DamagedDataError(
                f"{what.rstrip('.')}; it was tried {_ATTEMPTS} times, and {allowed}: raise --max_damaged_blocks to do "
                f"without {error.what_is_lost}, or mend the data and begin anew, for a run that has a checkpoint goes on "
                "only with the data it began with."
            )
        self._note(
            f"{what.rstrip('.')}; {error.what_is_lost} is left out after {_ATTEMPTS} attempts, {num_damaged} of at most "
            f"{self._budget}"
        )


class Quarantined(Generic[Record]):
    """Blocks of which what cannot be read is left out."""

    def __init__(self, blocks: Blocks[Record], quarantine: Quarantine) -> None:
        self.num_blocks = blocks.num_blocks
        self.blank = blocks.blank
        self._blocks, self._quarantine = blocks, quarantine

    def read(self, block: int, start: int = 0) -> Iterator[Record]:
        """Yields the records of a block; see `Quarantine.read`."""
        return self._quarantine.read(self._blocks, block, start)
