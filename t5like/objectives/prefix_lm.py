"""Prefix language modelling: read the beginning of a text, write the rest."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from t5like.batch import Features, encoder_decoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import check_lengths
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.chunks import cut, gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM:
    """Turns text into rows of a prefix and what follows it; where the prefix ends is uniform.

    At least one token of a row is in the prefix and at least one after it. A row of a single token has no prefix.

    Source: T5 (arXiv 1910.10683), section 3.2.1, and its public preprocessors. We differ in that a full row of two
    stacks has one token more, as many as always fit.

    Attributes:
      stacks: encoder_decoder reads the prefix in the encoder and writes the rest, with an end mark after both. decoder
        has all in one row, laid out as `CausalLM` does; the prefix sees itself whole, and nothing in it is a target.
      length: length of a row in tokens, marks included, on either side.
      joins_documents: cut rows out of all documents in a row; False begins a row with each document, as T5 does.

    Raises:
      UserError: the length is below 2.
    """

    stacks: Literal["encoder_decoder", "decoder"] = "encoder_decoder"
    length: int = 512
    joins_documents: bool = False

    def __post_init__(self) -> None:
        check_lengths(self)
        if self.length < 2:
            raise UserError(f"length must be at least 2 tokens, not {self.length}.")

    @property
    def makes_pairs(self) -> bool:
        """Rows are of one text each."""
        return False

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row."""
        return {"length": self.length}

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns if rows hold text beside the vocabulary's marks; call it at start-up.

        Raises:
          UserError: they do not.
        """
        if self.stacks == "encoder_decoder" and self._text_length(vocabulary) < 2:
            raise UserError(
                f"length {self.length} is too short for two tokens and the marks of the vocabulary; raise it."
            )

    def _text_length(self, vocabulary: Vocabulary) -> int:
        """Returns how many tokens make a full row of two stacks: the side with all but one of them has a mark more."""
        special = vocabulary.special_tokens
        return self.length - max(len(special.begin_ids), len(special.target_begin_ids))

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [length] features.

        Of the text [11 12 13 14], with length 5, end mark 1, and the prefix [11 12], of two stacks and of one:

            encoder_input_tokens      [11 12  1  0  0]
            decoder_target_tokens     [13 14  1  0  0]

            decoder_input_tokens      [ 1 11 12 13 14]
            decoder_target_tokens     [11 12 13 14  1]
            decoder_causal_attention  [ 1  1  1  0  0]
            decoder_loss_weights      [ 0  0  1  1  1]

        Args:
          documents: raw ids.
          rng: decides where prefixes end, and nothing else.
        """
        if self.stacks == "decoder":
            return self._rows_of_one_stack(documents, rng, vocabulary)
        texts = gather(documents, joins_documents=self.joins_documents)
        chunks = cut(texts, self._text_length(vocabulary))
        prefix_lengths = _prefix_lengths(chunks.lengths, rng)
        is_prefix = chunks.positions < np.repeat(prefix_lengths, chunks.lengths)
        return encoder_decoder_rows(
            chunks.tokens[is_prefix],
            prefix_lengths,
            chunks.tokens[~is_prefix],
            chunks.lengths - prefix_lengths,
            vocabulary.special_tokens,
            inputs_length=self.length,
            targets_length=self.length,
        )

    def _rows_of_one_stack(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        causal = CausalLM(length=self.length, joins_documents=self.joins_documents)
        rows = causal(documents, rng, vocabulary)
        is_real = rows["decoder_segment_ids"] > 0
        prefix_lengths = _prefix_lengths(np.count_nonzero(is_real, axis=1), rng)[:, None]
        places = np.arange(self.length)
        # The last token of the prefix is read where the first one after it is written.
        return {
            **rows,
            "decoder_causal_attention": (is_real & (places <= prefix_lengths)).astype(np.int32),
            "decoder_loss_weights": (is_real & (places >= prefix_lengths)).astype(np.float32),
        }


def _prefix_lengths(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns how many tokens of each text are its prefix, uniform in [1, length - 1], 0 of a single token."""
    return np.minimum(rng.integers(1, np.maximum(lengths, 2)), lengths - 1)
