"""Loss functions: sums over tokens and the weight to divide them by, never means.

Sums add up over microbatches and hosts; a mean of means would weigh short batches like long ones.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenLoss(NamedTuple):
    """Sums over the tokens of a batch, scalars float32; divide each by `weight` once, at the very end."""

    cross_entropy: jax.Array  # nats
    z_loss: jax.Array
    num_correct: jax.Array  # weighted count of tokens whose own logit is the largest
    weight: jax.Array

    @property
    def total(self) -> jax.Array:
        """What is minimised: cross-entropy and z-loss."""
        return self.cross_entropy + self.z_loss


def token_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> TokenLoss:
    """Returns the weighted sums of cross-entropy and z-loss over all tokens.

    With p = softmax(logits) and Z its normaliser, a token costs `-log p[target]` nats, plus `z_loss * log(Z)**2`,
    which keeps log Z near 0. With label smoothing s the target is (1 - s) on its own id and s / (vocab - 1) on
    each other, less that distribution's entropy, so that a perfect prediction costs nothing.

    Args:
      logits: [batch, length, vocab] float32.
      targets: [batch, length] int32.
      weights: [batch, length] float32, 0 where a token does not count.
    """
    cross_entropy, log_z, target_is_best = _cross_entropy(logits, targets, label_smoothing)
    return TokenLoss(
        cross_entropy=jnp.sum(cross_entropy * weights),
        z_loss=z_loss * jnp.sum(jnp.square(log_z) * weights),
        num_correct=jnp.sum(target_is_best * weights),
        weight=jnp.sum(weights),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropy(
    logits: jax.Array, targets: jax.Array, label_smoothing: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns cross-entropy, log Z and whether the target has the largest logit, each [batch, length]."""
    return _cross_entropy_forward(logits, targets, label_smoothing)[0]


def _smoothed(label_smoothing: float, vocab: int) -> tuple[float, float]:
    """Returns the target probability of the target's own id and of every other."""
    return 1.0 - label_smoothing, label_smoothing / (vocab - 1)


def _cross_entropy_forward(logits: jax.Array, targets: jax.Array, label_smoothing: float):  # type: ignore[no-untyped-def]
    largest = jnp.max(logits, axis=-1)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    cross_entropy = log_z - target_logit
    if label_smoothing:
        vocab = logits.shape[-1]
        on, off = _smoothed(label_smoothing, vocab)
        entropy = -(on * jnp.log(on) + (vocab - 1) * off * jnp.log(off))
        others = jnp.sum(logits, axis=-1) - target_logit
        cross_entropy = log_z - on * target_logit - off * others - entropy
    outputs = (cross_entropy, log_z, (target_logit >= largest).astype(jnp.float32))
    return outputs, (logits, targets, log_z)


def _cross_entropy_backward(label_smoothing: float, residuals, gradients):  # type: ignore[no-untyped-def]
    # By hand because autodiff of the gather above is a scatter into a [batch, length, vocab] of zeros: slow
    # everywhere. This is one pass: softmax times a scale, less the target distribution.
    logits, targets, log_z = residuals
    of_cross_entropy, of_log_z, _ = gradients
    on, off = _smoothed(label_smoothing, logits.shape[-1])
    softmax = jnp.exp(logits - log_z[..., None])
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    target_probability = jnp.where(is_target, on, off)
    gradient = (
        softmax * (of_cross_entropy + of_log_z)[..., None] - target_probability * of_cross_entropy[..., None]
    )
    return gradient, None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
