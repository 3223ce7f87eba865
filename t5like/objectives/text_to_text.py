"""Text to text, T5's fine-tuning objective: read the inputs, write the targets."""

import dataclasses

import numpy as np

from t5like.batch import EXAMPLE_IDS, Features, SpecialTokens, encoder_decoder_row
from t5like.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToText:
    """Turns one pair of texts into one encoder-decoder row.

    Attributes:
      inputs_length: length of the encoder row in tokens, end mark included.
      targets_length: length of the decoder row in tokens, end mark included.

    Raises:
      UserError: a length is not positive.
    """

    inputs_length: int
    targets_length: int

    def __post_init__(self) -> None:
        for name in ("inputs_length", "targets_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1 token, not {getattr(self, name)}.")

    def __call__(
        self, inputs: np.ndarray, targets: np.ndarray, special_tokens: SpecialTokens, example_id: int
    ) -> Features:
        """Returns one row of features; as in T5 the end mark is added first and the row trimmed after.

        So a text that is too long loses its end mark: the row says that the text went on, and the decoder never
        learns to stop in the middle of a target. With end mark 1, inputs_length=4, targets_length=3:

            inputs  [7 8]      ->  encoder_input_tokens   [7 8 1 0]
            targets [4 5 6 7]  ->  decoder_target_tokens  [4 5 6]
                                   decoder_input_tokens   [0 4 5]

        Args:
          inputs: [any] int32 ids, no end mark.
          targets: [any] int32 ids, no end mark.
          special_tokens: the vocabulary's end mark.
          example_id: which example of its task this is.
        """
        row = encoder_decoder_row(
            np.append(inputs, special_tokens.eos_id),
            np.append(targets, special_tokens.eos_id),
            inputs_length=self.inputs_length,
            targets_length=self.targets_length,
        )
        row[EXAMPLE_IDS] = np.asarray(example_id, np.int64)
        return row
