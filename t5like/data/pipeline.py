"""From documents or rows to batches, in an order that is a function of the seed and a cursor of a few integers.

    documents --shuffle--> groups --tokenise, join, cut--> chunks --shuffle--> rows --> batches
       epoch                1024 documents          tokens_length         objective

Training iterators run for ever and obey Grain's protocol: after `set_state(state)`, with a state that `get_state()`
gave and JSON carried, an iterator built from the same arguments goes on with the very next batch. A few batches
are made ahead in a thread; the state is that of the batch last handed out. `close()` ends the thread.
"""

import atexit
import itertools
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import grain
import numpy as np

from t5like.batch import EXAMPLE_IDS, Features, SpecialTokens
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

GROUP_DOCUMENTS = 1024

_PREFETCH_BATCHES = 4
_CHUNKS_PER_GROUP = 2**32
_IN_LINE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)

# Independent streams of random numbers under one seed.
_DOCUMENT_ORDER, _CHUNK_ORDER, _CORRUPTION, _HELD_OUT_CORRUPTION, _ROW_ORDER = range(5)


class Objective(Protocol):
    """What makes one row of features out of one chunk of tokens."""

    @property
    def tokens_length(self) -> int:
        """Tokens in a full chunk; the last chunk of a group may be shorter."""

    def __call__(
        self, tokens: np.ndarray, rng: np.random.Generator, special_tokens: SpecialTokens, /
    ) -> Features:
        """Returns the row; it depends on nothing but the arguments."""


class _Chunk(NamedTuple):
    chunk_id: int
    tokens: np.ndarray  # [at most tokens_length] int32


def pretraining_batches(
    documents: Sequence[str],
    *,
    vocabulary: Vocabulary,
    objective: Objective,
    batch_size: int,
    seed: int,
    group_documents: int = GROUP_DOCUMENTS,
) -> grain.DatasetIterator[Features]:
    """Returns an endless iterator of batches [batch_size, ...] of corrupted chunks of the documents.

    Every epoch shuffles the documents anew and takes them in groups; a group is tokenised, its documents joined
    without separators and cut into chunks, its chunks shuffled. Each token is in exactly one chunk of an epoch.
    `example_ids` [batch_size] int64 names epoch, group and chunk: with 10 groups an epoch, chunk 7 of group 3 of
    epoch 2 is (2 * 10 + 3) * 2**32 + 7. What the objective does to a chunk depends on this number and the seed.

    Args:
      documents: read when their group is due, so it may be a lazy sequence of millions.
      group_documents: documents tokenised at a time; more mix better, and take more memory and time to resume.

    Raises:
      UserError: there are no documents. The iterator raises it where a whole epoch holds no text.
    """
    if not len(documents):
        raise UserError("There are no documents to train on.")
    groups = (
        grain.MapDataset.source(documents)
        .shuffle(seed=_shuffle_seed(seed, _DOCUMENT_ORDER))
        .batch(group_documents, batch_fn=list)
        .repeat()
        .map_with_index(lambda number, texts: (number, texts))
        .to_iter_dataset(_IN_LINE)
    )
    num_groups = -(-len(documents) // group_documents)
    cut = _CutIntoChunks(vocabulary, objective.tokens_length, seed, num_groups)

    def to_row(chunk: _Chunk) -> Features:
        return _row(chunk, objective, vocabulary, _rng(seed, _CORRUPTION, chunk.chunk_id))

    rows = grain.experimental.FlatMapIterDataset(groups, cut).map(to_row)
    return _prefetched(rows.batch(batch_size))


def finetuning_batches(
    rows: Sequence[Features], *, batch_size: int, seed: int
) -> grain.DatasetIterator[Features]:
    """Returns an endless iterator of batches [batch_size, ...] of the rows, shuffled anew every epoch.

    A batch that begins at the end of an epoch is filled from the next one, so each epoch has every row once.

    Raises:
      UserError: there are no rows.
    """
    if not len(rows):
        raise UserError("There are no examples to train on.")
    shuffled = grain.MapDataset.source(rows).shuffle(seed=_shuffle_seed(seed, _ROW_ORDER)).repeat()
    return _prefetched(shuffled.to_iter_dataset(_IN_LINE).batch(batch_size))


def evaluation_batches(rows: Iterable[Features], *, batch_size: int) -> Iterator[Features]:
    """Yields batches [batch_size, ...] of the rows in order, each row once; the last is filled with empty rows.

    Empty rows are zero in every feature, weights and segment ids too, and have the example id -1:

        example_ids [5 6 7], batch_size=2  ->  [5 6], [7 -1]
    """
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, batch_size)):
        empty = {name: np.zeros_like(feature) for name, feature in batch[0].items()}
        empty[EXAMPLE_IDS] = np.full_like(batch[0][EXAMPLE_IDS], -1)
        batch += [empty] * (batch_size - len(batch))
        yield {name: np.stack([row[name] for row in batch]) for name in batch[0]}


