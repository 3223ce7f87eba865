"""Scores of given sequences: sums of log-probabilities over the tokens that count."""

import jax
import numpy as np
import pytest

from t5like.decoding.scoring import sequence_scores


@pytest.fixture(scope="module")
def sequences():
    """Random logits and targets of four rows with 5, 3, 1 and no tokens that count."""
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.normal(size=(4, 5, 11)).astype(np.float32)
    targets = rng.integers(0, 11, (4, 5)).astype(np.int32)
    return logits, targets, (np.arange(5) < np.array([[5], [3], [1], [0]])).astype(np.float32)


def test_a_score_is_the_sum_of_the_log_probabilities_of_the_tokens_that_count(sequences):
    logits, targets, _ = sequences
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = [
        sum(np.log(probabilities[row, i, targets[row, i]]) for i in range(num))
        for row, num in enumerate([5, 3, 1, 0])
    ]
    np.testing.assert_allclose(sequence_scores(*sequences), expected, rtol=1e-5)


def test_the_probabilities_of_all_sequences_add_up_to_one(toy):
    model = toy(4)
    sequences = np.array(list(np.ndindex(4, 4, 4)), np.int32)
    logits = np.array([list(model.log_probs_along(3, tokens)) for tokens in sequences], np.float32)
    scores = jax.jit(sequence_scores)(logits, sequences, np.ones(sequences.shape, np.float32))
    np.testing.assert_allclose(np.exp(scores).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scores, [model.log_prob(3, tokens) for tokens in sequences], rtol=1e-5)


def test_what_does_not_count_changes_nothing(sequences):
    logits, targets, weights = sequences
    other_logits = np.where(weights[..., None] > 0, logits, -logits)
    other_targets = np.where(weights > 0, targets, 0)
    np.testing.assert_array_equal(
        sequence_scores(other_logits, other_targets, weights), sequence_scores(*sequences)
    )
