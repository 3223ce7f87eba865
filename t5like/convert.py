"""Entry point: a public checkpoint becomes a workdir, and a workdir a public checkpoint.

t5like convert --from flan-t5-small/ --to runs/flan              from Hugging Face's layout, or from T5X
t5like convert --from runs/sst2 --to sst2-hf/ --format hf        to Hugging Face's layout
t5like convert --from flan-t5-small/ --dry_run                   only say what would become of each array
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from t5like import workdir as workdirs
from t5like.checkpoint import Checkpoints
from t5like.config import parse_command_line, to_json
from t5like.data.vocabulary import find_vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.interchange import Plan, export_arrays
from t5like.mesh import MeshShape
from t5like.models.config import Head
from t5like.optim.base import require_at_least_zero
from t5like.placement import place
from t5like.public_model import (
    DTYPES,
    ExportDtype,
    PublicModel,
    export_family,
    load_public_model,
    save_public_model,
)
from t5like.sharding import AxisRules
from t5like.trained_model import PUBLIC_PREFIX

COMMAND = "t5like convert"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert:
    """Which model, from where to where."""

    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """A workdir; or a folder in Hugging Face's layout, one of its weight files, or a checkpoint of T5X."""
    to: str | None = None
    """The folder to write, new or empty."""
    format: Literal["t5like", "hf"] | None = None
    """A workdir, or Hugging Face's layout; None takes the one that --from is not in."""
    head: Head | None = None
    """What a public model is to be used for; None keeps its head. A head it lacks is drawn from the seed."""
    num_labels: int = 0
    """Labels of a classifier or tagger; 0 takes the number in its config.json."""
    vocabulary: str | None = None
    """A SentencePiece model, a folder of tokenizer files, or `bytes`; None takes the one beside the weights."""
    dtype: ExportDtype = "float32"
    """Dtype of the arrays in Hugging Face's layout; ours are float32."""
    dry_run: bool = False
    """Print what would become of each array, and write nothing."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least_zero(self, "num_labels", "seed")


def main(argv: list[str]) -> None:
    """Converts what the command line says."""
    config, options = parse_command_line(
        argv, command=COMMAND, config_class=Convert, default=Convert(), has_workdir=False
    )
    if options.prints_config:
        print(to_json(config))
        return
    convert(config)


def convert(config: Convert) -> None:
    """Writes the model to where the config says, having printed what becomes of its arrays.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    if config.from_ is None:
        raise UserError(f"{COMMAND} needs --from, the model to convert.")
    if config.to is None and not config.dry_run:
        raise UserError(f"{COMMAND} needs --to, the folder to write.")
    if config.to is not None and not workdirs.is_new(Path(config.to), "--to"):
        raise UserError(f"--to {config.to} is not empty; give a new or empty folder.")
    path = Path(config.from_.removeprefix(PUBLIC_PREFIX)).expanduser()
    is_workdir = workdirs.is_workdir(path) and not config.from_.startswith(PUBLIC_PREFIX)
    model = load_workdir(config, path) if is_workdir else load_public(config, path)
    to_format = config.format or ("hf" if is_workdir else "t5like")
    if isinstance(model, PublicModel):
        print_plan(model.plan, prints_all=config.dry_run)
    elif config.dry_run and to_format == "hf":
        print_export(model, config.dtype)
    if to_format == "t5like" and config.dtype != "float32":
        raise UserError(f"--dtype {config.dtype} is for --format hf; parameters of ours are float32.")
    family = export_family(model.config, model.vocabulary) if to_format == "hf" else None
    if config.dtype == "float16" and family is not None and family.name == "T5":
        print("warning: T5's activations overflow float16; bfloat16 is as small and safe.", file=sys.stderr)
    if config.dry_run or config.to is None:
        return
    write(config, model, Path(config.to), to_format)
    print(f"wrote {config.to}")


def load_workdir(config: Convert, path: Path) -> workdirs.TrainedModel:
    """Returns the model of a workdir.

    Raises:
      UserError: there is none, or the config asks for what only public models can be given.
    """
    for name in ("head", "num_labels", "vocabulary"):
        if getattr(config, name):
            raise UserError(f"--{name} is for public models; {path} is a workdir, which has its own.")
    return workdirs.load_workdir(path)


def load_public(config: Convert, path: Path) -> PublicModel:
    """Returns the public model, as the config would have it."""
    vocabulary = None if config.vocabulary is None else find_vocabulary(config.vocabulary, extra_ids=100)
    model = load_public_model(path, head=config.head, num_labels=config.num_labels, vocabulary=vocabulary)
    if config.num_labels and not model.config.num_labels:
        raise UserError(
            f"--num_labels is for classifiers and taggers, but this model is a {model.config.head}; give --head."
        )
    return model


def write(
    config: Convert,
    model: workdirs.TrainedModel | PublicModel,
    folder: Path,
    to_format: Literal["t5like", "hf"],
) -> None:
    """Writes the model's parameters, config and vocabulary; the folder appears whole or not at all."""
    placement = place(model.config, MeshShape(), AxisRules(), batch_size=len(jax.devices()))
    with jax.set_mesh(placement.mesh):
        if isinstance(model, PublicModel):
            params = model.restore(placement.params, seed=config.seed)
        else:
            params = model.restore(placement.params)
        if to_format == "hf":
            save_public_model(folder, model.config, model.vocabulary, params, dtype=config.dtype)
            return
        with workdirs.new_folder(folder) as temporary:
            workdirs.create(temporary, config, model.config, model.vocabulary)
            with contextlib.closing(Checkpoints(temporary / "checkpoints")) as checkpoints:
                checkpoints.save_params(model.step, params)


def print_plan(plan: Plan, *, prints_all: bool) -> None:
    """Prints what becomes of the arrays of a public checkpoint: all of them, or those that are not simply loaded."""
    for line in plan.lines:
        if prints_all or line.fate == "initialised":
            becomes = f" -> {line.ours}" if line.ours else ""
            remark = f"  ({line.remark})" if line.remark else ""
            print(f"{line.fate:<11} {line.public}{becomes}{remark}")
    print(", ".join(f"{plan.count(fate)} {fate}" for fate in ("loaded", "renamed", "initialised", "dropped")))


def print_export(model: workdirs.TrainedModel, dtype: ExportDtype) -> None:
    """Prints every array that an export would write, with its shape."""
    family = export_family(model.config, model.vocabulary)
    for name, shape, _, _ in export_arrays(family, model.config, {}, DTYPES[dtype]):
        print(f"{name} {list(shape)} {dtype}")


if __name__ == "__main__":
    from t5like import convert as this_module  # so that configs name t5like.convert, not __main__

    sys.exit(run_entry(this_module.main))
