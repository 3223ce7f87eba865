"""From a config to a trained workdir: what pretraining and fine-tuning have in common."""

import contextlib
import dataclasses
import datetime
import functools
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import t5like
from t5like import shared_workdir
from t5like.batch import BatchIterator
from t5like.checkpoint import Checkpoints
from t5like.chips import find_chip
from t5like.config import to_dict
from t5like.data.audit import AUDIT_FILE, Audited
from t5like.data.lanes import ONLY_HOST, HostShare
from t5like.data.pipeline import print_note
from t5like.data.vocabulary import Vocabulary
from t5like.distributed import agree, begin_again, is_first_host
from t5like.errors import UserError
from t5like.flops import FlopMeter
from t5like.guard import Guard, LeavingOut, Rewind
from t5like.keeping import Keeping
from t5like.left_out import LeftOut, PassingOver
from t5like.loop import Evaluator, StepFunction, fit
from t5like.losses import LossSums
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.models.layers import cast_kernels
from t5like.models.transformer import Transformer
from t5like.objectives.base import Objective, Stacks
from t5like.optim.base import Optimizer, require_at_least_zero, require_positive
from t5like.phases import Deadlines, enter
from t5like.placement import Placement, abstract_state, initial_state, place
from t5like.preemption import under_way
from t5like.reporter import Reporter
from t5like.sharding import AxisRules, put_batch
from t5like.train_step import TrainState, train_step
from t5like.trained_model import Init
from t5like.whole_files import write_json

PyTree = Any

