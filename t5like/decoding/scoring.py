"""How likely a model finds given sequences: classification by the likeliest label."""

import jax
import jax.numpy as jnp

from t5like.losses import token_cross_entropy


def sequence_scores(
    logits: jax.Array, targets: jax.Array, weights: jax.Array, *, is_per_token: bool = False
) -> jax.Array:
    """Returns the log-probability of each sequence in nats, [batch] float32.

    Args:
      logits: [batch, length, vocab] float32.
      targets: [batch, length] int32.
      weights: [batch, length] float32, 1 for the tokens that count and 0 for the others.
      is_per_token: whether to divide by the number of tokens that count, so that long labels are not the less likely.
    """
    losses = jax.vmap(token_cross_entropy)(logits, targets, weights)
    return -losses.cross_entropy / (jnp.maximum(losses.weight, 1.0) if is_per_token else 1.0)