def held_out_rows(
    documents: Sequence[str], *, vocabulary: Vocabulary, objective: Objective, seed: int, max_rows: int
) -> list[Features]:
    """Returns the first `max_rows` rows of one pass over held-out documents, in order, the same every time.

    Documents are joined and cut as in `pretraining_batches`, and read no further than needed.

    Raises:
      UserError: the documents hold no text.
    """
    rows: list[Features] = []
    for group, start in enumerate(range(0, len(documents), GROUP_DOCUMENTS)):
        texts = [documents[index] for index in range(start, min(start + GROUP_DOCUMENTS, len(documents)))]
        for chunk in _chunks_of_group(group, texts, vocabulary, objective.tokens_length):
            if len(rows) == max_rows:
                return rows
            rng = _rng(seed, _HELD_OUT_CORRUPTION, chunk.chunk_id)
            rows.append(_row(chunk, objective, vocabulary, rng))
    if not rows:
        raise UserError("The held-out documents hold no text.")
    return rows


class _CutIntoChunks(grain.experimental.FlatMapTransform):
    """From (number of a group, its documents) to its chunks in training order."""

    def __init__(self, vocabulary: Vocabulary, tokens_length: int, seed: int, num_groups: int) -> None:
        self._vocabulary = vocabulary
        self._tokens_length = tokens_length
        self._seed = seed
        self._num_groups = num_groups
        self._num_empty_groups = 0

    def flat_map(self, element: tuple[int, list[str]]) -> list[_Chunk]:
        group, texts = element
        chunks = _chunks_of_group(group, texts, self._vocabulary, self._tokens_length)
        self._num_empty_groups = 0 if chunks else self._num_empty_groups + 1
        # A group with text may be first in one epoch and last in the next; beyond that, do not search for ever.
        if self._num_empty_groups > 2 * (self._num_groups - 1):
            raise UserError("The training documents hold no text.")
        order = _rng(self._seed, _CHUNK_ORDER, group).permutation(len(chunks))
        return [chunks[index] for index in order]


def _chunks_of_group(
    group: int, texts: list[str], vocabulary: Vocabulary, tokens_length: int
) -> list[_Chunk]:
    """Returns the documents' tokens, joined and cut: with tokens_length=4, [1 2 3] [4 5] -> [1 2 3 4] [5]."""
    tokens = np.concatenate(vocabulary.encode_documents(texts))
    return [
        _Chunk(group * _CHUNKS_PER_GROUP + number, tokens[start : start + tokens_length])
        for number, start in enumerate(range(0, len(tokens), tokens_length))
    ]


def _row(chunk: _Chunk, objective: Objective, vocabulary: Vocabulary, rng: np.random.Generator) -> Features:
    row = objective(chunk.tokens, rng, vocabulary.special_tokens)
    return {**row, EXAMPLE_IDS: np.array(chunk.chunk_id, np.int64)}


def _rng(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))


def _shuffle_seed(seed: int, stream: int) -> int:
    """Returns 32 bits far from those of other seeds: epoch e of a Grain shuffle uses its seed plus e."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1)[0])


def _prefetched(batches: grain.IterDataset[Features]) -> grain.DatasetIterator[Features]:
    iterator = _Prefetched(iter(batches), _PREFETCH_BATCHES)
    _OPEN_ITERATORS.add(iterator)
    return iterator


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
