"""Entry point: fine-tune on every task of GLUE or SuperGLUE; one table of all, and the files for the leaderboard.

t5like benchmark glue --init hf:minilm/ --data_dir GLUE --workdir runs/glue --seeds 3
t5like benchmark super_glue --init tiny --tasks rte,wic --max_steps 2 --data_dir SUPERGLUE --workdir runs/trial
t5like benchmark check runs/glue/glue.zip

The workdir holds, for each task and seed, the workdir of its run with result.json and answers.json in it; and results.md,
results.json and the zip. The same command again makes the runs that are not done.
"""

import contextlib
import dataclasses
import difflib
import math
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from t5like import __version__
from t5like import config as configs
from t5like import workdir as workdirs
from t5like.checkpoint import Checkpoints, checkpoint_steps
from t5like.config import parse_command_line, to_json
from t5like.data.vocabulary import BYTES, find_vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.families.t5 import t5_1_1
from t5like.finetune import Finetune, finetune
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.objectives.text_to_text import TextToText
from t5like.optim.adafactor import Adafactor
from t5like.optim.adamw import AdamW
from t5like.optim.base import Optimizer, require_positive
from t5like.optim.schedules import Constant, Linear
from t5like.sharding import AxisRules, MeshShape
from t5like.suite_results import (
    SeedResult,
    SplitScores,
    SuiteResults,
    read_seed_result,
    split_scores,
    write_seed_result,
)
from t5like.suite_table import print_results, write_results
from t5like.task_evaluation import TASK_SCORE
from t5like.task_forms import Answering, Batching, load_for_task, task_form
from t5like.tasks import find_task
from t5like.tasks.base import Answer, Example, Task, constant_answer
from t5like.tasks.submission import SplitAnswers, write_submission
from t5like.tasks.submission_check import report_submission
from t5like.tasks.suites import SUITES, Suite, SuiteTask
from t5like.training import initial_params, place
from t5like.whole_files import write_json
from t5like.workdir import load_workdir, read_json

COMMAND = "t5like benchmark"
TINY = "tiny"
RESULT_FILE, ANSWERS_FILE = "result.json", "answers.json"

# What may differ when a benchmark goes on: more of the same.
_MAY_CHANGE = ("seeds", "tasks")
_WARMUP_SHARE = 0.1  # of an encoder's run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Which model, on which tasks, and how it is fine-tuned on each; every task and seed is a run of its own."""

    init: str | None = None
    """Workdir of the run to start from, hf:FOLDER of a public model, or `tiny`: a small random one, for a trial."""
    data_dir: str | None = None
    """Folder of the suite's official files; None takes them from TFDS."""
    tasks: str | None = None
    """Names, such as cola,rte; None: all of the suite."""
    seeds: int = 3
    """Runs of each task, with the seeds 0, 1, ..."""
    num_epochs: float = 3.0
    """Length of a run. It is measured after every epoch, and the best of these checkpoints is kept."""
    max_steps: int | None = None
    """Updates of a run, at most; None: as many as its epochs have."""
    max_train_examples: int | None = None
    """Training examples of a task, the first ones; None: all."""
    max_eval_examples: int | None = None
    """Examples of every other split, the first ones; None: all. With a limit there is no zip."""
    batch_size: int = 32
    inputs_length: int = 128
    targets_length: int = 16
    learning_rate: float | None = None
    """The peak; None: 5e-5 for an encoder, 1e-3 for an encoder-decoder. The former has AdamW, a tenth of warm-up and a
    linear descent, the latter Adafactor and a constant rate, as T5's."""
    dropout_rate: float = 0.1
    answers: Answering = "written"
    """Whether an encoder-decoder writes its answers or ranks the labels."""
    mesh: MeshShape = MeshShape()
    rules: AxisRules = AxisRules()

    def __post_init__(self) -> None:
        require_positive(self, "seeds", "num_epochs", "batch_size")
        for name in ("max_steps", "max_train_examples", "max_eval_examples", "learning_rate"):
            if getattr(self, name) is not None:
                require_positive(self, name)


