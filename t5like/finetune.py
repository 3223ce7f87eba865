"""Entry point: fine-tune a pretrained model on a task: an encoder-decoder text to text, an encoder with a head.

t5like finetune configs/finetune.py --task glue/sst2 --data_dir GLUE --init runs/books --workdir runs/sst2
"""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5like import outcome, shared_workdir
from t5like import workdir as workdirs
from t5like.batch import BatchIterator
from t5like.config import parse_command_line, to_json
from t5like.data.lanes import Packing
from t5like.data.mixture import proportional_shares
from t5like.data.pipeline import finetuning_batches
from t5like.data.vocabulary import Vocabulary
from t5like.distributed import is_first_host, join_hosts
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.loop import Evaluator
from t5like.models.config import TransformerConfig
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.base import Optimizer, require_positive
from t5like.optim.schedules import Linear
from t5like.phases import limited
from t5like.preemption import listening
from t5like.task_evaluation import NUM_SAMPLES, TaskEvaluation, together
from t5like.task_forms import Answering, Batching, TaskForm, load_for_task, task_form
from t5like.tasks import TASKS, find_task
from t5like.tasks.base import Example, Task
from t5like.tasks.tables import LabelKind, TableColumns
from t5like.training import TrainingConfig, check_lengths, place_to_train, train
from t5like.trimming import ShrunkBatches, packed, trimmed

COMMAND = "t5like finetune"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(TrainingConfig):
    """Everything that decides a fine-tuning run; the model comes from `init`."""

    task: str | None = None
    """Which task: glue/sst2, ner/wnut17, ..., or one of your own: csv:FILE, conll:FOLDER, my_task.py, ... An
    encoder-decoder may learn several at once, glue/cola,glue/sst2,..., in proportion to their examples."""
    task_cap: int | None = None
    """Of several tasks: examples that count in a task's share of the rows, at most; None: all."""
    text_columns: str = ""
    """Of a task in a table: the columns of its texts, such as title,body."""
    label_column: str = ""
    """Of a task in a table: the column to predict."""
    label_kind: LabelKind = "label"
    """Of a task in a table: whether that column holds labels or numbers."""
    init: str | None = None
    """Workdir of the run to start from, or hf:FOLDER of a public model."""
    data_dir: str | None = None
    """Folder of the task's official files; None takes them from TFDS, or from where the task itself says."""
    objective: TextToText = TextToText(inputs_length=128, targets_length=16)
    """Lengths of the rows; an encoder has inputs alone."""
    packs_rows: bool = False
    """Put several examples in a row, as far as they fit."""
    dropout_rate: float = 0.1
    answers: Answering = "written"
    """Whether an encoder-decoder writes its answer, or scores each of the task's labels and takes the likeliest."""
    trims_batches: bool = True
    """Leave out padding: on one device the examples of a batch are put into as few rows as they fit in, on several the
    columns that are padding in every row are cut off. Losses stay the same; each shape is compiled."""
    max_train_examples: int | None = None
    """Training examples, the first ones, at most; None: all."""
    eval_split: str = "validation"
    """The split that each evaluation answers."""
    max_eval_examples: int | None = None
    """Examples that each evaluation uses, the first ones, at most; None: all."""

    # Fields of TrainingConfig with values that suit a small model and a small task. Adafactor's steps are a share of each
    # parameter: AdamW's, which are not, would leave embeddings of norm 1 an entry where they are.
    optimizer: Optimizer = Adafactor(schedule=Linear(peak=1e-2, warmup_steps=50))
    num_steps: int = 1000
    batch_size: int = 32
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("task_cap", "max_train_examples", "max_eval_examples"):
            if getattr(self, name) is not None:
                require_positive(self, name)


