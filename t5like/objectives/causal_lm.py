"""Causal language modelling, GPT's objective: a decoder alone writes all of the text."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from t5like.batch import Features, decoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Stacks, check_lengths
from t5like.objectives.chunks import cut, gather


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM:
    """Turns text into rows of a decoder, in which every token and every end mark is a target once.

    A document begins after an end mark, the first one of all too, and ends with one. A row is read from the token
    before its first target on, wherever the row before it ended; so no token is asked for out of nothing.

    Source: GPT-2 (Radford et al. 2019), whose <|endoftext|> does both; documents in a row see one another there as
    here, unless they are packed.

    Attributes:
      length: length of a row in tokens, end marks included.
      joins_documents: cut rows out of all documents, one after another; False begins a row with each document, which
        leaves rows to pack.

    Raises:
      UserError: the length is not positive.
    """

    length: int = 1024
    joins_documents: bool = True

    def __post_init__(self) -> None:
        check_lengths(self)
        if self.length < 1:
            raise UserError(f"length must be at least 1 token, not {self.length}.")

    @property
    def stacks(self) -> Stacks:
        """A decoder alone."""
        return "decoder"

    @property
    def makes_pairs(self) -> bool:
        """Rows are of texts, not of pairs of them."""
        return False

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row."""
        return {"length": self.length}

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns: every vocabulary has an end mark."""

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [length] features; the last of a text is padded.

        Of the texts [11 12 13 14] and [15], with length 4 and end mark 1, joined and not:

            decoder_target_tokens   [11 12 13 14] [ 1 15  1  0]
            decoder_input_tokens    [ 1 11 12 13] [14  1 15  0]

            decoder_target_tokens   [11 12 13 14] [ 1  0  0  0] [15  1  0  0]
            decoder_input_tokens    [ 1 11 12 13] [14  0  0  0] [ 1 15  0  0]

        Args:
          documents: raw ids.
          rng: not used; nothing is drawn.
        """
        special_tokens = vocabulary.special_tokens
        end_ids = (special_tokens.eos_id,)
        texts = gather(documents, joins_documents=self.joins_documents, end_ids=end_ids)
        chunks = cut(texts, self.length)
        # What stands before a document is the end mark of another, whether or not they are joined.
        before = np.concatenate([[special_tokens.eos_id], chunks.tokens])[chunks.starts]
        return decoder_rows(*chunks, start_ids=before, pad_id=special_tokens.pad_id, length=self.length)
