"""Entry point: fine-tune a pretrained model on a task, text to text.

t5like finetune configs/finetune.py --task glue/sst2 --data_dir GLUE --init runs/books --workdir runs/sst2
"""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5like import outcome
from t5like import workdir as workdirs
from t5like.batch import Features
from t5like.config import parse_command_line, to_json
from t5like.data.lanes import Packing
from t5like.data.pipeline import finetuning_batches
from t5like.data.vocabulary import Vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.evaluation import NUM_SAMPLES, Answering, TaskEvaluation, task_scores
from t5like.loop import Evaluator
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.base import Optimizer, require_positive
from t5like.optim.schedules import Linear
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.trained_model import load_model
from t5like.training import TrainingConfig, check_lengths, place, require_both_stacks, train

COMMAND = "t5like finetune"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(TrainingConfig):
    """Everything that decides a fine-tuning run; the model comes from `init`."""

    task: str | None = None
    """Which task, as suite/name: glue/sst2, embedded/docstrings, ..."""
    init: str | None = None
    """Workdir of the run to start from, or hf:FOLDER of a public model."""
    data_dir: str | None = None
    """Folder of the task's official files; None takes them from TFDS, or from where the task itself says."""
    objective: TextToText = TextToText(inputs_length=128, targets_length=16)
    packs_rows: bool = False
    """Put several examples in a row, as far as they fit."""
    dropout_rate: float = 0.1
    answers: Answering = "written"
    """Whether the model writes its answer to an example, or scores each of the task's labels and takes the likeliest."""
    max_eval_examples: int | None = None
    """Validation examples that each evaluation uses, at most; None: all."""

    # Fields of TrainingConfig with values that suit a small model and a small task. Adafactor's steps are a share of each
    # parameter: AdamW's, which are not, would leave embeddings of norm 1 an entry where they are.
    optimizer: Optimizer = Adafactor(schedule=Linear(peak=1e-2, warmup_steps=50))
    num_steps: int = 1000
    batch_size: int = 32
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_eval_examples is not None:
            require_positive(self, "max_eval_examples")


def main(argv: list[str]) -> None:
    """Fine-tunes what the command line says, and writes the report."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Finetune, default=Finetune())
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is None:
        raise UserError(f"{COMMAND} needs --workdir, the folder the run is written to.")
    finetune(config, options.workdir)


def finetune(config: Finetune, workdir: Path) -> dict[str, Any]:
    """Fine-tunes or resumes the run of a workdir; returns its evaluation as written to evaluation.json.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    if config.task is None:
        raise UserError(f"{COMMAND} needs --task, such as --task glue/sst2.")
    if config.init is None:
        raise UserError(f"{COMMAND} needs --init, the workdir of the run to start from.")
    task = find_task(config.task)
    data_dir = Path(config.data_dir) if config.data_dir else None
    resume_step = workdirs.find_resume_step(workdir, config)
    init = load_model(config.init) if resume_step is None else None
    train_examples = task.load("train", data_dir)
    examples = task.load("validation", data_dir)[: config.max_eval_examples]
    if init is None:
        model, vocabulary = workdirs.load_description(workdir)
    else:
        model = dataclasses.replace(init.config, dropout_rate=config.dropout_rate)
        vocabulary = init.vocabulary
    require_both_stacks(model, COMMAND)
    lengths = {
        "inputs_length": config.objective.inputs_length,
        "targets_length": config.objective.targets_length,
    }
    check_lengths(model, COMMAND, **lengths)
    placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)

    evaluate = TaskEvaluation(
        placement.model,
        task,
        examples,
        tokenize(examples, config.objective, vocabulary),
        vocabulary=vocabulary,
        batch_size=config.batch_size,
        sharding=placement.batch,
        answers=config.answers,
    )
    train(
        config,
        placement,
        finetuning_batches(
            [tokenize(train_examples, config.objective, vocabulary)],
            batch_size=config.batch_size,
            seed=config.seed,
            packing=Packing(vocabulary.pad_id) if config.packs_rows else None,
        ),
        workdir=workdir,
        data_sha256=hashlib.sha256(f"{task.name}: {len(train_examples)} examples".encode()).hexdigest(),
        resume_step=resume_step,
        vocabulary=vocabulary,
        evaluators=(Evaluator(config.eval_every_steps, evaluate),),
        init=init,
        description=f"fine-tuning {task.name}",
    )
    scores = task_scores(task, examples, outcome.last_validation(workdir))
    return outcome.conclude(workdir, scores, evaluate.samples[:NUM_SAMPLES])


def tokenize(examples: Sequence[Example], objective: TextToText, vocabulary: Vocabulary) -> list[Features]:
    """Returns the rows of all examples, in order."""
    inputs = vocabulary.encode_batch([example.inputs for example in examples])
    targets = vocabulary.encode_batch([example.targets for example in examples])
    return [
        objective(i, t, vocabulary.special_tokens, example.index)
        for i, t, example in zip(inputs, targets, examples, strict=True)
    ]


if __name__ == "__main__":
    from t5like import finetune as this_module  # so that configs name t5like.finetune, not __main__

    sys.exit(run_entry(this_module.main))
