"""What an instruction costs a device by itself: operations of its matrix products, and bytes of memory.

Bytes are those that go to or come from the large memory; what lies on the core is free. A fusion reads of an operand
no more than the slice it takes, and writes no more than the slice it replaces.
"""

import functools
import json
import math
import re
from typing import NamedTuple

from t5like.chips import Chip
from t5like.planning.hlo import HBM, Array, Computation, Instruction, Program
from t5like.planning.kernels import KERNELS, kernel_seconds

FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"),
        *("opt-barrier", "copy-done", "slice-done", "domain", "add-dependency"),
    }
)
KERNEL_TARGET = "tpu_custom_call"
_TRANSPARENT = (
    "bitcast",
    "reshape",
    "copy",
    "convert",
    "transpose",
)  # of these, within a fusion, nothing is read anew


class Cost(NamedTuple):
    """What one run of an instruction costs.

    Attributes:
      flops: operations of matrix products.
      num_bytes: that go to memory or come from it.
      kernel: name of the kernel that it is, if it is one, and num_logits how many logits that makes.
    """

    flops: float = 0.0
    num_bytes: float = 0.0
    kernel: str | None = None
    num_logits: float = 0.0

    def seconds(self, chip: Chip) -> float:
        """Returns the time on a chip: the longest of computing, of moving bytes, and of what a kernel is known to take."""
        known = kernel_seconds(self.kernel, chip.name, self.num_logits) if self.kernel else None
        return max(self.flops / chip.peak_flops, self.num_bytes / chip.memory_bytes_per_second, known or 0.0)


class Costs:
    """The cost of a program's instructions."""

    def __init__(self, program: Program):
        self._program = program
        self._flops_of = functools.cache(self._flops_of_computation)

    def of(self, instruction: Instruction, within: Computation) -> Cost:
        """Returns the cost of an instruction that is no loop and talks to no other device."""
        if instruction.opcode in FREE:
            return Cost()
        if instruction.opcode == "custom-call":
            return self._of_custom_call(instruction, within)
        return Cost(self.flops(instruction, within), self._bytes(instruction, within))

    def flops(self, instruction: Instruction, within: Computation) -> float:
        """Returns the operations of an instruction's matrix products, those of what it calls among them."""
        if instruction.opcode == "convolution":
            return convolution_flops(instruction, within)
        if instruction.opcode == "dot":
            return dot_flops(instruction, within)
        if instruction.opcode in ("fusion", "call", "async-start") and instruction.called:
            return self._flops_of(instruction.called)
        return 0.0

    def _flops_of_computation(self, name: str) -> float:
        computation = self._program.computations[name]
        return sum(self.flops(instruction, computation) for instruction in computation.instructions)

    def _of_custom_call(self, instruction: Instruction, within: Computation) -> Cost:
        """Returns what a kernel says of itself; of the compiler's own calls, none of which computes, the bytes."""
        if KERNEL_TARGET not in instruction.attributes:
            if any(name in instruction.attributes for name in ("AllocateBuffer", "ConcatBitcast", "Assume")):
                return Cost()
            return Cost(0.0, self._bytes(instruction, within))
        estimate = instruction.attribute(r'"cost_estimate":(\{[^}]*\})')
        if estimate is None:
            return Cost(0.0, self._bytes(instruction, within))
        said = json.loads(estimate)
        name = next((kernel for kernel in KERNELS if kernel in instruction.attributes), None)
        num_bytes, logits = self._bytes(instruction, within), float(said.get("transcendentals", 0))
        return Cost(float(said.get("flops", 0)), num_bytes, name, logits)

    def _bytes(self, instruction: Instruction, within: Computation) -> float:
        if instruction.opcode == "fusion" and instruction.called:
            body = self._program.computations[instruction.called]
            read = sum(
                min(self._read_of_parameter(body, number), _in_memory(within.arrays_of(operand)))
                for number, operand in enumerate(instruction.operands)
            )
            return read + self._written(body, body.root, instruction.arrays)
        if instruction.opcode in ("dynamic-slice", "slice", "gather"):
            read = _all_bytes(instruction.arrays) if _reads_memory(instruction, within) else 0
            return read + _in_memory(instruction.arrays)
        if instruction.opcode == "dynamic-update-slice":
            update = within.arrays_of(instruction.operands[1])
            return _in_memory(update) + (_all_bytes(update) if instruction.arrays[0].space == HBM else 0)
        if instruction.opcode in ("while", "conditional", "call"):
            return 0.0
        operands = dict.fromkeys(instruction.operands)
        return sum(_in_memory(within.arrays_of(name)) for name in operands) + _in_memory(instruction.arrays)

    def _read_of_parameter(self, body: Computation, number: int) -> float:
        """Returns the bytes that a fused computation reads of a parameter: slices where it takes no more."""
        return self._read(body, body.parameters[number])

    def _read(self, body: Computation, value: Instruction) -> float:
        total = 0.0
        for user in body.users.get(value.name, []):
            if user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == value.name:
                total += _all_bytes(user.arrays)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
                continue  # in place: what is not replaced stays where it is
            elif user.opcode in _TRANSPARENT:
                total += min(self._read(body, user), _all_bytes(value.arrays))
            elif user.opcode == "fusion" and user.called:
                inner = self._program.computations[user.called]
                uses = [i for i, operand in enumerate(user.operands) if operand == value.name]
                total += sum(self._read_of_parameter(inner, i) for i in uses)
            else:
                total += _all_bytes(value.arrays)
        if value.is_root:
            total += _all_bytes(value.arrays)
        return min(total, _all_bytes(value.arrays))

    def _written(self, body: Computation, root: Instruction, arrays: tuple[Array, ...]) -> float:
        """Returns the bytes that a fused computation writes to memory.

        Args:
          arrays: what the fusion makes, with the memory it lies in.
        """
        if root.opcode == "tuple":
            parts = [body.by_name[name] for name in root.operands]
            if len(parts) == len(arrays):
                return sum(
                    self._written(body, part, (array,)) for part, array in zip(parts, arrays, strict=True)
                )
        if all(array.space != HBM for array in arrays):
            return 0.0
        if root.opcode == "dynamic-update-slice":
            return _all_bytes(body.arrays_of(root.operands[1]))
        if root.opcode == "bitcast":
            return self._written(body, body.by_name[root.operands[0]], arrays)
        if root.opcode == "fusion" and root.called:
            inner = self._program.computations[root.called]
            return self._written(inner, inner.root, arrays)
        return _in_memory(arrays)


