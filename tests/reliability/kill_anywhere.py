"""Kills a training run at random moments and gives the same command again: it ends as one that was never killed.

    python tests/reliability/kill_anywhere.py [--num_kills 100] [--in_saves 30] [--num_hosts 1] [--seed 0]

SIGKILL comes at a moment drawn anew each time: so many seconds after the command was given, or so many milliseconds after
a save began, which is seen by its unnamed folder, until `--in_saves` have met one. With --num_hosts 2 every host is two
processes of its own, and one of them, drawn too, is killed; the others have to end by themselves. At the end parameters,
optimizer state and data cursor are those of a run that was never killed, bit for bit, and so is the log without times.

Last line: kill_anywhere ok=100 of 100 in_saves=... num_hosts=1 steps=... resumed_at=... distinct steps
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
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
from tests.hosts.cluster import Cluster  # noqa: E402

NUM_DEVICES, NUM_STEPS, CHECKPOINT_EVERY_STEPS = 2, 400, 4
ENOUGH_SECONDS = 600.0
TIMES = {
    *("tokens_per_second", "model_flops_per_second"),
    *("step_seconds", "input_wait_seconds", "input_wait_percent"),
}
CONFIG = f"""
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
        num_steps={NUM_STEPS},
        batch_size=8,
        log_every_steps=3,
        eval_every_steps=50,
        checkpoint_every_steps={CHECKPOINT_EVERY_STEPS},
        max_eval_rows=8,
    )
"""


def write_inputs(folder: pathlib.Path) -> None:
    """Writes the config and made-up text."""
    (folder / "config.py").write_text(CONFIG)
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 6))) for _ in range(600)]
    (folder / "text").mkdir()
    for number in range(60):
        (folder / "text" / f"{number:02}.txt").write_text(" ".join(rng.choices(words, k=200)))


def start(folder: pathlib.Path, workdir: str, num_hosts: int, compiled: pathlib.Path) -> Cluster:
    """Starts the command on all hosts, which share the devices."""
    flags = f"--xla_force_host_platform_device_count={NUM_DEVICES // num_hosts}"
    os.chdir(folder)
    environment = {"XLA_FLAGS": flags, "XDG_CACHE_HOME": str(compiled)}
    command = ["-m", "t5like", "pretrain", "config.py", "--workdir", workdir]
    return Cluster(command, num_hosts, folder, environment=environment, timeout_seconds=60)


def is_saving(checkpoints: pathlib.Path) -> bool:
    """Returns whether a save is under way."""
    try:
        return any("orbax-checkpoint-tmp" in name for name in os.listdir(checkpoints))
    except FileNotFoundError:
        return False


def kill(hosts: Cluster, checkpoints: pathlib.Path, rng: random.Random, *, in_save: bool) -> bool | None:
    """Kills a host at a random moment; returns whether that was within a save, None where the run ended first."""
    began = time.monotonic()
    wait = rng.uniform(2.0, 14.0)
    while time.monotonic() - began < wait or (in_save and not is_saving(checkpoints)):
        if any(process.poll() is not None for process in hosts.processes.values()):
            return None
        assert time.monotonic() - began < ENOUGH_SECONDS, hosts.errors()
        time.sleep(0.0005)
    if in_save:
        time.sleep(rng.uniform(0.0, 0.05))
    victim = rng.choice(list(hosts.processes))
    met = is_saving(checkpoints)
    if hosts.children(victim):
        hosts.signal_training(victim, signal.SIGKILL)
    hosts.processes[victim].send_signal(signal.SIGKILL)
    codes = hosts.codes()
    assert codes[victim] == -signal.SIGKILL, codes
    assert all(code == 4 for host, code in enumerate(codes) if host != victim), (codes, hosts.errors())
    return met


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


def main() -> None:
    """Runs once without kills and once with them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_kills", type=int, default=100)
    parser.add_argument("--in_saves", type=int, default=30)
    parser.add_argument("--num_hosts", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    num_kills = in_saves = 0
    resumed_at = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_inputs(folder)
        with start(folder, "straight", options.num_hosts, folder / "compiled") as hosts:
            assert set(hosts.codes()) == {0}, hosts.errors()
        expected, attempt = end_of(folder / "straight"), 0
        assert expected["step"] == NUM_STEPS
        while num_kills < options.num_kills:
            attempt += 1
            workdir = folder / f"killed-{attempt}"
            while True:  # until a run gets to its end
                if num_kills == options.num_kills:
                    with start(folder, workdir.name, options.num_hosts, folder / "compiled") as hosts:
                        assert set(hosts.codes()) == {0}, hosts.errors()
                    break
                with start(folder, workdir.name, options.num_hosts, folder / "compiled") as hosts:
                    wants_save = in_saves < options.in_saves
                    met = kill(hosts, workdir / "checkpoints", rng, in_save=wants_save)
                    if met is None:
                        assert set(hosts.codes()) == {0}, hosts.errors()
                        break
                num_kills, in_saves = num_kills + 1, in_saves + met
                step = latest_checkpoint(workdir)
                resumed_at.add((attempt, step))
                print(f"kill {num_kills}{' in a save' if met else ''}: goes on from {step}", flush=True)
            found = end_of(workdir)
            for name, value in expected.items():
                assert found[name] == value, f"attempt {attempt}: {name} differs"
    print(
        f"kill_anywhere ok={num_kills} of {options.num_kills} in_saves={in_saves} num_hosts={options.num_hosts} "
        f"steps={NUM_STEPS} resumed_at={len(resumed_at)} distinct steps"
    )


if __name__ == "__main__":
    main()
