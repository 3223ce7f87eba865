"""Lanes: the fixed number of independent streams of rows that a global batch is made of.

A batch of B rows from L lanes has rows 0 to B/L - 1 of lane 0, the next B/L of lane 1, and so on. Lanes know nothing of
one another, so hosts only share rows out: the batch is the same for any number of them.
"""

import concurrent.futures
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from t5like.batch import EXAMPLE_IDS, Features
from t5like.data.mixture import Schedule
from t5like.data.packing import pack
from t5like.data.streams import MIXTURE, Place, Share, Stream, concatenate, generator
from t5like.errors import UserError

MAX_LANES = 64
_MIN_BLOCKS = 8  # of a lane

# Examples that are packed together: more fill rows better, and take more memory and time to resume.
PACKING_WINDOW = 1024


class HostShare(NamedTuple):
    """Which host of how many; host 1 of 4 has the second quarter of the rows of every batch."""

    host: int
    num_hosts: int


ONLY_HOST = HostShare(0, 1)


class Packing(NamedTuple):
    """How examples are put together in rows."""

    pad_id: int
    window: int = PACKING_WINDOW


def count_lanes(batch_size: int, num_blocks: int) -> int:
    """Returns the number of lanes: the largest power of two that divides the batch and gives each lane eight blocks.

    A lane that has few blocks, one of them a large file, would still be in it when others are epochs ahead.

    A batch of 48 rows from 1000 blocks: 16; from 100 blocks: 8; from a single block: 1.
    """
    lanes = math.gcd(batch_size, MAX_LANES)
    while lanes > 1 and lanes * _MIN_BLOCKS > num_blocks:
        lanes //= 2
    return lanes


def rows_of_a_host(batch_size: int, share: HostShare) -> int:
    """Returns how many rows of a batch each host has.

    Raises:
      UserError: they cannot be shared out evenly.
    """
    if batch_size % share.num_hosts:
        nearest = max(1, round(batch_size / share.num_hosts)) * share.num_hosts
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {share.num_hosts} hosts; the nearest that can is {nearest}."
        )
    return batch_size // share.num_hosts


