"""What `launch/pod.sh --dry_run` prints, for every backend, chip, capacity and one and two slices, as files in golden/.

python -m tests.launch.goldens       writes them anew; read the difference before it is committed
"""

import contextlib
import io
import itertools
import pathlib

from launch.pod.__main__ import ACTIONS, main

BACKENDS = {
    "qr": ("--backend", "qr"),
    "gce": ("--backend", "gce"),
    "gke": ("--backend", "gke", "--cluster", "c"),
    "xpk": ("--backend", "gke", "--xpk"),
    "xpk-shared": ("--backend", "gke", "--xpk", "--cluster", "c"),
}
FOLDER = pathlib.Path(__file__).with_name("golden")
TYPES = {"v4": "v4-16", "v5e": "v5e-16", "v5p": "v5p-16", "v6e": "v6e-16", "tpu7x": "tpu7x-16"}
CAPACITIES = {
    "on_demand": (),
    "spot": ("--spot",),
    "reserved": ("--reserved", "--reservation=r"),
    "flex_start": ("--flex_start", "--max_run_hours=24"),
}
COMMAND = ("t5like", "pretrain", "configs/t5_1_1_base.py", "--workdir", "/mnt/bucket/it's a run")


def printed(*argv: str) -> str:
    """Returns what a dry run prints on standard output, or its error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    refusal = "".join(line for line in err.getvalue().splitlines(keepends=True) if line.startswith("error:"))
    return out.getvalue() if code == 0 else f"{refusal}exit code {code}\n"


def golden(backend: str, chip: str) -> str:
    """Returns what belongs into the file of a backend and a chip."""
    always = (
        *BACKENDS[backend],
        "--name",
        "base",
        "--type",
        TYPES[chip],
        "--zone",
        "us-east5-b",
        "--project",
        "p",
    )
    parts = []
    for (capacity, flags), slices in itertools.product(CAPACITIES.items(), (1, 2)):
        parts.append(f"# create: {capacity}, slices: {slices}\n")
        parts.append(printed(*always, *flags, "--slices", str(slices), "--dry_run", "create"))
    for action in ACTIONS:
        words = COMMAND if action in ("run", "babysit") else ()
        parts.append(f"# {action}\n")
        parts.append(
            printed(*always, "--bucket", "our-runs", "--dry_run", action, *words).replace(
                str(_ROOT), "CHECKOUT"
            )
        )
    return "".join(parts)


_ROOT = pathlib.Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for backend, chip in itertools.product(BACKENDS, TYPES):
        (FOLDER / f"{backend}-{chip}.txt").write_text(golden(backend, chip), encoding="utf-8")