def main(argv: list[str]) -> None:
    """Fine-tunes what the command line says, and writes the report."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Finetune, default=Finetune())
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is None:
        raise UserError(f"{COMMAND} needs --workdir, the folder the run is written to.")
    with listening(), limited(config.deadlines):
        finetune(config, options.workdir)


def finetune(config: Finetune, workdir: Path) -> dict[str, Any]:
    """Fine-tunes or resumes the run of a workdir; returns its evaluation as written to evaluation.json.

    Of several hosts the first alone writes it; the others return nothing in it. Each makes whole batches, so that all
    cut off the same padding.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    if config.task is None:
        raise UserError(f"{COMMAND} needs --task, such as --task glue/sst2.")
    if config.init is None:
        raise UserError(f"{COMMAND} needs --init, the workdir of the run to start from.")
    join_hosts()
    tasks = tasks_of(config)
    data_dir = Path(config.data_dir) if config.data_dir else None
    resume_step = shared_workdir.find_resume_step(workdir, config)
    train_examples = [task.load("train", data_dir)[: config.max_train_examples] for task in tasks]
    examples = [task.load(config.eval_split, data_dir)[: config.max_eval_examples] for task in tasks]
    if resume_step is None:
        init = load_for_task(config.init, tasks[0])
        model, vocabulary = (
            dataclasses.replace(init.config, dropout_rate=config.dropout_rate),
            init.vocabulary,
        )
    else:
        init = None
        model, vocabulary = workdirs.load_description(workdir)
    forms = forms_of(config, tasks, model, vocabulary)
    check_lengths(model, COMMAND, **forms[0].lengths)
    placement = place_to_train(config, model)
    batching = Batching(config.batch_size, placement.batch, config.trims_batches)
    evaluations = [
        TaskEvaluation(task, own, form.answerer(placement.model, own, batching))
        for task, own, form in zip(tasks, examples, forms, strict=True)
    ]
    batches: BatchIterator = finetuning_batches(
        [form.rows(own) for form, own in zip(forms, train_examples, strict=True)],
        shares=proportional_shares([len(own) for own in train_examples], cap=config.task_cap),
        batch_size=config.batch_size,
        seed=config.seed,
        packing=Packing(vocabulary.pad_id) if config.packs_rows else None,
    )
    train(
        config,
        placement,
        shrunk(batches, config, packs=batching.packs, pad_id=vocabulary.pad_id),
        workdir=workdir,
        data_sha256=digest_of(tasks, train_examples),
        resume_step=resume_step,
        vocabulary=vocabulary,
        evaluators=(Evaluator(config.eval_every_steps, together(evaluations)),),
        init=init,
        description=f"fine-tuning {config.task}",
    )
    return conclude(workdir, evaluations) if is_first_host() else {}


def conclude(workdir: Path, evaluations: Sequence[TaskEvaluation]) -> dict[str, Any]:
    """Writes and prints how a run ends, of each task, and returns it; see `outcome.conclude`."""
    metrics, num_tasks = outcome.last_validation(workdir), len(evaluations)
    scores = [
        score for evaluation in evaluations for score in evaluation.scores(metrics, num_tasks=num_tasks)
    ]
    samples = [evaluation.samples()[: -(-NUM_SAMPLES // num_tasks)] for evaluation in evaluations]
    return outcome.conclude(workdir, scores, [sample for own in samples for sample in own])


def shrunk(batches: BatchIterator, config: Finetune, *, packs: bool, pad_id: int) -> BatchIterator:
    """Returns the batches without as much of their padding as can go.

    Args:
      packs: whether the examples of a batch may share rows.
      pad_id: the vocabulary's.
    """
    if not config.trims_batches:
        return batches
    if packs and not config.packs_rows and config.num_microbatches == 1:  # microbatches take whole rows
        return ShrunkBatches(batches, functools.partial(packed, pad_id=pad_id))
    return ShrunkBatches(batches, trimmed)


def forms_of(
    config: Finetune, tasks: Sequence[Task], model: TransformerConfig, vocabulary: Vocabulary
) -> list[TaskForm]:
    """Returns how the model is asked each task.

    Raises:
      UserError: it cannot be, or has a head for one task and is to learn several.
    """
    if len(tasks) > 1 and not model.num_decoder_layers:
        raise UserError(
            f"{COMMAND}: an encoder alone has a head for one task; name one, or give a model with a decoder."
        )
    return [
        task_form(task, model, vocabulary, config.objective, answers=config.answers, command=COMMAND)
        for task in tasks
    ]


def tasks_of(config: Finetune) -> list[Task]:
    """Returns the task of a run, or several whose names have commas between them.

    Raises:
      UserError: there is no such task.
    """
    name = config.task or ""
    names = name.split(",")
    if len(names) > 1 and all(part in TASKS for part in names):
        return [TASKS[part] for part in names]
    columns = TableColumns(
        text_columns=config.text_columns, label_column=config.label_column, label_kind=config.label_kind
    )
    return [find_task(name, columns)]


def digest_of(tasks: Sequence[Task], examples: Sequence[Sequence[Example]]) -> str:
    """Returns a sha256 in hex of what is trained on."""
    digest = hashlib.sha256()
    for task, own in zip(tasks, examples, strict=True):
        digest.update(f"{task.name}: {len(own)} examples\n".encode())
        for example in own:
            digest.update(repr((example.inputs, example.targets, example.texts, example.answer)).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    from t5like import finetune as this_module  # so that configs name t5like.finetune, not __main__

    sys.exit(run_entry(this_module.main, is_watched=True, spans_hosts=True))
