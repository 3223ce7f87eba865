"""A fine-tuning takes the steps that it takes in Transformers: loss, clipping, schedule, decay and update together.

Dropout alone is left out, whose draws are others.
"""

import copy
import functools

import jax
import numpy as np
import pytest

from t5like.interchange import export_arrays
from t5like.models.transformer import Transformer, init_params
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Linear
from t5like.sharding import param_axes
from t5like.train_step import TrainState, train_step
from tests.public_models import hf, oracle, public_batch, torch
from tests.tiny_models import BATCH, batch_of, ours

STEPS, WARMUP, PEAK, DECAY, MAX_NORM = 12, 3, 3e-3, 0.1, 0.5
# A key's bias has no gradient but rounding errors, of which AdamW would make whole steps with the usual 1e-8.
EPS = 1e-3
NUM_LABELS = 3


def labels(step):
    return np.random.default_rng(step).integers(0, NUM_LABELS, BATCH).astype(np.int32)


def public_steps(name):
    """Returns the losses and norms of each step, and the arrays at the end."""
    model = copy.deepcopy(oracle(name)[0])
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, eps=EPS)
    schedule = hf.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    found = []
    for step in range(STEPS):
        loss = model(**public_batch(name), labels=torch.from_numpy(labels(step).astype(np.int64))).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        found.append((loss.item(), norm.item()))
    return np.array(found), {key: value.detach().numpy() for key, value in model.named_parameters()}


@pytest.mark.parametrize("name", ["bert-classifier", "roberta-classifier", "distilbert-classifier"])
def test_steps_are_those_of_the_public_code(name):
    transformer, params, family = ours(name)
    schedule = Linear(peak=PEAK, warmup_steps=WARMUP)
    config = AdamW(schedule=schedule, weight_decay=DECAY, max_grad_norm=MAX_NORM, eps=EPS)
    axes = param_axes(jax.eval_shape(functools.partial(init_params, transformer), jax.random.key(0)))
    optimizer = config.build(STEPS, axes)
    step_function = jax.jit(
        functools.partial(
            train_step,
            seed=0,
            loss_function=lambda params, batch, key: transformer.apply(
                {"params": params}, batch, None, method=Transformer.losses
            ),
            optimizer=optimizer,
            learning_rate=schedule.build(STEPS),
        )
    )
    state = TrainState(np.int32(0), params, optimizer.init(params))
    found = []
    for step in range(STEPS):
        state, metrics = step_function(state, {**batch_of(name), "label_ids": labels(step)})
        found.append((metrics["loss"], metrics["gradient_norm"]))
    expected, arrays = public_steps(name)
    assert (expected[:, 1] > MAX_NORM).sum() > STEPS / 2, "clipping has something to do"
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-4)
    moved = 0
    before = {
        n: make() for n, _, _, make in export_arrays(family, transformer.config, params, np.dtype(np.float32))
    }
    for array_name, _, _, make in export_arrays(
        family, transformer.config, state.params, np.dtype(np.float32)
    ):
        np.testing.assert_allclose(make(), arrays[array_name], rtol=0, atol=2e-5, err_msg=array_name)
        moved += np.abs(make() - before[array_name]).max() > 1e-3
    assert moved > 20
