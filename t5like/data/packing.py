"""Several examples in one row: which go together, and how the row is laid out.

A window of examples is packed at a time, so that what a row holds is a function of the window alone and no half-full
row has to be kept between windows.
"""

import numpy as np

from t5like.batch import EXAMPLE_IDS, EXAMPLE_LENGTHS, EXAMPLE_STARTS, Features
from t5like.errors import UserError

_SIDES = ("encoder", "decoder")


def first_fit(lengths: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Returns the row [num_examples] int64 of each example: the first, of those begun, with room on every side.

    Examples are taken from the longest to the shortest, measured on the side they fill most, so that short ones end up
    in the gaps. Rows are numbered from 0 in the order they are begun. With one side, capacity 8:

        lengths  [5 3 4 8 2]   taken as  8 5 4 3 2   ->   rows  [1 1 2 0 2]

    Source: first-fit decreasing; Johnson 1973 shows at most 11/9 of the fewest rows, and a few.

    Args:
      lengths: [num_examples, sides] int, each at most the capacity of its side.
      capacities: [sides] int, tokens in a row.
    """
    rows = np.zeros(len(lengths), np.int64)
    room = np.empty_like(lengths)  # of the rows begun: [:num_rows]
    num_rows = num_open = 0  # rows before num_open have no room for the shortest example
    fullest = np.max(lengths / capacities, axis=1) if len(lengths) else np.zeros(0)
    shortest = lengths.min(axis=0) if len(lengths) else capacities
    for example in np.argsort(-fullest, kind="stable"):
        fits = (room[num_open:num_rows] >= lengths[example]).all(axis=1)
        row = num_open + int(fits.argmax()) if fits.any() else num_rows
        if row == num_rows:
            num_rows += 1
            room[row] = capacities
        room[row] -= lengths[example]
        rows[example] = row
        while num_open < num_rows and (room[num_open] < shortest).any():
            num_open += 1
    return rows


def pack(examples: Features, *, pad_id: int) -> Features:
    """Returns the examples [num_examples, ...] packed into fewer rows [num_rows, ...] of the same lengths.

    The examples of a row are its segments 1, 2, ... in their old order, on both sides; positions count from 0 in each
    segment, and `example_ids` [num_rows, most segments] holds their ids, -1 where there are no more. With two
    examples of 2 and 1 tokens, length 4, padding 0:

        encoder_input_tokens   [7 8 0 0] [9 0 0 0]   ->   [7 8 9 0]
        encoder_segment_ids    [1 1 0 0] [1 0 0 0]   ->   [1 1 2 0]
        encoder_positions                            ->   [0 1 0 0]
        example_ids            4         5           ->   [4 5]

    Args:
      examples: rows of an objective with their `example_ids` [num_examples]; real tokens come first in each.
      pad_id: what fills up features of tokens; others are filled with 0.

    Raises:
      UserError: the rows have a feature that belongs to a row as a whole, such as the label of a pair.
    """
    per_row = [name for name in examples if name != EXAMPLE_IDS and not name.startswith(_SIDES)]
    if per_row:
        raise UserError(
            f"Rows with {per_row[0]} cannot be packed, for it belongs to a whole row; set packs_rows to False."
        )
    rows, order, layouts = _lay_out(examples)
    segments = _count_within(rows)
    num_rows = int(rows[-1]) + 1 if len(rows) else 0
    packed: Features = {}
    for side, layout in layouts.items():
        packed |= layout.moved(examples, side, segments, num_rows=num_rows, pad_id=pad_id)
    ids = np.full((num_rows, int(segments.max(initial=0)) + 1), -1, np.int64)
    ids[rows, segments] = examples[EXAMPLE_IDS][order]
    packed[EXAMPLE_IDS] = ids
    return packed


def pack_encoder(examples: Features, *, pad_id: int) -> Features:
    """Returns what an encoder reads of examples packed into fewer rows, and the rest as it is: of each example.

    A model gives its predictions in the examples' own order and columns, for it is told where each of them lies. With two
    examples of 2 and 1 tokens, length 4, padding 0:

        encoder_input_tokens   [7 8 0 0] [9 0 0 0]   ->   [7 8 9 0]
        encoder_segment_ids    [1 1 0 0] [1 0 0 0]   ->   [1 1 2 0]
        encoder_positions                            ->   [0 1 0 0]
        label_ids              1         0           ->   1         0
        example_starts                               ->   [0 0]     [0 2]
        example_lengths                              ->   2         1

    Args:
      examples: rows of an encoder alone; real tokens come first in each. A row of padding has no tokens.
      pad_id: what fills up features of tokens; others are filled with 0.
    """
    rows, order, layouts = _lay_out(examples)
    layout = layouts["encoder"]
    num_rows = int(rows[-1]) + 1 if len(rows) else 0
    packed = {name: feature for name, feature in examples.items() if not name.startswith("encoder")}
    packed |= layout.moved(examples, "encoder", _count_within(rows), num_rows=num_rows, pad_id=pad_id)
    starts = np.zeros((len(rows), 2), np.int32)
    starts[order] = np.stack([rows, layout.first_column], axis=1)
    lengths = np.count_nonzero(examples["encoder_segment_ids"], axis=1)
    return {**packed, EXAMPLE_STARTS: starts, EXAMPLE_LENGTHS: lengths.astype(np.int32)}


def _lay_out(examples: Features) -> tuple[np.ndarray, np.ndarray, dict[str, "_Layout"]]:
    """Returns (the row of each example, in ascending order; which example that is; where the tokens of each side go)."""
    sides = [side for side in _SIDES if f"{side}_segment_ids" in examples]
    lengths = np.stack([np.count_nonzero(examples[f"{side}_segment_ids"], axis=1) for side in sides], axis=1)
    capacities = np.array([examples[f"{side}_segment_ids"].shape[1] for side in sides])
    rows = first_fit(lengths, capacities)
    order = np.argsort(rows, kind="stable")  # by row, and in their old order within
    rows = rows[order]
    layouts = {
        side: _Layout(rows, order, side_lengths[order])
        for side, side_lengths in zip(sides, lengths.T, strict=True)
    }
    return rows, order, layouts


class _Layout:
    """Where the tokens of one side go; all arrays are [tokens], over the examples in the order of their rows."""

    def __init__(self, rows: np.ndarray, order: np.ndarray, lengths: np.ndarray) -> None:
        self._order = order
        self.example = np.repeat(np.arange(len(rows)), lengths)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        self.position = np.arange(len(self.example)) - starts[self.example]
        first_of_row = np.searchsorted(rows, rows)  # the example that each one's row begins with
        self.first_column = starts - starts[first_of_row]
        self._column = self.position + self.first_column[self.example]
        self._row = rows[self.example]

    def moved(
        self, examples: Features, side: str, segments: np.ndarray, *, num_rows: int, pad_id: int
    ) -> Features:
        """Returns the features of the side, packed, with segments numbered from 1 and positions in them."""
        packed = {
            name: self.move(feature, num_rows, pad_id if name.endswith("_tokens") else 0)
            for name, feature in examples.items()
            if name.startswith(side)
        }
        shape = packed[f"{side}_segment_ids"].shape
        packed[f"{side}_segment_ids"] = self.fill(shape, (segments + 1)[self.example])
        packed[f"{side}_positions"] = self.fill(shape, self.position)
        return packed

    def fill(self, shape: tuple[int, ...], values: np.ndarray) -> np.ndarray:
        """Returns an int32 feature that has `values` on its tokens and 0 elsewhere."""
        feature = np.zeros(shape, np.int32)
        feature[self._row, self._column] = values
        return feature

    def move(self, feature: np.ndarray, num_rows: int, fill: int) -> np.ndarray:
        """Returns a feature of the examples as one of the packed rows."""
        moved = np.full((num_rows, feature.shape[1]), fill, feature.dtype)
        moved[self._row, self._column] = feature[self._order[self.example], self.position]
        return moved


def _count_within(rows: np.ndarray) -> np.ndarray:
    """Returns how many equal numbers come before each of these sorted ones: [0 0 0 1 1] -> [0 1 2 0 1]."""
    return np.arange(len(rows)) - np.searchsorted(rows, rows)