_STACKS: dict[Stacks, str] = {
    "encoder_decoder": "an encoder and a decoder",
    "encoder": "an encoder alone",
    "decoder": "a decoder alone",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The fields that pretraining and fine-tuning share."""

    optimizer: Optimizer
    num_steps: int
    """Updates in all; a restart goes on from its checkpoint up to here."""
    batch_size: int
    """Rows in the global batch."""
    num_microbatches: int = 1
    """Parts a batch is computed in, one after another, to save memory; the update is the same."""
    seed: int = 0
    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    loss_normalizing_factor: float | None = None
    """What the summed loss of the target tokens is divided by; None: their number in the batch."""
    loss_chunks: int = 1
    """Parts the logits of a language model are computed in, one after another, to save memory; the loss is the same."""
    log_every_steps: int = 10
    eval_every_steps: int = 500
    checkpoint_every_steps: int = 500
    num_checkpoints_kept: int = 2
    """The newest ones; what else is kept beside them the next fields say."""
    checkpoints_kept_every_steps: int | None = None
    """Keep those whose step is a multiple of this."""
    checkpoints_pinned: tuple[int, ...] = ()
    """Keep those of these steps."""
    num_best_checkpoints_kept: int = 0
    """Keep so many that were best by best_checkpoint_metric; a state that is evaluated at its step can be among them."""
    best_checkpoint_metric: str = "nats_per_token"
    """A metric of the evaluations, as the log names it."""
    best_checkpoint_is: Literal["lowest", "highest"] = "lowest"
    audits_examples: bool = False
    """Write the ids of every batch's examples to audit.jsonl in the workdir."""
    guard: Guard = Guard()
    deadlines: Deadlines = Deadlines()
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        require_positive(self, "num_steps", "batch_size", "num_microbatches", "loss_chunks")
        require_positive(self, "log_every_steps", "eval_every_steps", "checkpoint_every_steps")
        require_positive(self, "num_checkpoints_kept")
        if self.checkpoints_kept_every_steps is not None:
            require_positive(self, "checkpoints_kept_every_steps")
        require_at_least_zero(self, "num_best_checkpoints_kept", "seed", "z_loss", "label_smoothing")
        if self.seed >= 2**32:
            raise UserError(f"seed is {self.seed}; give one below 2**32.")
        if self.label_smoothing >= 1.0:
            raise UserError(f"label_smoothing is {self.label_smoothing}; give 0 or above and below 1.")
        if self.loss_normalizing_factor is not None:
            require_positive(self, "loss_normalizing_factor")
        if self.batch_size % self.num_microbatches:
            raise UserError(
                f"batch_size {self.batch_size} cannot be cut into num_microbatches {self.num_microbatches}; "
                "choose a divisor."
            )


def check_stacks(model: TransformerConfig, objective: Objective, command: str) -> None:
    """Returns if a model can learn from the rows of an objective.

    Raises:
      UserError: it has other stacks, or another head than a language model's, or predicts the order of pairs where
        there are none, or the other way round.
    """
    stacks: Stacks = "encoder_decoder"
    if not model.num_encoder_layers or not model.num_decoder_layers:
        stacks = model.last_stack
    name = type(objective).__name__
    if stacks != objective.stacks:
        raise UserError(
            f"{command}: {name} is for models with {_STACKS[objective.stacks]}, and this one has {_STACKS[stacks]}; give "
            "the config an objective that fits its model."
        )
    if model.head != "language_model":
        raise UserError(f"{command} is for language models, but this model has the head {model.head}.")
    if model.predicts_next_sentence != objective.makes_pairs:
        raise UserError(
            f"{command}: model.predicts_next_sentence is {model.predicts_next_sentence}, but {name} makes "
            f"{'pairs' if objective.makes_pairs else 'no pairs'} of texts; change one of them."
        )
    if objective.makes_pairs and model.num_token_types == 1:
        raise UserError(
            f"{command}: {name} makes pairs of texts, and model.num_token_types is 1, which cannot tell them apart; set it "
            "to 2, or to 0 for none."
        )


def check_lengths(model: TransformerConfig, command: str, **lengths: int) -> None:
    """Returns if the model has positions for rows of each length, given by the name of its field.

    Raises:
      UserError: it has not.
    """
    for name, length in lengths.items():
        if model.max_length is not None and length > model.max_length:
            raise UserError(
                f"{command}: objective.{name} is {length} tokens, but this model has {model.max_length} positions; lower it."
            )


def place_to_train(
    config: TrainingConfig, model: TransformerConfig, *, devices: Sequence[Any] | None = None
) -> Placement:
    """Returns the model laid out as a run will train it; see `place`."""
    return place(
        model,
        config.mesh,
        config.rules,
        batch_size=config.batch_size,
        num_microbatches=config.num_microbatches,
        devices=devices,
    )


def takes_limit(config: TrainingConfig) -> bool:
    """Returns whether the step is told which norm of gradients is a spike."""
    return config.guard.when_bad == "skip"


def jit_train_step(
    config: TrainingConfig, placement: Placement, optimizer: Any
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the compiled step of (state, batch, seed); it gives the old state's memory to the new one.

    The seed is an argument, so that all seeds run one program; where updates are skipped, so is the limit that `train_step`
    takes.
    """

    def loss_function(
        params: PyTree, batch: dict[str, jax.Array], dropout_key: jax.Array | None
    ) -> dict[str, LossSums]:
        return placement.model.apply(
            {"params": params},
            batch,
            dropout_key,
            z_loss=config.z_loss,
            label_smoothing=config.label_smoothing,
            num_chunks=config.loss_chunks,
            method=Transformer.losses,
        )

    step = functools.partial(
        train_step,
        loss_function=loss_function,
        optimizer=optimizer,
        learning_rate=config.optimizer.schedule.build(config.num_steps),
        num_microbatches=config.num_microbatches,
        loss_normalizing_factor=config.loss_normalizing_factor,
        in_compute_dtype=functools.partial(cast_kernels, dtype=placement.model.config.compute_dtype),
    )
    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(placement, optimizer))
    replicated = NamedSharding(placement.mesh, PartitionSpec())
    return jax.jit(
        step,
        in_shardings=(state_shardings, placement.batch, *[replicated] * (1 + takes_limit(config))),
        out_shardings=(state_shardings, replicated),
        donate_argnums=0,
    )


def bound(step: Callable[..., Any], config: TrainingConfig) -> StepFunction:
    """Returns a step of (state, batch, limit of the norm of gradients) that draws dropout with the config's seed."""
    seed = np.uint32(config.seed)
    if takes_limit(config):
        return lambda state, batch, limit: step(state, batch, seed, np.float32(limit))
    return lambda state, batch, limit: step(state, batch, seed)


def train(
    config: TrainingConfig,
    placement: Placement,
    batches: BatchIterator,
    *,
    workdir: Path,
    data_sha256: str,
    resume_step: int | None,
    vocabulary: Vocabulary,
    evaluators: tuple[Evaluator, ...],
    init: Init | None,
    description: str,
    share: HostShare = ONLY_HOST,
) -> TrainState:
    """Returns the trained state; the workdir holds everything else there is to know about the run.

    Args:
      batches: of this host's share of the rows; closed when this returns.
      data_sha256: of what the batches are made of; a restart must find the same.
      resume_step: what `workdirs.find_resume_step` gave; a new run starts from the parameters of `init`.

    Raises:
      UserError: if the workdir cannot be used; nothing has been written then.
    """
    optimizer = config.optimizer.build(config.num_steps, placement.axes)
    started, identity = time.time(), {"vocabulary_sha256": vocabulary.sha256, "data_sha256": data_sha256}
    step_function = bound(jit_train_step(config, placement, optimizer), config)
    beginning = batches.get_state()
    with jax.set_mesh(placement.mesh), contextlib.closing(batches):
        agree_on_run(config, identity, workdir=workdir, resume_step=resume_step)
        trained, rewound = None, None
        while trained is None:
            if rewound is not None:
                resume_step = go_back(rewound, config, workdir)
                if resume_step is None:
                    batches.set_state(beginning)
            try:
                trained = attempt(
                    config,
                    placement,
                    batches,
                    optimizer=optimizer,
                    step_function=step_function,
                    workdir=workdir,
                    identity=identity,
                    resume_step=resume_step,
                    vocabulary=vocabulary,
                    evaluators=evaluators,
                    init=init,
                    description=description,
                    share=share,
                )
            except Rewind as rewind:  # which holds the state in its traceback, so that there is room only after this block
                rewound = rewind.row
    if is_first_host():
        write_json(workdir / "run.json", environment(placement, started))
    return trained


def go_back(rewound: LeftOut, config: TrainingConfig, workdir: Path) -> int | None:
    """Returns the step that a run goes back to, as if it had been given anew."""
    enter("init")
    under_way(False)
    begin_again()
    if is_first_host():
        print_note(f"going back, to leave out the batch of step {rewound.step}: {rewound.why}")
    return shared_workdir.find_resume_step(workdir, config)


def attempt(
    config: TrainingConfig,
    placement: Placement,
    batches: BatchIterator,
    *,
    optimizer: Any,
    step_function: StepFunction,
    workdir: Path,
    identity: dict[str, Any],
    resume_step: int | None,
    vocabulary: Vocabulary,
    evaluators: tuple[Evaluator, ...],
    init: Init | None,
    description: str,
    share: HostShare,
) -> TrainState:
    """Returns the trained state, from the one that a run starts or goes on from; see `train`.

    Raises:
      Rewind: the run is to go back, without a batch.
    """
    left_out = LeavingOut(config.guard, workdir, step=resume_step or 0)
    batches = PassingOver(batches, left_out.passed_over, step=resume_step or 0)
    state = starting_state(config, placement, optimizer, batches, identity, workdir, resume_step, init)
    shared_workdir.create(workdir, config, placement.model.config, vocabulary, resume_step=resume_step)
    left_out.write()
    meter = flop_meter(placement)
    with (
        contextlib.closing(Checkpoints(workdir / "checkpoints", keeping=keeping(config))) as checkpoints,
        shared_workdir.keep_ledger(workdir, step=resume_step or 0),
        shared_workdir.open_log(workdir, resume_step=resume_step) as log,
        shared_workdir.open_progress(config.num_steps, description=description) as progress,
        contextlib.ExitStack() as stack,
    ):
        if config.audits_examples and is_first_host():
            audited = Audited(batches, workdir / AUDIT_FILE, first_step=resume_step or 0)
            batches = stack.enter_context(contextlib.closing(audited))
        progress.note(describe(placement, config, resume_step))
        return fit(
            state,
            batches,
            step_function=step_function,
            put_batch=functools.partial(put_batch, sharding=placement.batch, share=share),
            meter=meter,
            num_steps=config.num_steps,
            evaluators=evaluators,
            checkpoints=checkpoints,
            checkpoint_every_steps=config.checkpoint_every_steps,
            run=identity,
            reporter=Reporter(log, progress, meter, config.log_every_steps, config.num_steps, left_out),
        )


def agree_on_run(
    config: TrainingConfig, identity: dict[str, Any], *, workdir: Path, resume_step: int | None
) -> None:
    """Raises UserError if hosts are about to run different things."""
    facts = {
        "config": to_dict(config),
        "vocabulary": identity["vocabulary_sha256"],
        "set of training data": identity["data_sha256"],
        "newest checkpoint": resume_step,
    }
    agree(facts, remedy=f"all need the same command and files, and the same folder as --workdir {workdir}.")


def starting_state(
    config: TrainingConfig,
    placement: Placement,
    optimizer: Any,
    batches: BatchIterator,
    identity: dict[str, Any],
    workdir: Path,
    resume_step: int | None,
    init: Init | None,
) -> TrainState:
    """Returns the state a run starts or goes on from, its batches set to that; see `train`."""
    # Restored: (1) a checkpoint of this very run, with its data cursor; (2) another run's params; (3) none.
    if resume_step is not None:  # 1
        return resume(workdir, resume_step, identity, abstract_state(placement, optimizer), batches)
    params = None if init is None else init.restore(placement.params, seed=config.seed)  # 2, 3
    return initial_state(placement, optimizer, seed=config.seed, params=params)


def resume(
    workdir: Path, step: int, identity: dict[str, Any], abstract_state: TrainState, batches: BatchIterator
) -> TrainState:
    """Returns the state a run had at `step`, having set `batches` to go on from there.

    Raises:
      UserError: if the checkpoint cannot be read, or was written with another vocabulary or other data.
    """
    with contextlib.closing(Checkpoints(workdir / "checkpoints", is_read_only=True)) as checkpoints:
        saved = checkpoints.read_run(step)
        for name, what in (
            ("vocabulary_sha256", "vocabulary"),
            ("data_sha256", "training data"),
        ):
            if saved.get(name) != identity[name]:
                raise UserError(
                    f"The {what} is not that of the checkpoints of {workdir}; put back what the run began with, or "
                    "start in a new --workdir."
                )
        state = checkpoints.restore_state(step, abstract_state)
    batches.set_state(saved["cursor"])
    return state


def keeping(config: TrainingConfig) -> Keeping:
    """Returns which checkpoints of a run stay."""
    return Keeping(
        num_newest=config.num_checkpoints_kept,
        every_steps=config.checkpoints_kept_every_steps,
        pinned=config.checkpoints_pinned,
        num_best=config.num_best_checkpoints_kept,
        best_metric=config.best_checkpoint_metric,
        best_is_highest=config.best_checkpoint_is == "highest",
    )


def flop_meter(placement: Placement) -> FlopMeter:
    """Returns what tells how much of its devices' peak a run reaches."""
    devices = placement.mesh.devices
    return FlopMeter(placement.model.config, find_chip(devices.flat[0].device_kind), devices.size)


def describe(placement: Placement, config: TrainingConfig, resume_step: int | None) -> str:
    """Returns the line that opens a run's progress display."""
    device = jax.devices()[0]
    start = "starting" if resume_step is None else f"resuming at step {resume_step}"
    return (
        f"{start}: {placement.num_parameters / 1e6:.1f} M parameters, batch {config.batch_size}, "
        f"{config.num_steps} steps on {len(jax.devices())} x {device.device_kind}"
    )


def environment(placement: Placement, started: float) -> dict[str, Any]:
    """Returns what the report says about where the run ran."""
    return {
        "t5like": t5like.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "num_devices": len(jax.devices()),
        "num_parameters": placement.num_parameters,
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
    }
