"""Kills a training run at random moments and gives the same command again: it ends as one that was never killed.

    python tests/reliability/kill_anywhere.py [--num_kills 100] [--in_saves 30] [--num_hosts 1] [--num_steps 400]
        [--max_wait_seconds 25] [--seed 0]

SIGKILL comes at a moment drawn anew each time: so many seconds after the command was given, or so many milliseconds after
a save began, which is seen by its unnamed folder, until `--in_saves` have met one. With --num_hosts 2 every host is two
processes of its own, and those of one of them, drawn too, are killed; the others have to end by themselves. It is the
training process that is killed, or the one that watches it, or both, and the command is given again at once. At the end parameters,
optimizer state and data cursor are those of a run that was never killed, bit for bit, and so is the log without times.

Last line: kill_anywhere ok=100 of 100 in_saves=... num_hosts=1 steps=... resumed_at=... distinct steps
"""

import argparse
import functools
import os
import pathlib
import random
import signal
import tempfile
import time

from small_run import end_of, write_inputs

from t5like.checkpoint import latest_checkpoint
from tests.hosts.cluster import Cluster

NUM_DEVICES = 2
ENOUGH_SECONDS = 600.0


def start(
    folder: pathlib.Path, workdir: str, num_steps: int, num_hosts: int, compiled: pathlib.Path
) -> Cluster:
    """Starts the command on all hosts, which share the devices."""
    flags = f"--xla_force_host_platform_device_count={NUM_DEVICES // num_hosts}"
    os.chdir(folder)
    environment = {"XLA_FLAGS": flags, "XDG_CACHE_HOME": str(compiled)}
    command = ["-m", "t5like", "pretrain", "config.py", "--num_steps", str(num_steps), "--workdir", workdir]
    return Cluster(command, num_hosts, folder, environment=environment, timeout_seconds=60)


def is_saving(checkpoints: pathlib.Path) -> bool:
    """Returns whether a save is under way."""
    try:
        return any("orbax-checkpoint-tmp" in name for name in os.listdir(checkpoints))
    except FileNotFoundError:
        return False


def kill(
    hosts: Cluster, checkpoints: pathlib.Path, rng: random.Random, max_wait_seconds: float, *, in_save: bool
) -> bool | None:
    """Kills processes of a host at a random moment; returns whether that was in a save, None if the run ended first."""
    began = time.monotonic()
    wait = rng.uniform(2.0, max_wait_seconds)
    while time.monotonic() - began < wait or (in_save and not is_saving(checkpoints)):
        if any(process.poll() is not None for process in hosts.processes.values()):
            return None
        assert time.monotonic() - began < ENOUGH_SECONDS, hosts.errors()
        time.sleep(0.0005)
    if in_save:
        time.sleep(rng.uniform(0.0, 0.05))
    victim, what = rng.choice(list(hosts.processes)), rng.choice(("training", "watcher", "both"))
    if what != "watcher" and not hosts.children(victim):
        what = "watcher"  # which has started nothing yet
    met = is_saving(checkpoints)
    if what != "watcher":
        hosts.signal_training(victim, signal.SIGKILL)
    if what != "training":
        hosts.processes[victim].send_signal(signal.SIGKILL)
    codes = hosts.codes()
    expected = {"training": (137,) if len(codes) == 1 else (4,)}.get(what, (-signal.SIGKILL,))
    if what == "both":
        expected = (-signal.SIGKILL, 137, 4)  # if the watcher was quicker than its end
    assert codes[victim] in expected, (what, codes, hosts.errors())
    assert all(code == 4 for host, code in enumerate(codes) if host != victim), (codes, hosts.errors())
    return met


def main() -> None:
    """Runs once without kills and once with them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_kills", type=int, default=100)
    parser.add_argument("--in_saves", type=int, default=30)
    parser.add_argument("--num_hosts", type=int, choices=(1, 2), default=1)
    parser.add_argument("--num_steps", type=int, default=400)
    parser.add_argument("--max_wait_seconds", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    num_kills = in_saves = 0
    resumed_at = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_inputs(folder)
        begin = functools.partial(
            start,
            folder,
            num_steps=options.num_steps,
            num_hosts=options.num_hosts,
            compiled=folder / "compiled",
        )
        with begin("straight") as hosts:
            assert set(hosts.codes()) == {0}, hosts.errors()
        expected, attempt = end_of(folder / "straight"), 0
        assert expected["step"] == options.num_steps
        while num_kills < options.num_kills:
            attempt += 1
            workdir = folder / f"killed-{attempt}"
            while True:  # until a run gets to its end
                if num_kills == options.num_kills:
                    with begin(workdir.name) as hosts:
                        assert set(hosts.codes()) == {0}, hosts.errors()
                    break
                with begin(workdir.name) as hosts:
                    wants_save = in_saves < options.in_saves
                    met = kill(
                        hosts, workdir / "checkpoints", rng, options.max_wait_seconds, in_save=wants_save
                    )
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
        f"steps={options.num_steps} resumed_at={len(resumed_at)} distinct steps"
    )


if __name__ == "__main__":
    main()