def _all_bytes(arrays: tuple[Array, ...]) -> float:
    return sum(array.num_bytes for array in arrays)


def _in_memory(arrays: tuple[Array, ...]) -> float:
    """Returns the bytes of those arrays that lie in the large memory."""
    return sum(array.num_bytes for array in arrays if array.space == HBM)


def _reads_memory(instruction: Instruction, within: Computation) -> bool:
    return any(array.space == HBM for array in within.arrays_of(instruction.operands[0]))


def dot_flops(instruction: Instruction, within: Computation) -> float:
    """Returns the operations of a `dot`: two for each element of the result and of what is summed."""
    (left,) = within.arrays_of(instruction.operands[0])
    contracted = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
    summed = math.prod(left.dims[int(i)] for i in contracted.split(",") if i)
    return 2.0 * instruction.arrays[0].size * summed


def convolution_flops(instruction: Instruction, within: Computation) -> float:
    """Returns the operations of a `convolution`, which is what a TPU makes of every matrix product.

    Two for each element of the result and each of the input's it is made of; those of padding and of holes that
    dilation leaves are not counted. Batched products are convolutions with such holes.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None
    left_labels, kernel_labels, out_labels = labels.groups()
    (left,), (kernel,) = (within.arrays_of(name) for name in instruction.operands[:2])
    out = instruction.arrays[0]
    window = _window(instruction.attribute(r"window=\{([^}]*)\}") or "")
    pairs = 1
    for label in filter(str.isdigit, out_labels):
        pairs *= _valid_pairs(
            left.dims[left_labels.index(label)],
            out.dims[out_labels.index(label)],
            {name: values[int(label)] for name, values in window.items()},
        )
    batch = out.dims[out_labels.index("b")]
    outputs = kernel.dims[kernel_labels.index("o")]
    inputs = kernel.dims[kernel_labels.index("i")]
    return 2.0 * batch * outputs * inputs * pairs


def _window(text: str) -> dict[str, list[str]]:
    """Returns "size=1x12 pad=0_0x11_11" as {"size": ["1", "12"], "pad": ["0_0", "11_11"]}."""
    return {name: value.split("x") for name, value in (part.split("=") for part in text.split())}


def _valid_pairs(left: int, out: int, window: dict[str, str]) -> int:
    """Returns how many pairs of a window's position and an element in it there are along a dimension."""
    size, stride = int(window.get("size", 1)), int(window.get("stride", 1))
    low = int(window.get("pad", "0_0").split("_")[0])
    left_dilation, right_dilation = int(window.get("lhs_dilate", 1)), int(window.get("rhs_dilate", 1))
    count = 0
    for position in range(out):
        for element in range(size):
            at = position * stride + element * right_dilation - low
            count += 0 <= at < (left - 1) * left_dilation + 1 and at % left_dilation == 0
    return count
