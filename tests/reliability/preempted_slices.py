"""Takes the slice away from a training run again and again; the babysitter brings it to the end of an undisturbed run.

    python tests/reliability/preempted_slices.py [--num_preemptions 5] [--num_steps 400] [--max_wait_seconds 5] [--seed 0]

The cloud is simulated: `gcloud` is a program of the tests, the two hosts of the slice are processes of this machine that
JAX joins over the loopback, and their homes, with checkout, environment and logs, vanish with the slice; the workdir lies
where a bucket would. Everything else is what a user calls: `launch/pod.sh ... babysit t5like pretrain ...`, which copies
this checkout to the hosts and starts it there. At random moments after a checkpoint the slice is suspended and all that
runs on it is killed. At the end parameters, optimizer state, data cursor and log are those of a run that was left alone.
Last a run with an impossible config must be begun once and no more.

Last line: preempted_slices ok=5 of 5 attempts=... hosts=2 steps=... config_error_attempts=1
"""

import argparse
import pathlib
import random
import subprocess
import tempfile
import time

from small_run import ROOT, end_of, write_inputs

from t5like.checkpoint import checkpoint_steps
from tests.launch.cloud import Cloud

ENOUGH_SECONDS = 600.0
REQUEST = ("--name", "base", "--type", "v4-16", "--zone", "us-central2-b", "--project", "p", "--spot")


def make_cloud(folder: pathlib.Path, name: str) -> Cloud:
    """Returns a cloud whose machines compute on this one's CPU."""
    variables = {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "XDG_CACHE_HOME": str(folder / "compiled"),
        "T5LIKE_HOST_TIMEOUT_SECONDS": "60",
    }
    return Cloud.make(folder / name, host_variables=variables)


def start(cloud: Cloud, folder: pathlib.Path, workdir: str, *fields: str) -> subprocess.Popen[str]:
    """Starts the babysitter of a run."""
    command = ("t5like", "pretrain", str(folder / "config.py"), "--data", str(folder / "text"))
    return subprocess.Popen(
        [
            *("bash", str(ROOT / "launch" / "pod.sh"), "--backend", "qr", *REQUEST),
            *("--logs", str(folder / f"logs-{workdir}"), "--poll_seconds", "0.2", "babysit"),
            *(*command, "--workdir", str(folder / workdir), *fields),
        ],
        env=cloud.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int) -> str:
    """Returns what a babysitter said, once it has ended with a code."""
    _, said = process.communicate(timeout=ENOUGH_SECONDS)
    if process.returncode != code:
        raise SystemExit(f"the babysitter ended with {process.returncode}: {said[-3000:]}")
    return said


def num_attempts(folder: pathlib.Path, workdir: str) -> int:
    """Returns how often a run was begun."""
    return len(list((folder / f"logs-{workdir}").glob("attempt-*")))


def main() -> None:
    """Runs undisturbed, disturbed, and with an impossible config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_preemptions", type=int, default=5)
    parser.add_argument("--num_steps", type=int, default=400)
    parser.add_argument("--max_wait_seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    steps = ("--num_steps", str(options.num_steps))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_inputs(folder)
        cloud = make_cloud(folder, "cloud")
        try:
            end(start(cloud, folder, "straight", *steps), 0)
            process, seen = start(cloud, folder, "disturbed", *steps), 0
            for number in range(1, options.num_preemptions + 1):
                began = time.monotonic()
                while max(checkpoint_steps(folder / "disturbed"), default=0) <= seen:
                    if process.poll() is not None or time.monotonic() - began > ENOUGH_SECONDS:
                        raise SystemExit(f"the run was not disturbed often enough: {end(process, 0)[-3000:]}")
                    time.sleep(0.02)
                time.sleep(rng.uniform(0.0, options.max_wait_seconds))
                cloud.preempt("base")
                seen = max(checkpoint_steps(folder / "disturbed"))
                print(f"preemption {number}: step {seen} was saved", flush=True)
            print(end(process, 0), end="", flush=True)
            expected, found = end_of(folder / "straight"), end_of(folder / "disturbed")
            for name, value in expected.items():
                assert found[name] == value, f"{name} differs"
            end(start(cloud, folder, "impossible", "--num_steps", "0"), 2)
        finally:
            cloud.close()
        print(
            f"preempted_slices ok={options.num_preemptions} of {options.num_preemptions} "
            f"attempts={num_attempts(folder, 'disturbed')} hosts=2 steps={options.num_steps} "
            f"config_error_attempts={num_attempts(folder, 'impossible')}"
        )


if __name__ == "__main__":
    main()
