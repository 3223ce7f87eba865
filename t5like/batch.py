"""Feature names, shapes and dtypes of a batch, and the functions that lay its rows out.

A batch is a plain `dict[str, np.ndarray]`. An encoder alone is given the features that begin with `encoder_`, a decoder
alone those that begin with `decoder_`, an encoder-decoder both:

    feature                  shape                     dtype    meaning
    encoder_input_tokens     [batch, inputs_length]    int32    ids, the padding id where padded
    encoder_segment_ids      [batch, inputs_length]    int32    1 on real tokens, 0 where padded
    decoder_input_tokens     [batch, targets_length]   int32    targets shifted right, the start id first
    decoder_target_tokens    [batch, targets_length]   int32    ids, the padding id where padded
    decoder_segment_ids      [batch, targets_length]   int32    1 on real tokens, 0 where padded
    decoder_loss_weights     [batch, targets_length]   float32  1 where the loss counts
    encoder_target_tokens    [batch, inputs_length]    int32    of an encoder alone: what is under the masks
    encoder_loss_weights     [batch, inputs_length]    float32  of an encoder alone: 1 where the loss counts
    next_sentence_labels     [batch]                   int32    of pairs: 0 if the second text follows the first, 1 if not
    label_ids                [batch]                   int32    of an encoder with a head: the label of a row,
    scores                   [batch]                   float32    a number for it,
    tag_ids                  [batch, inputs_length]    int32      a tag for each token,
    tag_weights              [batch, inputs_length]    float32    1 where the tag counts,
    span_ends                [batch, 2]                int32      or the first and the last token of an answer
    example_ids              [batch]                   int64    which examples these rows are; stays on the host

and, where there is a use for them,

    encoder_token_types      [batch, inputs_length]    int32    0 on the first text of a pair, 1 on the second; absent: 0
    encoder_positions        [batch, inputs_length]    int32    of learned positions, from 0 in each segment; absent:
    decoder_positions        [batch, targets_length]   int32      counted as the family does
    decoder_causal_attention [batch, targets_length]   int32    1 on a prefix whose tokens see one another; absent: none

Packed rows hold several examples, whose tokens have the segment ids 1, 2, 3, ... on both sides and see no others. Where an
encoder with a head reads packed rows, what is predicted stays [examples, ...] with columns as in rows of their own, and

    example_starts           [examples, 2]             int32    the row and the column that each example begins at
    example_lengths          [examples]                int32    its tokens, 0 for an example of padding

Attention masks come from the segment ids alone, never from the token ids: a padding id may be a token as well. T5
pads with 0 and starts the decoder with it; what other families do is in their `SpecialTokens`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

EXAMPLE_IDS = "example_ids"
EXAMPLE_STARTS, EXAMPLE_LENGTHS = "example_starts", "example_lengths"

Features = dict[str, np.ndarray]


class BatchIterator(Protocol):
    """An endless stream of batches with a small JSON-able cursor; Grain's iterators are of this kind."""

    def __next__(self) -> Features: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class DerivedBatches:
    """Batches that are made of other batches, whose cursor and threads are theirs."""

    def __init__(self, batches: BatchIterator) -> None:
        self._batches = batches

    def get_state(self) -> dict[str, Any]:
        """Returns the cursor."""
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a cursor."""
        self._batches.set_state(state)

    def close(self) -> None:
        """Ends the threads."""
        self._batches.close()


class SpecialTokens(NamedTuple):
    """The ids that have a meaning of their own, and where they stand; the defaults are T5's.

        family          an input               a pair of texts                    targets           decoder starts with
        T5, ByT5        text </s>              text </s> text </s>                text </s>         <pad>
        BERT            [CLS] text [SEP]       [CLS] text [SEP] text [SEP]
        RoBERTa         <s> text </s>          <s> text </s> </s> text </s>
        BART            <s> text </s>          <s> text </s> </s> text </s>       <s> text </s>     </s>
        GPT-2           text <|endoftext|>

    T5's own tasks write a pair as one text.
    """

    eos_id: int  # what a text ends with: </s>, [SEP], <|endoftext|>
    sentinel_ids: np.ndarray  # [num_sentinels] int32, <extra_id_0> first
    pad_id: int = 0
    begin_ids: tuple[int, ...] = ()  # what an input begins with
    separator_ids: tuple[int, ...] = ()  # between the two texts of a pair; the end mark comes after both
    decoder_start_id: int = 0  # the first decoder input, before the first target
    target_begin_ids: tuple[int, ...] = ()  # what targets begin with
    mask_id: int | None = None
    unk_id: int | None = None


def encoder_decoder_row(
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    inputs_length: int,
    targets_length: int,
    pad_id: int = 0,
    decoder_start_id: int = 0,
) -> Features:
    """Returns one unpacked row of an encoder-decoder batch, trimmed and padded to the given lengths.

    With inputs_length=4, targets_length=4:

        inputs  [7 8 1]    ->  encoder_input_tokens   [7 8 1 0]
                               encoder_segment_ids    [1 1 1 0]
        targets [5 6 1]    ->  decoder_input_tokens   [0 5 6 0]
                               decoder_target_tokens  [5 6 1 0]
                               decoder_segment_ids    [1 1 1 0]
                               decoder_loss_weights   [1 1 1 0]

    and with pad_id=3, decoder_start_id=2, as BART has them but for the numbers:

        inputs  [7 8 1]    ->  encoder_input_tokens   [7 8 1 3]
        targets [5 6 1]    ->  decoder_input_tokens   [2 5 6 3]
                               decoder_target_tokens  [5 6 1 3]

    Args:
      inputs: [any] ids, begin and end marks included.
      targets: [any] ids, begin and end marks included.
      pad_id: what fills a row up.
      decoder_start_id: the first decoder input.
    """
    inputs, targets = inputs[:inputs_length], targets[:targets_length]
    row = {
        "encoder_input_tokens": np.full(inputs_length, pad_id, np.int32),
        "encoder_segment_ids": np.zeros(inputs_length, np.int32),
        "decoder_input_tokens": np.full(targets_length, pad_id, np.int32),
        "decoder_target_tokens": np.full(targets_length, pad_id, np.int32),
        "decoder_segment_ids": np.zeros(targets_length, np.int32),
        "decoder_loss_weights": np.zeros(targets_length, np.float32),
    }
    row["encoder_input_tokens"][: len(inputs)] = inputs
    row["encoder_segment_ids"][: len(inputs)] = 1
    row["decoder_target_tokens"][: len(targets)] = targets
    row["decoder_input_tokens"][: min(len(targets), 1)] = decoder_start_id
    row["decoder_input_tokens"][1 : len(targets)] = targets[:-1]
    row["decoder_segment_ids"][: len(targets)] = 1
    row["decoder_loss_weights"][: len(targets)] = 1.0
    return row


def encoder_decoder_rows(
    inputs: np.ndarray,
    input_lengths: np.ndarray,
    targets: np.ndarray,
    target_lengths: np.ndarray,
    special_tokens: SpecialTokens,
    *,
    inputs_length: int,
    targets_length: int,
) -> Features:
    """Returns rows of an encoder-decoder batch, as `encoder_decoder_row` lays them out, with the marks put around both.

    With inputs_length=4, targets_length=3, end mark 1:

        inputs  [7 8 9], lengths [2 1]   ->  encoder_input_tokens   [7 8 1 0] [9 1 0 0]
        targets [5 6], lengths [1 1]     ->  decoder_target_tokens  [5 1 0]   [6 1 0]
                                             decoder_input_tokens   [0 5 0]   [0 6 0]

    Args:
      inputs: [any] int32 ids of all rows, one after another, no marks.
      input_lengths: [num_rows] how many are of each row, so that its marks fit as well.
      targets: [any] int32 ids, as `inputs`.
      target_lengths: [num_rows], as `input_lengths`.
    """
    eos_id, start_id = special_tokens.eos_id, special_tokens.decoder_start_id
    targets, target_lengths = with_marks(
        targets, target_lengths, before=special_tokens.target_begin_ids, after=(eos_id,)
    )
    return encoder_rows(inputs, input_lengths, special_tokens, length=inputs_length) | decoder_rows(
        targets, target_lengths, start_id, pad_id=special_tokens.pad_id, length=targets_length
    )


def encoder_rows(
    tokens: np.ndarray, lengths: np.ndarray, special_tokens: SpecialTokens, *, length: int
) -> Features:
    """Returns what an encoder reads of texts, with the marks put around each.

    With length=4, begin mark 2, end mark 3:

        tokens [7 8 9], lengths [2 1]   ->  encoder_input_tokens   [2 7 8 3] [2 9 3 0]
                                            encoder_segment_ids    [1 1 1 1] [1 1 1 0]

    Args:
      tokens: [any] int32 ids of all rows, one after another, no marks.
      lengths: [num_rows] how many are of each row, so that its marks fit as well.
    """
    tokens, lengths = with_marks(
        tokens, lengths, before=special_tokens.begin_ids, after=(special_tokens.eos_id,)
    )
    rows, is_real = _rows(tokens, lengths, length, special_tokens.pad_id)
    return {"encoder_input_tokens": rows, "encoder_segment_ids": is_real.astype(np.int32)}


def encoder_pair_rows(
    first: np.ndarray,
    first_lengths: np.ndarray,
    second: np.ndarray,
    second_lengths: np.ndarray,
    special_tokens: SpecialTokens,
    *,
    length: int,
) -> Features:
    """Returns what an encoder reads of pairs of texts, with the marks put around and between them.

    With length=7, begin mark 2, end mark and separator 3:

        first [7 8], second [9]   ->  encoder_input_tokens   [2 7 8 3 9 3 0]
                                      encoder_segment_ids    [1 1 1 1 1 1 0]
                                      encoder_token_types    [0 0 0 0 1 1 0]

    Args:
      first: [any] int32 ids of the first texts of all rows, one after another, no marks.
      first_lengths: [num_rows] how many are of each row.
      second: [any] int32 ids, as `first`.
      second_lengths: [num_rows], as `first_lengths`; the marks of a row must fit as well.
    """
    begin_ids, separator_ids = special_tokens.begin_ids, special_tokens.separator_ids
    heads, head_lengths = with_marks(first, first_lengths, before=begin_ids, after=separator_ids)
    tails, tail_lengths = with_marks(second, second_lengths, before=(), after=(special_tokens.eos_id,))
    places = np.arange(length)
    lengths = head_lengths + tail_lengths
    is_head, is_real = places < head_lengths[:, None], places < lengths[:, None]
    rows = np.full((len(lengths), length), special_tokens.pad_id, np.int32)
    rows[is_head], rows[is_real & ~is_head] = heads, tails
    return {
        "encoder_input_tokens": rows,
        "encoder_segment_ids": is_real.astype(np.int32),
        "encoder_token_types": (is_real & ~is_head).astype(np.int32),
    }


def decoder_rows(
    targets: np.ndarray,
    lengths: np.ndarray,
    start_ids: np.ndarray | int,
    *,
    length: int,
    pad_id: int,
) -> Features:
    """Returns what a decoder reads and is to write.

    With length=3, and 9 and 8 to start with:

        targets [5 6 7], lengths [2 1]   ->  decoder_target_tokens   [5 6 0] [7 0 0]
                                             decoder_input_tokens    [9 5 0] [8 0 0]

    Args:
      targets: [any] int32 ids of all rows, one after another, marks included.
      lengths: [num_rows] how many are of each row, at least 1.
      start_ids: [num_rows] the first input of each row, or one for all.
    """
    rows, is_real = _rows(targets, lengths, length, pad_id)
    inputs = np.empty_like(rows)
    inputs[:, 0] = start_ids
    inputs[:, 1:] = np.where(is_real[:, 1:], rows[:, :-1], pad_id)
    return {
        "decoder_input_tokens": inputs,
        "decoder_target_tokens": rows,
        "decoder_segment_ids": is_real.astype(np.int32),
        "decoder_loss_weights": is_real.astype(np.float32),
    }


def with_marks(
    tokens: np.ndarray, lengths: np.ndarray, *, before: Sequence[int], after: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns texts, one after another, and their lengths, with marks put before and after each.

    before (2), after (3):   [7 8 9], lengths [2 1]   ->   [2 7 8 3 2 9 3], lengths [4 3]
    """
    lengths = np.asarray(lengths, np.int64)
    marked_lengths = lengths + len(before) + len(after)
    ends = np.cumsum(marked_lengths)
    marked = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
    is_text = np.ones(len(marked), bool)
    for places, mark in [
        *((ends - marked_lengths + i, mark) for i, mark in enumerate(before)),
        *((ends - len(after) + i, mark) for i, mark in enumerate(after)),
    ]:
        marked[places], is_text[places] = mark, False
    marked[is_text] = tokens
    return marked, marked_lengths


def _rows(
    tokens: np.ndarray, lengths: np.ndarray, row_length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens [num_rows, row_length] int32, and where they are real."""
    is_real = np.arange(row_length) < lengths[:, None]
    rows = np.full(is_real.shape, pad_id, np.int32)
    rows[is_real] = tokens
    return rows, is_real


def without_ids(batch: Features) -> Features:
    """Returns the features of a batch that go to the devices."""
    return {name: array for name, array in batch.items() if name != EXAMPLE_IDS}


def ids_of_examples(batch: Features) -> list[list[int]]:
    """Returns the ids of the examples in each row of a batch."""
    ids = np.atleast_2d(batch[EXAMPLE_IDS].T).T  # [batch] -> [batch, 1]
    return [[int(i) for i in of_row if i >= 0] for of_row in ids]


def trained_stack(features: Iterable[str]) -> Literal["encoder", "decoder"]:
    """Returns the stack that has targets, by the names of a batch's features: the decoder where there is one."""
    return "decoder" if "decoder_target_tokens" in features else "encoder"
