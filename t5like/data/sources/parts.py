"""Parts of a source: what is held out for validation, its blocks in another order, and a sample of its texts."""

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from t5like.data.quarantine import Blocks
from t5like.data.sources.base import Part, Source
from t5like.errors import DamagedDataError, UserError

_HELD_OUT_FRACTION = 0.02
_NUM_SPANS = 256


def split_source(source: Source) -> tuple[Part, Part]:
    """Returns (training, held-out) blocks: one in fifty is held out, at least one, evenly spaced, order kept.

    With 5 blocks:  0 1 2 3 4  ->  0 1 3 4, 2

    Raises:
      UserError: there is a single block, or no text in what is held out, or in what is left.
    """
    if source.num_blocks < 2:
        raise UserError(
            f"The training data, {source.location}, is too small, or its one file is compressed, to hold a part of it "
            "out; name held-out text with --validation_data."
        )
    numbers = _HeldOut(source.num_blocks)
    training, held_out = Part(source, _Training(numbers)), Part(source, numbers)
    # A block in which no line starts is empty.
    for part, name in ((held_out, "to be held out"), (training, "to train on")):
        if not _holds_text(part):
            raise UserError(
                f"The part of {source.location} {name} holds no text, as where its lines are few and very long: name "
                "held-out text with --validation_data, or break the lines."
            )
    return training, held_out


def shuffle_blocks(source: Source, *, seed: int) -> Part:
    """Returns the source with its blocks in a random order, so that the first of them are from all over it."""
    return Part(source, np.random.default_rng(seed).permutation(source.num_blocks).tolist())


def sample_texts(source: Blocks[str], max_characters: int) -> Iterator[str]:
    """Yields texts from all over a source, in order, of at most `max_characters` together: all where it has no more.

    Otherwise the source is seen as 256 spans of blocks. Of each the first texts are taken, until the share of all spans
    so far is reached; the last text is cut. Less comes where later spans have little text.

    Raises:
      DamagedDataError: a block cannot be read.
    """
    num_spans = min(source.num_blocks, _NUM_SPANS)
    is_all = _has_at_most(max_characters, source)
    taken = 0
    for span in range(num_spans):
        share = max_characters * (span + 1) // num_spans
        first, end = (part * source.num_blocks // num_spans for part in (span, span + 1))
        for block in range(first, end):
            for text in source.read(block) if is_all or taken < share else ():
                yield text[: max_characters - taken]
                taken += len(text)
                if taken >= share and not is_all:
                    break


def _holds_text(part: Part) -> bool:
    try:
        return any(text.strip() for block in range(part.num_blocks) for text in part.read(block))
    except DamagedDataError:
        return True  # damage is for whoever reads the texts


def _has_at_most(max_characters: int, source: Blocks[str]) -> bool:
    for block in range(source.num_blocks):
        for text in source.read(block):
            max_characters -= len(text)
            if max_characters < 0:
                return False
    return True


class _HeldOut(Sequence[int]):
    """The held-out blocks, computed when asked for: there may be millions."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._length = max(1, round(num_blocks * _HELD_OUT_FRACTION))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        index = range(self._length)[index]
        return (2 * index + 1) * self.num_blocks // (2 * self._length)


class _Training(Sequence[int]):
    """The other blocks."""

    def __init__(self, held_out: _HeldOut) -> None:
        self._held_out = held_out

    def __len__(self) -> int:
        return self._held_out.num_blocks - len(self._held_out)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]
        # The held-out blocks before this one: the k-th has as many training blocks before it as its number is above k.
        held_out_before = bisect.bisect_right(
            range(len(self._held_out)), index, key=lambda k: self._held_out[k] - k
        )
        return index + held_out_before
