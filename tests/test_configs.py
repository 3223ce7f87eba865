"""Every shipped config builds, says what it is for, can be saved, and its train step can be compiled."""

import ast
import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from t5like.batch import Features, without_ids
from t5like.config import from_dict, load_config_file, to_dict, to_json
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.finetune import Finetune
from t5like.models.config import TransformerConfig
from t5like.optim.base import Optimizer
from t5like.placement import abstract_state, place
from t5like.pretrain import Pretrain
from t5like.training import TrainingConfig, jit_train_step

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
PARTS = ("Data:", "Command:", "Hardware", "Expected:")

# What a run takes from its vocabulary or from the run it starts from.
A_MODEL = TransformerConfig(
    embed_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
)
NUM_EMBEDDINGS = 512

pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def load(path: Path) -> TrainingConfig:
    config: TrainingConfig = load_config_file(path, TrainingConfig)
    return config


def features_of(config: TrainingConfig) -> Features:
    """Returns no rows [0, ...] of the features that a run learns from."""
    nothing = np.zeros(0, np.int32)
    if isinstance(config, Pretrain):
        return config.objective([], np.random.default_rng(0), ByteVocabulary())
    assert isinstance(config, Finetune)
    row = config.objective(nothing, nothing, ByteVocabulary().special_tokens, 0)
    return {name: feature[None][:0] for name, feature in without_ids(row).items()}


def test_its_docstring_says_what_to_expect_of_it(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert docstring.splitlines()[0].endswith(".")
    starts = [docstring.find(f"\n{part}") for part in PARTS]
    assert min(starts) > 0, f"the docstring holds the parts {PARTS}"
    assert starts == sorted(starts)
    command = "pretrain" if isinstance(load(path), Pretrain) else "finetune"
    assert f"t5like {command} configs/{path.name} " in docstring


def test_it_comes_back_from_json(path: Path) -> None:
    config = load(path)
    assert from_dict(json.loads(to_json(config))) == config


def test_it_is_a_module_that_imports_only_the_package(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("config_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert to_dict(module.get_config()) == to_dict(load(path))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").startswith("t5like.")


def test_its_train_step_lowers(path: Path) -> None:
    config = load(path)
    model = config.model if isinstance(config, Pretrain) else A_MODEL
    if model.num_embeddings is None:
        model = dataclasses.replace(model, num_embeddings=NUM_EMBEDDINGS)
    model = dataclasses.replace(
        model, attention="at_once"
    )  # the other kind is for one device, and here are eight
    assert isinstance(config, Pretrain | Finetune)
    mesh = dataclasses.replace(config.mesh, fsdp=math.gcd(config.mesh.fsdp, len(jax.devices())))
    placement = place(model, mesh, config.rules, batch_size=config.batch_size)
    assert isinstance(config.optimizer, Optimizer)
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    features = features_of(config)
    batch = {
        name: jax.ShapeDtypeStruct(
            (config.batch_size, *feature.shape[1:]), feature.dtype, sharding=placement.batch
        )
        for name, feature in features.items()
    }
    with jax.set_mesh(placement.mesh):
        step = jit_train_step(config, placement, optimizer)
        lowered = step.lower(abstract_state(placement, optimizer), batch, np.uint32(0))  # type: ignore[attr-defined]
    state, metrics = lowered.out_info
    assert metrics["loss"].shape == ()
    assert state.step.shape == ()
