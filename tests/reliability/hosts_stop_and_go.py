"""Loses hosts of a training run in every way, at random moments, and goes on with others: the run ends as on one host.

    python tests/reliability/hosts_stop_and_go.py [--num_losses 8] [--seed 0] [--timeout_seconds 30]

The hosts are real processes on this machine's CPU that JAX joins over the loopback, 2 or 4 of them, with eight devices in
all. Of each attempt one host is lost once a new checkpoint is there: its training process or all of it is killed or
stopped. Every other host must end within the timeout with exit code 4 and the lost host's name, and what the workdir
holds must be whole. The last attempt is let finish; its losses, parameters and scores are compared with those of a run on
one host that was never stopped. Then the model is fine-tuned and evaluated on two hosts and on one, which must agree.

Last line: hosts_stop_and_go ok=... of ... steps=... worst_metric=... worst_parameter=...
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # which compiles quickly

from t5like.checkpoint import Checkpoints, checkpoint_steps, latest_checkpoint  # noqa: E402
from t5like.metrics_log import METRICS_FILE, read_metrics  # noqa: E402
from tests.hosts.cluster import Cluster  # noqa: E402
from tests.made_up_text import write_sst2, write_text  # noqa: E402

NUM_DEVICES, NUM_STEPS, CHECKPOINT_EVERY_STEPS = 8, 120, 5
WAYS = ("kill training", "kill host", "stop training", "stop host")
TIMES = {
    *("tokens_per_second", "model_flops_per_second"),
    *("step_seconds", "input_wait_seconds", "input_wait_percent"),
}
TOLERANCE = 1e-5
# Beyond the timeout, for a busy machine to tell everybody.
SLACK_SECONDS = 20.0

CONFIG = f"""
from t5like.models.config import TransformerConfig
from t5like.objectives.span_corruption import SpanCorruption
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.pretrain import Pretrain


def get_config():
    return Pretrain(
        model=TransformerConfig(
            embed_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1,
            dropout_rate=0.1, scans_layers=False,
        ),
        objective=SpanCorruption(inputs_length=24),
        data="text",
        vocabulary_size=300,
        optimizer=AdamW(schedule=Constant(peak=1e-2), eps=1e-2),
        num_steps={NUM_STEPS},
        batch_size=8,
        log_every_steps=5,
        eval_every_steps=40,
        checkpoint_every_steps={CHECKPOINT_EVERY_STEPS},
        max_eval_rows=8,
    )
