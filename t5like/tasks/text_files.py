"""Text files of tasks, line by line."""

import codecs
import difflib
import pathlib

from t5like.errors import UserError


def read_lines(path: pathlib.Path) -> list[str]:
    r"""Returns the lines of a text file: they end at \n alone, and a byte order mark and the \r of \r\n go.

    Raises:
      UserError: there is no such file, or it is not UTF-8; the message names file and line.
    """
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise UserError(f"There is no {path}{nearest_name(path)}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check who may read it.") from error
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8: convert the file, or fetch it again.") from error
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def nearest_name(path: pathlib.Path) -> str:
    """Returns what to say of a path that is not there: the name nearest to it beside it, or nothing."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; the nearest name there is {near[0]!r}" if near else ""
