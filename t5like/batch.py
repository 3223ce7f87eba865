"""Feature names, shapes and dtypes of a batch, and the one function that lays a row of it out.

A batch is a plain `dict[str, np.ndarray]`. The encoder-decoder kind holds

    feature                  shape                     dtype    meaning
    encoder_input_tokens     [batch, inputs_length]    int32    ids, 0 where padded
    encoder_segment_ids      [batch, inputs_length]    int32    1 on real tokens, 0 where padded
    decoder_input_tokens     [batch, targets_length]   int32    targets shifted right, 0 first
    decoder_target_tokens    [batch, targets_length]   int32    ids, 0 where padded
    decoder_segment_ids      [batch, targets_length]   int32    1 on real tokens, 0 where padded
    decoder_loss_weights     [batch, targets_length]   float32  1 where the loss counts
    example_ids              [batch]                   int64    which examples these rows are; stays on the host

Attention masks come from the segment ids alone, never from the token ids.
"""

from typing import NamedTuple

import numpy as np

EXAMPLE_IDS = "example_ids"

Features = dict[str, np.ndarray]


class SpecialTokens(NamedTuple):
    """The ids that have a meaning of their own; padding is always 0."""

    eos_id: int
    sentinel_ids: np.ndarray  # [num_sentinels] int32, <extra_id_0> first
    pad_id: int = 0
    begin_ids: tuple[int, ...] = ()
    separator_ids: tuple[int, ...] = ()
    decoder_start_id: int = 0
    mask_id: int | None = None


def encoder_decoder_row(
    inputs: np.ndarray, targets: np.ndarray, *, inputs_length: int, targets_length: int
) -> Features:
    """Returns one unpacked row of an encoder-decoder batch, trimmed and padded to the given lengths.

    With inputs_length=4, targets_length=4:

        inputs  [7 8 1]    ->  encoder_input_tokens   [7 8 1 0]
                               encoder_segment_ids    [1 1 1 0]
        targets [5 6 1]    ->  decoder_input_tokens   [0 5 6 0]
                               decoder_target_tokens  [5 6 1 0]
                               decoder_segment_ids    [1 1 1 0]
                               decoder_loss_weights   [1 1 1 0]

    Args:
      inputs: [any] ids, end mark included.
      targets: [any] ids, end mark included.
    """
    inputs, targets = inputs[:inputs_length], targets[:targets_length]
    row = {
        "encoder_input_tokens": np.zeros(inputs_length, np.int32),
        "encoder_segment_ids": np.zeros(inputs_length, np.int32),
        "decoder_input_tokens": np.zeros(targets_length, np.int32),
        "decoder_target_tokens": np.zeros(targets_length, np.int32),
        "decoder_segment_ids": np.zeros(targets_length, np.int32),
        "decoder_loss_weights": np.zeros(targets_length, np.float32),
    }
    row["encoder_input_tokens"][: len(inputs)] = inputs
    row["encoder_segment_ids"][: len(inputs)] = 1
    row["decoder_target_tokens"][: len(targets)] = targets
    row["decoder_input_tokens"][1 : len(targets)] = targets[:-1]
    row["decoder_segment_ids"][: len(targets)] = 1
    row["decoder_loss_weights"][: len(targets)] = 1.0
    return row


def without_ids(batch: Features) -> Features:
    """Returns the features of a batch that go to the devices."""
    return {name: array for name, array in batch.items() if name != EXAMPLE_IDS}
