"""Eight devices compute what one does, and each holds its part alone."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from t5like.errors import UserError
from t5like.families.t5 import t5_1_0, t5_1_1
from t5like.losses import TOKEN, token_cross_entropy
from t5like.mesh import TENSOR_PARALLEL, MeshShape, hybrid
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer, init_params
from t5like.optim.adafactor import Adafactor
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.placement import abstract_state, initial_state, place
from t5like.sharding import (
    AxisRules,
    batch_sharding,
    optimizer_shardings,
    param_axes,
    param_shardings,
    put_batch,
)
from t5like.train_step import TrainState, train_step
from t5like.training import TrainingConfig, jit_train_step

NUM_ROWS = 16
MODEL = TransformerConfig(
    num_embeddings=112,  # no other size is this or its half, so that logits are known by it
    embed_dim=16,
    num_heads=8,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=1,
    mlp_activations=("relu",),
)
UNROLLED = dataclasses.replace(MODEL, scans_layers=False, num_encoder_layers=1, dropout_rate=0.1)
ADAMW = TrainingConfig(
    # eps is large enough for the rounding of gradients near zero not to be blown up
    optimizer=AdamW(schedule=Constant(peak=1e-2), weight_decay=0.1, eps=1e-3),
    num_steps=2,
    batch_size=NUM_ROWS,
    num_microbatches=2,
    label_smoothing=0.1,
)
ADAFACTOR = dataclasses.replace(
    ADAMW,
    optimizer=Adafactor(schedule=Constant(peak=1e-1), min_dim_size_to_factor=16),
    num_microbatches=1,
)
DATA = MeshShape(data=8)
FSDP = MeshShape(data=1, fsdp=8)
MIXED = MeshShape(data=2, fsdp=2, tensor=2)
SEQUENCE = MeshShape(data=2, sequence=2, fsdp=2)


@pytest.fixture(scope="module")
def batch(random_batch):
    rng = np.random.default_rng(1)
    rows = [
        (int(i), int(t))
        for i, t in zip(rng.integers(1, 9, NUM_ROWS), rng.integers(0, 7, NUM_ROWS), strict=True)
    ]
    return random_batch(rows, inputs_length=8, targets_length=6, vocab=112)


@functools.cache
def random_params(model):
    """Returns parameters drawn without compiling anything."""
    abstract = nn.unbox(jax.eval_shape(functools.partial(init_params, Transformer(model)), jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), abstract)


def run_on_one_device(model, config, batch):
    """Returns the state and metrics after each of two steps, without mesh, rules or shardings."""
    axes = param_axes(jax.eval_shape(functools.partial(init_params, Transformer(model)), jax.random.key(0)))
    optimizer = config.optimizer.build(config.num_steps, axes)

    def loss_function(params, batch, key):
        logits = Transformer(model).apply({"params": params}, batch, key)
        token_loss = token_cross_entropy(
            logits,
            batch["decoder_target_tokens"],
            batch["decoder_loss_weights"],
            z_loss=config.z_loss,
            label_smoothing=config.label_smoothing,
        )
        return {TOKEN: token_loss}

    step = jax.jit(
        functools.partial(
            train_step,
            loss_function=loss_function,
            optimizer=optimizer,
            seed=config.seed,
            learning_rate=config.optimizer.schedule.build(config.num_steps),
            num_microbatches=config.num_microbatches,
        )
    )
    params = random_params(model)
    state = TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params))
    history = []
    for _ in range(2):
        state, metrics = step(state, batch)
        history.append((state, metrics))
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(state)} == {1}
    return history


one_device_history = {}


def expected_history(model, config, batch):
    """Returns `run_on_one_device`, computed once."""
    name = type(config.optimizer).__name__
    if name not in one_device_history:
        one_device_history[name] = run_on_one_device(model, config, batch)
    return one_device_history[name]


def split_ways(spec, mesh):
    """Returns into how many parts each array axis is split."""
    axes = [() if axis is None else (axis,) if isinstance(axis, str) else axis for axis in spec]
    return [math.prod(mesh.shape[name] for name in names) for names in axes]


def assert_close(tree, expected, rtol):
    """Each array within `rtol` of the largest entry of the expected one."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected), strict=True
    ):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(
            x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-30), err_msg=jax.tree_util.keystr(path)
        )


def test_all_seeds_run_one_program(batch):
    programs = set()
    for seed in (0, 1):
        config = dataclasses.replace(ADAMW, seed=seed)
        placement = place(UNROLLED, MeshShape(), AxisRules(), batch_size=NUM_ROWS)
        optimizer = config.optimizer.build(config.num_steps, placement.axes)
        step = jit_train_step(config, placement, optimizer)
        with jax.set_mesh(placement.mesh):
            state = abstract_state(placement, optimizer)
            programs.add(step.lower(state, put_batch(batch, placement.batch), np.uint32(seed)).as_text())
    assert len(programs) == 1


