"""What is measured of a model and shown of it: scores with their baselines, and samples of its writing."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One figure measured of a model, beside what it has to beat."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    baseline_name: str | None = None
    higher_is_better: bool = True

    @property
    def beats_baseline(self) -> bool | None:
        """Whether the value is strictly better than the baseline; None without one."""
        if self.baseline is None:
            return None
        return self.value > self.baseline if self.higher_is_better else self.value < self.baseline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One input, what should have been written for it, and what the model wrote."""

    inputs: str
    targets: str
    prediction: str
    title: str | None = None

    @property
    def is_right(self) -> bool | None:
        """Whether the prediction is the target, blanks around them aside; None without a target."""
        return self.prediction.strip() == self.targets.strip() if self.targets.strip() else None
