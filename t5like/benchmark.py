"""Entry point: fine-tune on every task of GLUE or SuperGLUE; one table of all, and the files for the leaderboard.

t5like benchmark glue --init hf:minilm/ --data_dir GLUE --workdir runs/glue --seeds 3
t5like benchmark super_glue --init tiny --tasks rte,wic --max_steps 2 --data_dir SUPERGLUE --workdir runs/trial
t5like benchmark super_glue --init hf:t5-small/ --mixture --data_dir SUPERGLUE --workdir runs/mixture
t5like benchmark check runs/glue/glue.zip

The workdir holds, for each task and seed, the workdir of its run, see t5like.suite_runs, or for each seed that of a
mixture; and results.md, results.json and the zip. The same command again makes the runs that are not done.
"""

import contextlib
import dataclasses
import difflib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from t5like import __version__
from t5like import config as configs
from t5like import workdir as workdirs
from t5like.checkpoint import Checkpoints
from t5like.config import parse_command_line, to_json
from t5like.data.vocabulary import BYTES, Vocabulary, find_vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.families.t5 import t5_1_1
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.placement import initial_params, place
from t5like.preemption import listening
from t5like.sharding import AxisRules
from t5like.suite_config import COMMAND, TINY, Benchmark
from t5like.suite_plan import Plan, Training, make_plan
from t5like.suite_results import SeedResult, SuiteResults, split_scores
from t5like.suite_runs import form_of, is_done, read_answers, results_of
from t5like.suite_table import print_results, write_results
from t5like.task_forms import load_for_task
from t5like.tasks import find_task
from t5like.tasks.base import Task, constant_answer
from t5like.tasks.submission import SplitAnswers, write_submission
from t5like.tasks.submission_check import report_submission
from t5like.tasks.suites import SUITES, Suite, SuiteTask
from t5like.training import check_lengths
from t5like.whole_files import write_json
from t5like.workdir import read_json


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
    wants_help = not what and {"-h", "--help"} & set(argv)
    if what not in suites and not wants_help:
        near = difflib.get_close_matches(what, [*suites, "check"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"say {', '.join(suites)} or check first."
        raise UserError(f"{COMMAND} needs a suite; {hint}")
    if wants_help:
        print(f"usage: {COMMAND} check FILE.zip, or")
    command = f"{COMMAND} {what or '|'.join(suites)}"
    config, options = parse_command_line(rest, command=command, config_class=Benchmark, default=Benchmark())
    if options.prints_config:
        print(to_json(config))
        return
    if options.workdir is None:
        raise UserError(f"{command} needs --workdir, the folder that its runs are written to.")
    with listening():
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
    plan = make_plan(suite, config.tasks, num_seeds=config.seeds, is_mixture=config.mixture, workdir=workdir)
    to_make = [training for training in plan.trainings if not is_done(training)]
    check_model(config, to_make)
    check_data(config, to_make)
    claim(workdir, suite, config)
    if config.init == TINY and not workdirs.is_workdir(workdir / TINY):
        make_tiny(workdir / TINY)
    init = str(workdir / TINY) if config.init == TINY else config.init
    results = [result for task in plan.by_majority for result in majority_results(config, task)]
    for training in plan.trainings:
        results += results_of(config, training, init)
    suite_results = SuiteResults(suite=suite, runs=results, conditions=conditions(config, plan))
    write_results(workdir, suite_results)
    print_results(suite_results)
    print(f"table: {workdir / 'results.md'}")
    if config.max_eval_examples is None:
        write_zip(suite, plan, config, workdir)
    return suite_results


def check_model(config: Benchmark, trainings: Sequence[Training]) -> None:
    """Returns if the model can learn and be asked every task, in rows and batches of these sizes.

    Raises:
      UserError: it cannot, or there is none.
    """
    model = None
    for training in {training.tasks[0].task: training for training in trainings}.values():
        model, vocabulary = model_of(config, find_task(training.tasks[0].task))
        if len(training.tasks) > 1 and not model.num_decoder_layers:
            raise UserError(
                f"{COMMAND}: --mixture is for models with a decoder; {config.init} is an encoder alone, which has a head "
                "for one task. Leave out --mixture, and each task has a run of its own."
            )
        for task in training.answered:
            form = form_of(config, find_task(task.task), model, vocabulary)
            check_lengths(model, COMMAND, **form.lengths)
    if model is not None:
        dataclasses.replace(model, dropout_rate=config.dropout_rate)  # refuses a rate out of range
        place(model, config.mesh, config.rules, batch_size=config.batch_size)


def model_of(config: Benchmark, task: Task) -> tuple[TransformerConfig, Vocabulary]:
    """Returns the model to start from, as it is for a task; nothing is made yet where it is a tiny one."""
    if config.init == TINY:
        return tiny_model()
    init = load_for_task(str(config.init), task)
    return init.config, init.vocabulary


def check_data(config: Benchmark, trainings: Sequence[Training]) -> None:
    """Returns if all that the runs train on and are measured on is there.

    Raises:
      UserError: it is not; without a data_dir that is found out when its turn comes, for TFDS may fetch it.
    """
    if config.data_folder is None:
        return
    if not config.data_folder.is_dir():
        raise UserError(
            f"--data_dir {config.data_folder} is no folder; give the one of the suite's official files."
        )
    missing: dict[str, str] = {}
    answered = {task.task: task for training in trainings for task in training.answered}.values()
    for task in answered:
        try:
            for split in (*(("train",) if task.trained_on is None else ()), *task.validation):
                find_task(task.task).load(split, config.data_folder)
        except UserError as error:
            missing[task.task] = str(error)
    if missing:
        others = [task.short_name for task in answered if not {task.task, task.trained_on} & set(missing)]
        name, *more = missing
        raise UserError(
            f"{name} cannot be run: {missing[name]}"
            + (f" The same goes for {', '.join(more)}." if more else "")
            + (f" --tasks {','.join(others)} leaves out what cannot." if others else "")
        )


def claim(workdir: Path, suite: Suite, config: Benchmark) -> None:
    """Makes the folder this benchmark's, or finds that it is; one whose runs have not begun may become another's.

    Raises:
      UserError: it holds something else, or runs of another config.
    """
    path = workdir / "benchmark.json"
    ours = {"suite": suite.name, "config": configs.to_dict(config)}
    if workdirs.is_new(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise UserError(f"--workdir {workdir} holds files but no benchmark; give a new or empty folder.")
    elif any(workdir.glob("*/seed-*")):
        saved = read_json(path)
        # Read as a config, so that fields added since have the values they had in effect.
        saved["config"] = configs.to_dict(workdirs.config_of(path, saved.get("config")))
        # A mixture of other tasks is another model.
        may_change = ("config.seeds",) if config.mixture else ("config.seeds", "config.tasks")
        for name, old, new in configs.differences(saved, ours):
            if name not in may_change:
                raise UserError(
                    f"--workdir {workdir} belongs to another benchmark: {name} was {old!r} and is now {new!r}; give "
                    "another --workdir."
                )
    write_json(path, ours)


def majority_results(config: Benchmark, suite_task: SuiteTask) -> list[SeedResult]:
    """Returns what the majority class scores on a task that is not trained on unless it is named; nothing without data."""
    task, splits = find_task(suite_task.task), {}
    try:
        for split in suite_task.validation:
            examples = task.load(split, config.data_folder)[: config.max_eval_examples]
            splits[split] = split_scores(task, examples, [constant_answer(task, examples)] * len(examples))
    except UserError as error:
        print(f"{task.name} is left out: {error}", file=sys.stderr)
        return []
    print(f"{task.name} is answered with its majority class; name it in --tasks to train on it")
    return [SeedResult(task=task.name, seed=0, step=0, seconds=0.0, splits=splits, is_majority=True)]


def write_zip(suite: Suite, plan: Plan, config: Benchmark, workdir: Path) -> None:
    """Writes the zip of seed 0's predictions, if there are any, and prints what in it is filled in."""
    answers: dict[str, SplitAnswers] = {}
    for training in plan.trainings:
        if training.seed:
            continue
        for suite_task in training.answered:
            task, of_task = find_task(suite_task.task), read_answers(training, suite_task)
            for file in suite_task.files:
                if file.split in of_task:
                    examples = task.load(file.split, config.data_folder)
                    if len(examples) != len(of_task[file.split]):
                        raise UserError(
                            f"{training.folder} has {len(of_task[file.split])} answers to the {len(examples)} examples of "
                            f"{task.name} {file.split}: delete that folder, and the run is made again."
                        )
                    answers[file.name] = SplitAnswers(task, examples, of_task[file.split])
    if not answers:
        return
    path = workdir / f"{suite.name}.zip"
    for note in write_submission(suite, answers, path, fills_missing=True):
        print(f"  {note}")
    print(f"submission: {path}")


def conditions(config: Benchmark, plan: Plan) -> dict[str, str]:
    """Returns what the table was made with."""
    devices = jax.devices()
    said = {"init": str(config.init)}
    if config.mixture:
        titles = ", ".join(task.title for task in plan.trainings[0].tasks)
        cap = "" if config.task_cap is None else f", of which {config.task_cap:,} a task count at most"
        said["mixture"] = (
            f"each run learnt all of {titles}, in proportion to their examples{cap}; each task has the checkpoint that was "
            "best at it, and the first one the time of the run"
        )
    return {
        **said,
        "hardware": f"{len(devices)} x {devices[0].device_kind}",
        "versions": f"t5like {__version__}, JAX {jax.__version__}, Python {platform.python_version()}",
    }


def tiny_model() -> tuple[TransformerConfig, Vocabulary]:
    """Returns a small T5 1.1 that reads and writes bytes."""
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
    return model, vocabulary


def make_tiny(folder: Path) -> None:
    """Makes the workdir of such a model, drawn at random."""
    model, vocabulary = tiny_model()
    placement = place(model, MeshShape(), AxisRules(), batch_size=len(jax.devices()))
    with jax.set_mesh(placement.mesh), workdirs.new_folder(folder) as temporary:
        params = initial_params(placement, seed=0)
        workdirs.create(temporary, Benchmark(init=TINY), model, vocabulary)
        with contextlib.closing(Checkpoints(temporary / "checkpoints")) as checkpoints:
            checkpoints.save_params(0, params)


if __name__ == "__main__":
    sys.exit(run_entry(main, is_watched=True, needs_one_host=True))
