"""Training on several hosts ends as training on one: real processes, which JAX joins over the loopback."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from t5like import workdir as workdirs
from t5like.checkpoint import Checkpoints, checkpoint_steps, latest_checkpoint
from t5like.config import to_json
from t5like.finetune import Finetune, finetune
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.models.config import TransformerConfig
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.placement import place
from t5like.pretrain import Pretrain, pretrain
from tests.hosts.cluster import Cluster

MEASURED_TIMES = {
    *("tokens_per_second", "model_flops_per_second"),
    *("step_seconds", "input_wait_seconds", "input_wait_percent"),
}
# Sums over devices are in another order where some of them are in other processes.
TOLERANCE = 1e-6
NUM_DEVICES = 8

# Runs the configs in the folders it is given, one after the other.
RUNS = """
import json
import sys
from pathlib import Path

from t5like.entry import run_entry


def main(argv):
    from t5like.config import from_dict
    from t5like.finetune import Finetune, finetune
    from t5like.pretrain import pretrain

    for folder in argv:
        config = from_dict(json.loads(Path(folder, "config-to-run.json").read_text()))
        run = finetune if isinstance(config, Finetune) else pretrain
        run(config, Path(folder, "run"))
        print(f"{folder} is done", flush=True)


sys.exit(run_entry(main, spans_hosts=True))
"""


@pytest.fixture(scope="module")
def config(small_text: Path) -> Pretrain:
    """A run of an encoder, which is quick to trace, with dropout."""
    model = TransformerConfig(
        embed_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=32,
        num_encoder_layers=1,
        num_decoder_layers=0,
        dropout_rate=0.1,
        scans_layers=False,
    )
    return Pretrain(
        model=model,
        objective=MaskedLM(length=24),
        data=str(small_text / "text"),
        vocabulary="bytes",
        # With a smaller eps, AdamW would make steps of rounding errors in gradients that are almost 0.
        optimizer=AdamW(schedule=Constant(peak=1e-2), eps=1e-2),
        num_steps=16,
        batch_size=8,
        log_every_steps=4,
        eval_every_steps=8,
        checkpoint_every_steps=6,
        max_eval_rows=8,
    )


@pytest.fixture(scope="module")
def straight(config: Pretrain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one host, which is this process."""
    workdir = tmp_path_factory.mktemp("hosts") / "straight"
    pretrain(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def finetune_config(straight: Path, small_text: Path) -> Finetune:
    """A run of the same encoder on a task."""
    return Finetune(
        task="glue/sst2",
        init=str(straight),
        data_dir=str(small_text / "glue"),
        objective=TextToText(inputs_length=24, targets_length=4),
        optimizer=AdamW(schedule=Constant(peak=1e-2), eps=1e-2),
        num_steps=4,
        batch_size=8,
        log_every_steps=2,
        eval_every_steps=4,
        checkpoint_every_steps=4,
    )


def hosts_running(
    folders: list[Path], num_hosts: int, folder: Path, *, configs: list[Any], **options: Any
) -> Cluster:
    """Returns the hosts that run the configs, which share eight devices."""
    (folder / "runs.py").write_text(RUNS)
    for own, config in zip(folders, configs, strict=True):
        own.mkdir(exist_ok=True)
        (own / "config-to-run.json").write_text(to_json(config))
    flags = os.environ["XLA_FLAGS"].replace(f"count={NUM_DEVICES}", f"count={NUM_DEVICES // num_hosts}")
    command = [str(folder / "runs.py"), *map(str, folders)]
    return Cluster(command, num_hosts, folder, environment={"XLA_FLAGS": flags}, **options)


def assert_ends_alike(one: Path, other: Path) -> None:
    """Asserts that two workdirs hold the same run: log, parameters, cursor, samples and scores."""
    rows, others = (read_metrics(workdir / METRICS_FILE) for workdir in (one, other))
    assert [(row["step"], row["split"]) for row in rows] == [(row["step"], row["split"]) for row in others]
    for row, same in zip(rows, others, strict=True):
        assert row.keys() == same.keys()
        for name in row.keys() - MEASURED_TIMES - {"split"}:
            assert same[name] == pytest.approx(row[name], rel=TOLERANCE, abs=TOLERANCE), (name, row["step"])
    (params, run), (other_params, other_run) = state_of(one), state_of(other)
    assert jax.tree.structure(params) == jax.tree.structure(other_params)
    for leaf, same in zip(jax.tree.leaves(params), jax.tree.leaves(other_params), strict=True):
        np.testing.assert_allclose(same, leaf, rtol=0, atol=TOLERANCE)
    assert run == other_run
    assert (one / "samples.json").read_bytes() == (other / "samples.json").read_bytes()
    scores, others = (json.loads((workdir / "evaluation.json").read_text()) for workdir in (one, other))
    for score, same in zip(scores["rows"], others["rows"], strict=True):
        assert same.pop("value") == pytest.approx(score.pop("value"), rel=TOLERANCE)
        assert same == score
    assert (other / "report.html").is_file()


def state_of(workdir: Path) -> tuple[Any, dict[str, Any]]:
    """Returns the newest parameters of a workdir, and what is saved beside them."""
    model, _ = workdirs.load_description(workdir)
    config, step = workdirs.load_config(workdir), latest_checkpoint(workdir)
    assert step is not None
    placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    params = jax.device_get(checkpoints.restore_params(step, placement.params))
    run = checkpoints.read_run(step)
    checkpoints.close()
    return params, run


def test_hosts_that_are_lost_and_fewer_that_go_on_end_as_one(
    config: Pretrain, finetune_config: Finetune, straight: Path, tmp_path: Path
) -> None:
    pretraining, finetuning = tmp_path / "pretraining", tmp_path / "finetuning"
    workdir = pretraining / "run"
    with hosts_running([pretraining], 4, tmp_path, configs=[config]) as hosts:
        for _ in hosts.moments():
            if (workdir / "checkpoints" / "6").exists():
                break
            assert None in [process.poll() for process in hosts.processes.values()], hosts.errors()
        hosts.signal_training(2, signal.SIGKILL)
        assert hosts.codes() == [4, 4, 4, 4]
        for host in hosts.present:
            last = hosts.err(host).splitlines()[-1]
            assert last.startswith("error: Host 2 of 4 (c) was ended by SIGKILL; "), hosts.err(host)
            assert "Traceback" not in hosts.err(host)
            assert hosts.out(host) == ""
    killed_at = checkpoint_steps(workdir)
    assert killed_at
    assert set(killed_at) <= {6, 12}

    with hosts_running([pretraining, finetuning], 2, tmp_path, configs=[config, finetune_config]) as hosts:
        assert hosts.codes() == [0, 0], hosts.errors()
        assert f"resuming at step {killed_at[-1]}: " in hosts.err(0)
        assert hosts.out(0).startswith("held-out nats per token: ")
        assert hosts.out(0).count("is done") == 2
        # The first host speaks for all.
        assert (hosts.out(1), hosts.err(1)) == ("", "")
    assert_ends_alike(straight, workdir)

    finetune(finetune_config, tmp_path / "alone")
    assert_ends_alike(tmp_path / "alone", finetuning / "run")


def test_a_run_of_which_one_host_is_told_to_end_is_saved_by_all_and_goes_on(
    config: Pretrain, tmp_path: Path
) -> None:
    """SIGTERM may come to any host; all save the same step, soon after, and the run goes on from there."""
    told, workdir = tmp_path / "told", tmp_path / "told" / "run"
    endless = dataclasses.replace(
        config, num_steps=100_000, checkpoint_every_steps=50_000, eval_every_steps=50_000
    )
    with hosts_running([told], 2, tmp_path, configs=[endless]) as hosts:
        for _ in hosts.moments():
            if (workdir / METRICS_FILE).exists() and len(read_metrics(workdir / METRICS_FILE)) > 4:
                break
            assert None in [process.poll() for process in hosts.processes.values()], hosts.errors()
        hosts.processes[1].send_signal(signal.SIGTERM)
        assert hosts.codes() == [7, 7], hosts.errors()
        for host in hosts.present:
            assert "Traceback" not in hosts.err(host)
        (step,) = checkpoint_steps(workdir)
        assert f"error: Told to end by SIGTERM: step {step} is saved" in hosts.err(0)
    longer = dataclasses.replace(endless, num_steps=step + 3)
    with hosts_running([told], 2, tmp_path, configs=[longer]) as hosts:
        assert hosts.codes() == [0, 0], hosts.errors()
        assert f"resuming at step {step}: " in hosts.err(0)
    pretrain(longer, tmp_path / "alone")
    (params, run), (other_params, other_run) = state_of(tmp_path / "alone"), state_of(workdir)
    assert run == other_run
    for leaf, same in zip(jax.tree.leaves(params), jax.tree.leaves(other_params), strict=True):
        np.testing.assert_allclose(same, leaf, rtol=0, atol=TOLERANCE)
