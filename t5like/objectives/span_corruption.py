"""Span corruption, T5's pre-training objective: short spans leave the inputs and become the targets."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from t5like.batch import Features, encoder_decoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Stacks, check_lengths
from t5like.objectives.chunks import cut, gather
from t5like.objectives.spans import corrupt, count_noise, noise_masks


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption:
    """Turns text into encoder-decoder rows, one for each chunk of `tokens_length` tokens.

    Such a chunk fills a row of `inputs_length` and `targets_length`, end marks included, as far as whole spans allow.
    A shorter chunk, the last of a text, is padded; nothing is ever trimmed.

    Source: T5 (arXiv 1910.10683), section 3.1.4 and its public preprocessors. We differ in three places: lengths
    are computed in float64, where T5's mask uses float32 and so may round an exact tie (190 tokens at 0.15) the
    other way; there are never more spans than tokens to keep between them; `random_roll` leaves room for the one
    more span that a cut through the rolled mask can make, where T5 would trim the row.

    Attributes:
      noise_density: share of the raw tokens that move to the targets, above 0 and below 1.
      mean_span_length: mean length of the removed spans in tokens, at least 1.
      inputs_length: length of the encoder row in tokens, end mark included.
      random_roll: roll the mask by a uniform offset, so that the last token is not always removed.
      joins_documents: cut chunks out of all documents in a row, as T5 does, without anything between them; False
        cuts each document for itself, which leaves rows to pack.

    Raises:
      UserError: a value is out of its range.
    """

    noise_density: float = 0.15
    mean_span_length: float = 3.0
    inputs_length: int = 512
    random_roll: bool = False
    joins_documents: bool = True

    def __post_init__(self) -> None:
        check_lengths(self)
        if not 0.0 < self.noise_density < 1.0:
            raise UserError(f"noise_density must lie between 0 and 1, not {self.noise_density}.")
        if not self.mean_span_length >= 1.0:
            raise UserError(f"mean_span_length must be at least 1 token, not {self.mean_span_length}.")
        shortest = self._row_lengths(2)[0]
        if self.inputs_length < shortest:
            raise UserError(
                f"inputs_length must be at least {shortest} (a token, its sentinels and the end mark), "
                f"not {self.inputs_length}."
            )

    @functools.cached_property
    def _fitting_lengths(self) -> tuple[int, int]:
        tokens_length = 2
        while self._row_lengths(tokens_length + 1)[0] <= self.inputs_length:
            tokens_length += 1
        inputs_length, targets_length = self._row_lengths(tokens_length)
        if self.noise_density == 0.5 and targets_length > inputs_length:
            return tokens_length - 1, targets_length - 1
        return tokens_length, targets_length

    @property
    def tokens_length(self) -> int:
        """How many raw tokens make a full row: the most whose corrupted form fits `inputs_length`."""
        return self._fitting_lengths[0]

    @property
    def targets_length(self) -> int:
        """Length of the decoder row in tokens, end mark included."""
        return self._fitting_lengths[1]

    @property
    def stacks(self) -> Stacks:
        """Spans are read by an encoder and written by a decoder."""
        return "encoder_decoder"

    @property
    def makes_pairs(self) -> bool:
        """Rows are of one text each."""
        return False

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row."""
        return {"inputs_length": self.inputs_length, "targets_length": self.targets_length}

    @property
    def num_sentinels_needed(self) -> int:
        """The most sentinels that a row may hold."""
        return self.noise_counts(self.tokens_length)[1] + int(self.random_roll)

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns if the vocabulary has enough sentinels for a full row; call it at start-up.

        Raises:
          UserError: it has not.
        """
        num_sentinels = len(vocabulary.special_tokens.sentinel_ids)
        if self.num_sentinels_needed > num_sentinels:
            raise UserError(
                f"Span corruption cuts {self.tokens_length} tokens into up to {self.num_sentinels_needed} spans, but the "
                f"vocabulary has {num_sentinels} sentinels: raise mean_span_length, lower noise_density or "
                "inputs_length, or load the vocabulary with more extra ids."
            )

    def noise_counts(self, length: int) -> tuple[int, int]:
        """Returns how many of `length` tokens are noise, and in how many spans; halves round to even.

        568 tokens at the default settings -> (85, 28).
        """
        counts = count_noise(np.array([length]), self.noise_density, self.mean_span_length)
        return int(counts.num_noise[0]), int(counts.num_spans[0])

    def _row_lengths(self, tokens_length: int) -> tuple[int, int]:
        """Lengths of inputs and targets, end marks included; neither shrinks as `tokens_length` grows."""
        num_noise, num_spans = self.noise_counts(tokens_length)
        num_sentinels = num_spans + int(self.random_roll)
        return tokens_length - num_noise + num_sentinels + 1, num_noise + num_sentinels + 1

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [inputs_length] and [targets_length] features; the end mark closes both sides.

        Of the text [11 12 13 14 15 16 17 18], with sentinels 99, 98, ..., end mark 1, and tokens 13, 14 and 18 drawn:

            encoder_input_tokens    [11 12 99 15 16 17 98 1]
            decoder_target_tokens   [99 13 14 98 18 1]
            decoder_input_tokens    [0 99 13 14 98 18]

        Args:
          documents: raw ids, no sentinel among them.
          rng: decides the masks, and nothing else.

        Raises:
          UserError: a row needs more sentinels than there are.
        """
        special_tokens = vocabulary.special_tokens
        texts = gather(documents, joins_documents=self.joins_documents)
        chunks = cut(texts, self.tokens_length)
        counts = count_noise(chunks.lengths, self.noise_density, self.mean_span_length)
        masks = noise_masks(chunks.lengths, counts, rng, random_roll=self.random_roll)
        inputs, targets = corrupt(chunks, masks, special_tokens.sentinel_ids)
        return encoder_decoder_rows(
            *inputs,
            *targets,
            special_tokens,
            inputs_length=self.inputs_length,
            targets_length=self.targets_length,
        )
