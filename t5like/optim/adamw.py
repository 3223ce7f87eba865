"""AdamW that clips by the global norm and leaves logical vectors undecayed."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from t5like.errors import UserError
from t5like.optim.base import (
    Optimizer,
    in_float32,
    is_axes,
    is_stacked,
    require_at_least_zero,
    require_positive,
)

# Half a unit in the last place of bfloat16 is up to 1/256 of a number: what a step takes away must be well above that.
_MAX_BFLOAT16_B2 = 0.98


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay; the decay is multiplied by the learning rate.

    Attributes:
      weight_decay: fraction of a parameter taken away at learning rate 1. Vectors (norm scales, biases),
        stacked over layers or not, and relative position tables (an axis named `buckets`) are not decayed.
      max_grad_norm: largest L2 norm of all gradients together, to which longer ones are shortened before
        anything else; None leaves them.
      second_moment_dtype: in what the mean of squared gradients is kept from step to step. bfloat16 saves 2 of the
        12 bytes a parameter takes with its moments, and needs a `b2` of 0.98 or less: with one nearer 1 each change
        is rounded away, so that the mean never falls again once gradients get smaller.

    Source: Loshchilov and Hutter 2019, algorithm 2, with the schedule as the only multiplier of both terms.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    second_moment_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require_at_least_zero(self, "b1", "b2", "weight_decay")
        require_positive(self, "eps")
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            if value >= 1:
                raise UserError(f"AdamW.{name} is {value}; give a number from 0 to below 1.")
        if self.max_grad_norm is not None:
            require_positive(self, "max_grad_norm")
        if self.second_moment_dtype == "bfloat16" and self.b2 > _MAX_BFLOAT16_B2:
            raise UserError(
                f"AdamW.b2 is {self.b2}, too near 1 for a second moment in bfloat16, which could never fall; give "
                f"{_MAX_BFLOAT16_B2} or less, or second_moment_dtype float32."
            )

    def build(self, total_steps: int, param_axes: Any) -> optax.GradientTransformation:
        """Returns the transformation; see `Optimizer.build`.

        Raises:
          UserError: the schedule does not fit in `total_steps`.
        """
        clip = (
            optax.identity() if self.max_grad_norm is None else optax.clip_by_global_norm(self.max_grad_norm)
        )
        rule = optax.chain(
            clip,
            second_moment_in(self.second_moment_dtype, optax.scale_by_adam(self.b1, self.b2, self.eps)),
            optax.add_decayed_weights(self.weight_decay, mask=decay_mask(param_axes)),
        )
        return optax.chain(in_float32(rule), optax.scale_by_learning_rate(self.schedule.build(total_steps)))


def second_moment_in(dtype: str, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `adam`, its second moment rounded to a dtype between updates and float32 within them."""

    def cast(state: Any, dtype: Any) -> Any:
        return state._replace(nu=jax.tree.map(lambda x: x.astype(dtype), state.nu))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = adam.update(updates, cast(state, jnp.float32), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(adam.init(params), dtype), update)


def decay_mask(param_axes: Any) -> Any:
    """Returns a tree of bools, True where weight decay applies.

        ("layers", "embed", "mlp")  ("vocab", "embed")   ("layers", "norm")   ("norm",)   ("heads", "buckets")
        True                        True                 False                False       False

    Args:
      param_axes: as in `Optimizer.build`.
    """
    return jax.tree.map(_decays, param_axes, is_leaf=is_axes)


def _decays(axes: tuple[str | None, ...]) -> bool:
    one_layer = axes[1:] if is_stacked(axes) else axes
    return len(one_layer) >= 2 and "buckets" not in one_layer
