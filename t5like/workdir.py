"""What lies where in a workdir, and who it belongs to.

config.json        the resolved config of the run; its presence makes a folder a workdir
model.json         what it takes to use the parameters: model config, digest of the vocabulary they are trained for
vocabulary/        see t5like.data.vocabulary
checkpoints/       see t5like.checkpoint
audit.jsonl        see t5like.data.audit; where the config asks for it
left_out.jsonl     see t5like.left_out; where an update was bad
ledger.jsonl       see t5like.ledger
metrics.jsonl      see t5like.metrics_log; tensorboard/ holds the same as event files
evaluation.json, samples.json, run.json, report.html   see t5like.report
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t5like import config as configs
from t5like.checkpoint import Checkpoints, check_whole, latest_checkpoint, newest_whole
from t5like.data.pipeline import print_note
from t5like.data.vocabulary import Vocabulary, load_vocabulary, save_vocabulary
from t5like.errors import UserError
from t5like.interchange import with_new_head
from t5like.models.config import Head, TransformerConfig
from t5like.phases import Deadlines
from t5like.tasks.label_names import head_rows
from t5like.whole_files import is_being_written, remove_abandoned, write_json

# What may differ between a run and its continuation. A schedule that ends with the run stretches with `num_steps`, and
# ids are the same with a token store as without.
MAY_CHANGE = (
    "num_steps",
    "log_every_steps",
    "eval_every_steps",
    "checkpoint_every_steps",
    "num_checkpoints_kept",
    "checkpoints_kept_every_steps",
    "checkpoints_pinned",
    "num_best_checkpoints_kept",
    "best_checkpoint_metric",
    "best_checkpoint_is",
    "audits_examples",
    *(f"deadlines.{field.name}" for field in dataclasses.fields(Deadlines)),
    *("guard.when_bad", "guard.spike_factor", "guard.max_left_out"),
    "max_damaged_blocks",
    "token_store",
)


def read_json(path: Path) -> Any:
    """Returns the object in a JSON file.

    Raises:
      UserError: if it is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__} where an object belongs")
        return content
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no workdir of t5like: it has no {path.name}.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is damaged and cannot be read: {error}.") from error


def find_resume_step(workdir: Path, config: Any) -> int | None:
    """Returns the step this run goes on from, None where it has yet to reach a checkpoint; writes nothing.

    That is the newest checkpoint that is as it was written. Damaged ones after it are named on standard error.

    Raises:
      CheckpointError: there are checkpoints, and all are damaged.
      UserError: if the folder holds the run of another config, a longer run, or files that are no run at all.
    """
    if is_new(workdir):
        return None
    if not (workdir / "config.json").exists():
        raise UserError(f"--workdir {workdir} holds files but no run of t5like; give a new or empty folder.")
    check_config(workdir, config)
    newest = latest_checkpoint(workdir)
    if newest is not None and newest > config.num_steps:
        raise UserError(
            f"--workdir {workdir} holds a run that is at step {newest} already, beyond num_steps {config.num_steps}; "
            "raise num_steps, or give another --workdir."
        )
    return _usable(workdir)


def _usable(workdir: Path) -> int | None:
    """Returns the newest checkpoint that is as it was written, having said which are not."""
    whole = newest_whole(workdir)
    for step, damage in whole.damages.items():
        print_note(
            f"the checkpoint {workdir / 'checkpoints' / str(step)} is damaged ({damage}); that of step {whole.step} is used"
        )
    return whole.step


def check_config(workdir: Path, config: Any) -> None:
    """Returns if the run in a workdir is one of this config, but for what may change between a run and its continuation.

    Raises:
      UserError: it is not, or there is no run.
    """
    # Read as a config and not compared as JSON, so that fields added since have the values they had in effect.
    saved = configs.to_dict(load_config(workdir))
    changed = [
        (path, old, new)
        for path, old, new in configs.differences(saved, configs.to_dict(config))
        if path not in MAY_CHANGE
    ]
    if changed:
        path, old, new = changed[0]
        path = path.removesuffix("__class__").rstrip(".") or "its kind"
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"--workdir {workdir} belongs to another config: {path} was {old!r} and is now {new!r}{more}; "
            "give another --workdir, or the config it was made with."
        )


def is_new(workdir: Path, option: str = "--workdir") -> bool:
    """Returns whether the folder is yet to be made, or holds nothing but what a killed process began to write.

    It writes nothing.

    Raises:
      UserError: if it cannot be a folder of ours: it is a file, or lies below one, or may not be written to.
    """
    try:
        existing = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{option} {workdir} cannot be a folder: {existing} is a file.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{option} {workdir} cannot be written to: {existing} is read-only.")
        return existing != workdir or all(map(is_being_written, workdir.iterdir()))
    except OSError as error:
        raise UserError(f"{option} {workdir} cannot be used: {error.strerror}.") from error


