"""The clock: what runs beside the core costs nothing until it is waited for, and loops count as often as they run."""

import dataclasses
import itertools

import pytest

from t5like.mesh import AXES
from t5like.planning.collectives import Wires
from t5like.planning.hlo import parse
from t5like.planning.timeline import Talk, Timeline
from t5like.planning.topologies import find_topology

TOPOLOGY = find_topology("v5e-16")
CHIP = TOPOLOGY.chip
WIRES = Wires(
    topology=TOPOLOGY,
    axes=AXES,
    sizes=(1, 4, 4, 1, 1),
    positions=tuple((0, *place) for place in itertools.product(range(4), range(4))),
)
SIZE = 8192
PRODUCT_SECONDS = 2 * SIZE**3 / CHIP.peak_flops
NEAR = f"bf16[{SIZE},{SIZE}]{{1,0:T(8,128)S(1)}}"
FAR = f"bf16[{SIZE},{SIZE}]{{1,0:T(8,128)}}"
COPY_SECONDS = 2 * SIZE**2 / CHIP.memory_bytes_per_second
GATHER_SECONDS = 2 * SIZE**2 * 3 / 4 / CHIP.link_bytes_per_second
GROUPS = "replica_groups={{0,1,2,3},{4,5,6,7},{8,9,10,11},{12,13,14,15}}"
EXCHANGED = (
    'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",'
    '_xla_host_transfer_rendezvous="all-reduce.7_0",_xla_megascale_target="{1,2}x{0:15}",'
    '_xla_megascale_transfer_type="ALL_REDUCE"}'
)
PRODUCT = f"%y = {NEAR} convolution(%a, %a), dim_labels=bf_io->bf"


def totals_of(*lines, computations="", wires=WIRES):
    """Returns the sums of a program whose entry has these lines, all of its arrays on the core unless they say."""
    body = "\n".join(f"  {line}" for line in (f"%a = {NEAR} parameter(0)", *lines))
    text = f"HloModule m, is_scheduled=true\n\n{computations}\nENTRY %main () -> f32[] {{\n{body}\n}}\n"
    return Timeline(parse(text), wires).step()


def test_a_product_on_the_core_takes_its_operations():
    totals = totals_of(PRODUCT)
    assert totals.flops == 2 * SIZE**3
    assert totals.seconds == totals.compute_seconds == pytest.approx(PRODUCT_SECONDS)


def test_a_copy_runs_beside_the_core_until_it_is_waited_for():
    start = f"%c = ({NEAR}, {FAR}, u32[]{{:S(2)}}) copy-start(%b)"
    done = f"%d = {NEAR} copy-done(%c)"
    given = f"%b = {FAR} parameter(1)"
    assert COPY_SECONDS < PRODUCT_SECONDS
    assert totals_of(given, start, PRODUCT, done).seconds == pytest.approx(PRODUCT_SECONDS)
    at_once = totals_of(given, start, done, PRODUCT)
    assert at_once.memory_wait_seconds == pytest.approx(COPY_SECONDS)
    assert at_once.seconds == pytest.approx(PRODUCT_SECONDS + COPY_SECONDS)


def test_the_core_and_a_copy_share_the_memory():
    """A product whose operands come from memory leaves the copy less of it."""
    start = f"%c = ({NEAR}, {FAR}, u32[]{{:S(2)}}) copy-start(%b)"
    adding = f"%s = {FAR} add(%b, %b)"
    totals = totals_of(f"%b = {FAR} parameter(1)", start, adding, f"%d = {NEAR} copy-done(%c)")
    assert totals.seconds == pytest.approx(3 * COPY_SECONDS)  # a read and a write of the sum, then the copy


def test_a_collective_that_is_not_started_ahead_holds_the_core_up():
    totals = totals_of(f"%g = {FAR} all-gather(%a), channel_id=1, {GROUPS}, dimensions={{0}}", PRODUCT)
    assert totals.sync_seconds == pytest.approx(GATHER_SECONDS)
    assert totals.seconds == pytest.approx(PRODUCT_SECONDS + GATHER_SECONDS)
    assert totals.counts == {Talk("all-gather", ("fsdp",), False): 1}


def test_a_collective_that_is_started_ahead_costs_what_is_left_of_it():
    start = f"%g = ({NEAR}, {FAR}) all-gather-start(%a), channel_id=1, {GROUPS}, dimensions={{0}}"
    done = f"%h = {FAR} all-gather-done(%g)"
    totals = totals_of(start, PRODUCT, done)
    assert totals.wire_wait_seconds == pytest.approx(max(0.0, GATHER_SECONDS - PRODUCT_SECONDS))
    assert totals_of(start, done).seconds == pytest.approx(GATHER_SECONDS)
    assert list(totals.counts) == [Talk("all-gather", ("fsdp",), True)]


