"""Noise spans: which tokens of each chunk are hidden, and what the two sides look like after; all chunks at once."""

from typing import NamedTuple

import numpy as np

from t5like.errors import UserError
from t5like.objectives.chunks import Chunks, positions_in


class NoiseCounts(NamedTuple):
    """How much of each chunk is noise, int64 [num_chunks]."""

    num_noise: np.ndarray
    num_spans: np.ndarray


def count_noise(
    lengths: np.ndarray, noise_density: float | np.ndarray, mean_span_length: float | np.ndarray
) -> NoiseCounts:
    """Returns how many of so many tokens are noise, and in how many spans; halves round to even.

    568 tokens at density 0.15 and mean length 3 -> (85, 28). Less than two tokens count as two.

    Args:
      lengths: [num_chunks] int64.
      noise_density: of all chunks, or of each.
      mean_span_length: as `noise_density`.
    """
    lengths = np.maximum(lengths, 2)
    num_noise = np.clip(np.rint(lengths * noise_density).astype(np.int64), 1, lengths - 1)
    num_spans = np.maximum(np.rint(num_noise / mean_span_length).astype(np.int64), 1)
    return NoiseCounts(num_noise, np.minimum(num_spans, lengths - num_noise))


def noise_masks(
    lengths: np.ndarray, counts: NoiseCounts, rng: np.random.Generator, *, random_roll: bool = False
) -> np.ndarray:
    """Returns [num_tokens] bool over the chunks side by side: every mask with the right counts is equally likely.

    Kept and removed runs alternate in each chunk. A kept run comes first and a removed one last, until the mask is
    rolled:

        10 tokens, 4 noise in 2 spans    [0 0 0 0 1 0 0 1 1 1]
        rolled by 2                      [1 1 0 0 0 0 1 0 0 1]

    Args:
      lengths: [num_chunks] int64.
      counts: from `count_noise`.
    """
    full = np.maximum(lengths, 2)  # a mask of two tokens, of which the first is cut off below
    kept_ends = random_compositions(full - counts.num_noise, counts.num_spans, rng)
    noise_ends = random_compositions(counts.num_noise, counts.num_spans, rng)
    noise_before = np.concatenate([np.zeros((len(lengths), 1), np.int64), noise_ends[:, :-1]], axis=1)
    is_span = np.arange(kept_ends.shape[1]) < counts.num_spans[:, None]
    offsets = (np.cumsum(lengths) - lengths)[:, None]
    limit = lengths[:, None]
    starts = (np.minimum(kept_ends + noise_before, limit) + offsets)[is_span]
    ends = (np.minimum(kept_ends + noise_ends, limit) + offsets)[is_span]
    edges = np.zeros(int(lengths.sum()) + 1, np.int8)
    edges[starts] = 1
    edges[ends] -= 1
    mask = np.cumsum(edges[:-1], dtype=np.int8).view(bool)
    if random_roll:
        shifts = np.repeat(rng.integers(0, full), lengths)
        positions, repeated = positions_in(lengths), np.repeat(lengths, lengths)
        mask = mask[np.repeat(offsets[:, 0], lengths) + (positions - shifts) % repeated]
    return mask


def corrupt(chunks: Chunks, noise_mask: np.ndarray, sentinel_ids: np.ndarray) -> tuple[Chunks, Chunks]:
    """Returns (inputs, targets) without end marks: the kept tokens and the noise, each gap a sentinel.

    With sentinels 99, 98, ... and a single chunk:

        tokens   [11 12 13 14 15 16 17 18]
        mask     [ 0  0  1  1  0  0  0  1]
        inputs   [11 12 99 15 16 17 98]
        targets  [99 13 14 98 18]

    Args:
      chunks: raw ids.
      noise_mask: [num_tokens] bool.
      sentinel_ids: [num_sentinels] int32, in order of use on either side of a chunk.

    Raises:
      UserError: a chunk has more runs than there are sentinels.
    """
    return (
        _runs_to_sentinels(chunks, noise_mask, sentinel_ids),
        _runs_to_sentinels(chunks, ~noise_mask, sentinel_ids),
    )


