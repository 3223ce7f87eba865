"""Which checkpoints of a run stay."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Keeping(NamedTuple):
    """What makes a checkpoint stay; any of these is enough."""

    num_newest: int = 2
    every_steps: int | None = None
    """Its step is a multiple of this."""
    pinned: tuple[int, ...] = ()
    """Its step is one of these."""
    num_best: int = 0
    """It is among so many that are best by a metric, of those that were evaluated."""
    best_metric: str = "nats_per_token"
    best_is_highest: bool = False


def kept_steps(steps: Sequence[int], scores: Mapping[int, float], keeping: Keeping) -> set[int]:
    """Returns the steps that stay.

    Args:
      scores: by step what the metric was, where it is known; of equals the earlier is the better, and what is no
        number is the worst.
    """
    ordered = sorted(steps)
    kept = set(ordered[-keeping.num_newest :] if keeping.num_newest else ())
    kept |= {step for step in ordered if keeping.every_steps and step % keeping.every_steps == 0}
    kept |= set(keeping.pinned) & set(ordered)
    sign = -1 if keeping.best_is_highest else 1
    scored = [step for step in ordered if step in scores and scores[step] == scores[step]]
    return kept | set(sorted(scored, key=lambda step: sign * scores[step])[: keeping.num_best])
