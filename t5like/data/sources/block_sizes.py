"""How much of a source is a block: small enough that a shuffle of blocks mixes, large enough that opening one is cheap.

Sizes are powers of two that depend on the total alone, so that a copy of the data elsewhere has the same blocks.
"""

import math

_NUM_BLOCKS = 1024
_MIN_BYTES, _MAX_BYTES = 16 * 1024, 256 * 1024
_MAX_RECORDS = 1024


def bytes_per_block(total: int) -> int:
    """Returns the bytes of a block where records have no numbers: a thousandth of all, from 16 KiB to 256 KiB."""
    return min(max(_nearest_power_of_two(total / _NUM_BLOCKS), _MIN_BYTES), _MAX_BYTES)


def records_per_block(total: int) -> int:
    """Returns the records of a block where each can be had by its number: a thousandth of all, from 1 to 1024."""
    return min(_nearest_power_of_two(total / _NUM_BLOCKS), _MAX_RECORDS)


def _nearest_power_of_two(number: float) -> int:
    """Returns the power of two at the smallest ratio to a number, at least 1: 5 -> 4, 6 -> 8."""
    return 1 << round(math.log2(max(number, 1)))
