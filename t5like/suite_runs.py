"""How one training of a benchmark is made, and what it gives: scores, and answers for the leaderboard's files.

Its folder is the workdir of a fine-tuning run, with the checkpoints that were chosen and two files more:

    rte.result.json    what it scored, for each task that it answers, see t5like.suite_results
    answers.json       {"super_glue/rte": {"test": [1, 0, ...]}, ...}
"""

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import jax

from t5like.checkpoint import checkpoint_steps
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.finetune import Finetune, finetune
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.models.config import TransformerConfig
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.adamw import AdamW
from t5like.optim.base import Optimizer
from t5like.optim.schedules import Constant, Linear
from t5like.phases import limited, take_seconds
from t5like.placement import place
from t5like.suite_config import COMMAND, Benchmark
from t5like.suite_plan import Training
from t5like.suite_results import SeedResult, SplitScores, read_seed_result, split_scores, write_seed_result
from t5like.task_evaluation import TASK_SCORE, metric_name
from t5like.task_forms import Batching, TaskForm, load_for_task, task_form
from t5like.tasks import find_task
from t5like.tasks.base import Answer, Example, Task
from t5like.tasks.suites import SuiteTask
from t5like.whole_files import write_json
from t5like.workdir import load_workdir, read_json

RESULT_FILE, ANSWERS_FILE = "result.json", "answers.json"

_WARMUP_SHARE = 0.1  # of an encoder's run


def result_paths(training: Training) -> dict[str, Path]:
    """Returns the file of each result of a training, by the name of its task."""
    return {task.task: training.folder / f"{task.short_name}.{RESULT_FILE}" for task in training.answered}


def is_done(training: Training) -> bool:
    """Returns whether a training has been made, and all that it answers is scored and written down."""
    files = [training.folder / ANSWERS_FILE, *result_paths(training).values()]
    return all(path.exists() for path in files)


def results_of(config: Benchmark, training: Training, init: str) -> list[SeedResult]:
    """Returns what a training gives for each task that it answers, made or read.

    Args:
      init: the model to start from, as `Finetune` has it.
    """
    paths = result_paths(training)
    if is_done(training):
        return [_result_in(path, name, training.seed) for name, path in paths.items()]
    started = time.time()
    run = settings(config, training, init)
    take_seconds()  # so that those since the run before are not this one's
    with limited(run.deadlines):
        finetune(run, training.folder)
    steps = {task.task: best_step(training, task) for task in training.answered}
    splits, answers = {}, {}
    for task in training.answered:
        splits[task.task], answers[task.task] = answer_splits(config, task, training.folder, steps[task.task])
    # What is not chosen goes last: a run that is stopped while it answers need not train again.
    for step in set(checkpoint_steps(training.folder)) - set(steps.values()):
        shutil.rmtree(training.folder / "checkpoints" / str(step))
    write_json(training.folder / ANSWERS_FILE, answers)
    seconds = time.time() - started
    results = []
    for name, path in paths.items():
        result = SeedResult(
            task=name, seed=training.seed, step=steps[name], seconds=seconds, splits=splits[name]
        )
        write_seed_result(path, result)
        results.append(result)
        seconds = 0.0  # the first has it all
    return results


def _result_in(path: Path, task: str, seed: int) -> SeedResult:
    """Returns the result in a file.

    Raises:
      UserError: it cannot be read, or is that of another run.
    """
    result, names = read_seed_result(path), {metric.name for metric in find_task(task).metrics}
    if (result.task, result.seed) != (task, seed) or any(
        scores.metrics.keys() != names for scores in result.splits.values()
    ):
        raise UserError(f"{path} is not of {task} with seed {seed}: delete it, and the run is made again.")
    return result


def read_answers(training: Training, suite_task: SuiteTask) -> dict[str, list[Answer]]:
    """Returns the answers that a training gave to a task, by split.

    Raises:
      UserError: they cannot be read.
    """
    path = training.folder / ANSWERS_FILE
    of_task = read_json(path).get(suite_task.task, {})
    kind = {"label": int, "number": float}.get(find_task(suite_task.task).kind, str)
    if isinstance(of_task, dict) and all(
        isinstance(answers, list) and all(type(answer) is kind for answer in answers)
        for answers in of_task.values()
    ):
        return of_task
    raise UserError(f"{path} is damaged: delete it, and the run is made again.")


