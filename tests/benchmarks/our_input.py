"""Our side of what is measured of input: from raw text, or from a token store, to batches for T5."""

import pathlib
from collections.abc import Iterator

from t5like.batch import Features
from t5like.data.encoded import Encoded
from t5like.data.pipeline import pretraining_batches
from t5like.data.sources import open_source
from t5like.data.vocabulary import Vocabulary
from t5like.objectives.span_corruption import SpanCorruption

BATCH, INPUTS, TARGETS = 128, 512, 114


def our_batches(path: pathlib.Path, vocabulary: Vocabulary) -> Iterator[Features]:
    """Returns endless batches [128, 512] and [128, 114] of the texts at a location: joined, cut, span-corrupted."""
    objective = SpanCorruption(inputs_length=INPUTS)
    assert objective.targets_length == TARGETS
    return pretraining_batches(
        [Encoded(open_source(str(path)), vocabulary)],
        objective=objective,
        vocabulary=vocabulary,
        batch_size=BATCH,
        seed=0,
    )


def our_stored_batches(path: pathlib.Path, vocabulary: Vocabulary) -> Iterator[Features]:
    """Returns the same of ids that a token store holds.

    Raises:
      SystemExit: there is no token store yet.
    """
    raise SystemExit("--stored: reading from a token store is not measured yet")


def count_tokens(batch: Features) -> int:
    """Returns the tokens of a batch that are not padding, of both sides."""
    return int(sum((batch[f"{side}_segment_ids"] > 0).sum() for side in ("encoder", "decoder")))