@pytest.mark.parametrize(
    ("mesh_shape", "model", "config"),
    [
        (DATA, UNROLLED, ADAMW),
        (MIXED, UNROLLED, ADAMW),
        (MIXED, dataclasses.replace(UNROLLED, attention="chunked"), ADAMW),
        (hybrid(slices=2), UNROLLED, ADAMW),
        (SEQUENCE, UNROLLED, ADAMW),
        (FSDP, MODEL, ADAFACTOR),
        (TENSOR_PARALLEL, MODEL, ADAFACTOR),
        (MIXED, MODEL, ADAFACTOR),
        (MIXED, MODEL, dataclasses.replace(ADAFACTOR, loss_chunks=3)),
    ],
    ids=[
        "data-AdamW",
        "mixed-AdamW",
        "mixed-AdamW-chunked",
        "hybrid-AdamW",
        "sequence-AdamW",
        "fsdp-Adafactor",
        "tensor-Adafactor",
        "mixed-Adafactor",
        "mixed-chunks",
    ],
)
def test_eight_devices_train_as_one_does(mesh_shape, model, config, batch, capfd):
    """Over two updates, unrolled with dropout and scanned without, the loss in chunks and at once; the arrays are split as
    announced."""
    history = expected_history(model, config, batch)
    placement = place(model, mesh_shape, AxisRules(), batch_size=NUM_ROWS)
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    announced = abstract_state(placement, optimizer)
    with jax.set_mesh(placement.mesh):
        shardings = jax.tree.map(lambda leaf: leaf.sharding, placement.params)
        params = jax.device_put(random_params(model), shardings)
        state = initial_state(placement, optimizer, seed=0, params=params)
        on_devices = put_batch(batch, placement.batch)
        seed = np.uint32(config.seed)
        step = jit_train_step(config, placement, optimizer).lower(state, on_devices, seed).compile()
        for expected_state, expected_metrics in history:
            previous = state
            state, metrics = step(state, on_devices, seed)
            for name, value in expected_metrics.items():
                np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
            assert_close(state.params, expected_state.params, 1e-5)
            assert_close(state.optimizer, expected_state.optimizer, 1e-4)  # squares of gradients among them
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(previous.params)), "not donated"

    for (path, leaf), abstract in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(announced), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(abstract.sharding, leaf.ndim), jax.tree_util.keystr(path)
        assert leaf.addressable_shards[0].data.shape == abstract.sharding.shard_shape(leaf.shape)
    assert "Involuntary full rematerialization" not in capfd.readouterr().err
    if mesh_shape is MIXED:
        gathered = re.findall(r"= (\S+) all-gather\(", step.as_text())
        assert gathered, "no parameter split by fsdp is gathered"
        assert not any("112" in shape for shape in gathered), (
            "logits or the head are gathered along the vocabulary"
        )