def rebuild(inputs: np.ndarray, targets: np.ndarray, sentinel_ids: np.ndarray) -> np.ndarray:
    """Returns the raw tokens, [length] int32, that `corrupt` made one chunk's (inputs, targets) from.

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
    num_gaps = np.count_nonzero(_starts_in_one(mask)), np.count_nonzero(_starts_in_one(~mask))
    num_sentinels = len(kept_lengths) - 1, len(noise_lengths) - 1
    # Exactly one side has the first token; the other begins with a sentinel.
    has_one_beginning = len(mask) == 0 or starts_with_noise != (kept_lengths[0] > 0)
    if num_gaps != num_sentinels or not has_one_beginning:
        raise ValueError("inputs and targets do not alternate: they are not two sides of one text")
    tokens = np.empty(len(mask), np.int32)
    tokens[~mask], tokens[mask] = kept, noise
    return tokens


def random_compositions(totals: np.ndarray, num_parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns where the parts of each total end, [num_chunks, most parts] int64: every composition equally likely.

    A composition into k positive parts is a choice of k - 1 of the total - 1 gaps, drawn for all chunks at a time.
    After the last part, which ends at the total, the row repeats the total.

    Source: Floyd's sampling without replacement (Bentley and Floyd 1987).
    """
    num_gaps, num_chosen = totals - 1, num_parts - 1
    most = int(num_chosen.max(initial=0))
    chosen = np.empty((len(totals), most + 1), np.int64)
    chosen[:, most] = num_gaps  # the end of the last part; sorts behind every gap
    draws = rng.random((most, len(totals)))
    for i in range(most):
        last = num_gaps - num_chosen + i
        gap = (draws[i] * (last + 1)).astype(np.int64)
        is_taken = (chosen[:, :i] == gap[:, None]).any(axis=1)
        chosen[:, i] = np.where(i < num_chosen, np.where(is_taken, last, gap), num_gaps)
    chosen.sort(axis=1)
    return chosen + 1


def _run_starts(chunks: Chunks, mask: np.ndarray) -> np.ndarray:
    """Returns [num_tokens] bool, true where a run of `mask` begins within its chunk."""
    starts = mask.copy()
    starts[1:] &= ~mask[:-1]
    first = chunks.starts
    starts[first] = mask[first]
    return starts


def _starts_in_one(mask: np.ndarray) -> np.ndarray:
    return _run_starts(Chunks(mask, np.array([len(mask)] if len(mask) else [], np.int64)), mask)


def _runs_to_sentinels(chunks: Chunks, mask: np.ndarray, sentinel_ids: np.ndarray) -> Chunks:
    """Returns the chunks with each run of `mask` replaced by the next sentinel."""
    starts = _run_starts(chunks, mask)
    (places,) = np.nonzero(starts)
    ends = np.cumsum(chunks.lengths)
    runs_before = np.searchsorted(places, ends - chunks.lengths)
    num_runs = np.searchsorted(places, ends) - runs_before
    if (most := int(num_runs.max(initial=0))) > len(sentinel_ids):
        raise UserError(
            f"A row needs {most} sentinels, but the vocabulary has {len(sentinel_ids)}: raise mean_span_length, "
            "lower noise_density or inputs_length, or load the vocabulary with more extra ids."
        )
    replaced = chunks.tokens.copy()
    replaced[places] = sentinel_ids[positions_in(num_runs)]
    kept = starts | ~mask
    kept_before = np.concatenate([[0], np.cumsum(kept)])  # of each token, and in all
    return Chunks(replaced[kept], kept_before[ends] - kept_before[ends - chunks.lengths])


def _split_at_sentinels(ids: np.ndarray, sentinel_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the other ids in order, and how many of them stand before, between and after the sentinels."""
    is_sentinel = np.isin(ids, sentinel_ids)
    (places,) = np.nonzero(is_sentinel)
    if not np.array_equal(ids[places], sentinel_ids[: len(places)]):
        raise ValueError(f"sentinels are out of order: {ids[places].tolist()}")
    return ids[~is_sentinel], np.diff(places, prepend=-1, append=len(ids)) - 1
