"""One train step, as a pure function of (state, batch)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from t5like.losses import TOKEN, LossSums, divisor, loss_metrics, target_weights

PyTree = Any
Batch = dict[str, jax.Array]
Losses = dict[str, LossSums]
LossFunction = Callable[[PyTree, Batch, jax.Array | None], Losses]
"""(params, batch, dropout_key) -> sums over all that is predicted from the batch, named as in `target_weights`."""


class TrainState(NamedTuple):
    """All that training carries from step to step, beside the data cursor."""

    step: Any  # scalar int32: updates made so far
    params: PyTree  # float32
    optimizer: PyTree


def train_step(
    state: TrainState,
    batch: Batch,
    seed: jax.Array | int,
    limit: jax.Array | float | None = None,
    *,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[jax.Array], jax.Array],
    num_microbatches: int = 1,
    loss_normalizing_factor: float | None = None,
    in_compute_dtype: Callable[[PyTree], PyTree] = lambda params: params,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the next state and the metrics of this update, scalars float32.

    What is minimised is the mean loss of the target tokens or, with `loss_normalizing_factor`, their sum divided by
    that (233,472 for checkpoints of the original T5 code); and beside it, of pairs of texts, the mean loss over pairs; or
    the mean loss of what another head predicts.

    Args:
      limit: largest norm of the gradients with which the update is made; where it is larger, or not finite,
        parameters and optimizer stay as they are, and the step counts nevertheless. None: it is made in any case.
      in_compute_dtype: gives what of the parameters the losses are computed with, once for all microbatches. The
        parameters themselves are the float32 master copy, in which small updates add up.
    """
    # The key is a function of the step alone: a resumed run draws what a straight one would have.
    dropout_key = jax.random.fold_in(jax.random.key(seed), state.step)
    # Known before anything is computed, so that each microbatch divides by what the whole batch holds.
    normalizers = {name: divisor(weight) for name, weight in target_weights(batch).items()}
    if loss_normalizing_factor is not None:
        normalizers[TOKEN] = jnp.asarray(loss_normalizing_factor, jnp.float32)
    gradients, losses = accumulate_gradients(
        loss_function, in_compute_dtype(state.params), batch, dropout_key, num_microbatches, normalizers
    )
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": total_loss(losses, normalizers),
        **loss_metrics(losses),
        "learning_rate": learning_rate(state.step),
        "gradient_norm": optax.global_norm(gradients),
        "update_norm": optax.global_norm(updates),
        **real_tokens(batch),
    }
    if limit is not None:
        # By the gradients alone, which are known before anything is replaced.
        is_good = jnp.isfinite(metrics["gradient_norm"]) & (metrics["gradient_norm"] <= limit)
        params, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(is_good, new, old),
            (params, optimizer_state),
            (state.params, state.optimizer),
        )
    if TOKEN in losses:
        metrics["z_loss"] = losses[TOKEN].z_loss / divisor(losses[TOKEN].weight)
        metrics["target_tokens"] = losses[TOKEN].weight
    return TrainState(state.step + 1, params, optimizer_state), metrics


def total_loss(losses: Losses, normalizers: dict[str, jax.Array]) -> jax.Array:
    """Returns the sum of all losses, each divided by its normalizer."""
    means = (loss.total / normalizers[name] for name, loss in losses.items())
    return sum(means, start=jnp.zeros((), jnp.float32))


def real_tokens(batch: Batch) -> dict[str, jax.Array]:
    """Returns how many tokens of the batch are not padding, scalars float32: of each stack, and in all."""
    real = {
        f"{stack}_tokens": jnp.sum(batch[f"{stack}_segment_ids"] > 0, dtype=jnp.float32)
        for stack in ("encoder", "decoder")
        if f"{stack}_segment_ids" in batch
    }
    return {"real_tokens": sum(real.values(), start=jnp.zeros((), jnp.float32)), **real}


def accumulate_gradients(
    loss_function: LossFunction,
    params: PyTree,
    batch: Batch,
    dropout_key: jax.Array,
    num_microbatches: int,
    normalizers: dict[str, jax.Array],
) -> tuple[PyTree, Losses]:
    """Returns the gradients of `total_loss` over the whole batch, float32, and the sums it is made of.

    Microbatch i takes rows i, i + k, i + 2k ... of the batch, so that each device splits the rows it already holds.

    Args:
      normalizers: of the whole batch, by the names of the losses.
    """

    def gradients_of(microbatch: Batch, key: jax.Array) -> tuple[PyTree, Losses]:
        def total(params: PyTree) -> tuple[jax.Array, Losses]:
            losses = loss_function(params, microbatch, key)
            return total_loss(losses, normalizers), losses

        gradients, losses = jax.grad(total, has_aux=True)(params)
        return jax.tree.map(lambda x: x.astype(jnp.float32), gradients), losses

    if num_microbatches == 1:
        return gradients_of(batch, dropout_key)

    def add_microbatch(sums: PyTree, i: jax.Array) -> tuple[PyTree, None]:
        microbatch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), split)
        return jax.tree.map(jnp.add, sums, gradients_of(microbatch, jax.random.fold_in(dropout_key, i))), None

    # [batch, ...] -> [batch / k, k, ...]
    split = jax.tree.map(lambda x: x.reshape(-1, num_microbatches, *x.shape[1:]), batch)
    no_losses = {name: LossSums(*(jnp.zeros((), jnp.float32),) * 4) for name in normalizers}
    zeros = (jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), params), no_losses)
    sums, _ = jax.lax.scan(add_microbatch, zeros, jnp.arange(num_microbatches))
    return sums
