"""What becomes of data that cannot be read: tried again, then left out and counted against a budget."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

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
        self._damaged: set[tuple[int, int, int | None]] = set()  # which blocks, block, and record or its rest
        self._lock = threading.Lock()  # lanes read in several threads

    def read(self, blocks: Blocks[Record], block: int, start: int) -> Iterator[Record]:
        """Yields the records of a block from `start` on, up to damage that three attempts do not get over.

        A record that is damaged itself ends nothing: a blank one is yielded in its place.

        Raises:
          DamagedDataError: this is one place more than may be left out.
        """
        while True:
            number = start
            try:
                for record in tried(blocks, block, start, is_known=self._is_known(blocks, block)):
                    yield record
                    number += 1
                return
            except DamagedDataError as error:
                is_record = isinstance(error, DamagedRecordError)
                self._leave_out((id(blocks), block, number if is_record else None), error)
                if not is_record:
                    return
                yield blocks.blank
                start = number + 1

    def _is_known(self, blocks: Blocks[Any], block: int) -> Callable[[int], bool]:
        """Returns whether a record, or the rest of its block, was left out before: it need not be waited for again."""
        return lambda number: (
            not self._damaged.isdisjoint(((id(blocks), block, number), (id(blocks), block, None)))
        )

    def _leave_out(self, place: tuple[int, int, int | None], error: DamagedDataError) -> None:
        what = str(error)
        with self._lock:
            if place in self._damaged:  # the next epoch meets the same damage, whatever is said of it
                return
            self._damaged.add(place)
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


def tried(
    blocks: Blocks[Record], block: int, start: int, *, is_known: Callable[[int], bool] = lambda number: False
) -> Iterator[Record]:
    """Yields the records of a block from `start` on, trying three times to get over what cannot be read.

    Args:
      is_known: whether a record is known to be damaged, so that once is enough.

    Raises:
      DamagedDataError: it stays.
    """
    attempt = 1
    while True:
        try:
            for record in blocks.read(block, start):
                yield record
                start, attempt = start + 1, 1
            return
        except DamagedDataError:
            if attempt == _ATTEMPTS or is_known(start):
                raise
        time.sleep(PAUSE_SECONDS * attempt)
        attempt += 1


class Quarantined(Generic[Record]):
    """Blocks of which what cannot be read is left out."""

    def __init__(self, blocks: Blocks[Record], quarantine: Quarantine) -> None:
        self.num_blocks = blocks.num_blocks
        self.blank = blocks.blank
        self._blocks, self._quarantine = blocks, quarantine

    def read(self, block: int, start: int = 0) -> Iterator[Record]:
        """Yields the records of a block; see `Quarantine.read`."""
        return self._quarantine.read(self._blocks, block, start)


class Retried(Generic[Record]):
    """Blocks of which what cannot be read is tried again."""

    def __init__(self, blocks: Blocks[Record]) -> None:
        self.num_blocks = blocks.num_blocks
        self.blank = blocks.blank
        self._blocks = blocks

    def read(self, block: int, start: int = 0) -> Iterator[Record]:
        """Yields the records of a block; see `tried`."""
        return tried(self._blocks, block, start)
