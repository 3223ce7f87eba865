"""How long a step takes: the program's schedule, walked with a clock.

The core runs one instruction after another, each for the time of its roofline. Beside it, copies that were started and
not yet waited for go on: copies between memories with what the core leaves of the memory's rate, messages to other
devices on the wires, and to other slices over the network. Where the program waits for one of them, the clock goes on until it is done. Collectives that the
program does not start ahead hold the core up for all of their time.
"""

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from t5like.chips import Chip
from t5like.planning.collectives import Collective, Wires, collective_of, exchange_of
from t5like.planning.costs import KERNEL_TARGET, Cost, Costs
from t5like.planning.hlo import HBM, HOST, Computation, Instruction, Program

_LOCAL_COPIES = ("copy-start", "slice-start")
_TRANSFERS = ("send", "send-done", "recv", "recv-done")
_BODY = r"body=%?([\w.\-]+)"


class Talk(NamedTuple):
    """Collectives of one kind along the same mesh axes."""

    kind: str
    axes: tuple[str, ...]
    is_async: bool


@dataclasses.dataclass
class Totals:
    """Sums over a step of one device."""

    flops: float = 0.0
    num_bytes: float = 0.0
    """Moved between the large memory and the core."""
    host_bytes: float = 0.0
    """Moved to or from the host's memory, which takes no time here."""
    compute_seconds: float = 0.0
    """Of instructions, by their roofline, kernels among them."""
    kernel_seconds: float = 0.0
    memory_wait_seconds: float = 0.0
    """Waiting for copies between memories."""
    sync_seconds: float = 0.0
    """Of collectives that hold the core up."""
    wire_wait_seconds: float = 0.0
    """Waiting for collectives that were started ahead, and for other slices."""
    counts: Counter[Talk] = dataclasses.field(default_factory=Counter)
    message_bytes: Counter[Talk] = dataclasses.field(default_factory=Counter)
    wire_seconds: Counter[Talk] = dataclasses.field(default_factory=Counter)

    @property
    def seconds(self) -> float:
        """All of the step."""
        return self.compute_seconds + self.memory_wait_seconds + self.sync_seconds + self.wire_wait_seconds

    def add(self, other: "Totals", times: int = 1) -> None:
        """Adds another's sums, a number of times."""
        for field in dataclasses.fields(self):
            mine, more = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Counter):
                for key, value in more.items():
                    mine[key] += value * times
            else:
                setattr(self, field.name, mine + more * times)


@dataclasses.dataclass
class _Piece:
    name: str
    seconds: float


class _Queue:
    """Work in progress beside the core, one piece after another."""

    def __init__(self) -> None:
        self._left: deque[_Piece] = deque()

    def push(self, name: str, seconds: float) -> None:
        """Adds a piece behind the others."""
        self._left.append(_Piece(name, seconds))

    def run(self, seconds: float) -> None:
        """Goes on for a time."""
        while self._left and seconds > 0:
            first = self._left[0]
            done = min(seconds, first.seconds)
            first.seconds -= done
            seconds -= done
            if first.seconds <= 0:
                self._left.popleft()

    def wait(self, name: str) -> float:
        """Returns the seconds until a piece is done, those before it first, and goes on for so long."""
        waited = 0.0
        if any(piece.name == name for piece in self._left):
            done = ""
            while done != name:
                piece = self._left.popleft()
                done, waited = piece.name, waited + piece.seconds
        return waited


class _Beside:
    """All that goes on beside the core while one computation runs."""

    def __init__(self) -> None:
        self.copies, self.wires, self.network = _Queue(), _Queue(), _Queue()

    def run(self, seconds: float) -> None:
        """Lets all go on for a time in which the core leaves the memory alone."""
        for queue in (self.copies, self.wires, self.network):
            queue.run(seconds)

    def wait(self, queue: _Queue, name: str) -> float:
        """Returns the seconds until a piece of a queue is done, and lets the others go on for so long."""
        waited = queue.wait(name)
        for other in (self.copies, self.wires, self.network):
            if other is not queue:
                other.run(waited)
        return waited


