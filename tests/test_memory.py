"""What a compiled train step holds in memory, and what it moves between devices."""

import collections
import dataclasses
import functools
import math
import re

import jax
import numpy as np
import pytest
from flax import linen as nn

from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.models.layers import cast_kernels
from t5like.models.transformer import Transformer, init_params
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.placement import abstract_state, place
from t5like.sharding import AxisRules, param_axes
from t5like.train_step import TrainState, train_step
from t5like.training import TrainingConfig, jit_train_step

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


def lower_step(mesh=MIXED, model=MODEL, **changes):
    """Returns the train step as a program not yet compiled, and its abstract state; nothing is computed."""
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
        return step.lower(state, batch, jax.ShapeDtypeStruct((), np.uint32)), state


@functools.cache
def compile_step(mesh=MIXED, **changes):
    """Returns the compiled train step and its abstract state."""
    lowered, state = lower_step(mesh, **changes)
    return lowered.compile(), state


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


# --- Parameters in bfloat16, of which there is a float32 copy -------------------------------------------------

IN_BFLOAT16 = dataclasses.replace(MODEL, compute_dtype="bfloat16", num_decoder_layers=2)


@functools.cache
def lower_bfloat16_step(num_microbatches, casts_once):
    """Returns the program of a step on one device, kernels being cast once, or wherever they are used."""
    optimizer = CONFIG.optimizer.build(CONFIG.num_steps, param_axes(boxed_params()))

    def loss_function(params, batch, dropout_key):
        method = Transformer.losses
        return Transformer(IN_BFLOAT16).apply(
            {"params": params}, batch, dropout_key, z_loss=1e-2, method=method
        )

    step = functools.partial(
        train_step,
        seed=0,
        loss_function=loss_function,
        optimizer=optimizer,
        learning_rate=CONFIG.optimizer.schedule.build(CONFIG.num_steps),
        num_microbatches=num_microbatches,
    )
    if casts_once:
        step = functools.partial(step, in_compute_dtype=functools.partial(cast_kernels, dtype="bfloat16"))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), nn.unbox(boxed_params()))
    state = TrainState(np.zeros((), np.int32), params, optimizer.init(params))
    tokens = rng.integers(2, VOCAB, (4, 7)).astype(np.int32)
    batch = {
        "decoder_input_tokens": tokens[:, :-1],
        "decoder_segment_ids": np.ones((4, 6), np.int32),
        "decoder_target_tokens": tokens[:, 1:],
        "decoder_loss_weights": np.ones((4, 6), np.float32),
    }
    return jax.jit(step).lower(state, batch), state, batch


def boxed_params():
    return jax.eval_shape(functools.partial(init_params, Transformer(IN_BFLOAT16)), jax.random.key(0))


def test_kernels_cast_once_a_step_train_as_those_cast_at_each_use_bit_for_bit():
    num_microbatches, trained = 2, []
    for casts_once in (True, False):
        lowered, state, batch = lower_bfloat16_step(num_microbatches, casts_once)
        # Else the compiler may leave a rounding out, and does so in one of the two.
        step = lowered.compile({"xla_allow_excess_precision": False})
        for _ in range(3):
            state, _ = step(state, batch)
        trained.append(state)
    first = lower_bfloat16_step(num_microbatches, True)[1]
    for before, x, y in zip(*map(jax.tree.leaves, (first, *trained)), strict=True):
        assert x.dtype == y.dtype == before.dtype
        np.testing.assert_array_equal(x, y)
        assert np.abs(x - before).max() > 0


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_each_kernel_is_cast_once_and_outside_the_loop_over_layers(num_microbatches):
    shapes = [leaf.shape for leaf in jax.tree.leaves(nn.unbox(boxed_params()))]
    stacked = [shape for shape in shapes if len(shape) == 3]
    casts = dict.fromkeys((True, False))
    for casts_once in casts:
        text = lower_bfloat16_step(num_microbatches, casts_once)[0].as_text()
        found = re.findall(r"stablehlo.convert %\S+ : \(tensor<([\dx]+)xf32>\) -> tensor<\1xbf16>", text)
        casts[casts_once] = collections.Counter(tuple(map(int, shape.split("x"))) for shape in found)
    for shape in set(stacked):
        assert casts[True][shape] == stacked.count(shape), "not once"
        assert casts[True][shape[1:]] == 0, "within the loop"
        assert casts[False][shape[1:]] > 0, "nowhere at all: the test finds nothing"


def test_kernels_are_gathered_in_bfloat16(tmp_path):
    """As the program is once it is split over devices; later the CPU's compiler widens what it cannot send."""
    lowered, _ = lower_step(FSDP, dataclasses.replace(MODEL, compute_dtype="bfloat16"), loss_chunks=2)
    kept_from_seconds = "jax_persistent_cache_min_compile_time_secs"
    was = getattr(jax.config, kept_from_seconds)
    jax.config.update(kept_from_seconds, math.inf)  # JAX 0.12 crashes on keeping a program that was dumped
    try:
        lowered.compile({"xla_dump_to": str(tmp_path), "xla_dump_hlo_pass_re": "spmd-partitioning"})
    finally:
        jax.config.update(kept_from_seconds, was)
    (path,) = tmp_path.glob("*jit_train_step*after_spmd-partitioning*.txt")
    gathered = re.findall(r"= (\w+)\[([\d,]+)\]\S* all-gather\(", path.read_text())
    shapes = {dtype: {shape for found, shape in gathered if found == dtype} for dtype in ("bf16", "f32")}
    width, mlp = MODEL.embed_dim, MODEL.mlp_dim
    assert {f"{width},{width}", f"{width},{mlp}", f"{width},{VOCAB}"} <= shapes["bf16"]
    assert shapes["f32"] <= {f"{VOCAB},{width}"}, "more than the table that tokens are looked up in"
