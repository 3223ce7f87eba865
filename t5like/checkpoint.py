"""Checkpoints of a run: train state, data cursor and what the parameters mean, saved while training goes on.

workdir/checkpoints/<step>/params          parameters, alone so that fine-tuning can read them alone
                          /optimizer       optimizer state
                          /run             JSON: data cursor, vocabulary digest, number of training examples
                          /manifest.json   see t5like.manifest
       /damaged-checkpoints/<step>         what is not as it was written, put out of the way

A folder takes its name once all of it is on the disk, its manifest too. Orbax's own metadata also hold a digest of each
array, as `t5like.fingerprints` has them.
"""

import contextlib
import errno
import gc
import io
import itertools
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from t5like.errors import CheckpointError, DivergenceError, UserError
from t5like.fingerprints import Fingerprint, fingerprints
from t5like.keeping import Keeping, kept_steps
from t5like.manifest import FORMAT, find_damage, notes, read_notes, write_manifest
from t5like.train_step import TrainState

PyTree = Any

# Reads of a damaged checkpoint that are under way when the first of them fails complain until they end.
_NOISE_SECONDS = 0.5

# Notes that are not there by then will not come.
_NOTES_SECONDS = 600.0

# How a write that the file system refuses shows in what Orbax raises, which has no class of its own.
_REFUSED_WRITE = re.compile(
    r"RESOURCE_EXHAUSTED|PERMISSION_DENIED|FAILED_PRECONDITION|Failed writing|\[Errno \d+\]"
)

_DISK_REASONS = [
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
]


