"""The count of operations: published sums, the products of compiled programs, and what is logged of them."""

import dataclasses

import jax
import numpy as np
import pytest

from t5like.ahead import batch_shapes
from t5like.chips import CHIPS, find_chip
from t5like.families.t5 import t5_1_1
from t5like.flops import TRAINING, FlopMeter, Work, forward_flops, training_work
from t5like.losses import summed_losses
from t5like.models.config import TransformerConfig
from t5like.models.transformer import Transformer, init_params
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.span_corruption import SpanCorruption
from t5like.planning.costs import Costs
from t5like.planning.hlo import Program, parse

SMALL = TransformerConfig(
    num_embeddings=256,
    embed_dim=64,
    num_heads=4,
    head_dim=32,
    mlp_dim=96,
    num_encoder_layers=3,
    num_decoder_layers=2,
)
ENCODER = dataclasses.replace(
    SMALL, num_decoder_layers=0, transforms_head=True, mlp_activations=("gelu",), positions="learned"
)
DECODER = dataclasses.replace(SMALL, num_encoder_layers=0, positions="learned", head_is_tied=True)
CHIP = next(chip for chip in CHIPS if chip.name == "v5e")


@pytest.mark.parametrize(
    ("size", "billions"), [("small", 106), ("base", 426), ("large", 1470), ("xl", 5350), ("xxl", 20900)]
)
def test_an_example_of_t5_costs_what_the_published_formula_says(size, billions):
    config = dataclasses.replace(t5_1_1(size), num_embeddings=32128)
    flops = TRAINING * sum(forward_flops(config, inputs_length=512, targets_length=114))
    assert flops / 1e9 == pytest.approx(billions, rel=5e-3)


def counted(program: Program) -> float:
    """Returns the operations of all products of a program, those of a loop as often as it runs."""
    costs = Costs(program)

    def of(name):
        computation = program.computations[name]
        total = 0.0
        for instruction in computation.instructions:
            if instruction.opcode == "while":
                body = instruction.attribute(r"body=%?([\w.\-]+)")
                total += program.trips(instruction, computation) * of(body)
            elif instruction.opcode == "call":
                total += of(instruction.called)
            else:
                total += costs.flops(instruction, computation)
        return total

    return of(program.entry.name)


@pytest.mark.parametrize(
    ("config", "objective"),
    [
        (SMALL, SpanCorruption(inputs_length=96)),
        (ENCODER, MaskedLM(length=96)),
        (DECODER, CausalLM(length=96)),
        (dataclasses.replace(SMALL, scans_layers=False), SpanCorruption(inputs_length=96)),
    ],
    ids=["encoder-decoder", "encoder", "decoder", "unrolled"],
)
def test_a_compiled_step_has_these_products(config, objective):
    model = Transformer(config)
    shapes = batch_shapes(objective, batch_size=8, packs_rows=False)

    def loss(params, batch):
        logits = model.apply({"params": params}, batch, method=Transformer.predictions)
        return summed_losses(logits, batch)["token"].total

    params = jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.value, params, is_leaf=lambda leaf: hasattr(leaf, "names"))
    compiled = jax.jit(jax.grad(loss)).lower(params, shapes).compile()
    expected = training_work(config, {name: shape.shape for name, shape in shapes.items()}).flops
    assert counted(parse(compiled.as_text())) == pytest.approx(expected, rel=0.02)


def test_six_operations_for_each_parameter_and_token_are_twice_too_many():
    config = dataclasses.replace(t5_1_1("xl"), num_embeddings=32128)
    per_row = TRAINING * sum(forward_flops(config, inputs_length=512, targets_length=114))
    assert 1.8 < 6 * 2.85e9 * (512 + 114) / per_row < 2.1


def test_useful_work_is_that_of_real_tokens():
    work = Work(encoder_flops=100.0, decoder_flops=60.0, encoder_slots=10, decoder_slots=6)
    assert work.useful_flops(10, 6) == work.flops
    assert work.useful_flops(5, 6) == 110.0
    assert work.useful_flops(0, 0) == 0.0
    assert Work(encoder_flops=100.0, encoder_slots=10).useful_flops(5, 0) == 50.0


def test_shares_of_the_peak_are_of_all_devices_and_of_the_whole_time():
    batch = {
        "encoder_input_tokens": np.zeros((4, 16), np.int32),
        "decoder_input_tokens": np.zeros((4, 8), np.int32),
    }
    meter = FlopMeter(SMALL, CHIP, num_devices=2)
    work = meter.work(batch)
    assert (work.encoder_slots, work.decoder_slots) == (64, 32)
    rates = meter.rates([(work, 64.0, 32.0), (work, 32.0, 16.0)], seconds=0.5)
    assert rates["model_flops_per_second"] == pytest.approx(4 * work.flops)
    assert rates["slot_mfu_percent"] == pytest.approx(100 * 4 * work.flops / (2 * CHIP.peak_flops))
    assert rates["useful_mfu_percent"] == pytest.approx(0.75 * rates["slot_mfu_percent"])


def test_a_device_whose_peak_is_not_known_has_no_share_of_it():
    assert find_chip("cpu") is None
    assert find_chip("TPU v5 lite") is CHIP
    meter = FlopMeter(SMALL, None, num_devices=1)
    assert meter.rates([(Work(1.0), 0.0, 0.0)], seconds=2.0) == {"model_flops_per_second": 0.5}


def test_a_classifier_counts_a_row_once():
    config = dataclasses.replace(ENCODER, head="sequence_classification", num_labels=3)
    shapes = {"encoder_input_tokens": (8, 16)}
    packed = shapes | {"example_starts": (20, 2)}
    one_text = 2 * 64 * 64 + 2 * 64 * 3
    layers = training_work(dataclasses.replace(config, head="none"), shapes).flops
    assert training_work(config, shapes).flops == layers + TRAINING * 8 * one_text
    assert training_work(config, packed).flops == layers + TRAINING * 20 * one_text
