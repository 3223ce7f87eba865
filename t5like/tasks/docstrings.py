"""The embedded classification task, which needs no files: which module of the standard library is documented here?"""

import pathlib
import typing

from t5like.data import standard_library
from t5like.errors import UserError
from t5like.tasks.base import Example, Task
from t5like.tasks.metrics import ACCURACY


def _read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
    """Returns a split; runs of white space become one blank, so that indentation gives nothing away.

    'Return  a\\n    list.' of module xml -> inputs 'docstring: Return a list.', targets 'xml'

    Raises:
      UserError: a data_dir is given, or this Python came without the sources of its standard library.
    """
    if data_dir is not None:
        raise UserError(f"embedded/docstrings reads no files: leave out --data_dir {data_dir}.")
    docstrings = standard_library.labelled_docstrings(typing.cast(standard_library.Split, split))
    return [
        Example(
            index=index,
            inputs=f"docstring: {' '.join(docstring.text.split())}",
            targets=docstring.label,
            texts=(" ".join(docstring.text.split()),),
            answer=standard_library.LABELS.index(docstring.label),
        )
        for index, docstring in enumerate(docstrings)
    ]


TASK = Task(
    name="embedded/docstrings",
    labels=standard_library.LABELS,
    metrics=(ACCURACY,),
    splits=typing.get_args(standard_library.Split),
    read=_read,
)
