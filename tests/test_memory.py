"""What a compiled train step holds in memory, and what it moves between devices."""

import dataclasses
import functools
import math
import re

import jax
import numpy as np
import pytest

from t5like.models.config import TransformerConfig
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.sharding import AxisRules, MeshShape
from t5like.training import TrainingConfig, abstract_state, jit_train_step, place

NUM_ROWS, LENGTH, VOCAB = 64, 24, 176
MODEL = TransformerConfig(
    num_embeddings=VOCAB,
    embed_dim=32,
    num_heads=4,
    head_dim=8,
    mlp_dim=48,
    mlp_activations=("relu",),
    num_encoder_layers=0,
    num_decoder_layers=1,
)
CONFIG = TrainingConfig(optimizer=AdamW(schedule=Constant(peak=1e-2)), num_steps=2, batch_size=NUM_ROWS)
DATA = MeshShape(data=8)
FSDP = MeshShape(data=1, fsdp=8)
MIXED = MeshShape(data=2, fsdp=2, tensor=2)
MESHES = pytest.mark.parametrize("mesh", [DATA, FSDP, MIXED], ids=["data", "fsdp", "mixed"])


@functools.cache
def compile_step(mesh=MIXED, model=MODEL, **changes):
    """Returns the compiled train step and its abstract state; nothing is computed."""
    config = dataclasses.replace(CONFIG, **changes)
    placement = place(model, mesh, AxisRules(), batch_size=NUM_ROWS)
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    state = abstract_state(placement, optimizer)
    dtypes = {
        "input_tokens": np.int32,
        "segment_ids": np.int32,
        "target_tokens": np.int32,
        "loss_weights": np.float32,
    }
    batch = {
        f"decoder_{name}": jax.ShapeDtypeStruct((NUM_ROWS, LENGTH), dtype, sharding=placement.batch)
        for name, dtype in dtypes.items()
    }
    with jax.set_mesh(placement.mesh):
        step = jit_train_step(config, placement, optimizer)
        return step.lower(state, batch, jax.ShapeDtypeStruct((), np.uint32)).compile(), state


def shapes_in(compiled):
    """Returns dtype and shape of every array in a compiled program, those within fusions included."""
    found = re.findall(r"\b(f32|bf16|f16|pred|s32|u32)\[([\d,]+)\]", compiled.as_text())
    return {(dtype, tuple(map(int, shape.split(",")))) for dtype, shape in found}


def test_no_array_as_large_as_the_logits_is_in_a_step_in_chunks():
    """Not even within a fusion. The size of a device's part of the vocabulary tells logits from the rest."""
    vocab, num_logits = VOCAB // MIXED.tensor, NUM_ROWS * LENGTH * VOCAB // 8

    def logits_in(num_chunks):
        shapes = shapes_in(compile_step(loss_chunks=num_chunks)[0])
        return [x for x in shapes if vocab in x[1] and math.prod(x[1]) >= num_logits]

    assert logits_in(1), "not even at once: the test finds nothing"
    assert not logits_in(4)


@MESHES
def test_microbatches_move_no_features_and_hold_no_more(mesh):
    """What is gathered, cut or exchanged between devices is what it is without microbatches: parameters. Their sums of
    gradients are small here beside what a whole batch keeps for its backward pass."""
    moved, peak = {}, {}
    for num in (1, 4):
        compiled, _ = compile_step(mesh, num_microbatches=num)
        text = compiled.as_text()
        assert not re.search(r" (all-to-all|collective-permute)(-start)?\(", text)
        moved[num] = set(re.findall(r"= (\S+) (all-gather|reduce-scatter)(?:-start)?\(", text))
        peak[num] = compiled.memory_analysis().temp_size_in_bytes
    assert moved[4] == moved[1]
    assert not [shape for shape, _ in moved[4] if not shape.startswith("f32")]
    assert peak[4] <= peak[1]


@pytest.mark.parametrize("num_chunks", [1, 4])
def test_a_step_writes_its_state_over_the_one_it_was_given(num_chunks):
    compiled, state = compile_step(loss_chunks=num_chunks)
    header = compiled.as_text().split("\n", 1)[0]
    aliases = re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)
    num_leaves = len(jax.tree.leaves(state))
    assert num_leaves > 30
    # The state comes first among arguments and results, its leaves in one order.
    pairs = sorted((int(result), int(argument)) for result, argument in aliases)
    assert pairs == [(i, i) for i in range(num_leaves)]