def test_a_collective_spread_over_fusions_is_one():
    gather = f"%g = {FAR} all-gather(%p), channel_id=7, {GROUPS}, dimensions={{0}}"
    parts = {"start": "AsyncCollectiveStart", "done": "AsyncCollectiveDone"}
    computations = "".join(
        f"%{name} (p: f32[]) -> f32[] {{\n  %p = {NEAR} parameter(0)\n  {gather}\n"
        f'  ROOT %r = {NEAR} custom-call(%g), custom_call_target="{target}"\n}}\n\n'
        for name, target in parts.items()
    )
    computations += (
        f"%middle (p: f32[]) -> f32[] {{\n  %p = {NEAR} parameter(0)\n  {gather}\n"
        f"  ROOT %y = {NEAR} convolution(%p, %p), dim_labels=bf_io->bf\n}}\n\n"
    )
    lines = [
        f"%{name}.1 = {NEAR} fusion(%a), kind=kCustom, calls=%{name}" for name in ("start", "middle", "done")
    ]
    totals = totals_of(*lines, computations=computations)
    assert totals.counts == {Talk("all-gather", ("fsdp",), True): 1}
    assert totals.seconds == pytest.approx(max(PRODUCT_SECONDS, GATHER_SECONDS))
    assert totals.sync_seconds == 0


def test_a_reduction_of_which_a_part_is_kept_is_a_reduce_scatter():
    computations = (
        f"%scatter (p: f32[]) -> f32[] {{\n  %p = {NEAR} parameter(0)\n"
        f"  %r = {NEAR} all-reduce(%p), channel_id=3, {GROUPS}, to_apply=%add\n  %i = s32[] constant(0)\n"
        f"  ROOT %s = bf16[2048,{SIZE}]{{1,0:S(1)}} dynamic-slice(%r, %i, %i)\n}}\n\n"
    )
    totals = totals_of(
        f"%z = bf16[2048,{SIZE}]{{1,0:S(1)}} fusion(%a), kind=kCustom, calls=%scatter",
        computations=computations,
    )
    assert totals.counts == {Talk("reduce-scatter", ("fsdp",), False): 1}
    assert totals.sync_seconds == pytest.approx(GATHER_SECONDS)


def test_what_slices_exchange_costs_what_is_left_of_it_where_it_is_received():
    slices = 2
    two = dataclasses.replace(
        WIRES,
        sizes=(slices, 4, 4, 1, 1),
        positions=tuple((number, *place[1:]) for number in range(slices) for place in WIRES.positions),
    )
    send = f"%s = ({FAR}, u32[], token[]) send(%a, %t), channel_id=3, {EXCHANGED}"
    receive = f"%r = ({FAR}, u32[], token[]) recv(%t), channel_id=4, {EXCHANGED}"
    sent, received = "%u = token[] send-done(%s)", f"%v = ({FAR}, token[]) recv-done(%r)"
    seconds = 2 * SIZE**2 * 2 * (slices - 1) / slices / CHIP.slice_bytes_per_second
    assert seconds > PRODUCT_SECONDS
    token = "%t = token[] after-all()"
    totals = totals_of(token, send, receive, PRODUCT, sent, received, wires=two)
    assert totals.counts == {Talk("all-reduce", ("slices",), True): 1}
    assert totals.wire_wait_seconds == pytest.approx(seconds - PRODUCT_SECONDS)
    at_once = totals_of(token, send, receive, sent, received, PRODUCT, wires=two)
    assert at_once.seconds == pytest.approx(seconds + PRODUCT_SECONDS)
    to_the_host = send.partition(", channel_id")[0] + ", channel_id=3, is_host_transfer=true"
    assert totals_of(token, to_the_host, sent, wires=two).seconds == 0


def test_a_loop_counts_as_often_as_it_runs():
    state = f"(s32[], {NEAR})"
    computations = f"""
%body (s: f32[]) -> f32[] {{
  %s = {state} parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %a = {NEAR} get-tuple-element(%s), index=1
  {PRODUCT}
  %one = s32[] constant(1)
  %j = s32[] add(%i, %one)
  ROOT %t = {state} tuple(%j, %y)
}}

%condition (s: f32[]) -> pred[] {{
  %s = {state} parameter(0)
  %n = s32[] constant(24)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %c = pred[] compare(%i, %n), direction=LT
}}
"""
    totals = totals_of(
        "%zero = s32[] constant(0)",
        f"%t = {state} tuple(%zero, %a)",
        f"%w = {state} while(%t), condition=%condition, body=%body",
        computations=computations,
    )
    assert totals.seconds == pytest.approx(24 * PRODUCT_SECONDS)
