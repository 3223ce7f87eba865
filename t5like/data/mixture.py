"""Several sources of rows in one stream: how much of each, and which row is of which."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5like.errors import UserError

# Golden ratio times 2**64: its multiples, cut to 64 bits, fill the unit interval as evenly as any sequence can.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 2.0**-64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """One text of a mixture."""

    data: str
    """A location, as in `--data`."""
    rate: float | None = None
    """Its share of the rows, relative to the other rates; None: in proportion to num_examples."""
    num_examples: int | None = None
    """How many examples it counts as where no rate is given."""
    text_field: str = "text"
    """The field that holds the text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Texts to mix.

    A component without a rate weighs `min(num_examples * scale, cap) ** (1 / temperature)`. Of rates 3 and 1, three
    rows of four are of the first component, in an order that is fixed by the seed.

    Source: T5 (arXiv 1910.10683), section 3.5.2: examples-proportional mixing with a limit, and temperature scaling.

    Attributes:
      components: what is mixed.
      temperature: 1 mixes in proportion, more evens out; applied to weights that come of num_examples.
      scale: factor of num_examples.
      cap: the most that num_examples * scale counts for, or None.

    Raises:
      UserError: a value is out of its range, or some components have rates and some have none.
    """

    components: tuple[Component, ...]
    temperature: float = 1.0
    scale: float = 1.0
    cap: float | None = None

    def __post_init__(self) -> None:
        if not self.components:
            raise UserError("mixture.components is empty; give at least one component.")
        for name in ("temperature", "scale", "cap"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"mixture.{name} is {value}, but must be above 0.")
        rated = [component.rate is not None for component in self.components]
        if any(rated) and not all(rated):
            without = self.components[rated.index(False)].data
            raise UserError(
                f"mixture: {without} has no rate, and others have; give a rate to all components or to none."
            )
        for component in self.components:
            weight, name = (
                (component.rate, "rate") if all(rated) else (component.num_examples, "num_examples")
            )
            if weight is None:
                raise UserError(
                    f"mixture: {component.data} has neither a rate nor num_examples; give one of them."
                )
            if not weight > 0:
                raise UserError(f"mixture: {name} of {component.data} is {weight}, but must be above 0.")

    def shares(self) -> tuple[float, ...]:
        """Returns each component's share of the rows; they sum to 1."""
        if self.components[0].rate is not None:
            return shares_of([component.rate or 0.0 for component in self.components])
        sizes = [component.num_examples or 0 for component in self.components]
        return proportional_shares(sizes, temperature=self.temperature, scale=self.scale, cap=self.cap)


def proportional_shares(
    num_examples: Sequence[float], *, temperature: float = 1.0, scale: float = 1.0, cap: float | None = None
) -> tuple[float, ...]:
    """Returns shares in proportion to `min(num_examples * scale, cap) ** (1 / temperature)`.

    400 and 100 examples: (0.8, 0.2); with temperature 2: (0.667, 0.333); with cap 100: (0.5, 0.5).
    """
    limit = np.inf if cap is None else cap
    return shares_of([min(n * scale, limit) ** (1.0 / temperature) for n in num_examples])


def shares_of(weights: Sequence[float]) -> tuple[float, ...]:
    """Returns the weights divided by their sum."""
    total = sum(weights)
    return tuple(weight / total for weight in weights)


class Schedule:
    """Which component each row of a stream is of: a function of the row's number and the seed.

    After any number of rows each component has had its share of them, give or take a few rows.
    """

    def __init__(self, shares: Sequence[float], *, seed: int) -> None:
        self._edges = np.cumsum(shares)[:-1]
        self._offset = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

    def components(self, rows: np.ndarray) -> np.ndarray:
        """Returns the component [num_rows] int64 of each row number [num_rows]."""
        with np.errstate(over="ignore"):  # wrapping around is the point
            points = (rows.astype(np.uint64) * _GOLDEN + self._offset).astype(np.float64) * _UNIT
        return np.searchsorted(self._edges, points, side="right")
