"""A plan as it is printed."""

import textwrap
from collections.abc import Sequence

from t5like.planning.record import GIB, METHOD, SECONDS_PER_DAY, Plan
from t5like.planning.topologies import Topology
from t5like.progress import format_clock

_SHOWN_COLLECTIVES = 12


def describe(plan: Plan, topology: Topology, *, price: float | None, num_steps: int) -> str:
    """Returns a plan in some lines of text.

    Args:
      price: of a chip and hour; None leaves costs out.
      num_steps: of the whole run.
    """
    lines = [
        f"{plan.config or 'this config'} on {_topology(topology)}: {_layout(plan)}",
        *_memory_lines(plan),
    ]
    if plan.step_seconds:
        lines += _time_lines(plan)
        lines += [*_run_lines(plan, price, num_steps), *_collective_lines(plan)]
        lines += textwrap.wrap(f"This is {METHOD}.", width=110, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def ranking(plans: Sequence[Plan]) -> str:
    """Returns one line a plan, in order."""
    rows = [("mesh", "batch", "remat", "GiB", "s/step", "MFU", "tokens/s")]
    for plan in plans:
        time = (f"{plan.step_seconds:.3g}", f"{plan.mfu_percent():.1f} %", f"{plan.tokens_per_second:,.0f}")
        rows.append(
            (
                _mesh(plan),
                f"{plan.batch_size:,}",
                plan.remat,
                f"{plan.memory.peak / GIB:.2f}",
                *(time if plan.memory.fits else ("does not fit", "", "")),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _topology(topology: Topology) -> str:
    """Returns "2 x v5e-64 (8x8), 128 chips"."""
    slices = f"{topology.num_slices} x " if topology.num_slices > 1 else ""
    shape = "x".join(map(str, topology.shape))
    return f"{slices}{topology.name} ({shape}), {topology.num_chips} chips"


def _layout(plan: Plan) -> str:
    parts = f" in {plan.num_microbatches} parts" if plan.num_microbatches > 1 else ""
    return (
        f"mesh {_mesh(plan)}; {plan.batch_size:,} rows a batch{parts}, {plan.tokens / plan.batch_size:,.0f} tokens each; "
        f"remat {plan.remat}, attention {plan.attention}"
    )


def _mesh(plan: Plan) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items()) or "one device"


def _memory_lines(plan: Plan) -> list[str]:
    memory = plan.memory
    spare = (memory.limit - memory.peak) / GIB
    verdict = (
        f"fits, with {spare:.2f} GiB to spare" if memory.fits else f"does not fit: {-spare:.2f} GiB too much"
    )
    parts = (
        f"parameters {memory.parameters / GIB:.2f}, optimizer {memory.optimizer / GIB:.2f}, batch "
        f"{memory.batch / GIB:.2f}, activations {memory.activations / GIB:.2f}"
    )
    host = f", of the host's memory {memory.host / GIB:.2f}" if memory.host else ""
    return [
        f"  memory   {memory.peak / GIB:.2f} of {memory.limit / GIB:.2f} GiB a device: {verdict}",
        f"           {parts}{host}",
    ]


def _time_lines(plan: Plan) -> list[str]:
    kernels = f" (kernels {plan.kernel_seconds:.3g})" if plan.kernel_seconds else ""
    again = 100 * (plan.device_flops * plan.num_devices / plan.model_flops - 1)
    return [
        f"  step     {plan.step_seconds:.3g} s predicted: computing {plan.compute_seconds:.3g}{kernels}, waiting for "
        f"memory {plan.memory_wait_seconds:.3g}, for collectives {plan.sync_seconds + plan.wire_wait_seconds:.3g}",
        f"  MFU      {plan.mfu_percent():.1f} % predicted; {plan.mfu_percent(counts_wires=False):.1f} % if collectives took "
        f"no time; {plan.model_flops:.3g} FLOPs a step by the model, {again:.0f} % more computed",
    ]


def _run_lines(plan: Plan, price: float | None, num_steps: int) -> list[str]:
    seconds = num_steps * plan.step_seconds
    lines = [
        f"  tokens   {plan.tokens_per_second:,.0f} a second, {plan.tokens_per_second * SECONDS_PER_DAY / 1e9:,.1f} billion "
        f"a day; {num_steps:,} steps take {format_clock(seconds)}"
    ]
    if price is not None:
        a_day = price * plan.num_chips * 24
        lines.append(
            f"  cost     {a_day:,.0f} USD a day, {a_day * seconds / SECONDS_PER_DAY:,.0f} USD for {num_steps:,} steps"
        )
    return lines


def _collective_lines(plan: Plan) -> list[str]:
    if not plan.collectives:
        return ["  collectives: none"]
    lines = ["  collectives of a step, as one device sees them:"]
    for talking in plan.collectives[:_SHOWN_COLLECTIVES]:
        how = "started ahead" if talking.is_async else "waited for"
        lines.append(
            f"    {talking.kind:<18} along {talking.axes or '-':<14} {talking.count:>6,} times  "
            f"{talking.num_bytes / 2**20:>10,.1f} MiB  {talking.seconds:.3g} s on the wires, {how}"
        )
    return lines
