"""Endless rows of one component, of which a lane takes every so-many-th block; the place in it is four integers."""

import concurrent.futures
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from t5like.batch import EXAMPLE_IDS, Features
from t5like.data.example_ids import id_of_row, ids_of_rows
from t5like.data.quarantine import Blocks, Quarantine
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Objective

# Independent streams of random numbers under one seed.
_BLOCK_ORDER, _GROUP, _ROW_ORDER, HELD_OUT, MIXTURE = range(5)

# Times that a lane may go through as many blocks as there are without finding text; it meets others every epoch.
_FRUITLESS_PASSES = 20


# Of epochs that lanes are in at a time, the permutations in memory, at 4 bytes a block: a few megabytes of C4's.
_PERMUTATIONS_KEPT = 8


class Place(NamedTuple):
    """Where a stream is: the group at hand begins at a record of a block, and so many of its rows have been given."""

    turn: int = 0  # blocks that this lane is past
    record: int = 0  # of the block
    group: int = 0  # groups of this epoch that this lane is past
    row: int = 0  # of the group


class Share(NamedTuple):
    """Which lane of how many; lane 1 of 4 has the blocks 1, 5, 9, ... of the endless order."""

    lane: int
    num_lanes: int


class Stream(Protocol):
    """Endless rows with a place to go on from."""

    @property
    def place(self) -> Place:
        """Of the next row."""

    def go_to(self, place: Place) -> None:
        """Continues with the row at a place that `place` gave."""

    def take(self, num_rows: int) -> Features:
        """Returns the next rows [num_rows, ...] with their `example_ids` [num_rows] int64."""


class EpochOrder:
    """An endless order of `num` things: a fresh permutation of them every epoch."""

    def __init__(self, num: int, *, seed: int, component: int, stream: int = _BLOCK_ORDER) -> None:
        self._num = num
        # Lanes may be epochs apart, where blocks are few and uneven, and come back to theirs in turns.
        self._permutation = functools.lru_cache(_PERMUTATIONS_KEPT)(
            lambda epoch: generator(seed, stream, component, epoch).permutation(
                np.arange(num, dtype=np.int32)
            )
        )

    def at(self, number: int) -> tuple[int, int]:
        """Returns (epoch, thing) of a place in the order."""
        epoch, place = divmod(number, self._num)
        return epoch, int(self._permutation(epoch)[place])


class Making(NamedTuple):
    """What makes rows of documents, the same for all streams of a run."""

    objective: Objective
    vocabulary: Vocabulary
    quarantine: Quarantine
    executor: concurrent.futures.Executor  # in which groups are made
    seed: int
    group_tokens: int  # at which a group is full
    row_tokens: int  # that a document counts at least, because it makes a row of its own; 0 where documents are joined


class _Group(NamedTuple):
    """Rows that were made together."""

    place: Place  # of the first row
    following: Place  # of the next group
    rows: Features  # in the order in which they are given