"""
FINETUNE = (
    *("-m", "t5like", "finetune", "--task", "glue/sst2", "--data_dir", "glue", "--init", "straight"),
    *("--num_steps", "10", "--batch_size", "8", "--eval_every_steps", "5", "--checkpoint_every_steps", "5"),
    *("--optimizer.schedule.warmup_steps", "2", "--log_every_steps", "1"),
    *("--objective.inputs_length", "24", "--objective.targets_length", "4"),
)


def write_data(folder: pathlib.Path) -> None:
    """Writes made-up text and a task."""
    write_text(folder / "text")
    write_sst2(folder / "glue", train=30, dev=11)
    (folder / "config.py").write_text(CONFIG)


def environment(num_hosts: int) -> dict[str, str]:
    """Returns what gives each host its share of the devices."""
    return {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={NUM_DEVICES // num_hosts}",
    }


def run_alone(*command: str) -> str:
    """Returns what a command prints on one host; it must end well."""
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, **environment(1)}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def run_on_two(*command: str) -> str:
    """Returns what a command prints on the first of two hosts; both must end well."""
    with Cluster(command, 2, pathlib.Path(), environment=environment(2)) as hosts:
        if hosts.codes() != [0, 0]:
            raise SystemExit(f"{command} ended with {hosts.codes()}: {hosts.errors()}")
        return hosts.out(0)


def lose(hosts: Cluster, way: str, lost: int, timeout_seconds: int) -> None:
    """Loses a host and sees to it that the others end, with its name.

    Raises:
      SystemExit: they do not.
    """
    number = signal.SIGKILL if way.startswith("kill") else signal.SIGSTOP
    (hosts.signal_training if way.endswith("training") else hosts.signal_host)(lost, number)
    began = time.monotonic()
    rest = [host for host in hosts.present if host != lost or way.endswith("training")]
    codes = hosts.codes(of=rest)
    seconds = time.monotonic() - began
    name = f"error: Host {lost} of {len(hosts.present)} ({'abcdefgh'[lost]}) "
    for host, code in zip(rest, codes, strict=True):
        error = hosts.err(host)
        if code != 4 or name not in error.splitlines()[-1] or "Traceback" in error:
            raise SystemExit(f"after {way} of {lost}, host {host} ended with {code}: {error[-2000:]}")
    if seconds > timeout_seconds + SLACK_SECONDS:
        raise SystemExit(f"after {way} of {lost} the others ended only after {seconds:.0f} s")


def worst_differences(one: pathlib.Path, other: pathlib.Path) -> tuple[float, float]:
    """Returns the largest difference in metrics, as a share of those above 1, and in parameters of two workdirs."""
    rows, others = (read_metrics(workdir / METRICS_FILE) for workdir in (one, other))
    if [(r["step"], r["split"]) for r in rows] != [(r["step"], r["split"]) for r in others]:
        raise SystemExit(f"{other} has other rows in its log than {one}")
    metric = max(
        abs(row[name] - same[name]) / max(1.0, abs(row[name]))
        for row, same in zip(rows, others, strict=True)
        for name in row.keys() - TIMES - {"split"}
    )
    import jax
    import numpy as np

    from t5like import workdir as workdirs
    from t5like.placement import place

    def params_of(workdir: pathlib.Path) -> list[np.ndarray]:
        model, _ = workdirs.load_description(workdir)
        config, step = workdirs.load_config(workdir), latest_checkpoint(workdir)
        assert step == config.num_steps
        placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)
        checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
        params = checkpoints.restore_params(step, placement.params)
        checkpoints.close()
        return jax.tree.leaves(jax.device_get(params))

    pairs = zip(params_of(one), params_of(other), strict=True)
    return metric, max(float(np.abs(a - b).max()) for a, b in pairs)


def main() -> None:
    """Loses hosts, finishes, compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_losses", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout_seconds", type=int, default=30)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hosts_stop_and_go."))
    os.chdir(folder)
    write_data(folder)
    pretrain = ("-m", "t5like", "pretrain", "config.py", "--workdir")
    run_alone(*pretrain, "straight")
    workdir, num_lost = folder / "several", 0
    while num_lost < options.num_losses:
        num_hosts, way = rng.choice((2, 4)), WAYS[num_lost % len(WAYS)]
        lost, before = rng.randrange(num_hosts), checkpoint_steps(workdir)[-1:]
        with Cluster(
            (*pretrain, "several"),
            num_hosts,
            folder,
            timeout_seconds=options.timeout_seconds,
            environment=environment(num_hosts),
        ) as hosts:
            for _ in hosts.moments():
                if checkpoint_steps(workdir)[-1:] != before:
                    break
                if None not in [process.poll() for process in hosts.processes.values()]:
                    raise SystemExit(f"the hosts ended by themselves: {hosts.errors()}")
            time.sleep(rng.uniform(0.0, 0.3))
            lose(hosts, way, lost, options.timeout_seconds)
        num_lost += 1
        print(f"{way} {lost} of {num_hosts}: checkpoints {checkpoint_steps(workdir)}", flush=True)
    run_on_two(*pretrain, "several")
    metric, parameter = worst_differences(folder / "straight", workdir)
    run_alone(*FINETUNE, "--workdir", "tuned-alone")
    run_on_two(*FINETUNE, "--workdir", "tuned")
    tuned, alone = (
        json.loads((folder / name / "samples.json").read_text()) for name in ("tuned", "tuned-alone")
    )
    evaluate = ("-m", "t5like", "evaluate", "--init", "tuned-alone")
    if tuned != alone or run_on_two(*evaluate) != run_alone(*evaluate):
        raise SystemExit("fine-tuned or evaluated on two hosts, the answers are others than on one")
    if max(metric, parameter) > TOLERANCE:
        raise SystemExit(f"the run differs from that on one host: metrics {metric}, parameters {parameter}")
    os.chdir("/")
    shutil.rmtree(folder)
    print(
        f"hosts_stop_and_go ok={num_lost} of {options.num_losses} steps={NUM_STEPS} worst_metric={metric:.1e} "
        f"worst_parameter={parameter:.1e}"
    )


if __name__ == "__main__":
    main()
