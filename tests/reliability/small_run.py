"""A run of seconds for scripts that end it in all ways, and what has to be the same at its end."""

import json
import os
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # which compiles quickly

import jax  # noqa: E402
import numpy as np  # noqa: E402

from t5like.checkpoint import Checkpoints, latest_checkpoint  # noqa: E402
from t5like.metrics_log import METRICS_FILE, read_metrics  # noqa: E402
from t5like.placement import abstract_state, place  # noqa: E402
from t5like.workdir import load_config, load_description  # noqa: E402
from tests.made_up_text import write_text  # noqa: E402

TIMES = {
    *("tokens_per_second", "model_flops_per_second"),
    *("step_seconds", "input_wait_seconds", "input_wait_percent"),
}
CONFIG = """
from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.pretrain import Pretrain


def get_config():
    return Pretrain(
        model=TransformerConfig(
            embed_dim=32, num_heads=2, head_dim=16, mlp_dim=64, num_encoder_layers=1, num_decoder_layers=1,
            dropout_rate=0.1, scans_layers=False,
        ),
        objective=SpanCorruption(inputs_length=24),
        data="text",
        vocabulary="bytes",
        optimizer=AdamW(schedule=Constant(peak=1e-3)),
        num_steps=400,
        batch_size=8,
        log_every_steps=3,
        eval_every_steps=50,
        checkpoint_every_steps=4,
        max_eval_rows=8,
    )
"""


def write_inputs(folder: pathlib.Path) -> None:
    """Writes config.py and the text that it names."""
    (folder / "config.py").write_text(CONFIG)
    write_text(folder / "text")


def end_of(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns all that has to be the same: the newest state, what is saved beside it, and the log without times."""
    config, (model, _) = load_config(workdir), load_description(workdir)
    step = latest_checkpoint(workdir)
    assert step is not None
    placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)
    abstract = abstract_state(placement, config.optimizer.build(config.num_steps, placement.axes))
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    state, run = checkpoints.restore_state(step, abstract), checkpoints.read_run(step)
    checkpoints.close()
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(workdir / METRICS_FILE)]
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    return {"step": step, "leaves": leaves, "run": run, "log": json.dumps(rows)}