class TextStream:
    """Rows that an objective makes of documents, group by group.

    A group is documents of neighbouring turns up to a number of tokens, within one epoch. Its documents are shuffled
    before the objective sees them, and its rows after. The next group is made while the rows of one are given.
    """

    def __init__(
        self,
        documents: Blocks[np.ndarray],
        order: EpochOrder,
        making: Making,
        share: Share,
        *,
        component: int,
    ) -> None:
        self._documents, self._order, self._making, self._share = documents, order, making, share
        self._component = component
        self._reader: tuple[int, int, Iterator[np.ndarray]] | None = None  # open at (turn, record)
        self._group: _Group | None = None  # None until it is needed
        self._next_group: concurrent.futures.Future[_Group] | None = None
        self._place = Place()

    @property
    def place(self) -> Place:
        """Of the next row."""
        return self._place

    def go_to(self, place: Place) -> None:
        """Continues with the row at a place that `place` gave."""
        if self._next_group is not None and not self._next_group.cancel():
            concurrent.futures.wait([self._next_group])  # it has the reader
        self._place, self._group, self._next_group, self._reader = place, None, None, None

    def take(self, num_rows: int) -> Features:
        """Returns the next rows."""
        parts = []
        while num_rows:
            if self._group is None:
                self._group = self._due_group()
            group, start = self._group, self._place.row
            taken = {name: feature[start : start + num_rows] for name, feature in group.rows.items()}
            if num_taken := len(taken[EXAMPLE_IDS]):
                parts.append(taken)
                self._place = self._place._replace(row=start + num_taken)
                num_rows -= num_taken
            if self._place.row == len(group.rows[EXAMPLE_IDS]):
                self._place, self._group = group.following, None
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def _due_group(self) -> _Group:
        if self._next_group is None:
            self._next_group = self._making.executor.submit(self._make_group, self._place._replace(row=0))
        group = self._next_group.result()
        self._next_group = self._making.executor.submit(self._make_group, group.following)
        self._place = group.place._replace(row=self._place.row)
        return group

    def _make_group(self, place: Place) -> _Group:
        """Returns the first group from a place on that has any rows."""
        first_turn, making = place.turn, self._making
        while True:
            epoch, _ = self._block(place.turn)
            documents, following = self._read_documents(place, epoch)
            lane, num_lanes = self._share
            number = place.group * num_lanes + lane
            rng = generator(making.seed, _GROUP, self._component, epoch, number)
            shuffled = [documents[index] for index in rng.permutation(len(documents))]
            rows = making.objective(shuffled, rng, making.vocabulary)
            num_rows = len(next(iter(rows.values()))) if rows else 0
            if num_rows:
                rows[EXAMPLE_IDS] = ids_of_rows(self._component, epoch, number, num_rows)
                order = rng.permutation(num_rows)
                return _Group(place, following, {name: feature[order] for name, feature in rows.items()})
            if following.turn - first_turn > _FRUITLESS_PASSES * self._documents.num_blocks:
                raise UserError("The training documents hold no text.")
            place = following

    def _read_documents(self, place: Place, epoch: int) -> tuple[list[np.ndarray], Place]:
        """Returns the documents of the group at a place, and the place of the next group."""
        documents: list[np.ndarray] = []
        num_tokens, turn, record = 0, place.turn, place.record
        while num_tokens < self._making.group_tokens:
            this_epoch, block = self._block(turn)
            if this_epoch != epoch:
                return documents, Place(turn)
            reader = self._open(turn, block, record)
            for ids in reader:
                documents.append(ids)
                num_tokens += max(len(ids), self._making.row_tokens)
                record += 1
                if num_tokens >= self._making.group_tokens:
                    self._reader = (
                        turn,
                        record,
                        reader,
                    )  # a compressed file is not read again from its beginning
                    break
            else:
                turn, record = turn + 1, 0
        return documents, Place(turn, record, place.group + 1)

    def _open(self, turn: int, block: int, record: int) -> Iterator[np.ndarray]:
        if self._reader is not None and self._reader[:2] == (turn, record):
            return self._reader[2]
        return self._making.quarantine.read(self._documents, block, record)

    def _block(self, turn: int) -> tuple[int, int]:
        """Returns (epoch, block) of one of this lane's turns."""
        return self._order.at(turn * self._share.num_lanes + self._share.lane)


class RowStream:
    """Rows that are all there, such as the examples of a task, in a fresh order every epoch."""

    def __init__(self, rows: Features, order: EpochOrder, share: Share, *, component: int) -> None:
        self._rows, self._order, self._share = rows, order, share
        self._component = component
        self._place = Place()

    @property
    def place(self) -> Place:
        """Of the next row."""
        return self._place

    def go_to(self, place: Place) -> None:
        """Continues with the row at a place that `place` gave."""
        self._place = place

    def take(self, num_rows: int) -> Features:
        """Returns the next rows; see `id_of_row` for their ids."""
        turn, (lane, num_lanes) = self._place.turn, self._share
        chosen = [self._order.at((turn + k) * num_lanes + lane) for k in range(num_rows)]
        self._place = Place(turn + num_rows)
        rows = {name: feature[[row for _, row in chosen]] for name, feature in self._rows.items()}
        ids = [id_of_row(self._component, epoch, row) for epoch, row in chosen]
        return {**rows, EXAMPLE_IDS: np.array(ids, np.int64)}


def generator(seed: int, stream: int, *numbers: int) -> np.random.Generator:
    """Returns the random numbers of one purpose and place under a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *numbers)))


def concatenate(parts: Sequence[Features]) -> Features:
    """Returns the rows of all parts, one after another.

    Ids of packed rows, one for each segment, are widened to the most segments:

        example_ids [[1 2]], [[3 4 5]]   ->   [[1 2 -1] [3 4 5]]
    """
    joined = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != EXAMPLE_IDS
    }
    ids = [part[EXAMPLE_IDS] for part in parts]
    if ids[0].ndim == 2:
        widest = max(part.shape[1] for part in ids)
        ids = [np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=-1) for part in ids]
    return {**joined, EXAMPLE_IDS: np.concatenate(ids)}
