"""The command `t5like plan`: from a config to what it needs on TPUs that are not there."""

import dataclasses
import importlib.util
import json
import sys

import pytest

from t5like import ahead, plan
from t5like.config import load_config_file
from t5like.errors import UserError
from t5like.objectives.bart_denoising import BartDenoising
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.ul2 import UL2
from t5like.planning.record import GIB, Memory, Plan, plan_from_json, regressions
from t5like.planning.topologies import find_topology
from t5like.pretrain import Pretrain
from tests.test_configs import ROOT

TINY = str(ROOT / "configs/tiny.py")
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler (libtpu) is not installed"
)


def arguments(*more, topology="v5e-4"):
    return [TINY, "--topology", topology, "--model.num_embeddings", "512", *more]


@needs_compiler
def test_a_tiny_run_is_planned_and_written_as_json(tmp_path, capsys):
    file = tmp_path / "plan.json"
    plan.main(arguments("--json", str(file), "--price", "1.5", "--mesh.data", "2", "--mesh.fsdp", "2"))
    told = capsys.readouterr().out
    assert "fits, with 15." in told
    assert "144 USD a day" in told
    made = plan_from_json(json.loads(file.read_text()))
    assert made.memory.fits
    assert made.mesh == {"data": 2, "fsdp": 2}
    assert made.device_flops * 4 == pytest.approx(made.model_flops, rel=0.1)  # nothing is computed twice
    assert {talking.axes for talking in made.collectives} <= {"data", "fsdp", "data x fsdp"}
    assert any(talking.kind == "all-gather" for talking in made.collectives)
    assert 0 < made.mfu_percent() < made.mfu_percent(counts_wires=False) < 100
    assert regressions(made, made) == []


@needs_compiler
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch_size", "6"), "batch_size 6 cannot be split over 4 devices"),
        (("--mesh.fsdp", "3"), "does not cover 4 device"),
        (("--num_slices", "2"), "mesh.slices is 1, but these devices belong to 2"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_before_anything_is_compiled(more, message):
    with pytest.raises(UserError, match=message):
        plan.main(arguments(*more))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([TINY], "needs --topology"),
        (arguments(topology="v5e-5"), "the nearest is v5e-4"),
        (arguments("--num_slices", "x"), "--num_slices"),
        (arguments("--model.num_embedings", "3"), "did you mean --model.num_embeddings"),
        (arguments("--workdir", "runs/x"), "has no run to keep"),
        (arguments("--json", "no/such/folder/plan.json"), "lies in a folder that is not there"),
    ],
)
def test_a_slip_is_answered_in_one_sentence(argv, message):
    with pytest.raises(UserError, match=message) as error:
        plan.main(argv)
    assert "\n" not in str(error.value)


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"jax\[tpu\]"):
        plan.main(arguments())


def test_a_vocabulary_that_is_not_there_asks_for_its_size():
    config = dataclasses.replace(
        load_config_file(ROOT / "configs/tiny.py", Pretrain), vocabulary="no/such.model"
    )
    with pytest.raises(UserError, match=r"set --model\.num_embeddings, which is 32128 for T5"):
        plan.resolve_model(config)
    trained = dataclasses.replace(config, vocabulary=None, vocabulary_size=1000, vocabulary_extra_ids=100)
    assert plan.resolve_model(trained).num_embeddings == 1152


def test_the_compilers_refusal_says_how_much_it_would_need():
    given = Memory(limit=16 * GIB, peak=GIB, parameters=GIB, optimizer=0, batch=0)
    assert plan._needed("Ran out of memory ... Used 22.61G of 15.75G hbm.", given) == 22.61 * GIB
    assert plan._needed("something else", given) > given.limit


@pytest.mark.parametrize(
    "objective",
    [
        SpanCorruption(inputs_length=32),
        UL2(inputs_length=64),
        CausalLM(length=32),
        MaskedLM(length=32, second_text="next_sentence"),
        BartDenoising(length=32),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_a_batch_has_the_features_and_lengths_of_its_objective(objective):
    shapes = ahead.batch_shapes(objective, batch_size=24, packs_rows=False)
    stacks = {"encoder_decoder": {"encoder", "decoder"}}.get(objective.stacks, {objective.stacks})
    assert {name.partition("_")[0] for name in shapes if name.endswith("input_tokens")} == stacks
    lengths = {shape.shape[1] for name, shape in shapes.items() if name.endswith("input_tokens")}
    assert lengths <= set(objective.lengths.values())
    assert {shape.shape[0] for shape in shapes.values()} == {24}
    assert ("next_sentence_labels" in shapes) == objective.makes_pairs
    packed = ahead.batch_shapes(objective, batch_size=24, packs_rows=True)
    assert {name for name in packed if name.endswith("positions")} == {
        f"{stack}_positions" for stack in stacks
    }


def test_a_search_keeps_the_best_and_ranks_what_it_tried(monkeypatch, capsys):
    tried = []

    def fake(config, topology, *, name):
        tried.append(config)
        fsdp = config.mesh.sizes(topology.num_devices)[2]
        if config.batch_size > 64:
            raise UserError("too large")
        slow = {1: 4.0, 4: 2.0, 16: 1.0}[fsdp] * {"full": 1.3, "save_matmuls": 1.0, "none": 0.9}[
            config.model.remat
        ]
        needs = 20 * GIB if config.model.remat == "none" else GIB
        return Plan(
            config=name,
            topology=topology.name,
            num_slices=1,
            num_devices=16,
            num_chips=16,
            mesh={"fsdp": fsdp},
            batch_size=config.batch_size,
            num_microbatches=1,
            remat=config.model.remat,
            attention="at_once",
            memory=Memory(limit=16 * GIB, peak=needs, parameters=GIB, optimizer=0, batch=0),
            compute_seconds=slow,
            tokens=config.batch_size,
            peak_flops=1.0,
            model_flops=1.0,
        )

    monkeypatch.setattr(plan, "make_plan", fake)
    config = load_config_file(ROOT / "configs/tiny.py", Pretrain)
    config = dataclasses.replace(config, batch_size=64, model=dataclasses.replace(config.model, remat="full"))
    plans = sorted(plan.search(config, find_topology("v5e-16"), name="x"), key=plan._merit)
    assert (plans[0].mesh, plans[0].remat) == ({"fsdp": 16}, "save_matmuls")
    assert not plans[-1].memory.fits
    assert any(config.batch_size == 128 for config in tried)
    assert "left out: too large" in capsys.readouterr().err
    assert len(plans) == len(tried) - 1
