"""Damages the newest checkpoint of a run in every way: each time that is noticed, and the one before it is gone on from.

    python tests/reliability/damaged_checkpoints.py [--num_damages 100] [--num_resumed 10] [--seed 0]

A small run is trained to its end and its newest checkpoint damaged in a copy: a bit of any byte flipped, a file cut
anywhere, a file removed, files being chosen by their size as disks would, or each alike. Then the newest checkpoint that
counts as whole has to be the one before, and its state the one that was saved. What a flip in Orbax's note of the time
changes is nothing of the run: there the checkpoint may count as whole, and its state has to be the one that was saved.
Some of the damaged runs are gone on with, and have to end as the run that was never damaged, bit for bit.

Last line: damaged_checkpoints ok=100 of 100 noticed=... without_effect=... resumed=10 of 10
"""

import argparse
import dataclasses
import os
import pathlib
import random
import shutil
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # which compiles quickly

import jax  # noqa: E402
import numpy as np  # noqa: E402

from t5like.checkpoint import Checkpoints, checkpoint_steps, newest_whole  # noqa: E402
from t5like.models.config import TransformerConfig  # noqa: E402
from t5like.objectives.span_corruption import SpanCorruption  # noqa: E402
from t5like.optim.adamw import AdamW  # noqa: E402
from t5like.optim.schedules import Constant  # noqa: E402
from t5like.placement import abstract_state, place  # noqa: E402
from t5like.pretrain import Pretrain, pretrain  # noqa: E402
from t5like.workdir import load_description  # noqa: E402
from tests.made_up_text import write_text  # noqa: E402

WITHOUT_EFFECT = {"_CHECKPOINT_METADATA", "commit_success.txt"}
"""Of these, all that the manifest leaves out is when, and where, the checkpoint took its name."""
CONFIG = Pretrain(
    model=TransformerConfig(
        embed_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=64,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dropout_rate=0.1,
        scans_layers=False,
    ),
    objective=SpanCorruption(inputs_length=24),
    vocabulary_size=300,
    optimizer=AdamW(schedule=Constant(peak=1e-2)),
    num_steps=12,
    batch_size=8,
    log_every_steps=3,
    eval_every_steps=12,
    checkpoint_every_steps=4,
    num_checkpoints_kept=3,
    max_eval_rows=8,
)


def damage(folder: pathlib.Path, rng: random.Random) -> tuple[str, str]:
    """Damages one file of a checkpoint; returns which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size for path in files]
    path = rng.choices(files, weights=sizes if rng.random() < 0.5 else None)[0]
    way = rng.choice(("flip", "cut", "remove"))
    content = bytearray(path.read_bytes())
    if way == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif way == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        path.unlink()
    return path.relative_to(folder).as_posix(), way


def state_of(workdir: pathlib.Path, step: int) -> list[bytes]:
    """Returns the bytes of all arrays of a state."""
    model, _ = load_description(workdir)
    placement = place(model, CONFIG.mesh, CONFIG.rules, batch_size=CONFIG.batch_size)
    abstract = abstract_state(placement, CONFIG.optimizer.build(CONFIG.num_steps, placement.axes))
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    try:
        state = checkpoints.restore_state(step, abstract)
    finally:
        checkpoints.close()
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def main() -> None:
    """Damages, looks, and goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_damages", type=int, default=100)
    parser.add_argument("--num_resumed", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: dict[str, Any] = {"noticed": 0, "without_effect": 0, "resumed": 0}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_text(folder / "text")
        config = dataclasses.replace(CONFIG, data=str(folder / "text"))
        pretrain(config, folder / "run")
        *_, before, newest = checkpoint_steps(folder / "run")
        states = {step: state_of(folder / "run", step) for step in (before, newest)}
        for number in range(options.num_damages):
            shutil.copytree(folder / "run", folder / "copy")
            name, way = damage(folder / "copy" / "checkpoints" / str(newest), rng)
            found = newest_whole(folder / "copy")
            print(f"{number}: {way} {name}: {found.damages.get(newest, 'whole')}", flush=True)
            assert found.step is not None
            assert found.step == before or name in WITHOUT_EFFECT, (name, way)
            assert state_of(folder / "copy", found.step) == states[found.step], (name, way)
            counts["noticed" if found.step == before else "without_effect"] += 1
            if found.step == before and counts["resumed"] < options.num_resumed:
                pretrain(config, folder / "copy")
                assert state_of(folder / "copy", newest) == states[newest], (name, way)
                counts["resumed"] += 1
            shutil.rmtree(folder / "copy")
    print(
        f"damaged_checkpoints ok={counts['noticed'] + counts['without_effect']} of {options.num_damages} "
        f"noticed={counts['noticed']} without_effect={counts['without_effect']} "
        f"resumed={counts['resumed']} of {options.num_resumed}"
    )


if __name__ == "__main__":
    main()
