"""Random batches for one kind of model each, with no padding."""

import numpy as np

_LOWEST_ID = 2


def encoder_decoder(rows: int, inputs: int, targets: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Returns a batch of span corruption's shape."""
    rng = np.random.default_rng(0)
    target_ids = rng.integers(_LOWEST_ID, vocabulary, (rows, targets), np.int32)
    return {
        "encoder_input_tokens": rng.integers(_LOWEST_ID, vocabulary, (rows, inputs), np.int32),
        "encoder_segment_ids": np.ones((rows, inputs), np.int32),
        "decoder_input_tokens": np.pad(target_ids, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": target_ids,
        "decoder_segment_ids": np.ones((rows, targets), np.int32),
        "decoder_loss_weights": np.ones((rows, targets), np.float32),
    }


def decoder(rows: int, length: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Returns a batch for a causal language model."""
    ids = np.random.default_rng(0).integers(_LOWEST_ID, vocabulary, (rows, length), np.int32)
    return {
        "decoder_input_tokens": np.pad(ids, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": ids,
        "decoder_segment_ids": np.ones((rows, length), np.int32),
        "decoder_loss_weights": np.ones((rows, length), np.float32),
    }


def masked(rows: int, length: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Returns a batch for masked language modelling and next-sentence prediction, 15 % of it predicted."""
    rng = np.random.default_rng(0)
    ids = rng.integers(_LOWEST_ID, vocabulary, (rows, length), np.int32)
    return {
        "encoder_input_tokens": ids,
        "encoder_segment_ids": np.ones((rows, length), np.int32),
        "encoder_target_tokens": ids,
        "encoder_loss_weights": (rng.random((rows, length)) < 0.15).astype(np.float32),
        "next_sentence_labels": rng.integers(0, 2, rows, np.int32),
    }


def classified(rows: int, length: int, vocabulary: int, num_labels: int) -> dict[str, np.ndarray]:
    """Returns a batch for a classifier."""
    rng = np.random.default_rng(0)
    return {
        "encoder_input_tokens": rng.integers(_LOWEST_ID, vocabulary, (rows, length), np.int32),
        "encoder_segment_ids": np.ones((rows, length), np.int32),
        "label_ids": rng.integers(0, num_labels, rows, np.int32),
    }


def real_tokens(batch: dict[str, np.ndarray]) -> int:
    """Returns how many tokens of a batch are not padding, encoder and decoder together."""
    return sum(int((array > 0).sum()) for name, array in batch.items() if name.endswith("segment_ids"))
