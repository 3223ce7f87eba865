"""One train step, as a pure function of (state, batch)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from t5like.losses import TokenLoss

PyTree = Any
Batch = dict[str, jax.Array]
LossFunction = Callable[[PyTree, Batch, jax.Array | None], TokenLoss]
"""(params, batch, dropout_key) -> sums over the batch."""


class TrainState(NamedTuple):
    """All that training carries from step to step, beside the data cursor."""

    step: Any  # scalar int32: updates made so far
    params: PyTree  # float32
    optimizer: PyTree


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[jax.Array], jax.Array],
    seed: int,
    num_microbatches: int = 1,
    loss_normalizing_factor: float | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the next state and the metrics of this update, scalars float32.

    Gradients of loss sums are added up over the microbatches and divided once: by the number of target tokens,
    or by `loss_normalizing_factor` where given (233,472 for checkpoints of the original T5 code).
    """
    # The key is a function of the step alone: a resumed run draws what a straight one would have.
    dropout_key = jax.random.fold_in(jax.random.key(seed), state.step)
    gradients, loss = accumulate_gradients(loss_function, state.params, batch, dropout_key, num_microbatches)
    normalizer = loss_normalizing_factor or jnp.maximum(loss.weight, 1.0)
    gradients = jax.tree.map(lambda g: g / normalizer, gradients)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    num_tokens = jnp.maximum(loss.weight, 1.0)
    metrics = {
        "loss": loss.total / normalizer,
        "nats_per_token": loss.cross_entropy / num_tokens,
        "z_loss": loss.z_loss / num_tokens,
        "token_accuracy": loss.num_correct / num_tokens,
        "learning_rate": learning_rate(state.step),
        "gradient_norm": optax.global_norm(gradients),
        "update_norm": optax.global_norm(updates),
        "target_tokens": loss.weight,
        "real_tokens": real_tokens(batch),
    }
    return TrainState(state.step + 1, params, optimizer_state), metrics


def real_tokens(batch: Batch) -> jax.Array:
    """Returns how many tokens of the batch are not padding, inputs and targets together, as float32."""
    return sum(
        jnp.sum(ids > 0, dtype=jnp.float32) for name, ids in batch.items() if name.endswith("segment_ids")
    ) + jnp.zeros((), jnp.float32)


def accumulate_gradients(
    loss_function: LossFunction, params: PyTree, batch: Batch, dropout_key: jax.Array, num_microbatches: int
) -> tuple[PyTree, TokenLoss]:
    """Returns the gradients of the summed loss over the whole batch, and its sums.

    Microbatch i takes rows i, i + k, i + 2k ... of the batch, so that each device splits the rows it already holds.
    """

    def gradients_of(microbatch: Batch, key: jax.Array) -> tuple[PyTree, TokenLoss]:
        def total(params: PyTree) -> tuple[jax.Array, TokenLoss]:
            loss = loss_function(params, microbatch, key)
            return loss.total, loss

        gradients, loss = jax.grad(total, has_aux=True)(params)
        return gradients, loss

    if num_microbatches == 1:
        return gradients_of(batch, dropout_key)

    def add_microbatch(sums: PyTree, i: jax.Array) -> tuple[PyTree, None]:
        microbatch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), split)
        return jax.tree.map(jnp.add, sums, gradients_of(microbatch, jax.random.fold_in(dropout_key, i))), None

    # [batch, ...] -> [batch / k, k, ...]
    split = jax.tree.map(lambda x: x.reshape(-1, num_microbatches, *x.shape[1:]), batch)
    zeros = (jax.tree.map(jnp.zeros_like, params), TokenLoss(*(jnp.zeros((), jnp.float32),) * 4))
    sums, _ = jax.lax.scan(add_microbatch, zeros, jnp.arange(num_microbatches))
    return sums
