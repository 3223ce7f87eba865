"""Text to text, T5's fine-tuning objective: read the inputs, write the targets."""

import dataclasses

import numpy as np

from t5like.batch import EXAMPLE_IDS, Features, SpecialTokens, encoder_decoder_row
from t5like.errors import UserError
from t5like.objectives.base import check_lengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToText:
    """Turns one pair of texts into one encoder-decoder row.

    Attributes:
      inputs_length: length of the encoder row in tokens, begin and end marks included.
      targets_length: length of the decoder row in tokens, begin and end marks included.

    Raises:
      UserError: a length is not positive.
    """

    inputs_length: int
    targets_length: int

    def __post_init__(self) -> None:
        check_lengths(self)
        for name in ("inputs_length", "targets_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1 token, not {getattr(self, name)}.")

    def __call__(
        self, inputs: np.ndarray, targets: np.ndarray, special_tokens: SpecialTokens, example_id: int
    ) -> Features:
        """Returns one row of features; as in T5 the marks are added first and the row trimmed after.

        So a text that is too long loses its end mark: the row says that the text went on, and the decoder never
        learns to stop in the middle of a target. With end mark 1, inputs_length=4, targets_length=3:

            inputs  [7 8]      ->  encoder_input_tokens   [7 8 1 0]
            targets [4 5 6 7]  ->  decoder_target_tokens  [4 5 6]
                                   decoder_input_tokens   [0 4 5]

        With begin mark 9 on both sides, decoder start 2 and padding 3, as in BART but for the numbers:

            inputs  [7]        ->  encoder_input_tokens   [9 7 1 3]
            targets [4]        ->  decoder_target_tokens  [9 4 1]
                                   decoder_input_tokens   [2 9 4]

        Args:
          inputs: [any] int32 ids, no marks.
          targets: [any] int32 ids, no marks.
          special_tokens: the vocabulary's marks.
          example_id: which example of its task this is.
        """
        row = encoder_decoder_row(
            np.concatenate([special_tokens.begin_ids, inputs, [special_tokens.eos_id]]).astype(np.int32),
            np.concatenate([special_tokens.target_begin_ids, targets, [special_tokens.eos_id]]).astype(
                np.int32
            ),
            inputs_length=self.inputs_length,
            targets_length=self.targets_length,
            pad_id=special_tokens.pad_id,
            decoder_start_id=special_tokens.decoder_start_id,
        )
        row[EXAMPLE_IDS] = np.asarray(example_id, np.int64)
        return row
