"""Loss functions: sums over what is predicted and the weight to divide them by, never means.

Sums add up over microbatches and hosts; a mean of means would weigh short batches like long ones.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5like.batch import EXAMPLE_LENGTHS, trained_stack

TOKEN, NEXT_SENTENCE = "token", "next_sentence"
"""What language models predict: the tokens of a row, and whether the second text of a pair follows the first."""
LABEL, SCORE, TAG, SPAN = "label", "score", "tag", "span"
"""What the other heads predict: of a row its label or a number, of a token its tag, of an answer its two ends."""


_OF_ROWS = {
    NEXT_SENTENCE: "next_sentence_labels",
    LABEL: "label_ids",
    SCORE: "scores",
    SPAN: "span_ends",
}


class Targets(NamedTuple):
    """What a batch asks for, [batch, length] or [batch]; of the ends of an answer [batch, 2]."""

    ids: jax.Array  # int32; of a number to predict float32
    weights: jax.Array  # float32, 0 where nothing is asked


class LossSums(NamedTuple):
    """Sums over the tokens or rows of a batch, scalars float32; divide each by `weight` once."""

    cross_entropy: jax.Array  # nats; of a number to predict, its squared error
    z_loss: jax.Array
    num_correct: jax.Array  # weighted count of those whose own logit is the largest
    weight: jax.Array

    @property
    def total(self) -> jax.Array:
        """What is minimised: cross-entropy and z-loss."""
        return self.cross_entropy + self.z_loss


def targets_of(batch: Mapping[str, jax.Array]) -> dict[str, Targets]:
    """Returns what is to be predicted from a batch, by name, as its features say.

    A row counts once, whatever its length; a row of padding alone, the filling of a last batch, for nothing.
    """
    stack = trained_stack(batch)
    targets = {}
    if f"{stack}_target_tokens" in batch:
        targets[TOKEN] = Targets(batch[f"{stack}_target_tokens"], batch[f"{stack}_loss_weights"])
    if "tag_ids" in batch:
        targets[TAG] = Targets(batch["tag_ids"], batch["tag_weights"])
    for name, feature in _OF_ROWS.items():
        if feature in batch:
            ids = batch[feature]
            if EXAMPLE_LENGTHS in batch:
                is_row = (batch[EXAMPLE_LENGTHS] > 0).astype(jnp.float32)
            else:
                is_row = jnp.any(batch["encoder_segment_ids"] > 0, axis=-1).astype(jnp.float32)
            is_row = is_row.reshape(is_row.shape + (1,) * (ids.ndim - is_row.ndim))
            targets[name] = Targets(ids, jnp.broadcast_to(is_row, ids.shape))
    return targets


def target_weights(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns by name how much there is to predict from a batch: tokens, rows; what mean losses are divided by."""
    return {name: jnp.sum(targets.weights) for name, targets in targets_of(batch).items()}


def divisor(weight: jax.Array) -> jax.Array:
    """Returns what sums of this weight are divided by: the weight, or 1 where it is 0 and the sums are too."""
    return weight + (weight == 0)


