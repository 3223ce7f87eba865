"""The text of a pretraining run: what it learns from, and what is held out."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import Features
from t5like.data.encoded import Encoded
from t5like.data.mixture import Component, Mixture
from t5like.data.pipeline import GROUPS_TOKENS, held_out_rows, print_note
from t5like.data.quarantine import Blocks, Quarantine, Quarantined
from t5like.data.sources import has_own_splits, open_source, sample_texts, shuffle_blocks, split_source
from t5like.data.sources.base import Source
from t5like.data.vocabulary import Vocabulary
from t5like.objectives.base import Objective

# Tokens of training text that are read at a time where few are needed.
_SMALL_GROUPS_TOKENS = 2**18


class TextSplits(NamedTuple):
    """Texts to train on, one source a component of the mixture, and held-out texts with their shares of the rows."""

    train: tuple[Source, ...]
    shares: tuple[float, ...]
    held_out: tuple[Source, ...]
    held_out_shares: tuple[float, ...]

    @property
    def fingerprint(self) -> str:
        """A sha256 in hex of what is trained on, by the names and sizes of the files."""
        return hashlib.sha256(" ".join(source.fingerprint() for source in self.train).encode()).hexdigest()

    def sample(self, max_characters: int, *, max_damaged_blocks: int) -> list[str]:
        """Returns texts to train a vocabulary on, of each component as much as its share.

        Raises:
          DamagedDataError: more places than `max_damaged_blocks` cannot be read.
        """
        quarantine = Quarantine(max_damaged_blocks, print_note)
        return [
            text
            for source, share in zip(self.train, self.shares, strict=True)
            for text in sample_texts(Quarantined(source, quarantine), round(max_characters * share))
        ]

    def held_out_rows(
        self,
        objective: Objective,
        vocabulary: Vocabulary,
        *,
        seed: int,
        max_rows: int,
        max_damaged_blocks: int,
    ) -> list[Features]:
        """Returns held-out rows, `max_rows` at most, of each source as many as its share and at least one.

        Raises:
          UserError: a source holds no text.
          DamagedDataError: more places than `max_damaged_blocks` cannot be read.
        """
        quarantine = Quarantine(max_damaged_blocks, print_note)
        encoded = [Quarantined(Encoded(source, vocabulary), quarantine) for source in self.held_out]
        return _rows(encoded, self.held_out_shares, objective, vocabulary, seed=seed, max_rows=max_rows)

    def training_rows(
        self,
        objective: Objective,
        vocabulary: Vocabulary,
        *,
        seed: int,
        max_rows: int,
        max_damaged_blocks: int,
    ) -> list[Features]:
        """Returns rows of training text, counted as those of `held_out_rows`, from blocks all over it, each read once.

        Raises:
          UserError: a source holds no text.
          DamagedDataError: more places than `max_damaged_blocks` cannot be read.
        """
        quarantine = Quarantine(max_damaged_blocks, print_note)
        encoded = [
            Quarantined(Encoded(shuffle_blocks(source, seed=seed), vocabulary), quarantine)
            for source in self.train
        ]
        return _rows(
            encoded,
            self.shares,
            objective,
            vocabulary,
            seed=seed,
            max_rows=max_rows,
            groups_tokens=_SMALL_GROUPS_TOKENS,
        )


def open_splits(
    data: str, *, validation_data: str | None, text_field: str, mixture: Mixture | None = None
) -> TextSplits:
    """Returns the sources of a run.

    Held-out text is what `validation_data` names, or else each component's own validation split, or one of its blocks
    in fifty.

    Args:
      data: a location, see `t5like.data.sources`; not read where there is a mixture.

    Raises:
      UserError: there is no such text, or none of it can be held out.
    """
    if mixture is None:
        components: Sequence[Component] = (Component(data=data, rate=1.0, text_field=text_field),)
        shares: tuple[float, ...] = (1.0,)
    else:
        components, shares = mixture.components, mixture.shares()
    if validation_data is not None:
        train = tuple(open_source(c.data, split="train", text_field=c.text_field) for c in components)
        held_out = open_source(validation_data, split="validation", text_field=text_field)
        return TextSplits(train, shares, (held_out,), (1.0,))
    pairs = [_split(component) for component in components]
    return TextSplits(tuple(t for t, _ in pairs), shares, tuple(h for _, h in pairs), shares)


def _rows(
    components: Sequence[Blocks[np.ndarray]],
    shares: Sequence[float],
    objective: Objective,
    vocabulary: Vocabulary,
    *,
    seed: int,
    max_rows: int,
    groups_tokens: int = GROUPS_TOKENS,
) -> list[Features]:
    """Returns the first rows of each component, as many as its share and at least one."""
    return [
        row
        for documents, share in zip(components, shares, strict=True)
        for row in held_out_rows(
            documents,
            objective=objective,
            vocabulary=vocabulary,
            seed=seed,
            max_rows=max(1, round(max_rows * share)),
            groups_tokens=groups_tokens,
        )
    ]


def _split(component: Component) -> tuple[Source, Source]:
    train = open_source(component.data, split="train", text_field=component.text_field)
    if not has_own_splits(component.data):
        return split_source(train)
    return train, open_source(component.data, split="validation", text_field=component.text_field)
