"""From texts or rows to batches: the global batch at step n is a function of the config, the seed and a small cursor.

    source --> blocks --> documents of ids --> groups --> rows --> lanes --> batches
      block order       vocabulary,      document    objective,   mixture,    shared out
      per epoch         or token store   order       row order    packing     among hosts

Training iterators run for ever and obey Grain's protocol: after `set_state(state)`, with a state that `get_state()`
gave and JSON carried, an iterator built from the same arguments goes on with the very next batch, on any number of
hosts. A few batches are made ahead in a thread; the state is that of the batch last handed out. `close()` ends the
thread.
"""

import atexit
import concurrent.futures
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence

import grain
import numpy as np

from t5like.batch import EXAMPLE_IDS, Features
from t5like.data.example_ids import MAX_COMPONENTS, MAX_ROWS, ids_of_rows
from t5like.data.lanes import ONLY_HOST, HostShare, Lane, LaneBatches, Packing, count_lanes, rows_of_a_host
from t5like.data.mixture import Schedule
from t5like.data.quarantine import Blocks, Quarantine
from t5like.data.streams import (
    HELD_OUT,
    MIXTURE,
    EpochOrder,
    Making,
    RowStream,
    Share,
    Stream,
    TextStream,
    generator,
)
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Objective

# Tokens that the groups of all lanes hold together, at most: some 50 MB of rows, and as much of the groups after. A
# document that makes a row of its own counts as a whole row, padding and all.
GROUPS_TOKENS = 2**22

# Threads that make groups. SentencePiece and numpy let others run meanwhile, Python does not: more would not help.
_MAX_THREADS = 4
_THREAD_NAMES = "t5like-groups"

_PREFETCH_BATCHES = 4


def print_note(note: str) -> None:
    """Tells the user of something that went wrong and did not stop the run."""
    print(f"t5like: {note}", file=sys.stderr, flush=True)


def pretraining_batches(
    components: Sequence[Blocks[np.ndarray]],
    *,
    objective: Objective,
    vocabulary: Vocabulary,
    batch_size: int,
    seed: int,
    shares: Sequence[float] = (1.0,),
    packs_rows: bool = False,
    host: HostShare = ONLY_HOST,
    max_damaged_blocks: int = 0,
    note: Callable[[str], None] = print_note,
    groups_tokens: int = GROUPS_TOKENS,
) -> grain.DatasetIterator[Features]:
    """Returns an endless iterator of this host's rows of batches [batch_size, ...] that an objective makes of text.

    Each epoch of a component has each of its documents once; `example_ids` say where a row is from.

    Args:
      components: documents of ids in blocks, read when due; `shares` of the rows are of each.
      packs_rows: put several examples in a row as far as they fit; the objective then should not join documents.
      host: whose rows; the batches of all hosts, one after another, are the global batch.
      max_damaged_blocks: places, each of a record or of the rest of a block, that may be left out because they cannot be
        read; `note` is told of each.
      groups_tokens: tokens that are shuffled at a time, in all lanes together.

    Raises:
      UserError: the batch cannot be shared out, or there are too many components. The iterator raises it where whole
        epochs hold no text, and DamagedDataError where too much cannot be read.
    """
    if len(components) > MAX_COMPONENTS:
        raise UserError(
            f"A mixture of {len(components)} components is too large; {MAX_COMPONENTS} can be mixed."
        )
    sizes = [component.num_blocks for component in components]
    num_lanes = count_lanes(batch_size, min(sizes))
    orders = [EpochOrder(size, seed=seed, component=number) for number, size in enumerate(sizes)]
    making = Making(
        objective,
        vocabulary,
        Quarantine(max_damaged_blocks, note),
        concurrent.futures.ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), _THREAD_NAMES),
        seed,
        max(1, min(groups_tokens // num_lanes, _most_tokens(objective))),
        _row_tokens(objective),
    )

    def make_stream(number: int, share: Share) -> Stream:
        return TextStream(components[number], orders[number], making, share, component=number)

    return _batches(
        make_stream,
        shares,
        num_lanes=num_lanes,
        batch_size=batch_size,
        seed=seed,
        packing=Packing(vocabulary.special_tokens.pad_id) if packs_rows else None,
        host=host,
        executor=making.executor,
    )


def finetuning_batches(
    tasks: Sequence[Sequence[Features]],
    *,
    batch_size: int,
    seed: int,
    shares: Sequence[float] = (1.0,),
    packing: Packing | None = None,
    host: HostShare = ONLY_HOST,
) -> grain.DatasetIterator[Features]:
    """Returns an endless iterator of this host's rows of batches [batch_size, ...], shuffled anew every epoch.

    A batch that begins at the end of an epoch is filled from the next one, so each epoch has every row once.

    Args:
      tasks: the rows of each task, with features of the same lengths.
      shares: of the rows, for each task.

    Raises:
      UserError: a task has no rows, or the batch cannot be shared out.
    """
    if not all(map(len, tasks)):
        raise UserError("There are no examples to train on.")
    stacked = [
        {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != EXAMPLE_IDS}
        for rows in tasks
    ]
    orders = [EpochOrder(len(rows), seed=seed, component=number) for number, rows in enumerate(tasks)]

    def make_stream(number: int, share: Share) -> Stream:
        return RowStream(stacked[number], orders[number], share, component=number)

    num_lanes = count_lanes(batch_size, min(map(len, tasks)))
    return _batches(
        make_stream,
        shares,
        num_lanes=num_lanes,
        batch_size=batch_size,
        seed=seed,
        packing=packing,
        host=host,
    )


def _batches(
    make_stream: Callable[[int, Share], Stream],
    shares: Sequence[float],
    *,
    num_lanes: int,
    batch_size: int,
    seed: int,
    packing: Packing | None,
    host: HostShare,
    executor: concurrent.futures.Executor | None = None,
) -> grain.DatasetIterator[Features]:
    schedule = Schedule(shares, seed=int(generator(seed, MIXTURE).integers(2**62)))

    def make_lane(share: Share) -> Lane:
        streams = [make_stream(number, share) for number in range(len(shares))]
        return Lane(streams, schedule, share, packing=packing, seed=seed)

    batches = LaneBatches(make_lane, num_lanes=num_lanes, batch_size=batch_size, host=host, executor=executor)
    iterator = _Prefetched(batches, _PREFETCH_BATCHES)
    _OPEN_ITERATORS.add(iterator)
    return iterator


def evaluation_batches(
    rows: Iterable[Features], *, batch_size: int, host: HostShare = ONLY_HOST
) -> Iterator[Features]:
    """Yields this host's part of batches [batch_size, ...] of the rows in order, each row once over all hosts.

    The last batch is filled with empty rows, which are zero in every feature, weights and segment ids too, and have
    the example id -1; so that every host takes part in every batch:

        example_ids [5 6 7], batch_size=2             ->  [5 6], [7 -1]
        and for the second host of two                ->  [6],   [-1]

    Raises:
      UserError: the batch cannot be shared out.
    """
    per_host = rows_of_a_host(batch_size, host)
    own = slice(host.host * per_host, (host.host + 1) * per_host)
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, batch_size)):
        empty = {name: np.zeros_like(feature) for name, feature in batch[0].items()}
        empty[EXAMPLE_IDS] = np.full_like(batch[0][EXAMPLE_IDS], -1)
        batch += [empty] * (batch_size - len(batch))
        yield {name: np.stack([row[name] for row in batch[own]]) for name in batch[0]}