def test_a_mesh_draws_the_parameters_one_device_draws():
    placement = place(UNROLLED, MIXED, AxisRules(), batch_size=NUM_ROWS)
    optimizer = ADAMW.optimizer.build(2, placement.axes)
    with jax.set_mesh(placement.mesh):
        state = initial_state(placement, optimizer, seed=0, params=None)
    draw = jax.jit(functools.partial(init_params, Transformer(UNROLLED)))
    assert_close(state.params, nn.unbox(draw(jax.random.key(0))), 1e-6)
    assert state.step == 0
    for leaf, abstract in zip(
        jax.tree.leaves(state), jax.tree.leaves(abstract_state(placement, optimizer)), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(abstract.sharding, leaf.ndim)


def test_rules_split_every_parameter_and_its_statistics():
    """By their logical names, which is written down here once more and apart from the rules."""
    ways_of_axis = {"fsdp_embed": 2, "heads": 2, "mlp": 2, "vocab": 2}
    placement = place(MODEL, MIXED, AxisRules(), batch_size=NUM_ROWS)
    axes = jax.tree.leaves(placement.axes, is_leaf=lambda x: isinstance(x, tuple))
    shapes = {}
    for (path, leaf), names in zip(jax.tree_util.tree_leaves_with_path(placement.params), axes, strict=True):
        expected = tuple(
            size // ways_of_axis.get(name, 1) for size, name in zip(leaf.shape, names, strict=True)
        )
        assert leaf.sharding.shard_shape(leaf.shape) == expected, (path, names)
        shapes[jax.tree_util.keystr(path)] = (leaf.shape, expected)
    for config in (ADAMW, ADAFACTOR):
        state = abstract_state(placement, config.optimizer.build(2, placement.axes)).optimizer
        num_split = 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            (param,) = [name for name in shapes if jax.tree_util.keystr(path).endswith(name)] or [None]
            part = leaf.sharding.shard_shape(leaf.shape)
            if param is None or leaf.size <= 2:
                assert part == leaf.shape
                continue
            shape, param_part = shapes[param]
            # a statistic as large as its parameter, or averaged along one of the last two axes
            possible = [(shape, param_part)]
            possible += [
                (shape[:i] + shape[i + 1 :], param_part[:i] + param_part[i + 1 :])
                for i in (-2, -1)
                for i in [i % len(shape)]
            ]
            assert (leaf.shape, part) in possible, (jax.tree_util.keystr(path), leaf.shape, part)
            num_split += part != leaf.shape
        assert num_split > 25


MAY_BE_WHOLE = {
    (
        "layers",
        "mlp",
    ): "Adafactor's mean over embed leaves nothing that fsdp splits: 6 MiB at most, in T5 1.0 11B",
    ("layers", "heads"): "likewise",
}
"""Logical axes of what every device may hold whole, though it is above 1 MB, and why."""


def axes_of_state(placement, path, shape):
    """Returns the logical axes of a statistic, those of its parameter less one that was averaged away, or None."""
    axes = jax.tree.leaves(placement.axes, is_leaf=lambda x: isinstance(x, tuple))
    params = jax.tree_util.tree_leaves_with_path(placement.params)
    for (param_path, param), names in zip(params, axes, strict=True):
        if path.endswith(jax.tree_util.keystr(param_path)):
            without = [(param.shape, names)]
            for i in reversed(range(param.ndim)):
                without.append((param.shape[:i] + param.shape[i + 1 :], names[:i] + names[i + 1 :]))
            return next((names for possible, names in without if possible == shape), None)
    return None


@pytest.mark.parametrize(
    "optimizer", [ADAMW.optimizer, Adafactor(schedule=Constant(peak=1.0))], ids=["AdamW", "Adafactor"]
)
@pytest.mark.parametrize(
    ("config", "mesh_shape", "axes_whole"),
    [
        (t5_1_0("11b"), MIXED, set()),
        (t5_1_0("11b"), FSDP, set(MAY_BE_WHOLE)),
        (t5_1_1("base"), FSDP, set()),
        (t5_1_1("xl"), FSDP, set()),
    ],
    ids=["11b-mixed", "11b-fsdp", "base-fsdp", "xl-fsdp"],
)
def test_nothing_above_a_megabyte_is_held_whole_by_every_device_but_what_is_named(
    config, mesh_shape, axes_whole, optimizer
):
    placement = place(config, mesh_shape, AxisRules(), batch_size=8)
    state = abstract_state(placement, optimizer.build(10, placement.axes))
    num_bytes = num_bytes_here = 0
    found = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path)
        part = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        whole = leaf.size * leaf.dtype.itemsize
        if whole > 2**20 and part == whole:
            axes = axes_of_state(placement, name, leaf.shape)
            assert axes in MAY_BE_WHOLE, f"{name} {leaf.shape} {axes} is replicated"
            found.add(axes)
        num_bytes, num_bytes_here = num_bytes + whole, num_bytes_here + part
    assert found == (axes_whole if isinstance(optimizer, Adafactor) else set())
    model_ways = mesh_shape.fsdp * mesh_shape.tensor
    assert num_bytes / model_ways <= num_bytes_here < 1.02 * num_bytes / model_ways


# --- Rules and meshes that cannot be --------------------------------------------------------------------------


def test_rules_map_names_to_mesh_axes():
    rules = AxisRules()
    batch = ("slices", "data", "fsdp")
    assert rules.spec(("batch", "length", "vocab")) == PartitionSpec(batch, "sequence", "tensor")
    assert rules.spec((None, "fsdp_embed", "mlp")) == PartitionSpec(None, "fsdp", "tensor")


def test_an_unknown_axis_name_is_an_error():
    with pytest.raises(ValueError, match=r"no rule.*\['lenght'\].*length"):
        AxisRules().spec(("batch", "lenght"))


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (AxisRules(), ("mlp", "vocab")),
        (AxisRules(length="data"), ("batch", "length")),
        (AxisRules(), ("batch", "fsdp_embed")),
    ],
)
def test_one_mesh_axis_cannot_split_two_axes_of_an_array(rules, names):
    with pytest.raises(ValueError, match="clash"):
        rules.spec(names)


@pytest.mark.parametrize("axes", ["tensors", ("data", "x"), "", ("",)])
def test_a_mesh_axis_that_there_is_not_is_refused(axes):
    with pytest.raises(UserError, match=r"rules\.mlp is .*the axes of a mesh are slices, data, "):
        AxisRules(mlp=axes)