def summed_losses(
    logits: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> dict[str, LossSums]:
    """Returns by name the sums over all that is predicted from a batch; z-loss and smoothing are of tokens alone.

    Args:
      logits: by name, as `Transformer.predictions` gives them.
    """
    losses = {}
    for name, (ids, weights) in targets_of(batch).items():
        if name == SCORE:
            losses[name] = squared_error(logits[name], ids, weights)
            continue
        settings = {"z_loss": z_loss, "label_smoothing": label_smoothing} if name == TOKEN else {}
        losses[name] = token_cross_entropy(logits[name], ids, weights, **settings)
    return losses


def loss_metrics(losses: Mapping[str, LossSums]) -> dict[str, jax.Array]:
    """Returns the means that are logged and reported: nats and share of right predictions, or of a number to predict the
    squared error; 0 where nothing is asked.

    Args:
      losses: by name; of jax or of numpy, which stays float64.
    """
    metrics = {}
    for name, loss in losses.items():
        weight = divisor(loss.weight)
        if name == SCORE:
            metrics["squared_error"] = loss.cross_entropy / weight
            continue
        metrics["nats_per_token" if name == TOKEN else f"{name}_nats"] = loss.cross_entropy / weight
        metrics[f"{name}_accuracy"] = loss.num_correct / weight
    return metrics


def token_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> LossSums:
    """Returns the weighted sums of cross-entropy and z-loss over all tokens, or over whatever else there are logits of.

    With p = softmax(logits) and Z its normaliser, a token costs `-log p[target]` nats, plus `z_loss * log(Z)**2`,
    which keeps log Z near 0. With label smoothing s the target is (1 - s) on its own id and s / (vocab - 1) on
    each other, less that distribution's entropy, so that a perfect prediction costs nothing.

    Args:
      logits: [..., vocab] float32.
      targets: [...] int32.
      weights: [...] float32, 0 where a token does not count.
    """
    cross_entropy, log_z, target_is_best = _cross_entropy(logits, targets, label_smoothing)
    return LossSums(
        cross_entropy=jnp.sum(cross_entropy * weights),
        z_loss=z_loss * jnp.sum(jnp.square(log_z) * weights),
        num_correct=jnp.sum(target_is_best * weights),
        weight=jnp.sum(weights),
    )


def squared_error(predictions: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
    """Returns the weighted sum of squared errors, all arguments [batch] float32; no prediction counts as right."""
    errors = jnp.sum(jnp.square(predictions - targets) * weights)
    zero = jnp.zeros((), jnp.float32)
    return LossSums(cross_entropy=errors, z_loss=zero, num_correct=zero, weight=jnp.sum(weights))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropy(
    logits: jax.Array, targets: jax.Array, label_smoothing: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns cross-entropy, log Z and whether the target has the largest logit, each [...]."""
    return _cross_entropy_forward(logits, targets, label_smoothing)[0]


def smoothed(label_smoothing: float, vocab: int) -> tuple[float, float]:
    """Returns the target probability of the target's own id and of every other."""
    return 1.0 - label_smoothing, label_smoothing / (vocab - 1)


def cross_entropy_of(
    log_z: jax.Array,
    target_logit: jax.Array,
    sum_of_logits: jax.Array | None,
    vocab: int,
    label_smoothing: float,
) -> jax.Array:
    """Returns the cross-entropy of each token from what it depends on of its logits, all [...] float32.

    Args:
      sum_of_logits: read only where there is label smoothing.
    """
    if not label_smoothing:
        return log_z - target_logit
    assert sum_of_logits is not None
    on, off = smoothed(label_smoothing, vocab)
    entropy = -(on * jnp.log(on) + (vocab - 1) * off * jnp.log(off))
    return log_z - on * target_logit - off * (sum_of_logits - target_logit) - entropy


def _cross_entropy_forward(logits: jax.Array, targets: jax.Array, label_smoothing: float):  # type: ignore[no-untyped-def]
    largest = jnp.max(logits, axis=-1)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    sum_of_logits = jnp.sum(logits, axis=-1) if label_smoothing else None
    cross_entropy = cross_entropy_of(log_z, target_logit, sum_of_logits, logits.shape[-1], label_smoothing)
    outputs = (cross_entropy, log_z, (target_logit >= largest).astype(jnp.float32))
    return outputs, (logits, targets, log_z)


def _cross_entropy_backward(label_smoothing: float, residuals, gradients):  # type: ignore[no-untyped-def]
    # By hand because autodiff of the gather above is a scatter into zeros as large as the logits: slow
    # everywhere. This is one pass: softmax times a scale, less the target distribution.
    logits, targets, log_z = residuals
    of_cross_entropy, of_log_z, _ = gradients
    on, off = smoothed(label_smoothing, logits.shape[-1])
    softmax = jnp.exp(logits - log_z[..., None])
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    target_probability = jnp.where(is_target, on, off)
    gradient = (
        softmax * (of_cross_entropy + of_log_z)[..., None] - target_probability * of_cross_entropy[..., None]
    )
    return gradient, None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