class _Kept:
    """Which checkpoints stay, as Orbax asks for it."""

    def __init__(self, folder: Path, keeping: Keeping) -> None:
        self._folder, self._keeping = folder, keeping
        self._scores: dict[int, float | None] = {}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns for each checkpoint whether it stays; called when another is whole."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        scores = {step: score for step in steps if (score := self._score(step)) is not None}
        kept = kept_steps(steps, scores, self._keeping)
        return [step in kept for step in steps]

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes note of what was measured at a step.

        Raises:
          UserError: the metric that the best are kept by is not among it.
        """
        name = self._keeping.best_metric
        if self._keeping.num_best and metrics and name not in metrics:
            raise UserError(
                f"best_checkpoint_metric is {name!r}, which the evaluations do not give; name one of {', '.join(metrics)}."
            )
        self._scores[step] = metrics.get(name)

    def _score(self, step: int) -> float | None:
        if step not in self._scores and self._keeping.num_best:
            with contextlib.suppress(ValueError):
                self.note(step, read_notes(self._folder / str(step)).get("metrics", {}))
        return self._scores.get(step)


class Checkpoints:
    """The checkpoints under one folder, of which some stay."""

    def __init__(self, folder: Path, *, keeping: Keeping | None = None, is_read_only: bool = False):
        """Opens the folder; the first save clears away what a killed run left half written.

        Args:
          is_read_only: leave everything as it is; the run that the folder belongs to may be saving right now.
        """
        # Orbax narrates at lower levels, and raises besides; asyncio repeats what its tasks raised.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.folder = folder
        self._kept = _Kept(folder, keeping or Keeping())
        self._saving = -1  # the step of the save that is under way
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept,
            save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),  # the loop decides when
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            create=not is_read_only,
            cleanup_tmp_directories=not is_read_only,
            read_only=is_read_only,
        )
        handlers = {
            "params": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "run": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(folder.absolute(), item_handlers=handlers, options=options)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    @property
    def all_steps(self) -> tuple[int, ...]:
        """The steps of all complete checkpoints."""
        return tuple(self._manager.all_steps())

    def save(
        self, step: int, state: TrainState, run: dict[str, Any], metrics: Mapping[str, float] | None = None
    ) -> None:
        """Starts saving; returns once the arrays are copied and may be donated. A second call waits for the first.

        Args:
          run: JSON-able; the data cursor that gives batch `step`, and what else a restart must compare.
          metrics: what was measured of this very state, if it was, to keep the best by.

        Raises:
          CheckpointError: this save or the one before it cannot be written.
          DivergenceError: the state is not finite.
          UserError: the best are to be kept by a metric that was not measured.
        """
        if self._manager.latest_step() == step:
            return
        self._save(
            step,
            metrics or {},
            {"params": state.params, "optimizer": state.optimizer},
            must_be_finite=True,
            run=ocp.args.JsonSave(run),
        )

    def save_params(self, step: int, params: PyTree) -> None:
        """Saves parameters alone, of a model that was not trained here; returns when they are complete on disk.

        Raises:
          CheckpointError: they cannot be written.
        """
        self._save(step, {}, {"params": params}, must_be_finite=False)
        self.wait()

    def _save(
        self,
        step: int,
        metrics: Mapping[str, float],
        arrays: dict[str, PyTree],
        *,
        must_be_finite: bool,
        **more: Any,
    ) -> None:
        items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        found = fingerprints(arrays)
        if must_be_finite:
            _check_finite(step, found)
        told = notes(
            arrays={name: of_array.digest for name, of_array in found.items()}, metrics=dict(metrics)
        )
        with _interrupts_held_back(), self._writing():
            self._manager.wait_until_finished()
            self._saving = step
            self._kept.note(step, metrics)
            self._manager.save(step, args=ocp.args.Composite(**items, **more), custom_metadata=told)

    def _seal(self) -> None:
        """Writes the manifest; Orbax calls it when all the rest is written, before the folder takes its name."""
        (unnamed,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        _await_notes(unnamed)
        write_manifest(unnamed)

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns the JSON saved beside the state.

        Raises:
          UserError: if it is missing or damaged.
        """
        with self._one_sentence(step):
            run = self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]
            if not isinstance(run, dict) or "cursor" not in run:
                raise ValueError("it has no data cursor")
            return run

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Returns the state at `step`, laid out over the devices as `abstract_state` says.

        Raises:
          UserError: if the checkpoint does not hold what `abstract_state` describes.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract_state.params),
            optimizer=ocp.args.StandardRestore(abstract_state.optimizer),
        )
        with self._one_sentence(step):
            self._check_holds(step, "params", abstract_state.params)
            self._check_holds(step, "optimizer", abstract_state.optimizer)
            restored = self._manager.restore(step, args=args)
            self._check_arrays(step, {name: restored[name] for name in ("params", "optimizer")})
        count = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), abstract_state.step.sharding)
        return TrainState(count, restored["params"], restored["optimizer"])

    def restore_params(self, step: int, abstract_params: PyTree) -> PyTree:
        """Returns the parameters at `step` alone.

        Raises:
          UserError: as `restore_state`.
        """
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract_params))
        with self._one_sentence(step):
            self._check_holds(step, "params", abstract_params)
            params = self._manager.restore(step, args=args)["params"]
            self._check_arrays(step, {"params": params})
            return params

    def _check_arrays(self, step: int, restored: dict[str, PyTree]) -> None:
        """Raises ValueError, naming an array, if one is not what was saved."""
        saved = read_notes(self.folder / str(step)).get("arrays", {})
        for name, (digest, _) in fingerprints(restored).items():
            if saved.get(name, digest) != digest:
                raise ValueError(f"the numbers of {name} are not those that were saved")

    def wait(self) -> None:
        """Returns when the last save is complete on disk.

        Raises:
          CheckpointError: it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and ends the threads.

        Raises:
          CheckpointError: the last save cannot be written.
        """
        with self._writing():
            self._manager.close()

    def _check_holds(self, step: int, item: str, expected: PyTree) -> None:
        """Raises UserError, naming an array, if an item holds other arrays than expected."""
        items = dict(self._manager.item_metadata(step).items())
        if items.get(item) is None:
            raise ValueError(f"it has no {item}")
        stored, wanted = _shapes(items[item].tree), _shapes(expected)
        for name in sorted(stored.keys() | wanted.keys()):
            if stored.get(name) != wanted.get(name):
                raise UserError(
                    f"The checkpoint {self.folder / str(step)} is of another model: {item}/{name} is "
                    f"{stored.get(name, 'missing')} there and {wanted.get(name, 'missing')} in the config."
                )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a disk that is full, or may not be written to, into one sentence."""
        try:
            yield
        except Exception as error:
            if not _REFUSED_WRITE.search(str(error)):
                raise
            reason = next(
                (word for word in _DISK_REASONS if word in str(error)), "the file system refuses it"
            )
            raise CheckpointError(
                f"A checkpoint cannot be written to {self.folder} ({reason}): make room there or give another --workdir; "
                "given again, the same command goes on from the last one that is whole."
            ) from error

    @contextlib.contextmanager
    def _one_sentence(self, step: int) -> Iterator[None]:
        """Turns what Orbax raises, and prints beside it, into one sentence."""
        reason, unraisablehook = None, sys.unraisablehook
        sys.unraisablehook = lambda _: None
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                yield
            except UserError:
                raise
            except Exception as error:  # Orbax raises nothing narrower for a damaged array
                reason = re.split(r" See full | \[", " ".join(str(error).split()))[0][:200].rstrip(".")
            finally:
                if reason is not None:
                    time.sleep(_NOISE_SECONDS)
                    gc.collect()
                sys.unraisablehook = unraisablehook
        if reason is not None:
            raise damaged(self.folder / str(step), reason)


def _await_notes(folder: Path) -> None:
    """Returns when the notes are in a checkpoint: Orbax writes them in a thread of its own, which a busy machine delays.

    Raises:
      TimeoutError: they do not come.
    """
    end = time.monotonic() + _NOTES_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ValueError):  # half of them, or not even the file
            if read_notes(folder)["format"] == FORMAT:
                return
        time.sleep(0.01)
    raise TimeoutError(f"Failed writing the metadata of {folder} within {_NOTES_SECONDS:g} s")


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Lets Ctrl-C wait until the end of the block: Orbax leaves a half-begun save behind, and warnings with it."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    pressed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _check_finite(step: int, found: Mapping[str, Fingerprint]) -> None:
    """Raises DivergenceError, naming an array, if one is not finite."""
    bad = [name for name, of_array in found.items() if not of_array.is_finite]
    if bad:
        more = f" and {len(bad) - 1} more arrays" if len(bad) > 1 else ""
        raise DivergenceError(
            f"The state of step {step} holds numbers that are not finite, in {bad[0]}{more}; it is not saved, and the last "
            "checkpoint is from before. Lower the learning rate or optimizer.max_grad_norm, or warm up for longer."
        )


def damaged(folder: Path, reason: str) -> CheckpointError:
    """Returns the error that says what is the matter with a checkpoint."""
    return CheckpointError(
        f"The checkpoint {folder} is damaged ({reason}); remove that folder to use the one before it."
    )


def _shapes(tree: PyTree) -> dict[str, str]:
    """Returns the shape and dtype of every array of a tree by its path, which is the same for lists and tuples."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def checkpoint_steps(workdir: Path) -> tuple[int, ...]:
    """Returns the complete steps under workdir/checkpoints, in order; writes nothing.

    Raises:
      UserError: if there is a file in place of the folder.
    """
    folder = workdir / "checkpoints"
    if not folder.exists():
        return ()
    if not folder.is_dir():
        raise UserError(f"{folder} is damaged: it is a file and not a folder of checkpoints.")
    return tuple(sorted(ocp.utils.checkpoint_steps(folder)))


