"""The text of a compiled program ("optimised HLO"), as computations of instructions.

Only what planning asks of it is read. The order of a computation's instructions is that in which a TPU runs them.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

HBM, VMEM, HOST = 0, 1, 5
"""Memory spaces, as layouts name them: S(1) is on the core; without a mark it is the device's large memory."""

_BITS = {
    "token": 0,
    **dict.fromkeys(("s4", "u4"), 4),
    **dict.fromkeys(("pred", "s8", "u8"), 8),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 16),
    **dict.fromkeys(("s32", "u32", "f32"), 32),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 64),
}
_ARRAY = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([^\]]*)\](\{[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COMMENT = re.compile(r"/\*.*?\*/")


class Array(NamedTuple):
    """An array that an instruction makes."""

    dtype: str
    dims: tuple[int, ...]
    space: int

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.dims)

    @property
    def num_bytes(self) -> int:
        """What its elements take, padding of its layout left out."""
        bits = _BITS.get(self.dtype, 8 if self.dtype.startswith("f8") else 32)
        return self.size * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      arrays: what it makes; several where that is a tuple, flattened.
      operands: names of the instructions it uses.
      attributes: the rest of the line.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    def attribute(self, pattern: str) -> str | None:
        """Returns the first group of a regular expression in the attributes, None where it does not occur."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else None

    @property
    def called(self) -> str | None:
        """The computation that a fusion or call runs."""
        return self.attribute(r"(?:calls|to_apply)=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions in the order they run, and by name."""

    name: str
    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def by_name(self) -> dict[str, Instruction]:
        """The instructions by name."""
        return {instruction.name: instruction for instruction in self.instructions}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that use each, by its name."""
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for operand in dict.fromkeys(instruction.operands):
                users.setdefault(operand, []).append(instruction)
        return users

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """The parameters by number."""
        return {int(i.operands[0]): i for i in self.instructions if i.opcode == "parameter"}

    @property
    def root(self) -> Instruction:
        """What the computation gives back."""
        return next(i for i in reversed(self.instructions) if i.is_root)

    def arrays_of(self, name: str) -> tuple[Array, ...]:
        """Returns what an instruction makes."""
        return self.by_name[name].arrays


@dataclasses.dataclass(frozen=True)
class Program:
    """All computations of a compiled program."""

    computations: dict[str, Computation]
    entry: Computation

    def trips(self, loop: Instruction, within: Computation) -> int:
        """Returns how often the body of a `while` runs: its counter goes from a start to a bound in equal steps.

        Raises:
          ValueError: it is no loop of that kind.
        """
        known = loop.attribute(r'known_trip_count":\{"n":"(\d+)"')
        if known is not None:
            return int(known)
        condition, body = (
            self.computations[str(loop.attribute(rf"{what}=%?([\w.\-]+)"))] for what in ("condition", "body")
        )
        comparison = condition.root
        while comparison.opcode in ("fusion", "call"):
            condition = self.computations[str(comparison.called)]
            comparison = condition.root
        bound = next((c for o in comparison.operands if (c := _constant(condition, o)) is not None), None)
        if comparison.opcode != "compare" or bound is None:
            raise ValueError(f"the loop {loop.name} ends by no comparison with a constant")
        index = _counter(self.computations[str(loop.attribute(r"condition=%?([\w.\-]+)"))])
        start = _start(within, loop.operands[0], index)
        return max(0, math.ceil((bound - start) / _step(body, index)))


def parse(text: str) -> Program:
    """Returns the program that a compiled step's `as_text()` describes.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = None, "", list[Instruction]()
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name, lines = head[2], []
            entry = name if head[1] else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(name, tuple(lines))
            name = ""
        elif name and (start := _INSTRUCTION.match(line)):
            lines.append(_instruction(line, start))
    if entry is None:
        raise ValueError("this text is no compiled program: it has no ENTRY computation")
    return Program(computations, computations[entry])


def _instruction(line: str, start: re.Match[str]) -> Instruction:
    rest = _COMMENT.sub("", line[start.end() :])
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    opcode, inside, attributes = rest[:opening], rest[opening + 1 : closing], rest[closing + 1 :]
    if opcode in ("parameter", "constant"):
        operands: tuple[str, ...] = (inside,)
    else:
        operands = tuple(_operands(inside))
    return Instruction(start[2], opcode, tuple(_arrays(kind)), operands, attributes, bool(start[1]))


def _closing(text: str, opening: int) -> int:
    """Returns where the parenthesis that opens at `opening` closes."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    raise ValueError(f"no closing parenthesis in {text[:80]!r}")


def _arrays(kind: str) -> Iterator[Array]:
    for dtype, dims, layout in _ARRAY.findall(kind):
        space = re.search(r"S\((\d+)\)", layout)
        sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
        yield Array(dtype, sizes, int(space[1]) if space else HBM)


def _operands(inside: str) -> Iterator[str]:
    """Yields the names in "%a, %b" or "f32[2]{0} %a, f32[] %b"."""
    yield from re.findall(r"%([\w.\-]+)", inside)


def _constant(computation: Computation, name: str) -> int | None:
    instruction = computation.by_name[name]
    if instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.operands[0]):
        return int(instruction.operands[0])
    if instruction.opcode in ("copy", "bitcast", "convert"):
        return _constant(computation, instruction.operands[0])
    return None


def _counter(condition: Computation) -> int:
    """Returns which element of its state a loop counts in: the one its condition reads."""
    numbers = [i.attribute(r"index=(\d+)") for i in condition.instructions if i.opcode == "get-tuple-element"]
    if len(numbers) != 1:
        raise ValueError(f"the condition {condition.name} reads {len(numbers)} elements of the loop's state")
    return int(str(numbers[0]))


def _start(within: Computation, name: str, index: int) -> int:
    """Returns the counter's first value, 0 where it is not to be seen."""
    state = within.by_name[name]
    if state.opcode == "tuple":
        start = _constant(within, state.operands[index])
        return 0 if start is None else start
    return 0


def _step(body: Computation, index: int) -> int:
    """Returns by how much a loop's body raises its counter."""
    root = body.root
    if root.opcode == "tuple":
        added = body.by_name[root.operands[index]]
        while added.opcode in ("copy", "bitcast"):
            added = body.by_name[added.operands[0]]
        if added.opcode == "add":
            steps = [c for o in added.operands if (c := _constant(body, o)) is not None]
            if steps:
                return steps[0]
    return 1
