"""The files of GLUE and SuperGLUE: where they lie, their rows, and what is said of those that are broken."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from t5like.errors import UserError
from t5like.tasks.text_files import read_lines


def find_file(
    suite: str, folders: Sequence[str], names: Sequence[str], data_dir: pathlib.Path
) -> pathlib.Path:
    """Returns the first file of these names, in one of the folders under `data_dir`, or in `data_dir` itself.

    Raises:
      UserError: there is none.
    """
    data_dir = pathlib.Path(data_dir)
    for folder in (*(data_dir / folder for folder in folders), data_dir):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        f"There is no {data_dir / folders[0] / names[0]}: --data_dir must be the folder of {suite} that holds "
        f"{folders[0]}/, or {folders[0]}/ itself, with {names[0]} in it."
    )


def json_rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) for each line of a JSON Lines file; lines of white space do not count.

    Raises:
      UserError: the file cannot be read, or a line is no JSON object.
    """
    for line, text in enumerate(read_lines(path), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {line}: no JSON ({error}): mend the line, or fetch the file again."
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, line {line}: {text[:40]!r} is no JSON object: is this the file of another task?"
            )
        yield line, row
