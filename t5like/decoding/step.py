"""What decoding asks of a model: a function from the last tokens to the logits of the next ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

State = Any
"""What the model keeps of the tokens before the last ones, such as a cache of keys and values: any pytree."""
Step = Callable[[State, jax.Array], tuple[jax.Array, State]]
"""From state and last tokens [rows] int32 to the logits after them [rows, vocab] float32, and the next state."""
Reorder = Callable[[State, jax.Array], State]
"""From a state and the number of an old row for each new one, [rows] int32, to the state of the new rows."""


def forbid_ids_from(num_tokens: int | None, logits: jax.Array) -> jax.Array:
    """Returns the logits [..., vocab] with -inf at ids `num_tokens` and above; None forbids nothing.

    Those are the rows that round an embedding table up and that no tokenizer can read.
    """
    vocab = logits.shape[-1]
    if num_tokens is None or num_tokens >= vocab:
        return logits
    # Not a slice, which would move the logits of a vocabulary that is split over devices.
    return jnp.where(jnp.arange(vocab) < num_tokens, logits, -jnp.inf)
