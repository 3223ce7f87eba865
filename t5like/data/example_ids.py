"""Names of examples: one int64 says which component, epoch, group and row of the group an example is.

    bits   62..58      57..44                   43..22                         21..0
           component   epoch, modulo 2**14      group, of all lanes together   row of the group, in the order of its text

Rows that fill a last batch have the id -1.
"""

from typing import NamedTuple

import numpy as np

MAX_COMPONENTS = 2**5
_EPOCH_BITS, _GROUP_BITS, _ROW_BITS = 14, 22, 22


class ExampleId(NamedTuple):
    """What an id says."""

    component: int
    epoch: int
    group: int
    row: int


def ids_of_rows(component: int, epoch: int, group: int, num_rows: int) -> np.ndarray:
    """Returns the ids [num_rows] int64 of the rows of one group.

    Raises:
      ValueError: a number other than the epoch does not fit its bits.
    """
    if component >= MAX_COMPONENTS or group >= 2**_GROUP_BITS or num_rows > 2**_ROW_BITS:
        raise ValueError(f"no id for component {component}, group {group}, {num_rows} rows")
    first = ((component << _EPOCH_BITS | epoch % 2**_EPOCH_BITS) << _GROUP_BITS | group) << _ROW_BITS
    return first + np.arange(num_rows, dtype=np.int64)


def parse_id(example_id: int) -> ExampleId:
    """Returns what an id says."""
    rest, row = divmod(int(example_id), 2**_ROW_BITS)
    rest, group = divmod(rest, 2**_GROUP_BITS)
    component, epoch = divmod(rest, 2**_EPOCH_BITS)
    return ExampleId(component, epoch, group, row)
