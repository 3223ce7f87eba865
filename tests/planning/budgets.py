"""Budgets: what the shipped configs need on the TPUs they are for, as stored, and as the compiler says now.

    python tests/planning/budgets.py [--write] [--max_minutes M] [NAME ...]

A budget is the plan of a config in budgets/NAME.json, with a digest of the program that the compiler was given. Where a
config still gives that program, nothing is compiled. Where it does not, it is, some minutes each, and the new plan may
need 2 % more memory and no collective more. --write stores the new plans. Exit code 1: something grew.

The digests and plans are of the JAX and libtpu that a budget names; with others every program differs, and only what
grew by them would be told. --max_minutes starts no compilation after so many minutes and lists what was left out.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5like.config import load_config_file, override
from t5like.plan import Draft, complete, draft_plan
from t5like.planning.record import GIB, Plan, plan_from_json, regressions
from t5like.planning.topologies import find_topology
from t5like.pretrain import Pretrain

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent / "budgets"

_KERNEL = re.compile(r"(\\22body\\22: \\22)[^\\]+")

# Name of the budget: config, topology, number of slices, and fields that differ from the config's.
TARGETS: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "t5_1_1_small_v5e-8": ("t5_1_1_small", "v5e-8", 1, ()),
    "t5_1_1_base_v5e-16": ("t5_1_1_base", "v5e-16", 1, ()),
    "t5_1_1_base_v6e-8": ("t5_1_1_base", "v6e-8", 1, ()),
    "t5_1_1_large_v5e-16": ("t5_1_1_large", "v5e-16", 1, ()),
    "t5_1_1_large_v5p-16": ("t5_1_1_large", "v5p-16", 1, ("--mesh.fsdp", "1")),
    "t5_1_1_xl_v5e-64": ("t5_1_1_xl", "v5e-64", 1, ()),
    "t5_1_1_xl_v5p-32": ("t5_1_1_xl", "v5p-32", 1, ("--mesh.fsdp", "4")),
    "t5_1_1_xl_2_v5e-64": ("t5_1_1_xl", "v5e-64", 2, ("--mesh.slices", "2", "--batch_size", "4096")),
    "t5_1_1_xxl_v5e-128": ("t5_1_1_xxl", "v5e-128", 1, ()),
    "t5_1_1_xxl_v5e-256": ("t5_1_1_xxl", "v5e-256", 1, ()),
    "t5_1_1_xxl_v5p-64": ("t5_1_1_xxl", "v5p-64", 1, ("--mesh.fsdp", "4")),
    "mt5_base_v5e-64": ("mt5_base", "v5e-64", 1, ()),
    "byt5_small_v5e-64": ("byt5_small", "v5e-64", 1, ()),
    "ul2_base_v5e-16": ("ul2_base", "v5e-16", 1, ()),
    "bert_base_v5e-16": ("bert_base", "v5e-16", 1, ()),
    "roberta_base_v5e-64": ("roberta_base", "v5e-64", 1, ()),
    "gpt2_small_v5e-16": ("gpt2_small", "v5e-16", 1, ()),
    "bart_base_v5e-16": ("bart_base", "v5e-16", 1, ()),
}


def draft_of(name: str) -> Draft:
    """Returns the plan of a target before it is compiled."""
    config_name, topology, num_slices, fields = TARGETS[name]
    file = f"configs/{config_name}.py"
    config = override(load_config_file(ROOT / file, Pretrain), list(fields), command="budgets")
    return draft_plan(config, find_topology(topology, num_slices=num_slices), name=file)


def digest_of(draft: Draft) -> str:
    """Returns the SHA-256 of the program that the compiler is given.

    A kernel in it is known by our files that make it: as it stands in the program, it names the place of the checkout.
    """
    text, num_kernels = _KERNEL.subn(r"\1", draft.lowered.as_text())
    digest = hashlib.sha256(text.encode())
    for file in sorted((ROOT / "t5like/kernels").glob("*.py")) if num_kernels else ():
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read_budget(name: str) -> tuple[str, Plan] | None:
    """Returns the stored digest and plan, None where there are none."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return None
    saved: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return saved["program_sha256"], plan_from_json(saved)


def write_budget(name: str, digest: str, plan: Plan) -> None:
    """Stores a budget."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"program_sha256": digest, **plan.to_json()}, indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n", "utf-8")


def main(argv: Sequence[str]) -> int:
    """Checks or writes the budgets that the command line names, by default all; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--max_minutes", type=float, default=float("inf"))
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in TARGETS]:
        parser.error(f"there is no budget {unknown[0]}; the budgets are {', '.join(TARGETS)}")
    start, grown, left_out = time.monotonic(), 0, []
    for name in options.names or TARGETS:
        stored = read_budget(name)
        if stored is None and not options.write:
            print(f"{name}: none is stored")
            continue
        draft = draft_of(name)
        digest = digest_of(draft)
        if stored is not None and stored[0] == digest and draft.plan.versions == stored[1].versions:
            print(f"{name}: unchanged, {stored[1].memory.peak / GIB:.2f} GiB", flush=True)
            continue
        if time.monotonic() - start > 60 * options.max_minutes:
            left_out.append(name)
            continue
        plan = complete(draft)
        told = [] if stored is None else regressions(stored[1], plan)
        grown += bool(told)
        verdict = (
            " ".join(told) or f"{plan.memory.peak / GIB:.2f} GiB, MFU {plan.mfu_percent():.1f} % predicted"
        )
        print(f"{name}: {verdict}", flush=True)
        if options.write:
            write_budget(name, digest, plan)
    if left_out:
        print(f"not compiled, for the time was over: {', '.join(left_out)}")
    return 1 if grown and not options.write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
