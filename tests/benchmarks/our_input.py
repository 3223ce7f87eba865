"""Our side of what is measured of input: from raw text, or from a token store, to batches for T5."""

import pathlib
from collections.abc import Iterator

import numpy as np

from t5like.batch import Features
from t5like.data.encoded import Encoded
from t5like.data.pipeline import pretraining_batches, print_note
from t5like.data.quarantine import Blocks
from t5like.data.sources import open_source
from t5like.data.token_store import build_store
from t5like.data.vocabulary import Vocabulary
from t5like.objectives.span_corruption import SpanCorruption

BATCH, INPUTS, TARGETS = 128, 512, 114


def our_batches(path: pathlib.Path, vocabulary: Vocabulary) -> Iterator[Features]:
    """Returns endless batches [128, 512] and [128, 114] of the texts at a location: joined, cut, span-corrupted."""
    return _batches(Encoded(open_source(str(path)), vocabulary), vocabulary)


def our_stored_batches(path: pathlib.Path, vocabulary: Vocabulary) -> Iterator[Features]:
    """Returns the same of ids that a token store holds, which is filled first if it is not there."""
    root = path.parent / "tokens"
    store = build_store(root, open_source(str(path)), vocabulary, num_processes=1, note=print_note)
    return _batches(store, vocabulary)


def _batches(documents: Blocks[np.ndarray], vocabulary: Vocabulary) -> Iterator[Features]:
    objective = SpanCorruption(inputs_length=INPUTS)
    assert objective.targets_length == TARGETS
    return pretraining_batches(
        [documents],
        objective=objective,
        vocabulary=vocabulary,
        batch_size=BATCH,
        seed=0,
    )


def count_tokens(batch: Features) -> int:
    """Returns the tokens of a batch that are not padding, of both sides."""
    return sum(np.count_nonzero(batch[f"{side}_segment_ids"]) for side in ("encoder", "decoder"))
