"""A plan: what a compiled step needs and how long it should take, as it is printed, saved and compared."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from t5like.planning.timeline import Totals

METHOD = (
    "a prediction, not a measurement: the compiled program's schedule, each instruction by the roofline of its operations "
    "and memory traffic at the chip's stated rates, and its collectives by their bytes over the links, waited for where "
    "the program waits"
)
MAX_GROWTH = 0.02
"""By how much the memory of a stored plan may grow."""
GIB = 2**30
SECONDS_PER_DAY = 86_400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device; what the compiler counts, padding of layouts among it."""

    limit: float
    peak: float
    parameters: float
    optimizer: float
    batch: float
    host: float = 0.0
    """Of the host's memory, where activations are kept there."""

    @property
    def activations(self) -> float:
        """What the step needs beside what it is given, at its fullest."""
        return max(0.0, self.peak - self.parameters - self.optimizer - self.batch)

    @property
    def fits(self) -> bool:
        """Whether the program runs."""
        return self.peak <= self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Talking:
    """Collectives of one kind along the same mesh axes, in one step of one device."""

    kind: str
    axes: str
    is_async: bool
    count: int
    num_bytes: float
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One step of a run on hardware that is not there.

    Attributes:
      mesh: sizes of its axes that are not 1.
      model_flops: of the whole batch, as `t5like.flops` counts; `device_flops` are those a device computes, what it
        computes again among them.
      compute_seconds, memory_wait_seconds, sync_seconds, wire_wait_seconds: what `step_seconds` is made of.
      tokens: slots of a batch, inputs and targets.
    """

    config: str
    topology: str
    num_slices: int
    num_devices: int
    num_chips: int
    mesh: dict[str, int]
    batch_size: int
    num_microbatches: int
    remat: str
    attention: str
    memory: Memory
    model_flops: float = 0.0
    device_flops: float = 0.0
    peak_flops: float = 0.0
    compute_seconds: float = 0.0
    kernel_seconds: float = 0.0
    memory_wait_seconds: float = 0.0
    sync_seconds: float = 0.0
    wire_wait_seconds: float = 0.0
    tokens: int = 0
    collectives: tuple[Talking, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def step_seconds(self) -> float:
        """Of one update."""
        return self.compute_seconds + self.memory_wait_seconds + self.sync_seconds + self.wire_wait_seconds

    def mfu_percent(self, *, counts_wires: bool = True) -> float:
        """Returns the model's operations as a share of the peak in the time of a step, or in that of a device alone."""
        seconds = self.step_seconds
        if not counts_wires:
            seconds -= self.sync_seconds + self.wire_wait_seconds
        return 100 * self.model_flops / (self.peak_flops * self.num_devices * seconds) if seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Slots that the whole machine works through, padding among them."""
        return self.tokens / self.step_seconds if self.step_seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns what is saved."""
        derived = {
            "fits": self.memory.fits,
            "step_seconds": self.step_seconds,
            "mfu_percent": self.mfu_percent(),
            "tokens_per_second": self.tokens_per_second,
            "method": METHOD,
        }
        return dataclasses.asdict(self) | derived


def collectives_of(totals: Totals) -> tuple[Talking, ...]:
    """Returns the collectives of a step, the longest first."""
    talks = (
        Talking(
            kind=talk.kind,
            axes=" x ".join(talk.axes),
            is_async=talk.is_async,
            count=count,
            num_bytes=totals.message_bytes[talk],
            seconds=totals.wire_seconds[talk],
        )
        for talk, count in totals.counts.items()
    )
    return tuple(sorted(talks, key=lambda talking: -talking.seconds))


def plan_from_json(saved: dict[str, Any]) -> Plan:
    """Returns the plan that `to_json` saved."""
    known = {field.name for field in dataclasses.fields(Plan)}
    fields = {name: value for name, value in saved.items() if name in known}
    memory = Memory(**fields.pop("memory"))
    collectives = tuple(Talking(**talking) for talking in fields.pop("collectives"))
    return Plan(**fields, memory=memory, collectives=collectives)


def regressions(stored: Plan, now: Plan) -> list[str]:
    """Returns in sentences what a plan needs more of than a stored one: memory, or a collective that was not there."""
    told = []
    if now.memory.peak > stored.memory.peak * (1 + MAX_GROWTH):
        growth = 100 * (now.memory.peak / stored.memory.peak - 1)
        told.append(
            f"{now.config} on {now.topology} needs {now.memory.peak / GIB:.2f} GiB, {growth:.1f} % more than the stored "
            f"{stored.memory.peak / GIB:.2f} GiB."
        )
    before = _counts(stored.collectives)
    for (kind, axes), count in _counts(now.collectives).items():
        if count > before.get((kind, axes), 0):
            told.append(
                f"{now.config} on {now.topology} has {count} {kind} along {axes} a step, and had "
                f"{before.get((kind, axes), 0)}."
            )
    return told


def _counts(collectives: Sequence[Talking]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for talking in collectives:
        key = (talking.kind, talking.axes)
        counts[key] = counts.get(key, 0) + talking.count
    return counts
