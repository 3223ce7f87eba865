"""How likely a model finds given sequences: classification by the likeliest label."""

import jax

from t5like.losses import token_cross_entropy


def sequence_scores(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the log-probability of each sequence in nats, [batch] float32.

    Args:
      logits: [batch, length, vocab] float32.
      targets: [batch, length] int32.
      weights: [batch, length] float32, 1 for the tokens that count and 0 for the others.
    """
    return -jax.vmap(token_cross_entropy)(logits, targets, weights).cross_entropy
