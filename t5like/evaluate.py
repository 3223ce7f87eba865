"""Entry point: measure a trained model on a task, or on held-out text.

t5like evaluate --init runs/sst2                                        as its own run was evaluated
t5like evaluate --init runs/sst2 --task glue/sst2 --data_dir GLUE       on a task
t5like evaluate --init runs/books --data my_text/                       on text
"""

import dataclasses
import sys
from pathlib import Path

import jax

from t5like import outcome
from t5like import workdir as workdirs
from t5like.config import CommandLine, parse_command_line, to_json
from t5like.data.splits import open_splits
from t5like.distributed import is_first_host, join_hosts
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.evaluation import held_out_loss, unigram_score
from t5like.finetune import Finetune, tasks_of
from t5like.mesh import MeshShape
from t5like.optim.base import require_positive
from t5like.placement import Placement, place
from t5like.pretrain import Pretrain, read_text
from t5like.samples import pretraining_samples
from t5like.scores import Sample, Score
from t5like.sharding import AxisRules
from t5like.task_evaluation import NUM_SAMPLES, TaskEvaluation
from t5like.task_forms import Answering, Batching, task_form
from t5like.trained_model import Init, load_model

COMMAND = "t5like evaluate"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What to measure, of which model; what is left out is taken from the model's own run."""

    init: str | None = None
    """Workdir of the run whose newest checkpoint is measured, or hf:FOLDER of a public model."""
    task: str | None = None
    """Which task, as suite/name."""
    data_dir: str | None = None
    """Folder of the task's official files."""
    data: str | None = None
    """Held-out text for the loss of the pretraining objective: a file, folder, glob, or tfds:name."""
    answers: Answering | None = None
    """Whether a task's answers are written, or its labels ranked; None: as the model was fine-tuned, else written."""
    split: str = "validation"
    """Which split of the task."""
    batch_size: int = 32
    max_examples: int | None = None
    """Examples or rows to use, at most; None: all."""
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        if self.max_examples is not None:
            require_positive(self, "max_examples")
        if self.task is not None and self.data is not None:
            raise UserError(f"{COMMAND} measures on --task or on --data, not on both; leave one out.")


def main(argv: list[str]) -> None:
    """Prints the scores; with --workdir, writes evaluation.json and samples.json there too."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Evaluate, default=Evaluate())
    if options.prints_config:
        print(to_json(config))
        return
    evaluate(config, options)


def evaluate(config: Evaluate, options: CommandLine) -> list[Score]:
    """Returns the scores, having printed them.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    if config.init is None:
        raise UserError(f"{COMMAND} needs --init, the workdir of the run to measure.")
    if options.workdir is not None:
        outcome.check_folder(options.workdir)
    join_hosts()
    init = load_model(config.init)
    trained_as = workdirs.load_config(init.workdir) if isinstance(init, workdirs.TrainedModel) else None
    placement = place(init.config, config.mesh, config.rules, batch_size=config.batch_size)
    with jax.set_mesh(placement.mesh):
        if config.task is not None or (config.data is None and isinstance(trained_as, Finetune)):
            scores, samples = measure_task(config, init, trained_as, placement)
        else:
            scores, samples = measure_text(config, init, trained_as, placement)
    outcome.print_scores(scores)
    if options.workdir is not None and is_first_host():
        outcome.write_outcome(options.workdir, init.step, scores, samples)
    return scores


def measure_task(
    config: Evaluate, init: Init, trained_as: object, placement: Placement
) -> tuple[list[Score], list[Sample]]:
    """Returns the scores of a task, or of all that the run learnt, beside the majority class, and some answers."""
    own = trained_as if isinstance(trained_as, Finetune) else Finetune()
    params = init.restore(placement.params)
    scores: list[Score] = []
    samples: list[Sample] = []
    for task in tasks_of(own if config.task is None else dataclasses.replace(own, task=config.task)):
        data_dir = config.data_dir or own.data_dir
        examples = task.load(config.split, Path(data_dir) if data_dir else None)[: config.max_examples]
        answers = config.answers or own.answers
        form = task_form(task, init.config, init.vocabulary, own.objective, answers=answers, command=COMMAND)
        batching = Batching(config.batch_size, placement.batch, own.trims_batches)
        evaluation = TaskEvaluation(task, examples, form.answerer(placement.model, examples, batching))
        scores += evaluation.scores(evaluation(params))
        samples += evaluation.samples()
    return scores, samples[:NUM_SAMPLES]


def measure_text(
    config: Evaluate, init: Init, trained_as: object, placement: Placement
) -> tuple[list[Score], list[Sample]]:
    """Returns the held-out loss beside the unigram entropy of the same tokens, and some filled spans."""
    if not isinstance(trained_as, Pretrain):
        raise UserError(
            f"{init.origin} was not pretrained here, so there is no objective to measure it with; give --task, or the "
            "workdir of a pretraining run."
        )
    if config.split != "validation":
        raise UserError(f"--split {config.split} is for tasks; text is measured on its held-out part.")
    if config.data is None:
        text = read_text(trained_as)
    else:
        text = open_splits(config.data, validation_data=config.data, text_field=trained_as.text_field)
    rows = text.held_out_rows(
        trained_as.objective,
        init.vocabulary,
        seed=trained_as.seed,
        max_rows=trained_as.max_eval_rows if config.max_examples is None else config.max_examples,
        max_damaged_blocks=trained_as.max_damaged_blocks,
    )
    params = init.restore(placement.params)
    loss = held_out_loss(
        placement.model,
        rows,
        batch_size=config.batch_size,
        sharding=placement.batch,
        loss_chunks=trained_as.loss_chunks,
    )
    samples = pretraining_samples(
        placement.model, params, rows, vocabulary=init.vocabulary, sharding=placement.batch
    )
    return [unigram_score(loss(params), rows)], samples


if __name__ == "__main__":
    from t5like import evaluate as this_module  # so that configs name t5like.evaluate, not __main__

    sys.exit(run_entry(this_module.main, spans_hosts=True))