def latest_checkpoint(workdir: Path) -> int | None:
    """Returns the newest complete step under workdir/checkpoints, None where there is none; see `checkpoint_steps`."""
    return max(checkpoint_steps(workdir), default=None)


class Whole(NamedTuple):
    """The newest checkpoint that is as it was written, and what is the matter with those after it, newest first."""

    step: int | None
    damages: dict[int, str]


def newest_whole(workdir: Path) -> Whole:
    """Returns the newest checkpoint to go on from; writes nothing.

    Raises:
      CheckpointError: there are some, and all are damaged.
      UserError: as `checkpoint_steps`; one is of a later format.
    """
    damages: dict[int, str] = {}
    for step in reversed(checkpoint_steps(workdir)):
        damage = find_damage(workdir / "checkpoints" / str(step))
        if damage is None:
            return Whole(step, damages)
        damages[step] = damage
    if damages:
        step, damage = next(iter(damages.items()))
        raise CheckpointError(
            f"No checkpoint of {workdir} is as it was written: of step {step} {damage}; put the files back, or begin again "
            "in another folder."
        )
    return Whole(None, {})


def check_whole(workdir: Path, step: int, *, item: str = "") -> None:
    """Raises CheckpointError if a checkpoint, or an item of it, is not as it was written."""
    folder = workdir / "checkpoints" / str(step)
    damage = find_damage(folder, item=item)
    if damage is not None:
        raise damaged(folder, damage)


def set_aside(workdir: Path, *, after: int | None) -> list[Path]:
    """Puts the checkpoints after a step out of the way, those that are damaged; returns where they are now."""
    moved = []
    for step in checkpoint_steps(workdir):
        if after is None or step > after:
            place = workdir / "damaged-checkpoints"
            place.mkdir(exist_ok=True)
            free = next(name for n in itertools.count(1) if not (name := place / f"{step}-{n}").exists())
            os.replace(workdir / "checkpoints" / str(step), free)
            moved.append(free)
    return moved
