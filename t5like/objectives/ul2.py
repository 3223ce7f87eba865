"""UL2's mixture of denoisers: span corruption of several kinds and prefix language modelling, told apart by mode tokens."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import Features, encoder_decoder_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.base import Stacks, check_lengths
from t5like.objectives.chunks import Chunks, gather
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.spans import NoiseCounts, corrupt, count_noise, noise_masks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One way to hide parts of a text.

    Attributes:
      mean_span_length: mean length of the hidden spans in tokens, at least 1; None hides the end of the text, in one span
        whose length is uniform.
      noise_density: share of the tokens that are hidden, above 0 and below 1; of ends the mean share, at most 0.5.
      mode: text that an input begins with, so that the model can be asked for this denoiser's ways; None: nothing.
      rate: how often it is drawn, relative to the others'; above 0.

    Raises:
      UserError: a value is out of its range.
    """

    mean_span_length: float | None
    noise_density: float
    mode: str | None
    rate: float

    def __post_init__(self) -> None:
        most = 1.0 if self.mean_span_length is not None else 0.5
        if not 0.0 < self.noise_density < 1.0 or self.noise_density > most:
            raise UserError(
                f"A denoiser's noise_density must lie between 0 and {most:g}, not at {self.noise_density}."
            )
        if self.mean_span_length is not None and not self.mean_span_length >= 1.0:
            raise UserError(
                f"A denoiser's mean_span_length must be at least 1 token, not {self.mean_span_length}."
            )
        if not 0.0 < self.rate < np.inf:
            raise UserError(f"A denoiser's rate must be above 0, not {self.rate}.")


R, X, S = "[NLU]", "[NLG]", "[S2S]"
"""The modes of regular, extreme and sequential denoising, as the published models were trained with them."""

DENOISERS = (
    Denoiser(mean_span_length=3.0, noise_density=0.15, mode=R, rate=0.2),
    Denoiser(mean_span_length=8.0, noise_density=0.15, mode=R, rate=0.2),
    Denoiser(mean_span_length=3.0, noise_density=0.5, mode=X, rate=0.1),
    Denoiser(mean_span_length=8.0, noise_density=0.5, mode=X, rate=0.1),
    Denoiser(mean_span_length=64.0, noise_density=0.15, mode=X, rate=0.1),
    Denoiser(mean_span_length=64.0, noise_density=0.5, mode=X, rate=0.1),
    Denoiser(mean_span_length=None, noise_density=0.25, mode=S, rate=0.2),
)


