"""Learning rate schedules: frozen dataclasses whose `build(total_steps)` returns step -> learning rate."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from t5like.errors import UserError
from t5like.optim.base import Schedule, require_at_least_zero, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """`peak` at every step; T5 fine-tunes with 1e-3."""

    def _curve(self, total_steps: int) -> optax.Schedule:
        return optax.constant_schedule(self.peak)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseSquareRoot(Schedule):
    """`peak * sqrt(warmup_steps / max(step, warmup_steps))`; by default T5's `1 / sqrt(max(step, 10_000))`.

    T5's warm-up is flat: the rate stays at `peak` up to `warmup_steps`, and a run may end before that.
    With `ramps_up` the rate climbs linearly from 0 instead, and the run must be long enough to reach `peak`.

    Source: Raffel et al. 2020, section 3.1.2 (no ramp).
    """

    peak: float = 0.01
    warmup_steps: int = 10_000
    ramps_up: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "warmup_steps")

    def _curve(self, total_steps: int) -> optax.Schedule:
        if self.ramps_up:
            _require_warmup_ends(self, self.warmup_steps, total_steps)

        def curve(step: jax.typing.ArrayLike) -> jax.Array:
            decay = jnp.sqrt(self.warmup_steps / jnp.maximum(step, self.warmup_steps))
            ramp = jnp.minimum(step / self.warmup_steps, 1.0) if self.ramps_up else 1.0
            return self.peak * ramp * decay

        return curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RampAndDecay(Schedule):
    """Fields of the schedules that climb from 0 to `peak`, then fall to `end` and stay there.

    Attributes:
      warmup_steps: the step at which the rate is `peak`; with 0 it starts there.
      end: the last learning rate, in the same unit as `peak`.
      decay_steps: the step, counted from 0 with the warm-up included, at which the rate is `end`; None is the
        run's end.
    """

    warmup_steps: int
    end: float = 0.0
    decay_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_zero(self, "warmup_steps", "end")
        if self.end > self.peak:
            raise UserError(
                f"{type(self).__name__}.end is {self.end}, above its peak {self.peak}; give 0 to peak."
            )

    def _decay_end(self, total_steps: int) -> int:
        """Returns the step at which the rate is `end`."""
        _require_warmup_ends(self, self.warmup_steps, total_steps)
        decay_end = total_steps if self.decay_steps is None else self.decay_steps
        if decay_end <= self.warmup_steps:
            raise UserError(
                f"{type(self).__name__} has no step left to decay: its warm-up ends at step "
                f"{self.warmup_steps} and its decay at step {decay_end}; lower warmup_steps or raise decay_steps."
            )
        return decay_end


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(_RampAndDecay):
    """A linear ramp from 0 to `peak`, then half a cosine wave down to `end`."""

    def _curve(self, total_steps: int) -> optax.Schedule:
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=self.peak,
            warmup_steps=self.warmup_steps,
            decay_steps=self._decay_end(total_steps),
            end_value=self.end,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(_RampAndDecay):
    """A linear ramp from 0 to `peak`, then a straight line down to `end`."""

    def _curve(self, total_steps: int) -> optax.Schedule:
        decay_steps = self._decay_end(total_steps) - self.warmup_steps
        ramp = optax.linear_schedule(0.0, self.peak, self.warmup_steps)
        decay = optax.linear_schedule(self.peak, self.end, decay_steps)
        return optax.join_schedules([ramp, decay], [self.warmup_steps])


def _require_warmup_ends(schedule: Schedule, warmup_steps: int, total_steps: int) -> None:
    if warmup_steps > total_steps:
        raise UserError(
            f"{type(schedule).__name__} warms up for {warmup_steps} steps and the run ends at step "
            f"{total_steps}; lower warmup_steps or train longer."
        )