def test_constrain_checks_names_and_is_identity_without_a_mesh():
    x = jnp.ones((2, 3))
    assert AxisRules().constrain(x, "batch", "embed") is x
    with pytest.raises(ValueError, match="no rule"):
        AxisRules().constrain(x, "batch", "width")


def test_a_parameter_without_a_name_for_each_axis_is_an_error():
    leaf = jax.ShapeDtypeStruct((2, 3), np.float32)
    assert param_axes({"a": nn.LogicallyPartitioned(leaf, ("embed", "mlp"))}) == {"a": ("fsdp_embed", "mlp")}
    with pytest.raises(ValueError, match=r"\['a'\].*name"):
        param_axes({"a": leaf})
    with pytest.raises(ValueError, match=r"\['a'\].*name"):
        param_axes({"a": nn.LogicallyPartitioned(leaf, ("embed",))})


def test_optimizer_state_of_no_parameter_is_an_error_unless_tiny():
    mesh = MIXED.build()
    params = {"w": jax.ShapeDtypeStruct((64, 32), np.float32)}
    shardings = param_shardings({"w": ("fsdp_embed", "mlp")}, mesh, AxisRules())

    def spec_of(shape, path="w"):
        state = {"moment": {path: jax.ShapeDtypeStruct(shape, np.float32)}}
        return optimizer_shardings(state, params, shardings, mesh)["moment"][path].spec

    assert spec_of((64, 32)) == PartitionSpec("fsdp", "tensor")
    assert spec_of((64,)) == PartitionSpec("fsdp")
    assert spec_of((32,)) == PartitionSpec("tensor")
    assert spec_of((1,)) == PartitionSpec()
    assert spec_of((), "count") == PartitionSpec()
    with pytest.raises(ValueError, match=r"\['moment'\]\['other'\].*belongs to no parameter"):
        spec_of((64, 32), "other")


def test_put_batch_gives_each_device_its_rows():
    mesh = MIXED.build()
    rows = np.arange(32).reshape(8, 4)
    (array,) = put_batch({"x": rows}, batch_sharding(mesh, AxisRules())).values()
    np.testing.assert_array_equal(array, rows)
    assert array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(("data", "fsdp"))), 2)
    assert {shard.data.shape for shard in array.addressable_shards} == {(2, 4)}


@pytest.mark.parametrize("batch_size", [1, 7, 12, 13, 1001])
def test_a_batch_that_does_not_divide_is_refused_naming_the_nearest_that_does(batch_size):
    with pytest.raises(UserError, match=f"batch_size {batch_size}") as error:
        place(MODEL, DATA, AxisRules(), batch_size=batch_size)
    (nearest,) = map(int, re.findall(r"is (\d+)\.$", str(error.value)))
    assert abs(nearest - batch_size) == min(abs(n - batch_size) for n in range(8, 2000, 8))
    place(MODEL, DATA, AxisRules(), batch_size=nearest)


@pytest.mark.parametrize(("batch_size", "num_microbatches", "fewer"), [(16, 4, 2), (24, 2, 1), (48, 4, 2)])
def test_microbatches_smaller_than_a_row_on_each_device_are_refused_naming_fewer(
    batch_size, num_microbatches, fewer
):
    with pytest.raises(UserError, match=f"num_microbatches {num_microbatches}; {fewer} can"):
        place(MODEL, DATA, AxisRules(), batch_size=batch_size, num_microbatches=num_microbatches)
    place(MODEL, DATA, AxisRules(), batch_size=batch_size, num_microbatches=fewer)


def test_sizes_that_the_mesh_cannot_divide_are_refused_naming_the_parameter():
    config = dataclasses.replace(MODEL, embed_dim=20)
    with pytest.raises(UserError, match=r"kernel \(1, 20, 32\)"):
        place(config, FSDP, AxisRules(), batch_size=NUM_ROWS)


def test_rules_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="axis rules"):
        place(MODEL, MIXED, AxisRules(fsdp_embed="tensor"), batch_size=NUM_ROWS)


def test_attention_in_blocks_is_refused_where_devices_would_get_parts_of_heads():
    config = dataclasses.replace(MODEL, num_heads=4, head_dim=8, attention="flash")
    with pytest.raises(UserError, match="4 cannot be split over 8; split them 4 ways, or use"):
        place(config, MeshShape(data=1, tensor=8), AxisRules(), batch_size=NUM_ROWS)


def test_where_there_is_no_tpu_attention_is_chunked_instead_of_by_a_kernel():
    config = dataclasses.replace(MODEL, attention="flash")
    placement = place(config, MIXED, AxisRules(), batch_size=NUM_ROWS)
    assert placement.model.config.attention == "chunked"
