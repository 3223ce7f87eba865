"""Span corruption, T5's pre-training objective: short spans leave the inputs and become the targets."""

import dataclasses
import functools

import numpy as np

from t5like.batch import Features, SpecialTokens, encoder_decoder_row
from t5like.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption:
    """Turns a chunk of raw tokens into one encoder-decoder row.

    Feed it chunks of `tokens_length` tokens: these fill a row of `inputs_length` and `targets_length`, end marks
    included, as far as whole spans allow. A shorter chunk fits too and is padded; nothing is ever trimmed.

    Source: T5 (arXiv 1910.10683), section 3.1.4 and its public preprocessors. We differ in three places: lengths
    are computed in float64, where T5's mask uses float32 and so may round an exact tie (190 tokens at 0.15) the
    other way; there are never more spans than tokens to keep between them; `random_roll` leaves room for the one
    more span that a cut through the rolled mask can make, where T5 would trim the row.

    Attributes:
      noise_density: share of the raw tokens that move to the targets, above 0 and below 1.
      mean_span_length: mean length of the removed spans in tokens, at least 1.
      inputs_length: length of the encoder row in tokens, end mark included.
      random_roll: roll the mask by a uniform offset, so that the last token is not always removed.

    Raises:
      UserError: a value is out of its range.
    """

    noise_density: float = 0.15
    mean_span_length: float = 3.0
    inputs_length: int = 512
    random_roll: bool = False

    def __post_init__(self) -> None:
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
    def num_sentinels_needed(self) -> int:
        """The most sentinels that a row may hold."""
        return self.noise_counts(self.tokens_length)[1] + int(self.random_roll)

    def check(self, special_tokens: SpecialTokens) -> None:
        """Returns if the vocabulary has enough sentinels for a full row; call it at start-up.

        Raises:
          UserError: it has not.
        """
        num_sentinels = len(special_tokens.sentinel_ids)
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
        length = max(length, 2)
        num_noise = min(max(round(length * self.noise_density), 1), length - 1)
        num_spans = max(round(num_noise / self.mean_span_length), 1)
        return num_noise, min(num_spans, length - num_noise)

    def _row_lengths(self, tokens_length: int) -> tuple[int, int]:
        """Lengths of inputs and targets, end marks included; neither shrinks as `tokens_length` grows."""
        num_noise, num_spans = self.noise_counts(tokens_length)
        num_sentinels = num_spans + int(self.random_roll)
        return tokens_length - num_noise + num_sentinels + 1, num_noise + num_sentinels + 1

    def noise_span_mask(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Returns [length] bool, true on noise: every mask with the right counts is equally likely.

        Kept and removed runs alternate. A kept run comes first and a removed one last, until the mask is rolled:

            10 tokens, 4 noise in 2 spans    [0 0 0 0 1 0 0 1 1 1]
            rolled by 2                      [1 1 0 0 0 0 1 0 0 1]
        """
        num_noise, num_spans = self.noise_counts(length)
        run_lengths = np.empty(2 * num_spans, np.int64)
        run_lengths[0::2] = _composition(max(length, 2) - num_noise, num_spans, rng)
        run_lengths[1::2] = _composition(num_noise, num_spans, rng)
        mask = np.repeat(np.arange(2 * num_spans) % 2 == 1, run_lengths)
        if self.random_roll:
            mask = np.roll(mask, rng.integers(len(mask)))
        return mask[:length]

    def __call__(
        self, tokens: np.ndarray, rng: np.random.Generator, special_tokens: SpecialTokens
    ) -> Features:
        """Returns one row of [inputs_length] and [targets_length] features; the end mark closes both sides.

        Args:
          tokens: [at most tokens_length] int32 raw ids, no sentinel among them.
          rng: decides the mask, and nothing else.
          special_tokens: the vocabulary's end mark and sentinels.

        Raises:
          UserError: the row needs more sentinels than there are.
          ValueError: `tokens` is longer than `tokens_length`.
        """
        if len(tokens) > self.tokens_length:
            raise ValueError(f"{len(tokens)} tokens do not fit a row of {self.tokens_length}")
        mask = self.noise_span_mask(len(tokens), rng)
        inputs, targets = corrupt(tokens, mask, special_tokens.sentinel_ids)
        return encoder_decoder_row(
            np.append(inputs, special_tokens.eos_id),
            np.append(targets, special_tokens.eos_id),
            inputs_length=self.inputs_length,
            targets_length=self.targets_length,
            pad_id=special_tokens.pad_id,
            decoder_start_id=special_tokens.decoder_start_id,
        )


def corrupt(
    tokens: np.ndarray, noise_mask: np.ndarray, sentinel_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (inputs, targets) without end marks: the kept tokens and the noise, each gap a sentinel.

    With sentinels 99, 98, ...:

        tokens   [11 12 13 14 15 16 17 18]
        mask     [ 0  0  1  1  0  0  0  1]
        inputs   [11 12 99 15 16 17 98]
        targets  [99 13 14 98 18]

    Args:
      tokens: [length] int32.
      noise_mask: [length] bool.
      sentinel_ids: [num_sentinels] int32, in order of use on either side.

    Raises:
      UserError: there are more runs than sentinels.
    """
    return (
        _runs_to_sentinels(tokens, noise_mask, sentinel_ids),
        _runs_to_sentinels(tokens, ~noise_mask, sentinel_ids),
    )


def rebuild(inputs: np.ndarray, targets: np.ndarray, sentinel_ids: np.ndarray) -> np.ndarray:
    """Returns the raw tokens, [length] int32, that `corrupt` made (inputs, targets) from.

    With sentinels 99, 98, ...:

        inputs   [11 12 99 15 16 17 98]
        targets  [99 13 14 98 18]
        tokens   [11 12 13 14 15 16 17 18]

    Args:
      inputs: [any] int32, no end mark.
      targets: [any] int32, no end mark.
      sentinel_ids: [num_sentinels] int32.

    Raises:
      ValueError: the two sides do not belong together.
    """
    kept, kept_lengths = _split_at_sentinels(inputs, sentinel_ids)
    noise, noise_lengths = _split_at_sentinels(targets, sentinel_ids)
    num_pieces = max(len(kept_lengths), len(noise_lengths))
    starts_with_noise = noise_lengths[0] > 0
    # The side that does not come first has an empty piece 0, so piece i of one side follows piece i of the other.
    first, second = (kept_lengths, noise_lengths) if starts_with_noise else (noise_lengths, kept_lengths)
    run_lengths = np.zeros(2 * num_pieces, np.int64)
    run_lengths[0::2][: len(first)] = first
    run_lengths[1::2][: len(second)] = second
    mask = np.repeat((np.arange(2 * num_pieces) % 2 == 0) != starts_with_noise, run_lengths)
    num_gaps = np.count_nonzero(_run_starts(mask)), np.count_nonzero(_run_starts(~mask))
    num_sentinels = len(kept_lengths) - 1, len(noise_lengths) - 1
    # Exactly one side has the first token; the other begins with a sentinel.
    has_one_beginning = len(mask) == 0 or starts_with_noise != (kept_lengths[0] > 0)
    if num_gaps != num_sentinels or not has_one_beginning:
        raise ValueError("inputs and targets do not alternate: they are not two sides of one text")
    tokens = np.empty(len(mask), np.int32)
    tokens[~mask], tokens[mask] = kept, noise
    return tokens


def _composition(total: int, num_parts: int, rng: np.random.Generator) -> np.ndarray:
    """Returns [num_parts] positive integers of the given sum, every such list equally likely."""
    edges = np.zeros(num_parts + 1, np.int64)
    edges[1:-1] = np.sort(rng.permutation(total - 1)[: num_parts - 1]) + 1
    edges[-1] = total
    return edges[1:] - edges[:-1]


def _run_starts(mask: np.ndarray) -> np.ndarray:
    """Returns [length] bool, true where a run of `mask` begins: [1 1 0 0 1] -> [1 0 0 0 1]."""
    starts = mask.copy()
    starts[1:] &= ~mask[:-1]
    return starts


def _runs_to_sentinels(tokens: np.ndarray, mask: np.ndarray, sentinel_ids: np.ndarray) -> np.ndarray:
    """Returns the tokens with each run of `mask` replaced by the next sentinel."""
    starts = _run_starts(mask)
    num_runs = np.count_nonzero(starts)
    if num_runs > len(sentinel_ids):
        raise UserError(
            f"A row needs {num_runs} sentinels, but the vocabulary has {len(sentinel_ids)}: raise mean_span_length, "
            "lower noise_density or inputs_length, or load the vocabulary with more extra ids."
        )
    replaced = tokens.astype(np.int32)
    replaced[starts] = sentinel_ids[:num_runs]
    return replaced[starts | ~mask]


def _split_at_sentinels(ids: np.ndarray, sentinel_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the other ids in order, and how many of them stand before, between and after the sentinels."""
    is_sentinel = np.isin(ids, sentinel_ids)
    (places,) = np.nonzero(is_sentinel)
    if not np.array_equal(ids[places], sentinel_ids[: len(places)]):
        raise ValueError(f"sentinels are out of order: {ids[places].tolist()}")
    return ids[~is_sentinel], np.diff(places, prepend=-1, append=len(ids)) - 1
