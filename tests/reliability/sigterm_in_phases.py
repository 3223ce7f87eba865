"""Tells a run to end while it compiles, waits for data, steps, evaluates and saves: it saves or says that nothing is new.

    python tests/reliability/sigterm_in_phases.py [--num_each 20] [--phases compile,wait,step,evaluate,save] [--seed 0]

SIGTERM comes to the command's process, which hands it on, at a moment drawn anew within a phase at a step drawn anew; for
that the training process runs in a script that sees its phases and tells of them, makes batches come late where waiting
for one is the phase, and compiles anew where compiling is. Each time the command has to end with exit code 7 and one
sentence: either the step that it names is saved and whole, or nothing is new, and then the newest checkpoint is the one
from before. Given again, the command has to end as a run that was never told to, bit for bit.

Last line: sigterm_in_phases compile=20 of 20 wait=20 of 20 step=... evaluate=... save=... saved=... refused=... seconds<=...
"""

import argparse
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from small_run import ROOT, end_of, write_inputs

from t5like.checkpoint import newest_whole

NUM_STEPS = 24
PHASES = {"compile": 4.0, "wait": 1.0, "step": 0.05, "evaluate": 0.3, "save": 0.3}
"""Up to how many seconds after a phase was entered the signal comes."""
LATE_SECONDS = 1.0
ENOUGH_SECONDS = 300.0
OPTIONS = (
    "--eval_every_steps",
    "3",
    "--max_eval_rows",
    "256",
    "--batch_size",
    "64",
    "--checkpoint_every_steps",
    "5",
)

TELLING = """
import sys
import time

from t5like import phases, pretrain
from t5like.cli import main

wanted, at_step, late_seconds = sys.argv.pop(1).split(":")
enter = phases._Clock.enter


def entered(self, phase, step):
    enter(self, phase, step)
    if phase == wanted and step >= int(at_step) and entered.is_due:
        entered.is_due = False
        print("entered", phase, step, flush=True)


entered.is_due = True
phases._Clock.enter = entered
batches_of = pretrain.pretraining_batches


class Late:
    def __init__(self, batches):
        self.batches, self.given = batches, 0

    def __next__(self):
        if wanted == "wait" and phases.current().step >= int(at_step) and not self.given:
            self.given = 1
            time.sleep(float(late_seconds))
        return next(self.batches)

    def __getattr__(self, name):
        return getattr(self.batches, name)


pretrain.pretraining_batches = lambda *args, **kwargs: Late(batches_of(*args, **kwargs))
sys.exit(main())
"""


def start(folder: pathlib.Path, workdir: str, phase: str, step: int) -> subprocess.Popen[str]:
    """Starts the command, which tells when it enters a phase at a step, or after it."""
    environment = {"XDG_CACHE_HOME": str(folder / "compiled"), "PYTHONPATH": str(ROOT)}
    if phase == "compile":
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "0"
    script = [str(folder / "telling.py"), f"{phase}:{step}:{LATE_SECONDS}"]
    command = ["pretrain", "config.py", "--num_steps", str(NUM_STEPS), *OPTIONS, "--workdir", workdir]
    return subprocess.Popen(
        [sys.executable, *script, *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: pathlib.Path, workdir: str) -> None:
    """Runs the command to its end."""
    process = start(folder, workdir, "none", 0)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 0, errors


def tell(folder: pathlib.Path, workdir: str, phase: str, rng: random.Random) -> tuple[bool, float]:
    """Tells a run to end in a phase; returns whether it saved something for that, and how long it took to end."""
    step = rng.randrange(NUM_STEPS - 2) if phase not in ("compile", "save") else 0
    if phase == "save":
        step = rng.choice((1, 6, 11))  # the next is saved
    process = start(folder, workdir, phase, step)
    assert process.stdout is not None
    line = ""
    while not line.startswith("entered"):
        line = process.stdout.readline()
        assert line, process.communicate()
    time.sleep(rng.uniform(0.0, PHASES[phase]))
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=ENOUGH_SECONDS)
    seconds = time.monotonic() - told
    sentence = errors.splitlines()[-1]
    assert process.returncode == 7, (process.returncode, output, errors)
    assert "Traceback" not in errors, errors
    saved = re.fullmatch(
        r"error: Told to end by SIGTERM: step (\d+) is saved, [\d.]+ s after that; given again, the same command goes on "
        r"from there\.",
        sentence,
    )
    whole = newest_whole(folder / workdir).step if (folder / workdir).exists() else None
    if saved:
        assert whole == int(saved[1]), (whole, sentence)
    else:
        assert "with nothing new to save" in sentence, errors
        assert whole is None or whole == NUM_STEPS, whole
    print(
        f"{phase} at {line.split()[-1]}: {'saved ' + saved[1] if saved else 'nothing new'}, {seconds:.2f} s",
        flush=True,
    )
    return bool(saved), seconds


def main() -> None:
    """Tells runs to end, and lets them go on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_each", type=int, default=20)
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts, saved, longest = dict.fromkeys(options.phases.split(","), 0), 0, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_inputs(folder)
        (folder / "telling.py").write_text(TELLING)
        finish(folder, "straight")
        expected = end_of(folder / "straight")
        for phase in counts:
            for number in range(options.num_each):
                workdir = f"{phase}-{number}"
                has_saved, seconds = tell(folder, workdir, phase, rng)
                finish(folder, workdir)
                found = end_of(folder / workdir)
                for name, value in expected.items():
                    assert found[name] == value, f"{workdir}: {name} differs"
                counts[phase], saved, longest = counts[phase] + 1, saved + has_saved, max(longest, seconds)
    told = " ".join(f"{phase}={count} of {options.num_each}" for phase, count in counts.items())
    refused = sum(counts.values()) - saved
    print(f"sigterm_in_phases {told} saved={saved} refused={refused} seconds<={longest:.1f}")


if __name__ == "__main__":
    main()
