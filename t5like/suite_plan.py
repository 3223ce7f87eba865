"""Which trainings a benchmark is made of: one for each task and seed, or one a seed on the mixture of them all."""

import dataclasses
import difflib
import pathlib
from collections.abc import Sequence

from t5like.errors import UserError
from t5like.tasks.suites import Suite, SuiteTask

MIXTURE = "mixture"  # the folder of its trainings; others have that of their task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a benchmark.

    Attributes:
      tasks: what it learns.
      answered: what its model answers: those, and the tasks without training data that go with them.
      seed: of the run.
      folder: its workdir.
    """

    tasks: tuple[SuiteTask, ...]
    answered: tuple[SuiteTask, ...]
    seed: int
    folder: pathlib.Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done for the tasks of a benchmark.

    Attributes:
      trainings: in their order.
      by_majority: tasks that no model answers, but the majority class.
    """

    trainings: tuple[Training, ...]
    by_majority: tuple[SuiteTask, ...]


def make_plan(
    suite: Suite, names: str | None, *, num_seeds: int, is_mixture: bool, workdir: pathlib.Path
) -> Plan:
    """Returns what is to be done for the tasks that are named, for all of the suite where none are.

    Args:
      is_mixture: a training learns all tasks, and not one.

    Raises:
      UserError: as `chosen_tasks`.
    """
    tasks = chosen_tasks(suite, names)
    by_majority = tuple(task for task in tasks if task.is_majority_by_default and names is None)
    learnt = tuple(task for task in tasks if task.trained_on is None and task not in by_majority)
    learnt_at_once = {MIXTURE: learnt} if is_mixture else {task.short_name: (task,) for task in learnt}
    trainings = []
    for folder, own in learnt_at_once.items():
        known = {task.task for task in own}
        answered = tuple(task for task in tasks if known & {task.task, task.trained_on})
        trainings += [
            Training(tasks=own, answered=answered, seed=seed, folder=workdir / folder / f"seed-{seed}")
            for seed in range(num_seeds)
        ]
    return Plan(trainings=tuple(trainings), by_majority=by_majority)


def chosen_tasks(suite: Suite, names: str | None) -> Sequence[SuiteTask]:
    """Returns the tasks of a suite that are named, all where none are, in the order of the suite.

    Raises:
      UserError: there is no such task, or a task without training data comes without the one that it is answered by.
    """
    known = {task.short_name: task for task in suite.tasks}
    if names is None:
        return suite.tasks
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
