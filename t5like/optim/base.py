"""What every learning rate schedule and every optimizer has in common."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5like.errors import UserError

LearningRate = Callable[[jax.typing.ArrayLike], jax.Array]


def require_positive(config: Any, *names: str) -> None:
    """Returns nothing; each named field of `config` is a finite number above zero.

    Raises:
      UserError: a field is not.
    """
    for name in names:
        value = _checked(config, name)
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{type(config).__name__}.{name} is {value}; give a finite number above 0.")


def require_at_least_zero(config: Any, *names: str) -> None:
    """Returns nothing; each named field of `config` is a finite number, zero or above.

    Raises:
      UserError: a field is not.
    """
    for name in names:
        value = _checked(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{type(config).__name__}.{name} is {value}; give a finite number, 0 or above.")


def _checked(config: Any, name: str) -> float:
    """Returns a field of `config`, if it is not a whole number that no array can hold."""
    value = getattr(config, name)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"{type(config).__name__}.{name} is {str(value)[:20]}...; give a number below 2**63.")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """A learning rate as a function of the step; `peak` is its largest value."""

    peak: float

    def __post_init__(self) -> None:
        require_positive(self, "peak")

    def build(self, total_steps: int) -> LearningRate:
        """Returns the function from step, an integer scalar (traced or not), to learning rate, float32 `[]`.

        Args:
          total_steps: the step at which the run ends; steps taken before a restore count too.

        Raises:
          UserError: the schedule does not fit in `total_steps`.
        """
        if total_steps < 1:
            raise UserError(f"A run of {total_steps} steps has no learning rate; give 1 step or more.")
        curve = self._curve(total_steps)
        return lambda step: jnp.asarray(curve(step), jnp.float32)

    @abc.abstractmethod
    def _curve(self, total_steps: int) -> optax.Schedule:
        """Returns the learning rate in any number type; `build` makes it float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
    """A rule that turns gradients into updates of the parameters; `schedule` is its learning rate."""

    schedule: Schedule

    @abc.abstractmethod
    def build(self, total_steps: int, param_axes: Any) -> optax.GradientTransformation:
        """Returns the transformation whose updates, learning rate and sign included, are added to the params.

        The updates and every statistic in the state are float32 whatever the type of parameters and
        gradients, unless the config names another for a statistic. The state counts the steps itself. The path of each statistic in the state ends with the
        path of its parameter.

        Args:
          total_steps: the step at which the run ends.
          param_axes: a tree like the parameters; each leaf is a tuple of logical axis names, one a dimension,
            such as `("layers", "embed", "mlp")`. Where the first is `"layers"` the array is a stack of one
            array a layer.

        Raises:
          UserError: the schedule does not fit in `total_steps`.
        """


def is_axes(x: Any) -> bool:
    """Returns whether `x` is a tuple of axis names: a leaf of `param_axes`, to JAX a container."""
    return isinstance(x, tuple) and all(name is None or isinstance(name, str) for name in x)


def is_stacked(axes: tuple[str | None, ...]) -> bool:
    """Returns whether the array with these axes holds one array a layer."""
    return axes[:1] == ("layers",)


def in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `tx` on parameters and gradients cast to float32, so that state and updates are float32."""

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return tx.update(cast(updates), state, None if params is None else cast(params))

    return optax.GradientTransformation(lambda params: tx.init(cast(params)), update)
