"""Which characters of a text its tokens spell."""

import numpy as np


def without_spaces(spans: np.ndarray, text: str) -> np.ndarray:
    """Returns spans of a text without the spaces at their ends; of spaces alone, the empty span at their end.

        text "a  b"   [(0, 1) (1, 4) (1, 3)]   ->   [(0, 1) (3, 4) (3, 3)]

    Spans that are in order, their starts and their ends, stay so.

    Args:
      spans: [num_spans, 2] int, start and end.
    """
    places = np.arange(len(text) + 1)
    is_letter = ~np.fromiter(map(str.isspace, text), bool, len(text))
    # At each place: where the next letter starts, and where the last one before it ends.
    next_start = np.minimum.accumulate(np.where(np.append(is_letter, True), places, len(text))[::-1])[::-1]
    last_end = np.maximum.accumulate(np.where(np.append(True, is_letter), places, 0))
    starts = np.minimum(next_start[spans[:, 0]], spans[:, 1])
    return np.stack([starts, np.maximum(last_end[spans[:, 1]], starts)], axis=1).astype(np.int32)
