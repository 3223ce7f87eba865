"""Endless rows of one component, of which a lane takes every so-many-th block; the place in it is four integers."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from t5like.batch import EXAMPLE_IDS, Features
from t5like.data.example_ids import ids_of_rows
from t5like.data.quarantine import Blocks, Quarantine
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Objective

# Independent streams of random numbers under one seed.
_BLOCK_ORDER, _GROUP, _ROW_ORDER, HELD_OUT, MIXTURE = range(5)

# Times that a lane may go through as many blocks as there are without finding text; it meets others every epoch.
_FRUITLESS_PASSES = 20


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
        # Lanes are in one epoch, or two.
        self._permutation = functools.lru_cache(2)(
            lambda epoch: generator(seed, stream, component, epoch).permutation(num)
        )

    def at(self, number: int) -> tuple[int, int]:
        """Returns (epoch, thing) of a place in the order."""
        epoch, place = divmod(number, self._num)
        return epoch, int(self._permutation(epoch)[place])


class TextStream:
    """Rows that an objective makes of documents, group by group.

    A group is documents of neighbouring turns up to a number of tokens, within one epoch. Its documents are shuffled
    before the objective sees them, and its rows after.
    """

    def __init__(
        self,
        documents: Blocks[np.ndarray],
        order: EpochOrder,
        objective: Objective,
        vocabulary: Vocabulary,
        quarantine: Quarantine,
        share: Share,
        *,
        component: int,
        seed: int,
        group_tokens: int,
    ) -> None:
        self._documents, self._order, self._share = documents, order, share
        self._objective, self._vocabulary = objective, vocabulary
        self._quarantine = quarantine
        self._component, self._seed, self._group_tokens = component, seed, group_tokens
        self._reader: tuple[int, int, Iterator[np.ndarray]] | None = None  # open at (turn, record)
        self._rows: Features | None = None  # of the group at `place`, None until it is needed
        self._place = self._next = Place()

    @property
    def place(self) -> Place:
        """Of the next row."""
        return self._place

    def go_to(self, place: Place) -> None:
        """Continues with the row at a place that `place` gave."""
        self._place, self._rows, self._reader = place, None, None

    def take(self, num_rows: int) -> Features:
        """Returns the next rows; a group is read when its first row is due."""
        parts = []
        while num_rows:
            if self._rows is None:
                self._rows = self._read_group()
            start = self._place.row
            order = self._row_order[start : start + num_rows]
            if len(order):
                parts.append({name: feature[order] for name, feature in self._rows.items()})
                self._place = self._place._replace(row=start + len(order))
                num_rows -= len(order)
            if self._place.row == len(self._row_order):
                self._place, self._rows = self._next, None
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def _read_group(self) -> Features:
        """Returns the rows of the first group from `place` on that has any, and moves `place` to its beginning."""
        first_turn = self._place.turn
        while True:
            place = self._place
            epoch, _ = self._block(place.turn)
            documents, self._next = self._read_documents(place, epoch)
            lane, num_lanes = self._share
            group = place.group * num_lanes + lane
            rng = generator(self._seed, _GROUP, self._component, epoch, group)
            shuffled = [documents[number] for number in rng.permutation(len(documents))]
            rows = self._objective(shuffled, rng, self._vocabulary)
            num_rows = len(next(iter(rows.values()))) if rows else 0
            if num_rows:
                self._row_order = rng.permutation(num_rows)
                return {**rows, EXAMPLE_IDS: ids_of_rows(self._component, epoch, group, num_rows)}
            if self._next.turn - first_turn > _FRUITLESS_PASSES * self._documents.num_blocks:
                raise UserError("The training documents hold no text.")
            self._place = self._next

    def _read_documents(self, place: Place, epoch: int) -> tuple[list[np.ndarray], Place]:
        """Returns the documents of the group at a place, and the place of the next group."""
        documents: list[np.ndarray] = []
        num_tokens, turn, record = 0, place.turn, place.record
        while num_tokens < self._group_tokens:
            this_epoch, block = self._block(turn)
            if this_epoch != epoch:
                return documents, Place(turn)
            reader = self._open(turn, block, record)
            for ids in reader:
                documents.append(ids)
                num_tokens, record = num_tokens + len(ids), record + 1
                if num_tokens >= self._group_tokens:
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
        return self._quarantine.read(self._documents, block, record)

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
        """Returns the next rows; their ids have the component, the epoch and the row, and the group 0."""
        turn, (lane, num_lanes) = self._place.turn, self._share
        chosen = [self._order.at((turn + k) * num_lanes + lane) for k in range(num_rows)]
        self._place = Place(turn + num_rows)
        rows = {name: feature[[row for _, row in chosen]] for name, feature in self._rows.items()}
        ids = [ids_of_rows(self._component, epoch, 0, 1)[0] + row for epoch, row in chosen]
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