class Timeline:
    """The clock of one device."""

    def __init__(self, program: Program, wires: Wires):
        self._program, self._wires = program, wires
        self._costs = Costs(program)
        self._chip: Chip = wires.topology.chip
        self._num_devices = len(wires.positions)
        self._running: set[str] = set()  # channels of collectives that are spread over several fusions

    def step(self) -> Totals:
        """Returns the sums of one run of the program."""
        return self._walk(self._program.entry)

    def _walk(self, computation: Computation) -> Totals:
        totals, beside = Totals(), _Beside()
        for instruction in computation.instructions:
            if instruction.opcode == "while":
                self._pass(totals, beside, self._loop(instruction, computation))
            elif instruction.opcode in ("call", "conditional"):
                self._pass(totals, beside, self._branch(instruction))
            elif instruction.opcode in _LOCAL_COPIES:
                self._start_copy(totals, beside, instruction, computation)
            elif instruction.opcode in ("copy-done", "slice-done"):
                totals.memory_wait_seconds += beside.wait(beside.copies, instruction.operands[0])
            elif instruction.opcode in _TRANSFERS:
                self._transfer(totals, beside, instruction, computation)
            else:
                self._run(totals, beside, instruction, computation)
        return totals

    def _pass(self, totals: Totals, beside: _Beside, inner: Totals) -> None:
        totals.add(inner)
        beside.run(inner.seconds)

    def _loop(self, loop: Instruction, within: Computation) -> Totals:
        body = self._walk(self._program.computations[str(loop.attribute(_BODY))])
        totals = Totals()
        totals.add(body, self._program.trips(loop, within))
        return totals

    def _branch(self, instruction: Instruction) -> Totals:
        names = [instruction.called] if instruction.called else _branches(instruction)
        return max((self._walk(self._program.computations[str(n)]) for n in names), key=lambda t: t.seconds)

    def _transfer(
        self, totals: Totals, beside: _Beside, instruction: Instruction, within: Computation
    ) -> None:
        """Begins an exchange with other slices where it is sent, and ends it where it has been received."""
        if instruction.opcode == "send":
            exchange = exchange_of(instruction, self._wires)
            if exchange is not None:
                beside.network.push(exchange.channel, self._note(totals, [exchange], is_async=True))
        elif instruction.opcode == "recv-done":
            exchange = exchange_of(within.by_name[instruction.operands[0]], self._wires)
            if exchange is not None:
                totals.wire_wait_seconds += beside.wait(beside.network, exchange.channel)

    def _start_copy(
        self, totals: Totals, beside: _Beside, instruction: Instruction, within: Computation
    ) -> None:
        made = instruction.arrays[0 if instruction.opcode == "copy-start" else 1]
        given = within.arrays_of(instruction.operands[0])[0]
        if HOST in (made.space, given.space):
            totals.host_bytes += made.num_bytes
            return
        num_bytes = made.num_bytes * ((made.space == HBM) + (given.space == HBM))
        totals.num_bytes += num_bytes
        beside.copies.push(instruction.name, num_bytes / self._chip.memory_bytes_per_second)

    def _run(self, totals: Totals, beside: _Beside, instruction: Instruction, within: Computation) -> None:
        """Runs an instruction that is no loop, no local copy and no transfer to other slices."""
        if instruction.opcode.endswith("-done"):
            totals.wire_wait_seconds += beside.wait(beside.wires, instruction.operands[0])
            return
        talks = self._collectives(instruction, within)
        part = self._part(instruction)
        new = [talk for talk in talks if talk.channel not in self._running]
        is_async = part is not None or instruction.opcode.endswith("-start")
        seconds = self._note(totals, new, is_async=is_async)
        self._compute(totals, beside, instruction, self._cost(instruction, within, talks))
        if part == "start":
            beside.wires.push(new[0].channel, seconds)
            self._running.add(new[0].channel)
        elif part == "done":
            self._running.discard(talks[0].channel)
            totals.wire_wait_seconds += beside.wait(beside.wires, talks[0].channel)
        elif is_async:
            beside.wires.push(instruction.name, seconds)
        else:
            totals.sync_seconds += seconds
            beside.copies.run(seconds)
            beside.network.run(seconds)

    def _compute(self, totals: Totals, beside: _Beside, instruction: Instruction, cost: Cost) -> None:
        """Lets the core do what an instruction costs."""
        computing = cost.seconds(self._chip)
        totals.flops += cost.flops
        totals.num_bytes += cost.num_bytes
        totals.compute_seconds += computing
        if KERNEL_TARGET in instruction.attributes:
            totals.kernel_seconds += computing
        beside.copies.run(max(0.0, computing - cost.num_bytes / self._chip.memory_bytes_per_second))
        beside.wires.run(computing)
        beside.network.run(computing)

    def _cost(self, instruction: Instruction, within: Computation, talks: list[Collective]) -> Cost:
        """Returns what an instruction costs the device itself; of a bare collective nothing."""
        return Cost() if talks and instruction.opcode != "fusion" else self._costs.of(instruction, within)

    def _part(self, instruction: Instruction) -> str | None:
        """Returns whether a fusion is the "start" or the "done" of a collective that runs beside others' products.

        Those between, which hold the collective too, are neither.
        """
        if instruction.opcode != "fusion" or instruction.called is None:
            return None
        for inner in self._program.computations[instruction.called].instructions:
            if inner.opcode == "custom-call":
                if '"AsyncCollectiveStart"' in inner.attributes:
                    return "start"
                if '"AsyncCollectiveDone"' in inner.attributes:
                    return "done"
        return None

    def _note(self, totals: Totals, talks: Iterable[Collective], *, is_async: bool) -> float:
        """Counts collectives; returns their seconds on the wires."""
        total = 0.0
        for collective in talks:
            seconds = self._wires.seconds(collective)
            talk = Talk(collective.kind, self._wires.axes_of(collective.group), is_async)
            totals.counts[talk] += 1
            totals.message_bytes[talk] += collective.num_bytes  # type: ignore[assignment]
            totals.wire_seconds[talk] += seconds  # type: ignore[assignment]
            total += seconds
        return total

    def _collectives(self, instruction: Instruction, within: Computation) -> list[Collective]:
        """Returns the collectives that an instruction is, or that a fusion holds."""
        if instruction.opcode == "fusion" and instruction.called:
            body = self._program.computations[instruction.called]
            found = [self._collectives(inner, body) for inner in body.instructions]
            inside = [collective for part in found for collective in part]
            if len(inside) == 1 and inside[0].kind == "all-reduce" and _scatters(body):
                return [inside[0]._replace(kind="reduce-scatter")]
            return inside
        collective = collective_of(instruction, within, self._num_devices)
        return [] if collective is None or len(collective.group) < 2 else [collective]


def _scatters(body: Computation) -> bool:
    """Returns whether a fused computation keeps a part of what it reduces over devices."""
    return any(instruction.opcode == "dynamic-slice" for instruction in body.instructions)


def _branches(instruction: Instruction) -> list[str]:
    listed = instruction.attribute(r"branch_computations=\{([^}]*)\}") or ""
    pairs = [instruction.attribute(rf"{side}_computation=%?([\w.\-]+)") for side in ("true", "false")]
    return [name.strip().lstrip("%") for name in listed.split(",") if name.strip()] or [
        name for name in pairs if name
    ]
