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

NUM_ROWS, INPUTS, TARGETS, VOCAB = 32, 16, 12, 176
MODEL = TransformerConfig(
    num_embeddings=VOCAB,
    embed_dim=32,
    num_heads=4,
    head_dim=8,
    mlp_dim=48,
    num_encoder_layers=2,
    num_decoder_layers=2,
)
CONFIG = TrainingConfig(optimizer=AdamW(schedule=Constant(peak=1e-2)), num_steps=2, batch_size=NUM_ROWS)
ONE = MeshShape(data=1)
DATA = MeshShape(data=8)
FSDP = MeshShape(data=1, fsdp=8)
MIXED = MeshShape(data=2, fsdp=2, tensor=2)


def compile_step(model=MODEL, mesh=MIXED, num_devices=8, **changes):
    """Returns the compiled train step and its abstract state; nothing is computed."""
    config = dataclasses.replace(CONFIG, **changes)
    placement = place(model, mesh, AxisRules(), batch_size=config.batch_size)
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    state = abstract_state(placement, optimizer)
    batch = {
        f"{stack}_{name}": jax.ShapeDtypeStruct((config.batch_size, length), dtype, sharding=placement.batch)
        for stack, length, names in (
            ("encoder", INPUTS, ("input_tokens", "segment_ids")),
            ("decoder", TARGETS, ("input_tokens", "segment_ids", "target_tokens", "loss_weights")),
        )
        for name in names
        for dtype in [np.float32 if name == "loss_weights" else np.int32]
    }
    with jax.set_mesh(placement.mesh):
        step = jit_train_step(config, placement, optimizer)
        return step.lower(state, batch, jax.ShapeDtypeStruct((), np.uint32)).compile(), state


compile_step = functools.cache(compile_step)


def shapes_in(compiled):
    """Returns dtype and shape of every array in a compiled program, those within fusions included."""
    found = re.findall(r"\b(f32|bf16|f16|pred|s32|u32)\[([\d,]+)\]", compiled.as_text())
    return {(dtype, tuple(map(int, shape.split(",")))) for dtype, shape in found}


@pytest.mark.parametrize("mesh", [DATA, MIXED], ids=["data", "mixed"])
def test_no_array_as_large_as_the_logits_is_in_a_step_in_chunks(mesh):
    """Not even within a fusion. The vocabulary's size, or that of a device's part, tells logits from the rest."""
    ways = {"batch": mesh.data * mesh.fsdp if mesh.data > 0 else 8, "vocab": mesh.tensor}
    num_logits = NUM_ROWS // ways["batch"] * TARGETS * VOCAB // ways["vocab"]

    def logits_in(num_chunks):
        shapes = shapes_in(compile_step(mesh=mesh, loss_chunks=num_chunks)[0])
        return [x for x in shapes if VOCAB // ways["vocab"] in x[1] and math.prod(x[1]) >= num_logits]

    print(logits_in(1))
    assert logits_in(1), "not even at once: the test finds nothing"
    assert not logits_in(4)
