"""AdamW that clips by the global norm and leaves logical vectors undecayed."""

import dataclasses
from typing import Any

import jax
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay; the decay is multiplied by the learning rate.

    Attributes:
      weight_decay: fraction of a parameter taken away at learning rate 1. Vectors (norm scales, biases),
        stacked over layers or not, and relative position tables (an axis named `buckets`) are not decayed.
      max_grad_norm: largest L2 norm of all gradients together, to which longer ones are shortened before
        anything else; None leaves them.

    Source: Loshchilov and Hutter 2019, algorithm 2, with the schedule as the only multiplier of both terms.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0

    def __post_init__(self) -> None:
        require_at_least_zero(self, "b1", "b2", "weight_decay")
        require_positive(self, "eps")
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            if value >= 1:
                raise UserError(f"AdamW.{name} is {value}; give a number from 0 to below 1.")
        if self.max_grad_norm is not None:
            require_positive(self, "max_grad_norm")

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
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            optax.add_decayed_weights(self.weight_decay, mask=decay_mask(param_axes)),
        )
        return optax.chain(in_float32(rule), optax.scale_by_learning_rate(self.schedule.build(total_steps)))


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
