"""All tasks by name, and those that a name describes.

glue/rte               one of `TASKS`; its files are where --data_dir says
my_task.py             what a Python file of the user's defines, see task_file.py
csv:F  tsv:F  jsonl:F  the rows of a table, with the columns that the user names, see tables.py
conll:F                tagged words in a folder, see tagging.py
squad:F                questions and answers in a folder, see question_answering.py
translation:en-de:F    parallel text in a folder, see translation.py
summarisation:F        texts and their summaries, see summarisation.py
winogender:F           occupations and the pronouns of three genders in a folder, see winogender.py
"""

import difflib
import pathlib
from collections.abc import Callable
from typing import get_args

from t5like.errors import UserError
from t5like.tasks import (
    docstrings,
    glue,
    question_answering,
    summarisation,
    super_glue,
    tagging,
    translation,
    winogender,
    wnli_referent,
)
from t5like.tasks.base import Task
from t5like.tasks.table_files import TableFormat
from t5like.tasks.tables import TableColumns, table_task
from t5like.tasks.task_file import task_of_file

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        docstrings.TASK,
        *glue.TASKS,
        wnli_referent.TASK,
        *super_glue.TASKS,
        *tagging.TASKS,
        *question_answering.TASKS,
        *translation.TASKS,
    )
}

_OF_FOLDERS: dict[str, Callable[[str], Task]] = {
    tagging.PREFIX: tagging.conll_task,
    question_answering.PREFIX: question_answering.squad_task,
    translation.PREFIX: translation.parallel_task,
    winogender.PREFIX: winogender.winogender_task,
}


def find_task(name: str, columns: TableColumns | None = None) -> Task:
    """Returns the task of that name, or that it describes, see above.

    Args:
      name: as --task gives it.
      columns: of a table, which columns are meant; None: none were named.

    Raises:
      UserError: there is none; the message names the nearest and lists all. Or what is described cannot work.
    """
    columns = columns or TableColumns()
    prefix, _, location = name.partition(":")
    if prefix in get_args(TableFormat):
        return table_task(
            name,
            text_columns=columns.texts,
            label_column=columns.label_column,
            label_kind=columns.label_kind,
        )
    if prefix == summarisation.PREFIX and columns.label_kind == "label":
        return summarisation.summarisation_task(
            location,
            text_columns=columns.texts or (summarisation.ARTICLE,),
            label_column=columns.label_column or summarisation.HIGHLIGHTS,
        )
    if columns != TableColumns():
        raise UserError(
            f"{name} has columns of its own: leave out --text_columns, --label_column and --label_kind."
        )
    if name in TASKS:
        return TASKS[name]
    if prefix in _OF_FOLDERS:
        return _OF_FOLDERS[prefix](location)
    if name.endswith(".py"):
        return task_of_file(pathlib.Path(name))
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.0)[0]
    raise UserError(
        f"There is no task {name!r}: did you mean {nearest!r}? The tasks are {', '.join(TASKS)}, and your own: a Python "
        f"file, {', '.join(f'{form}:FILE' for form in get_args(TableFormat))}, {tagging.PREFIX}:FOLDER, "
        f"{question_answering.PREFIX}:FOLDER, {translation.PREFIX}:en-de:FOLDER, {winogender.PREFIX}:FOLDER or "
        f"{summarisation.PREFIX}:FILE."
    )