class _Fit(NamedTuple):
    """What a denoiser makes of a full row."""

    tokens_length: int  # raw
    targets_length: int  # end mark included
    num_sentinels: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class UL2:
    """Turns text into encoder-decoder rows, each by a denoiser that is drawn for it.

    Every row takes as many raw tokens as its denoiser can fit into `inputs_length`, mode tokens, sentinels and end mark
    included. At 512 tokens the default denoisers need up to 128 sentinels, more than T5's vocabularies have; see
    `vocabulary_extra_ids`.

    Source: UL2 (arXiv 2205.05131), section 3.1 and table 1; the rates are those of its re-implementations. We differ in
    that lengths of spans are drawn as T5 does, not from a normal distribution.

    Attributes:
      denoisers: what is drawn from.
      inputs_length: length of the encoder row in tokens, end mark included.
      joins_documents: cut chunks out of all documents in a row, without anything between them; False cuts each document
        for itself, which leaves rows to pack.

    Raises:
      UserError: there are no denoisers, or rows are too short for them.
    """

    denoisers: tuple[Denoiser, ...] = DENOISERS
    inputs_length: int = 512
    joins_documents: bool = True

    def __post_init__(self) -> None:
        check_lengths(self)
        if not self.denoisers:
            raise UserError("denoisers is empty; give at least one.")
        self._check_room(0)

    def _check_room(self, num_mode_tokens: int) -> None:
        shortest = num_mode_tokens + 3
        if self.inputs_length < shortest:
            raise UserError(
                f"inputs_length must be at least {shortest} (mode tokens, a token, a sentinel and the end mark), not "
                f"{self.inputs_length}."
            )

    @functools.cached_property
    def targets_length(self) -> int:
        """Length of the decoder row in tokens, end mark included: the most that a denoiser needs."""
        return max(_fit(denoiser, self.inputs_length).targets_length for denoiser in self.denoisers)

    @property
    def stacks(self) -> Stacks:
        """What is left of a text is read by an encoder, and the rest written by a decoder."""
        return "encoder_decoder"

    @property
    def makes_pairs(self) -> bool:
        """Rows are of one text each."""
        return False

    @property
    def lengths(self) -> Mapping[str, int]:
        """Tokens in a row."""
        return {"inputs_length": self.inputs_length, "targets_length": self.targets_length}

    def check(self, vocabulary: Vocabulary) -> None:
        """Returns if the vocabulary tells modes apart and has sentinels enough, and rows have room for mode tokens.

        Call it at start-up.

        Raises:
          UserError: it has not, or they have not.
        """
        modes = self._modes(vocabulary)
        self._check_modes(modes, vocabulary)
        self._check_room(max(map(len, modes)))
        num_sentinels = len(vocabulary.special_tokens.sentinel_ids)
        for denoiser, fit in zip(self.denoisers, self._fits(modes), strict=True):
            if fit.num_sentinels > num_sentinels:
                raise UserError(
                    f"A denoiser with mean_span_length {denoiser.mean_span_length} and noise_density "
                    f"{denoiser.noise_density} cuts {fit.tokens_length} tokens into {fit.num_sentinels} spans, but the "
                    f"vocabulary has {num_sentinels} sentinels: lower inputs_length, load the vocabulary with more extra "
                    "ids, or leave this denoiser out."
                )

    def _check_modes(self, modes: Sequence[np.ndarray], vocabulary: Vocabulary) -> None:
        written: dict[tuple[int, ...], str | None] = {}
        for denoiser, tokens in zip(self.denoisers, modes, strict=True):
            mode = denoiser.mode
            other = written.setdefault(tuple(tokens.tolist()), mode)
            if other != mode:
                raise UserError(
                    f"The modes {other!r} and {mode!r} are the same tokens in this vocabulary, so no model could tell them "
                    "apart: give the denoisers modes that differ in it, or name another vocabulary."
                )

    def _modes(self, vocabulary: Vocabulary) -> list[np.ndarray]:
        """Returns the mode tokens of each denoiser, [any] int32."""
        nothing = np.zeros(0, np.int32)
        return [nothing if d.mode is None else vocabulary.encode(d.mode) for d in self.denoisers]

    def _fits(self, modes: Sequence[np.ndarray]) -> list[_Fit]:
        return [
            _fit(denoiser, self.inputs_length - len(mode))
            for denoiser, mode in zip(self.denoisers, modes, strict=True)
        ]

    def __call__(
        self, documents: Sequence[np.ndarray], rng: np.random.Generator, vocabulary: Vocabulary
    ) -> Features:
        """Returns rows of [inputs_length] and [targets_length] features; the end mark closes both sides.

        Of the text [11 12 13 14 15 16], with sentinels 99, 98, ..., end mark 1, and the mode 77, a row of spans and one
        that lost its end:

            encoder_input_tokens    [77 11 99 13 14 98 1]     [77 11 12 13 14 99 1]
            decoder_target_tokens   [99 12 98 15 16 1]        [99 15 16 1]

        Args:
          documents: raw ids, no sentinel among them.
          rng: decides denoisers and what they hide.

        Raises:
          UserError: a row needs more sentinels than there are.
        """
        special_tokens = vocabulary.special_tokens
        modes = self._modes(vocabulary)
        texts = gather(documents, joins_documents=self.joins_documents)
        longest = np.array([fit.tokens_length for fit in self._fits(modes)])
        chunks, drawn = self._cut(texts, longest, rng)
        masks = noise_masks(chunks.lengths, self._count_noise(chunks.lengths, drawn, rng), rng)
        inputs, targets = corrupt(chunks, masks, special_tokens.sentinel_ids)
        return encoder_decoder_rows(
            *_put_before(inputs, modes, drawn),
            *targets,
            special_tokens,
            inputs_length=self.inputs_length,
            targets_length=self.targets_length,
        )

    def _cut(self, texts: Chunks, longest: np.ndarray, rng: np.random.Generator) -> tuple[Chunks, np.ndarray]:
        """Returns texts cut into chunks for denoisers, and the number of each one's denoiser, [num_chunks] int64.

        Args:
          longest: [num_denoisers] tokens in a chunk for each denoiser; only the last of a text is shorter.
        """
        rates = np.array([denoiser.rate for denoiser in self.denoisers])
        num_draws = -(-texts.lengths // longest.min())  # enough for each text, whatever is drawn
        drawn = rng.choice(len(rates), int(num_draws.sum()), p=rates / rates.sum())
        lengths = longest[drawn]
        starts = np.cumsum(lengths) - lengths
        starts -= np.repeat(starts[np.cumsum(num_draws) - num_draws], num_draws)  # in its text
        left = np.repeat(texts.lengths, num_draws) - starts
        return Chunks(texts.tokens, np.minimum(lengths, left)[left > 0]), drawn[left > 0]

    def _count_noise(self, lengths: np.ndarray, drawn: np.ndarray, rng: np.random.Generator) -> NoiseCounts:
        """Returns how much of each chunk its denoiser hides."""
        density = np.array([denoiser.noise_density for denoiser in self.denoisers])[drawn]
        mean = np.array([d.mean_span_length or np.inf for d in self.denoisers])[drawn]
        num_noise, num_spans = count_noise(lengths, density, mean)
        ends = rng.integers(1, _longest_end(lengths, density) + 1)
        return NoiseCounts(np.where(np.isinf(mean), ends, num_noise), num_spans)


def _longest_end(lengths: np.ndarray, density: float | np.ndarray) -> np.ndarray:
    """Returns the most tokens of a text that are hidden at its end: twice the mean less one, and not all."""
    lengths = np.maximum(lengths, 2)
    return np.clip(2 * np.rint(lengths * density).astype(np.int64) - 1, 1, lengths - 1)


@functools.cache
def _fit(denoiser: Denoiser, inputs_length: int) -> _Fit:
    """Returns what fits into a row of `inputs_length`, end mark included."""
    if denoiser.mean_span_length is None:
        tokens_length = inputs_length - 1  # one is hidden at least, and the sentinel takes its place
        return _Fit(tokens_length, int(_longest_end(np.array(tokens_length), denoiser.noise_density)) + 2, 1)
    spans = SpanCorruption(
        noise_density=denoiser.noise_density,
        mean_span_length=denoiser.mean_span_length,
        inputs_length=inputs_length,
    )
    return _Fit(spans.tokens_length, spans.targets_length, spans.num_sentinels_needed)


def _put_before(inputs: Chunks, modes: Sequence[np.ndarray], drawn: np.ndarray) -> Chunks:
    """Returns the inputs with the mode of each one's denoiser before it.

    Args:
      drawn: [num_chunks] int64, the numbers of the denoisers.
    """
    both = Chunks(
        np.concatenate([*modes, inputs.tokens]),
        np.concatenate([np.array([len(mode) for mode in modes], np.int64), inputs.lengths]),
    )
    places = np.stack([drawn, len(modes) + np.arange(len(drawn))], axis=1)
    return Chunks(both.take(places.ravel()).tokens, both.lengths[places].sum(axis=1))
