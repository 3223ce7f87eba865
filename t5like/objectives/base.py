"""What every objective is to the pipeline: a function from documents to rows of features."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from t5like.batch import Features
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

Stacks = Literal["encoder_decoder", "encoder", "decoder"]

LONGEST_ROW = 2**20
"""Tokens; more is a slip, and would be searched for what fits into it for minutes."""


def check_lengths(objective: Any) -> None:
    """Returns if no length of the rows of an objective, a dataclass, is beyond `LONGEST_ROW`.

    Raises:
      UserError: one is.
    """
    for field in dataclasses.fields(objective):
        value = getattr(objective, field.name)
        if field.name.endswith("length") and isinstance(value, int) and value > LONGEST_ROW:
            raise UserError(f"{field.name} is {str(value)[:20]}, but can be at most {LONGEST_ROW:,} tokens.")


class Objective(Protocol):
    """A frozen dataclass of settings that turns token ids into rows."""

    @property
    def stacks(self) -> Stacks:
        """The stacks of a model that learns from these rows, which decide what features they have."""

    @property
    def makes_pairs(self) -> bool:
        """Whether rows are pairs of texts with `next_sentence_labels`."""

    @property
    def joins_documents(self) -> bool:
        """Whether rows are cut out of documents put together, or each document that holds a token makes some."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row, by the name of the field or property that says so: {"inputs_length": 512, ...}."""

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns if the vocabulary has all that a full row needs; called at start-up.

        Raises:
          UserError: it has not.
        """

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary, /
    ) -> Features:
        """Returns the rows [num_rows, ...] that the documents make, padded, without example ids, in order of the text.

        Every token is in exactly one row unless the objective says otherwise. No rows come of no tokens. All draws are
        from `rng`, so that the rows are a function of the arguments.

        Args:
          documents: [num_documents] of [any] int32 ids without marks and sentinels; they may be empty.
        """
