"""What lies where in a workdir, and who it belongs to.

config.json        the resolved config of the run; its presence makes a folder a workdir
model.json         what it takes to use the parameters: model config, vocabulary digest
vocabulary.model   the SentencePiece model
checkpoints/       see t5like.checkpoint
metrics.jsonl      see t5like.metrics_log; tensorboard/ holds the same as event files
evaluation.json, samples.json, run.json, report.html   see t5like.report
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from t5like import config as configs
from t5like.checkpoint import Checkpoints, latest_checkpoint
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.models.config import TransformerConfig

# What may differ between a run and its continuation without changing what any step computes.
MAY_CHANGE = (
    "num_steps",
    "log_every_steps",
    "eval_every_steps",
    "checkpoint_every_steps",
    "num_checkpoints_kept",
)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
      UserError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no workdir of t5like: it has no {path.name}.") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def check_owner(workdir: Path, config: Any) -> bool:
    """Returns whether the folder already holds this run, False where it is new; writes nothing.

    Raises:
      UserError: if it holds the run of another config, or files that are no run at all.
    """
    if not workdir.exists() or (workdir.is_dir() and not any(workdir.iterdir())):
        return False
    if not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file; give a folder.")
    if not (workdir / "config.json").exists():
        raise UserError(f"--workdir {workdir} holds files but no run of t5like; give a new or empty folder.")
    saved = read_json(workdir / "config.json")
    changed = [
        (path, old, new)
        for path, old, new in configs.differences(saved, configs.to_dict(config))
        if path not in MAY_CHANGE
    ]
    if changed:
        path, old, new = changed[0]
        more = f" and {len(changed) - 1} more field(s)" if len(changed) > 1 else ""
        raise UserError(
            f"--workdir {workdir} belongs to another config: {path} was {old!r} and is now {new!r}{more}; "
            "give another --workdir, or the config it was made with."
        )
    return True


def create(workdir: Path, config: Any, model: TransformerConfig, vocabulary: Vocabulary) -> None:
    """Makes the folder and writes what stays the same over the run; config.json comes last and seals it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir {workdir} cannot be made: {error.strerror}.") from error
    vocabulary.save(workdir / "vocabulary.model")
    description = {
        "model": configs.to_dict(model),
        "vocabulary_sha256": vocabulary.sha256,
        "vocabulary_extra_ids": vocabulary.num_extra_ids,
    }
    write_json(workdir / "model.json", description)
    write_json(workdir / "config.json", configs.to_dict(config))


def load_vocabulary(workdir: Path) -> Vocabulary:
    """Returns the vocabulary a workdir's model was trained with.

    Raises:
      UserError: if the file has been replaced by another vocabulary.
    """
    description = read_json(workdir / "model.json")
    vocabulary = Vocabulary.load(workdir / "vocabulary.model", extra_ids=description["vocabulary_extra_ids"])
    if vocabulary.sha256 != description["vocabulary_sha256"]:
        raise UserError(
            f"{workdir / 'vocabulary.model'} does not match the checkpoint: it is not the vocabulary the model was "
            "trained with; put the original file back."
        )
    return vocabulary


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model as a workdir holds it; `restore` reads its parameters."""

    workdir: Path
    config: TransformerConfig
    vocabulary: Vocabulary
    step: int

    def restore(self, abstract_params: Any) -> Any:
        """Returns the parameters, laid out as `abstract_params` says."""
        checkpoints = Checkpoints(self.workdir / "checkpoints")
        try:
            return checkpoints.restore_params(self.step, abstract_params)
        finally:
            checkpoints.close()


def load_model(workdir: Path) -> TrainedModel:
    """Returns the newest model of a workdir.

    Raises:
      UserError: if there is no workdir, no checkpoint, or a vocabulary that does not match.
    """
    if not workdir.is_dir():
        raise UserError(f"There is no workdir {workdir}; --init takes the workdir of an earlier run.")
    model = configs.from_dict(read_json(workdir / "model.json")["model"])
    return TrainedModel(workdir, model, load_vocabulary(workdir), latest_checkpoint(workdir))
