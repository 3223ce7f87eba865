"""Checkpoints of a run: train state, data cursor and what the parameters mean, saved while training goes on.

workdir/checkpoints/<step>/params      parameters, alone so that fine-tuning can read them alone
                          /optimizer   optimizer state
                          /run         JSON: data cursor, vocabulary digest, number of training examples
"""

import contextlib
import errno
import gc
import io
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from t5like.errors import UserError
from t5like.train_step import TrainState

PyTree = Any

# Reads of a damaged checkpoint that are under way when the first of them fails complain until they end.
_NOISE_SECONDS = 0.5

# How a write that the file system refuses shows in what Orbax raises, which has no class of its own.
_REFUSED_WRITE = re.compile(
    r"RESOURCE_EXHAUSTED|PERMISSION_DENIED|FAILED_PRECONDITION|Failed writing|\[Errno \d+\]"
)

_DISK_REASONS = [
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
]


class Checkpoints:
    """The checkpoints under one folder; the newest `num_kept` of them stay."""

    def __init__(self, folder: Path, *, num_kept: int = 2, is_read_only: bool = False):
        """Opens the folder; the first save clears away what a killed run left half written.

        Args:
          is_read_only: leave everything as it is; the run that the folder belongs to may be saving right now.
        """
        logging.getLogger("absl").setLevel(
            logging.CRITICAL
        )  # Orbax narrates at lower levels, and raises besides
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.LatestN(num_kept),
            save_decision_policy=policies.FixedIntervalPolicy(1),  # the loop decides when
            enable_async_checkpointing=True,
            create=not is_read_only,
            cleanup_tmp_directories=not is_read_only,
            read_only=is_read_only,
        )
        handlers = {
            "params": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "run": ocp.JsonCheckpointHandler(),
        }
        self.folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), item_handlers=handlers, options=options)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    @property
    def all_steps(self) -> tuple[int, ...]:
        """The steps of all complete checkpoints."""
        return tuple(self._manager.all_steps())

    def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied and may be donated. A second call waits for the first.

        Args:
          run: JSON-able; the data cursor that gives batch `step`, and what else a restart must compare.

        Raises:
          UserError: this save or the one before it cannot be written.
        """
        if self._manager.latest_step() == step:
            return
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            optimizer=ocp.args.StandardSave(state.optimizer),
            run=ocp.args.JsonSave(run),
        )
        with _interrupts_held_back(), self._writing():
            self._manager.save(step, args=items)

    def save_params(self, step: int, params: PyTree) -> None:
        """Saves parameters alone, of a model that was not trained here; returns when they are complete on disk.

        Raises:
          UserError: they cannot be written.
        """
        with _interrupts_held_back(), self._writing():
            self._manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params)))
            self._manager.wait_until_finished()

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
            return self._manager.restore(step, args=args)["params"]

    def wait(self) -> None:
        """Returns when the last save is complete on disk.

        Raises:
          UserError: it cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and ends the threads.

        Raises:
          UserError: the last save cannot be written.
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
            raise UserError(
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
            raise UserError(
                f"The checkpoint {self.folder / str(step)} is damaged ({reason}); remove that folder to use the one "
                "before it."
            )


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