class Lane:
    """One lane: rows of a mixture of components, packed or as they come."""

    def __init__(
        self,
        streams: Sequence[Stream],
        schedule: Schedule,
        share: Share,
        *,
        packing: Packing | None,
        seed: int,
    ) -> None:
        self._streams, self._schedule, self._share = streams, schedule, share
        self._packing, self._seed = packing, seed
        self._num_drawn = 0  # examples drawn of all components, of the window's at its beginning
        self._counts = np.zeros(len(streams), np.int64)  # of each component, since the beginning
        self._window: Features | None = None
        self._row = 0  # of the window, where examples are packed

    def get_state(self) -> dict[str, Any]:
        """Returns where the lane is, in whole numbers; with packing, where its window begins and how far it got."""
        places = [list(stream.place) for stream in self._streams]
        if self._window is not None:
            return {**self._window_state, "row": self._row}
        return {
            "drawn": self._num_drawn,
            "row": self._row,
            "counts": self._counts.tolist(),
            "places": places,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `get_state` gave."""
        self._num_drawn, self._row = int(state["drawn"]), int(state["row"])
        self._counts = np.array(state["counts"], np.int64)
        self._window = None
        for stream, place in zip(self._streams, state["places"], strict=True):
            stream.go_to(Place(*place))

    def take(self, num_rows: int) -> Features:
        """Returns the next rows [num_rows, ...]."""
        if self._packing is None:
            return self._draw(num_rows)
        parts = []
        while num_rows:
            if self._window is None:
                self._window = self._pack_window(self._packing)
            rows = {name: feature[self._row : self._row + num_rows] for name, feature in self._window.items()}
            num_taken = len(rows[EXAMPLE_IDS])
            parts.append(rows)
            self._row, num_rows = self._row + num_taken, num_rows - num_taken
            if self._row == len(self._window[EXAMPLE_IDS]):
                self._window, self._row = None, 0
        return concatenate(parts)

    def _pack_window(self, packing: Packing) -> Features:
        row, self._row = self._row, 0
        self._window_state = self.get_state()
        self._row = row  # not 0 after `set_state`
        number = self._num_drawn // packing.window
        packed = pack(self._draw(packing.window), pad_id=packing.pad_id)
        # Rows were begun with the longest examples.
        order = generator(self._seed, MIXTURE, self._share.lane, number).permutation(len(packed[EXAMPLE_IDS]))
        return {name: feature[order] for name, feature in packed.items()}

    def _draw(self, num_rows: int) -> Features:
        """Returns the next examples, each of the component whose turn it is."""
        if len(self._streams) == 1:
            self._num_drawn += num_rows
            self._counts[0] += num_rows
            return self._streams[0].take(num_rows)
        lane, num_lanes = self._share
        numbers = (self._num_drawn + np.arange(num_rows)) * num_lanes + lane
        components = self._schedule.components(numbers)
        counts = np.bincount(components, minlength=len(self._streams))
        parts = [
            stream.take(count) for stream, count in zip(self._streams, counts.tolist(), strict=True) if count
        ]
        self._num_drawn += num_rows
        self._counts += counts
        joined = concatenate(parts)
        # `joined` has the components one after another: give each row the place its component was drawn for.
        place = np.empty(num_rows, np.int64)
        place[np.argsort(components, kind="stable")] = np.arange(num_rows)
        return {name: feature[place] for name, feature in joined.items()}


class LaneBatches(grain.DatasetIterator[Features]):
    """This host's rows of the global batches, from the lanes that these rows are of."""

    def __init__(
        self,
        make_lane: Callable[[Share], Lane],
        *,
        num_lanes: int,
        batch_size: int,
        host: HostShare,
        executor: concurrent.futures.Executor | None = None,
    ) -> None:
        """Makes the lanes; they read nothing before the first batch.

        Args:
          executor: what the lanes work in, shut down when this is closed.

        Raises:
          UserError: the batch cannot be shared out evenly.
        """
        super().__init__()
        self._executor, self._is_closed = executor, False
        self._num_lanes = num_lanes
        self._per_lane = batch_size // num_lanes
        self._first = host.host * rows_of_a_host(batch_size, host)
        self._last = self._first + rows_of_a_host(batch_size, host)  # the row after the last
        numbers = range(self._first // self._per_lane, -(-self._last // self._per_lane))
        self._lanes = {number: make_lane(Share(number, num_lanes)) for number in numbers}

    def close(self) -> None:
        """Ends the threads, as soon as what they are at is done; once more does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        super().close()

    def __next__(self) -> Features:
        """Returns the next batch; where a lane is shared with another host, its other rows are made and dropped."""
        rows = concatenate([lane.take(self._per_lane) for lane in self._lanes.values()])
        skip = self._first - min(self._lanes) * self._per_lane
        num_rows = self._last - self._first
        if len(rows[EXAMPLE_IDS]) == num_rows:
            return rows
        return {name: feature[skip : skip + num_rows] for name, feature in rows.items()}

    def get_state(self) -> dict[str, Any]:
        """Returns the states of this host's lanes, by number; `merge_cursors` puts those of all hosts together."""
        lanes = {str(number): lane.get_state() for number, lane in self._lanes.items()}
        return _State({"num_lanes": self._num_lanes, "lanes": lanes})

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from the states of all lanes, of which this host takes its own.

        Raises:
          UserError: they are of another number of lanes, or of other data.
        """
        try:
            if state["num_lanes"] != self._num_lanes:
                raise ValueError
            for number, lane in self._lanes.items():
                lane.set_state(state["lanes"][str(number)])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "The data cursor does not fit this config and data: start in a new --workdir."
            ) from error


class _State(dict[str, Any]):
    """A state that is made anew each time and never changed: Grain's prefetching would copy it for every batch."""

    def __deepcopy__(self, memo: Any) -> "_State":
        return self


def merge_cursors(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns one state of all lanes from those of every host, at the same step."""
    lanes = {number: lane for state in states for number, lane in state["lanes"].items()}
    return {"num_lanes": states[0]["num_lanes"], "lanes": lanes}
