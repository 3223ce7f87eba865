"""All tasks by name."""

import difflib

from t5like.errors import UserError
from t5like.tasks import docstrings, glue, super_glue, wnli_referent
from t5like.tasks.base import Task

TASKS: dict[str, Task] = {
    task.name: task for task in (docstrings.TASK, *glue.TASKS, wnli_referent.TASK, *super_glue.TASKS)
}


def find_task(name: str) -> Task:
    """Returns the task of that name.

    Raises:
      UserError: there is none; the message names the nearest and lists all.
    """
    if name in TASKS:
        return TASKS[name]
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.0)[0]
    raise UserError(f"There is no task {name!r}: did you mean {nearest!r}? The tasks are {', '.join(TASKS)}.")