def settings(config: Benchmark, training: Training, init: str) -> Finetune:
    """Returns the config of the fine-tuning run that a training is."""
    tasks = [find_task(task.task) for task in training.tasks]
    sizes = [len(task.load("train", config.data_folder)[: config.max_train_examples]) for task in tasks]
    num_examples = sum(size if config.task_cap is None else min(size, config.task_cap) for size in sizes)
    num_steps = max(1, round(config.num_epochs * num_examples / config.batch_size))
    num_steps = num_steps if config.max_steps is None else min(num_steps, config.max_steps)
    steps_per_epoch = min(num_steps, max(1, round(num_examples / config.batch_size)))
    optimizer: Optimizer
    if load_for_task(init, tasks[0]).config.num_decoder_layers:
        optimizer = Adafactor(schedule=Constant(peak=config.learning_rate or 1e-3))
    else:
        schedule = Linear(peak=config.learning_rate or 5e-5, warmup_steps=int(_WARMUP_SHARE * num_steps))
        optimizer = AdamW(schedule=schedule, weight_decay=0.01)
    return Finetune(
        task=",".join(task.name for task in tasks),
        task_cap=config.task_cap,
        init=init,
        data_dir=config.data_dir,
        objective=objective_of(config),
        dropout_rate=config.dropout_rate,
        answers=config.answers,
        max_train_examples=config.max_train_examples,
        max_eval_examples=config.max_eval_examples,
        optimizer=optimizer,
        num_steps=num_steps,
        batch_size=config.batch_size,
        seed=training.seed,
        eval_every_steps=steps_per_epoch,
        checkpoint_every_steps=steps_per_epoch,
        num_checkpoints_kept=-(-num_steps // steps_per_epoch),
        deadlines=config.deadlines,
        mesh=config.mesh,
        rules=config.rules,
    )


def objective_of(config: Benchmark) -> TextToText:
    """Returns the lengths of the rows."""
    return TextToText(inputs_length=config.inputs_length, targets_length=config.targets_length)


def form_of(config: Benchmark, task: Task, model: TransformerConfig, vocabulary: Vocabulary) -> TaskForm:
    """Returns how the model is asked a task.

    Raises:
      UserError: it cannot be.
    """
    return task_form(task, model, vocabulary, objective_of(config), answers=config.answers, command=COMMAND)


def best_step(training: Training, task: SuiteTask) -> int:
    """Returns the checkpoint of a training that was the best at a task, of equals the first.

    A task without training data has that of the task that it goes with.
    """
    score = metric_name(task.trained_on or task.task, TASK_SCORE, num_tasks=len(training.tasks))
    kept = set(checkpoint_steps(training.folder))
    rows = [row for row in read_metrics(training.folder / METRICS_FILE) if row["split"] == "validation"]
    return int(max((row for row in rows if row["step"] in kept), key=lambda row: row[score])["step"])


def answer_splits(
    config: Benchmark, suite_task: SuiteTask, workdir: Path, step: int
) -> tuple[dict[str, SplitScores], dict[str, list[Answer]]]:
    """Returns what a model scores on the splits whose answers are published, and its answers to the splits of the files.

    A split of the files that is not on this machine is left out.
    """
    trained, task = load_workdir(workdir, step=step), find_task(suite_task.task)
    placement = place(trained.config, config.mesh, config.rules, batch_size=config.batch_size)
    form = form_of(config, task, trained.config, trained.vocabulary)
    scores, answers = {}, {}
    with jax.set_mesh(placement.mesh):
        params = trained.restore(placement.params)
        for split, examples in loaded_splits(config, suite_task, task):
            batching = Batching(config.batch_size, placement.batch, trims=True)
            given = form.answerer(placement.model, examples, batching)(params)
            if all(example.answer is not None for example in examples):
                scores[split] = split_scores(task, examples, given)
            if split in suite_task.test_splits:
                answers[split] = given
    return scores, answers


def loaded_splits(
    config: Benchmark, suite_task: SuiteTask, task: Task
) -> Iterable[tuple[str, list[Example]]]:
    """Yields the splits to answer, validation first; those of the files only as far as they are there."""
    for split in suite_task.validation:
        yield split, task.load(split, config.data_folder)[: config.max_eval_examples]
    for split in suite_task.test_splits:
        try:
            examples = task.load(split, config.data_folder)
        except UserError as error:
            print(f"no predictions for {task.name} {split}: {error}", file=sys.stderr)
            continue
        yield split, examples[: config.max_eval_examples]