def main(argv: list[str]) -> None:
    """Runs a suite, or checks a zip.

    Raises:
      UserError: what is asked for is neither, or the zip would not be taken.
    """
    suites = {suite.name: suite for suite in SUITES}
    what, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("", argv)
    if what == "check":
        check(rest)
        return
    if what not in suites and not {"-h", "--help"} & set(argv):
        near = difflib.get_close_matches(what, [*suites, "check"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"say {', '.join(suites)} or check first."
        raise UserError(f"{COMMAND} needs a suite; {hint}")
    command = f"{COMMAND} {what or '|'.join(suites)}"
    config, options = parse_command_line(rest, command=command, config_class=Benchmark, default=Benchmark())
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is None:
        raise UserError(f"{command} needs --workdir, the folder that its runs are written to.")
    benchmark(suites[what], config, options.workdir)


def check(argv: Sequence[str]) -> None:
    """Prints whether a leaderboard would take a zip.

    Raises:
      UserError: it would not, or there is none.
    """
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UserError(f"{COMMAND} check takes the path of one zip.")
    report_submission(argv[0])


def benchmark(suite: Suite, config: Benchmark, workdir: Path) -> SuiteResults:
    """Makes the runs that are not done; then writes and prints the table, and writes the zip.

    Raises:
      UserError: for input that cannot work; no run has begun then.
    """
    if config.init is None:
        raise UserError(f"{COMMAND} needs --init, the model to start from.")
    tasks = chosen_tasks(suite, config.tasks)
    check_data(config, tasks)
    claim(workdir, suite, config)
    if config.init == TINY and not workdirs.is_workdir(workdir / TINY):
        make_tiny(workdir / TINY)
    results: list[SeedResult] = []
    for suite_task in tasks:
        if suite_task.is_majority_by_default and config.tasks is None:
            results += majority_results(suite_task, config)
            continue
        if suite_task.trained_on is None:
            answering = [t for t in tasks if suite_task.task in (t.task, t.trained_on)]
            for seed in range(config.seeds):
                folder = workdir / suite_task.task.rpartition("/")[2] / f"seed-{seed}"
                results += run_once(config, suite_task, answering, seed, folder, workdir / TINY)
    suite_results = SuiteResults(suite=suite, runs=results, conditions=conditions(config))
    write_results(workdir, suite_results)
    print_results(suite_results)
    print(f"table: {workdir / 'results.md'}")
    if config.max_eval_examples is None:
        write_zip(suite, tasks, config, workdir)
    return suite_results


def chosen_tasks(suite: Suite, names: str | None) -> list[SuiteTask]:
    """Returns the tasks of a suite that are named, all where none are.

    Raises:
      UserError: there is no such task, or a task without training data comes without the one that it is answered by.
    """
    known = {task.task.rpartition("/")[2]: task for task in suite.tasks}
    if names is None:
        return list(suite.tasks)
    wanted = [name.strip().removeprefix(f"{suite.name}/") for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(known)}."
            raise UserError(f"{suite.title} has no task {name!r}; {hint}")
    chosen = [task for name, task in known.items() if name in wanted]
    for task in chosen:
        if task.trained_on is not None and task.trained_on not in {t.task for t in chosen}:
            raise UserError(
                f"{task.task} has no training data and is answered by the model of {task.trained_on}; name that task as well."
            )
    if not chosen:
        raise UserError(f"--tasks names none of {', '.join(known)}.")
    return chosen


def check_data(config: Benchmark, tasks: Sequence[SuiteTask]) -> None:
    """Returns if all that the runs train on and are measured on is there.

    Raises:
      UserError: it is not; without a data_dir that is found out when its turn comes, for TFDS may fetch it.
    """
    if config.data_dir is None:
        return
    missing: dict[str, str] = {}
    for suite_task in tasks:
        if suite_task.trained_on is not None or (suite_task.is_majority_by_default and config.tasks is None):
            continue
        task = find_task(suite_task.task)
        for split in ("train", *suite_task.validation):
            try:
                task.load(split, data_folder(config))
            except UserError as error:
                missing.setdefault(task.name.rpartition("/")[2], str(error))
    if missing:
        name, reason = next(iter(missing.items()))
        more = f" The same goes for {', '.join(list(missing)[1:])}." if len(missing) > 1 else ""
        raise UserError(f"{name} cannot be run: {reason}{more} Name the tasks that can with --tasks.")


def claim(workdir: Path, suite: Suite, config: Benchmark) -> None:
    """Makes the folder this benchmark's, or finds that it is.

    Raises:
      UserError: it holds something else, or runs of another config.
    """
    path = workdir / "benchmark.json"
    ours = {"suite": suite.name, "config": configs.to_dict(config)}
    if workdirs.is_new(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise UserError(f"--workdir {workdir} holds files but no benchmark; give a new or empty folder.")
    else:
        for name, old, new in configs.differences(read_json(path), ours):
            if name.removeprefix("config.") not in _MAY_CHANGE:
                raise UserError(
                    f"--workdir {workdir} belongs to another benchmark: {name} was {old!r} and is now {new!r}; give "
                    "another --workdir."
                )
    write_json(path, ours)


def run_once(
    config: Benchmark,
    suite_task: SuiteTask,
    answering: Sequence[SuiteTask],
    seed: int,
    folder: Path,
    tiny: Path,
) -> list[SeedResult]:
    """Returns what one run gives for its own task and those that its model answers as well, made or read.

    Args:
      answering: both.
    """
    paths = {task.task: folder / f"{task.task.rpartition('/')[2]}.{RESULT_FILE}" for task in answering}
    if all(path.exists() for path in paths.values()):
        return [read_seed_result(path) for path in paths.values()]
    started = time.time()
    init = str(tiny) if config.init == TINY else str(config.init)
    task, data_dir = find_task(suite_task.task), data_folder(config)
    num_examples = len(task.load("train", data_dir)[: config.max_train_examples])
    per_epoch = max(1, round(num_examples / config.batch_size))
    num_steps = max(1, round(config.num_epochs * num_examples / config.batch_size))
    num_steps = num_steps if config.max_steps is None else min(num_steps, config.max_steps)
    finetune(settings(config, suite_task, init, seed, num_steps, min(per_epoch, num_steps)), folder)
    step = best_step(folder)
    for path in (folder / "checkpoints").iterdir():
        if path.name != str(step):
            shutil.rmtree(path)
    answers, results = {}, []
    for other in answering:
        splits, answers_of_splits = answer_splits(config, other, folder, step)
        answers[other.task] = answers_of_splits
        seconds = time.time() - started if other is suite_task else 0.0
        results.append(SeedResult(task=other.task, seed=seed, step=step, seconds=seconds, splits=splits))
    write_json(folder / ANSWERS_FILE, answers)
    for result in results:
        write_seed_result(paths[result.task], result)
    return results


def settings(
    config: Benchmark, suite_task: SuiteTask, init: str, seed: int, num_steps: int, steps_per_epoch: int
) -> Finetune:
    """Returns the config of one run."""
    model = load_for_task(init, find_task(suite_task.task)).config
    optimizer: Optimizer
    if model.num_decoder_layers:
        optimizer = Adafactor(schedule=Constant(peak=config.learning_rate or 1e-3))
    else:
        schedule = Linear(peak=config.learning_rate or 5e-5, warmup_steps=int(_WARMUP_SHARE * num_steps))
        optimizer = AdamW(schedule=schedule, weight_decay=0.01)
    return Finetune(
        task=suite_task.task,
        init=init,
        data_dir=config.data_dir,
        objective=TextToText(inputs_length=config.inputs_length, targets_length=config.targets_length),
        dropout_rate=config.dropout_rate,
        answers=config.answers,
        max_train_examples=config.max_train_examples,
        max_eval_examples=config.max_eval_examples,
        eval_split=suite_task.validation[0],
        optimizer=optimizer,
        num_steps=num_steps,
        batch_size=config.batch_size,
        seed=seed,
        eval_every_steps=steps_per_epoch,
        checkpoint_every_steps=steps_per_epoch,
        num_checkpoints_kept=math.ceil(config.num_epochs) + 1,
        mesh=config.mesh,
        rules=config.rules,
    )


def best_step(workdir: Path) -> int:
    """Returns the checkpoint of a run whose task score was the best, of equals the first."""
    kept = set(checkpoint_steps(workdir))
    rows = [row for row in read_metrics(workdir / METRICS_FILE) if row["split"] == "validation"]
    return int(max((row for row in rows if row["step"] in kept), key=lambda row: row[TASK_SCORE])["step"])


def answer_splits(
    config: Benchmark, suite_task: SuiteTask, workdir: Path, step: int
) -> tuple[dict[str, SplitScores], dict[str, list[Answer]]]:
    """Returns what a model scores on the splits whose answers are published, and its answers to the splits of the files.

    A split of the files that is not on this machine is left out.
    """
    trained, task = load_workdir(workdir, step=step), find_task(suite_task.task)
    placement = place(trained.config, config.mesh, config.rules, batch_size=config.batch_size)
    objective = TextToText(inputs_length=config.inputs_length, targets_length=config.targets_length)
    form = task_form(
        task, trained.config, trained.vocabulary, objective, answers=config.answers, command=COMMAND
    )
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
        yield split, task.load(split, data_folder(config))[: config.max_eval_examples]
    for split in suite_task.test_splits:
        try:
            examples = task.load(split, data_folder(config))
        except UserError as error:
            print(f"no predictions for {task.name} {split}: {error}", file=sys.stderr)
            continue
        yield split, examples[: config.max_eval_examples]


def majority_results(suite_task: SuiteTask, config: Benchmark) -> list[SeedResult]:
    """Returns what the majority class scores on a task that is not trained on unless it is named; nothing without data."""
    task, splits = find_task(suite_task.task), {}
    try:
        for split in suite_task.validation:
            examples = task.load(split, data_folder(config))[: config.max_eval_examples]
            splits[split] = split_scores(task, examples, [constant_answer(task, examples)] * len(examples))
    except UserError as error:
        print(f"{task.name} is left out: {error}", file=sys.stderr)
        return []
    print(f"{task.name} is answered with its majority class; name it in --tasks to train on it")
    return [SeedResult(task=task.name, seed=0, step=0, seconds=0.0, splits=splits, is_majority=True)]


def write_zip(suite: Suite, tasks: Sequence[SuiteTask], config: Benchmark, workdir: Path) -> None:
    """Writes the zip of seed 0's predictions, if there are any, and prints what in it is filled in."""
    answers: dict[str, SplitAnswers] = {}
    for suite_task in tasks:
        trained_on = suite_task.trained_on or suite_task.task
        path = workdir / trained_on.rpartition("/")[2] / "seed-0" / ANSWERS_FILE
        given: Mapping[str, Any] = read_json(path).get(suite_task.task, {}) if path.exists() else {}
        task = find_task(suite_task.task)
        for file in suite_task.files:
            if file.split in given:
                examples = task.load(file.split, data_folder(config))
                answers[file.name] = SplitAnswers(task, examples, given[file.split])
    if not answers:
        return
    path = workdir / f"{suite.name}.zip"
    for note in write_submission(suite, answers, path, fills_missing=True):
        print(f"  {note}")
    print(f"submission: {path}")


def conditions(config: Benchmark) -> dict[str, str]:
    """Returns what the table was made with."""
    devices = jax.devices()
    return {
        "init": str(config.init),
        "hardware": f"{len(devices)} x {devices[0].device_kind}",
        "versions": f"t5like {__version__}, JAX {jax.__version__}, Python {platform.python_version()}",
    }


def data_folder(config: Benchmark) -> Path | None:
    """Returns where the official files are, None for TFDS."""
    return Path(config.data_dir) if config.data_dir else None


def make_tiny(folder: Path) -> None:
    """Makes the workdir of a small random T5 1.1 that reads and writes bytes."""
    vocabulary = find_vocabulary(BYTES, extra_ids=0)
    model = dataclasses.replace(
        t5_1_1("small"),
        embed_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=64,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_embeddings=vocabulary.num_embeddings,
    )
    placement = place(model, MeshShape(), AxisRules(), batch_size=len(jax.devices()))
    with jax.set_mesh(placement.mesh), workdirs.new_folder(folder) as temporary:
        params = initial_params(placement, seed=0)
        workdirs.create(temporary, Benchmark(init=TINY), model, vocabulary)
        with contextlib.closing(Checkpoints(temporary / "checkpoints")) as checkpoints:
            checkpoints.save_params(0, params)


if __name__ == "__main__":
    from t5like import benchmark as this_module  # so that configs name t5like.benchmark, not __main__

    sys.exit(run_entry(this_module.main))