def create(workdir: Path, config: Any, model: TransformerConfig, vocabulary: Vocabulary) -> None:
    """Makes the folder and writes what stays the same over the run.

    config.json comes first: a run that is killed here owns the folder and can begin again in it.

    Raises:
      UserError: if the folder cannot be made or written to.
    """
    description = {
        "model": configs.to_dict(model),
        "vocabulary_sha256": vocabulary.sha256,
    }
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        remove_abandoned(workdir)
        write_json(workdir / "config.json", configs.to_dict(config))
        save_vocabulary(vocabulary, workdir / "vocabulary")
        write_json(workdir / "model.json", description)
    except OSError as error:
        raise UserError(f"--workdir {workdir} cannot be written to: {error.strerror}.") from error


def load_config(workdir: Path) -> Any:
    """Returns the config of a workdir's run.

    Raises:
      UserError: if there is none, or it is damaged or of another version of t5like.
    """
    path = workdir / "config.json"
    return config_of(path, read_json(path))


def config_of(path: Path, saved: Any) -> Any:
    """Returns the config that was saved in a file.

    Raises:
      UserError: it is damaged or of another version of t5like; the message names the file.
    """
    try:
        return configs.from_dict(saved)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error


def load_description(workdir: Path) -> tuple[TransformerConfig, Vocabulary]:
    """Returns the model of a workdir and the vocabulary it was trained with.

    Raises:
      UserError: if a file is missing or damaged, or the vocabulary has been replaced by another.
    """
    path = workdir / "model.json"
    description = read_json(path)
    expected = {"model": dict, "vocabulary_sha256": str}
    for name, kind in expected.items():
        if not isinstance(description.get(name), kind):
            raise UserError(f"{path} is damaged: {name} is missing or of the wrong type.")
    model = config_of(path, description["model"])
    if not isinstance(model, TransformerConfig):
        raise UserError(f"{path} is damaged: its model is a {type(model).__name__}.")
    vocabulary = load_vocabulary(workdir / "vocabulary")
    if vocabulary.sha256 != description["vocabulary_sha256"]:
        raise UserError(
            f"{workdir / 'vocabulary'} does not match the checkpoint: it is not the vocabulary the model was "
            "trained with; put the original folder back."
        )
    return model, vocabulary


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model as a workdir holds it, perhaps to be given another head; `restore` reads its parameters."""

    workdir: Path
    config: TransformerConfig
    vocabulary: Vocabulary
    step: int
    saved: TransformerConfig
    """The config it has in the workdir; another head than this one's is drawn anew."""

    @property
    def origin(self) -> str:
        """What messages call it."""
        return str(self.workdir)

    def with_head(
        self, head: Head | None, num_labels: int, label_names: tuple[str, ...] = ()
    ) -> "TrainedModel":
        """Returns the model with another head, or with its own where that is the same or None is given.

        A head for labels of other names is another, even if they are as many. Where its own have none they get these.
        """
        is_same = (head, num_labels) == (self.config.head, self.config.num_labels)
        has_names = not label_names or head_rows(label_names, self.config.label_names) is not None
        if head is None or (is_same and has_names):
            return self
        config = dataclasses.replace(
            self.config,
            head=head,
            num_labels=num_labels,
            label_names=label_names,
            predicts_next_sentence=False,
        )
        return dataclasses.replace(self, config=config)

    def restore(self, abstract_params: Any, *, seed: int = 0) -> Any:
        """Returns the parameters, laid out as `abstract_params` says; a new head is drawn from the seed."""
        folder = self.workdir / "checkpoints"
        with contextlib.closing(Checkpoints(folder, is_read_only=True)) as checkpoints:
            if self.config == self.saved:
                return checkpoints.restore_params(self.step, abstract_params)
            return with_new_head(
                self.config,
                abstract_params,
                functools.partial(checkpoints.restore_params, self.step),
                self.saved,
                seed=seed,
            )


def is_workdir(folder: Path) -> bool:
    """Returns whether a folder is the workdir of a run."""
    return (folder / "model.json").is_file()


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into that takes the name `folder` at the end, or goes away after an error.

    Raises:
      UserError: it cannot be made or written to.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # a temporary folder is for its owner alone
        os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)  # can only be read by setting it
    os.umask(umask)
    return umask


def load_workdir(workdir: Path, *, step: int | None = None) -> TrainedModel:
    """Returns the model of a workdir.

    Args:
      step: of the checkpoint; None takes the newest that is as it was written.

    Raises:
      CheckpointError: it is damaged, or all are.
      UserError: if there is no workdir, no checkpoint, or a vocabulary that does not match.
    """
    if not workdir.is_dir():
        raise UserError(
            f"There is no workdir {workdir}; --init takes the workdir of an earlier run, or hf:FOLDER for a public model."
        )
    config, vocabulary = load_description(workdir)
    if step is None:
        step = _usable(workdir)
    else:
        check_whole(workdir, step)
    if step is None:
        raise UserError(f"{workdir} holds no checkpoint; give the workdir of a run that saved one.")
    return TrainedModel(workdir, config, vocabulary, step, config)
