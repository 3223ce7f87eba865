"""All tasks by name, and those that a name describes.

glue/rte         one of `TASKS`; its files are where --data_dir says
conll:FOLDER     tagged words in a folder, see tagging.py
squad:FOLDER     questions and answers in a folder, see question_answering.py
"""

import difflib

from t5like.errors import UserError
from t5like.tasks import docstrings, glue, question_answering, super_glue, tagging, wnli_referent
from t5like.tasks.base import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (docstrings.TASK, *glue.TASKS, wnli_referent.TASK, *super_glue.TASKS, *tagging.TASKS, *question_answering.TASKS)
}

_OF_FOLDERS = {tagging.PREFIX: tagging.conll_task, question_answering.PREFIX: question_answering.squad_task}


def find_task(name: str) -> Task:
    """Returns the task of that name, or that it describes, see above.

    Raises:
      UserError: there is none; the message names the nearest and lists all. Or what is described cannot work.
    """
    if name in TASKS:
        return TASKS[name]
    prefix, colon, location = name.partition(":")
    if colon and prefix in _OF_FOLDERS:
        return _OF_FOLDERS[prefix](location)
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.0)[0]
    raise UserError(f"There is no task {name!r}: did you mean {nearest!r}? The tasks are {', '.join(TASKS)}.")
