"""Names of examples: one int64 says which component, epoch, group and row of the group an example is.

    bits   62..58      57..46                   45..18                         17..0
           component   epoch, modulo 2**12      group, of all lanes together   row of the group, in the order of its text

Rows that fill a last batch have the id -1.
"""

from typing import NamedTuple

import numpy as np

MAX_COMPONENTS = 2**5
_EPOCH_BITS, _GROUP_BITS, _ROW_BITS = 12, 28, 18
MAX_ROWS = 2**_ROW_BITS  # of a group


class ExampleId(NamedTuple):
    """What an id says."""

    component: int
    epoch: int
    group: int
    row: int


def ids_of_rows(component: int, epoch: int, group: int, num_rows: int) -> np.ndarray:
    """Returns the ids [num_rows] int64 of the first rows of one group.

    Raises:
      ValueError: a number other than the epoch does not fit its bits.
    """
    if num_rows > MAX_ROWS:
        raise ValueError(f"no id for {num_rows} rows of a group")
    return _first_id(component, epoch, group) + np.arange(num_rows, dtype=np.int64)


def id_of_row(component: int, epoch: int, row: int) -> int:
    """Returns the id of a row of a component that is one list of rows, of which each 2**18 are a group.

    Raises:
      ValueError: a number other than the epoch does not fit its bits.
    """
    group, row = divmod(row, 2**_ROW_BITS)
    return _first_id(component, epoch, group) + row


def _first_id(component: int, epoch: int, group: int) -> int:
    if component >= MAX_COMPONENTS or group >= 2**_GROUP_BITS:
        raise ValueError(f"no id for component {component}, group {group}")
    return ((component << _EPOCH_BITS | epoch % 2**_EPOCH_BITS) << _GROUP_BITS | group) << _ROW_BITS


def parse_id(example_id: int) -> ExampleId:
    """Returns what an id says."""
    rest, row = divmod(int(example_id), 2**_ROW_BITS)
    rest, group = divmod(rest, 2**_GROUP_BITS)
    component, epoch = divmod(rest, 2**_EPOCH_BITS)
    return ExampleId(component, epoch, group, row)
