"""Plans come back from JSON, and a stored one tells what has grown since."""

import dataclasses
import json

from t5like.plan_text import describe, ranking
from t5like.planning.record import GIB, Memory, Plan, Talking, plan_from_json, regressions
from t5like.planning.topologies import find_topology

GATHER = Talking(kind="all-gather", axes="fsdp", is_async=True, count=10, num_bytes=1e9, seconds=0.02)
PLAN = Plan(
    config="configs/a.py",
    topology="v5e-16",
    num_slices=1,
    num_devices=16,
    num_chips=16,
    mesh={"data": 4, "fsdp": 4},
    batch_size=512,
    num_microbatches=1,
    remat="full",
    attention="at_once",
    memory=Memory(limit=16 * GIB, peak=8 * GIB, parameters=2 * GIB, optimizer=GIB, batch=0.5 * GIB),
    model_flops=16 * 100e12,
    device_flops=125e12,
    peak_flops=200e12,
    compute_seconds=0.8,
    memory_wait_seconds=0.05,
    sync_seconds=0.1,
    wire_wait_seconds=0.05,
    tokens=512 * 640,
    collectives=(GATHER,),
    versions={"jax": "0.10.2"},
)


def test_a_plan_comes_back_from_json():
    assert plan_from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


def test_the_parts_of_a_step_make_its_time_and_share_of_the_peak():
    assert PLAN.step_seconds == 1.0
    assert PLAN.mfu_percent() == 50.0
    assert round(PLAN.mfu_percent(counts_wires=False), 6) == round(50 / 0.85, 6)
    assert PLAN.tokens_per_second == 512 * 640
    assert PLAN.memory.activations == 4.5 * GIB


def test_more_memory_and_new_collectives_are_told_and_less_is_not():
    def now(peak=8.0, count=10, axes="fsdp"):
        memory = dataclasses.replace(PLAN.memory, peak=peak * GIB)
        talking = dataclasses.replace(GATHER, count=count, axes=axes)
        return dataclasses.replace(PLAN, memory=memory, collectives=(talking,))

    assert regressions(PLAN, PLAN) == []
    assert regressions(PLAN, now(peak=8.15)) == []
    assert regressions(PLAN, now(peak=4.0, count=3)) == []
    (more,) = regressions(PLAN, now(peak=8.2))
    assert "8.20 GiB, 2.5 % more" in more
    (new,) = regressions(PLAN, now(count=11))
    assert "11 all-gather along fsdp a step, and had 10" in new
    (elsewhere,) = regressions(PLAN, now(axes="data"))
    assert "along data a step, and had 0" in elsewhere


def test_a_plan_is_told_in_numbers_a_reader_can_check():
    topology = find_topology("v5e-16")
    text = describe(PLAN, topology, price=2.0, num_steps=1000)
    assert "8.00 of 16.00 GiB a device: fits, with 8.00 GiB to spare" in text
    assert "50.0 % predicted" in text
    assert "25 % more computed" in text
    assert "768 USD a day" in text
    assert "1,000 steps take 16:40" in text
    assert "prediction, not a measurement" in text
    assert "slices" not in text
    full = dataclasses.replace(PLAN, memory=dataclasses.replace(PLAN.memory, peak=17 * GIB))
    assert "does not fit: 1.00 GiB too much" in describe(full, topology, price=None, num_steps=1)
    lines = ranking([PLAN, full]).splitlines()
    assert "50.0 %" in lines[1]
    assert "does not fit" in lines[2]
