"""Checkpoints of a run: train state, data cursor and what the parameters mean, saved while training goes on.

workdir/checkpoints/<step>/params      parameters, alone so that fine-tuning can read them alone
                          /optimizer   optimizer state
                          /run         JSON: data cursor, vocabulary digest
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from t5like.errors import UserError
from t5like.train_step import TrainState

PyTree = Any


class Checkpoints:
    """The checkpoints under one folder; the newest `num_kept` of them stay."""

    def __init__(self, folder: Path, *, num_kept: int = 2, is_read_only: bool = False):
        """Opens the folder and clears away what a killed run left half written.

        Args:
          is_read_only: leave everything as it is; the run that the folder belongs to may be saving right now.
        """
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.LatestN(num_kept),
            save_decision_policy=policies.FixedIntervalPolicy(1),  # the loop decides when
            enable_async_checkpointing=True,
            create=not is_read_only,
            cleanup_tmp_directories=not is_read_only,
            read_only=is_read_only,
        )
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates each save at lower levels
        self.folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied and may be donated. A second call waits for the first.

        Args:
          run: JSON-able; the data cursor that gives batch `step`, and what else a restart must compare.
        """
        if self._manager.latest_step() == step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                optimizer=ocp.args.StandardSave(state.optimizer),
                run=ocp.args.JsonSave(run),
            ),
        )

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns the JSON saved beside the state."""
        with self._one_sentence(step):
            return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

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
            return self._manager.restore(step, args=args)["params"]

    def wait(self) -> None:
        """Returns when the last save is complete on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and ends the threads."""
        self._manager.close()

    @contextlib.contextmanager
    def _one_sentence(self, step: int) -> Iterator[None]:
        """Turns what Orbax raises, and prints beside it, into one sentence."""
        noise = io.StringIO()
        try:
            with contextlib.redirect_stderr(noise):
                yield
        except (ValueError, KeyError, OSError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"The checkpoint {self.folder / str(step)} cannot be read for this model: {reason}"
            ) from error


def latest_checkpoint(workdir: Path) -> int | None:
    """Returns the newest complete step under workdir/checkpoints, None where there is none; writes nothing."""
    folder = workdir / "checkpoints"
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None