def held_out_rows(
    documents: Blocks[np.ndarray],
    *,
    objective: Objective,
    vocabulary: Vocabulary,
    seed: int,
    max_rows: int,
    groups_tokens: int = GROUPS_TOKENS,
) -> list[Features]:
    """Returns the first `max_rows` rows of one pass over held-out documents, in order, the same every time.

    Documents are read no further than needed.

    Raises:
      UserError: the documents hold no text; DamagedDataError: they cannot be read.
    """
    rows: list[Features] = []
    for group, texts in enumerate(
        _groups(
            documents,
            min(groups_tokens, _most_tokens(objective)),
            max_rows * max(objective.lengths.values()),
            _row_tokens(objective),
        )
    ):
        made = objective(texts, generator(seed, HELD_OUT, group), vocabulary)
        num_rows = len(next(iter(made.values()))) if made else 0
        ids = ids_of_rows(0, 0, group, num_rows)
        for row in range(min(num_rows, max_rows - len(rows))):
            rows.append({**{name: feature[row] for name, feature in made.items()}, EXAMPLE_IDS: ids[row]})
        if len(rows) == max_rows:
            break
    if not rows:
        raise UserError("The held-out documents hold no text.")
    return rows


def _most_tokens(objective: Objective) -> int:
    """Returns the tokens that a group may have, so that there are ids for its rows, which need not be full."""
    return MAX_ROWS // 2 * min(objective.lengths.values())


def _row_tokens(objective: Objective) -> int:
    """Returns the tokens of the shortest row that a document takes to itself: none where documents are joined."""
    is_joined = objective.joins_documents and not objective.makes_pairs
    return 0 if is_joined else max(objective.lengths.values())


def _groups(
    documents: Blocks[np.ndarray], groups_tokens: int, first_tokens: int, row_tokens: int
) -> Iterator[list[np.ndarray]]:
    """Yields the documents in order, in groups; the first is small, because often it is enough.

    A document counts as `row_tokens` at least.
    """
    group: list[np.ndarray] = []
    num_tokens, limit = 0, min(groups_tokens, first_tokens)
    for block in range(documents.num_blocks):
        for ids in documents.read(block):
            group.append(ids)
            num_tokens += max(len(ids), row_tokens)
            if num_tokens >= limit:
                yield group
                group, num_tokens, limit = [], 0, groups_tokens
    yield group


class _Prefetched(grain.experimental.ThreadPrefetchDatasetIterator):
    """Grain's iterator, which may be closed twice: Grain's own needs modules that are gone at the very end."""

    _is_closed = False

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            super().close()


_OPEN_ITERATORS: weakref.WeakSet[_Prefetched] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A thread that is still inside C++ code when the interpreter ends takes the whole process down with an abort.
    for iterator in list(_OPEN_ITERATORS):
        iterator.close()
