"""What a run writes to its workdir, once, however many hosts it has: the first host writes, all see it."""

import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
from rich.console import Console

from t5like import ledger
from t5like import workdir as workdirs
from t5like.checkpoint import set_aside
from t5like.data.pipeline import print_note
from t5like.data.vocabulary import Vocabulary
from t5like.distributed import gather, host_name, is_first_host
from t5like.errors import UserError
from t5like.metrics_log import MetricsLog, Split
from t5like.models.config import TransformerConfig
from t5like.progress import Progress
from t5like.whole_files import being_written


def find_resume_step(workdir: Path, config: Any) -> int | None:
    """Returns the step that all hosts go on from; the first one alone reads the checkpoints. See `workdir`.

    Raises:
      UserError: as there; on the other hosts with the words and the exit code of the first.
    """
    if jax.process_count() == 1:
        return workdirs.find_resume_step(workdir, config)
    found: int | None = None
    failure: UserError | None = None
    if is_first_host():
        try:
            found = workdirs.find_resume_step(workdir, config)
        except UserError as error:
            failure = error
    told = gather(
        {"step": found, "failure": failure and str(failure), "code": failure and failure.exit_code}
    )[0]
    if told["failure"] is not None:
        refusal = failure or UserError(told["failure"])
        refusal.exit_code = told["code"]
        raise refusal
    return cast(int | None, told["step"])


def create(
    workdir: Path,
    config: Any,
    model: TransformerConfig,
    vocabulary: Vocabulary,
    *,
    resume_step: int | None = None,
) -> None:
    """Makes the folder and writes what stays the same over the run; see `workdir.create`.

    Checkpoints after the one that the run goes on from, which are damaged, are put out of the way.

    Raises:
      UserError: if the folder cannot be made or written to, or is not the same folder on all hosts.
    """
    if is_first_host():
        workdirs.create(workdir, config, model, vocabulary)
        for place in set_aside(workdir, after=resume_step):
            print_note(f"a damaged checkpoint is now {place}")
    if jax.process_count() == 1:
        return
    mark = being_written(workdir / f"hosts-{gather(secrets.token_hex(8))[0]}")
    if is_first_host():
        mark.touch()
    gather("the mark is there")
    sees_it = gather(mark.exists())
    if is_first_host():
        mark.unlink()
    if not all(sees_it):
        raise UserError(
            f"{host_name(sees_it.index(False))} does not see the --workdir {workdir} of host 0; give a folder on a disk "
            "that all hosts share."
        )


class NoLog(MetricsLog):
    """The log that other hosts than the first hold: it writes nothing."""

    def __init__(self) -> None:
        """Opens nothing."""

    def write(self, split: Split, step: int, metrics: Mapping[str, float]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Closes nothing."""


def open_log(workdir: Path, *, resume_step: int | None) -> MetricsLog:
    """Returns the log of a run."""
    return MetricsLog(workdir, resume_step=resume_step) if is_first_host() else NoLog()


def keep_ledger(workdir: Path, *, step: int) -> contextlib.AbstractContextManager[None]:
    """Returns what writes the ledger of an attempt, which the first host does; see `t5like.ledger`."""
    return ledger.keep_ledger(workdir, step=step) if is_first_host() else contextlib.nullcontext()


def open_progress(num_steps: int, *, description: str) -> Progress:
    """Returns the display of a run, which shows nothing on other hosts than the first."""
    return Progress(
        num_steps, description=description, console=None if is_first_host() else Console(quiet=True)
    )
