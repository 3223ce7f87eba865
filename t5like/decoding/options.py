"""How an answer is chosen from what a model says: the likeliest token, a drawn one, or the best of several beams."""

import dataclasses
import math
from typing import Literal

from t5like.errors import UserError
from t5like.optim.base import require_at_least_zero, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy:
    """The likeliest token at every position."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """A token drawn at every position, from what `temperature`, `top_k` and `top_p` leave, in this order.

    Source: Holtzman et al. 2020, section 3 (top-p); Fan et al. 2018 (top-k).
    """

    temperature: float = 1.0
    """What the logits are divided by: below 1 likely tokens become likelier, above 1 less so."""
    top_k: int | None = None
    """Only this many of the likeliest tokens may be drawn; None: all."""
    top_p: float | None = None
    """Only the likeliest tokens that together reach this probability may be drawn; None: all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1e-6 <= self.temperature <= 1e6:  # what float32 can divide logits by
            raise UserError(
                f"Sampling.temperature is {self.temperature}; give 1e-6 to 1e6, or use Greedy, which leaves nothing "
                "to chance."
            )
        require_at_least_zero(self, "seed")
        if self.seed >= 2**32:
            raise UserError(f"Sampling.seed is {self.seed}; give one below 2**32.")
        if self.top_k is not None:
            require_positive(self, "top_k")
        if self.top_p is not None and not 1e-6 <= self.top_p <= 1:
            raise UserError(f"Sampling.top_p is {self.top_p}; give a probability from 1e-6 to 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """The sequences with the best score found by going on with the `num_beams` likeliest beginnings at a time.

    The score of a sequence is its log-probability in nats over its length to the power of `length_penalty`. The
    search, when it ends and what it returns are those of Transformers 4.57.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    """The length counts the end mark. Above 0 long sequences are favoured, below 0 short ones."""
    num_best: int = 1
    """Sequences returned for each example."""
    early_stopping: Literal[False, True, "never"] = False
    """When an example with `num_beams` finished sequences is done: True, at once; False, when its best beginning
    would not beat the worst of them if it ended here; "never", when it could not wherever it ended."""

    def __post_init__(self) -> None:
        require_positive(self, "num_beams", "num_best")
        if not math.isfinite(self.length_penalty):
            raise UserError(f"BeamSearch.length_penalty is {self.length_penalty}; give a finite number.")
        if self.num_best > self.num_beams:
            raise UserError(
                f"BeamSearch.num_best is {self.num_best}, but {self.num_beams} beams find no more than "
                f"{self.num_beams} sequences; lower num_best or raise num_beams."
            )
        if self.early_stopping != "never" and not isinstance(self.early_stopping, bool):
            raise UserError(
                f'BeamSearch.early_stopping is {self.early_stopping!r}; give False, True or "never".'
            )


Decoding = Greedy | Sampling | BeamSearch
