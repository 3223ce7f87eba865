"""Records that grow while a run does: one strict JSON object a line, the last of which a kill may have torn."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from t5like.errors import UserError

Row = dict[str, Any]


class RecordLine(NamedTuple):
    """A line as it stands in the file, its end included, and what it says."""

    text: str
    row: Row


def read_record(
    path: str | os.PathLike[str], parse: Callable[[Any], Row], *, row_of: str, remedy: str
) -> list[RecordLine]:
    """Returns the lines of a record in the order written; a torn last one is none.

    Args:
      parse: returns the row of a line's JSON, or raises ValueError where it is none.
      row_of: what the lines are rows of, and
      remedy: what to do with one that is not, as words in an error.

    Raises:
      UserError: the file cannot be read, or a whole line of it is not a row.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): name a workdir that holds a run."
        ) from error
    found = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(keepends=True), start=1):
        try:
            text = line.decode("utf-8")
            found.append(RecordLine(text, parse(json.loads(text))))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"line {number} of {path} is not a row of {row_of} ({error}): {remedy}."
            ) from error
    return found
