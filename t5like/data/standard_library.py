"""Text and labels that come with every CPython: the default data, read without a network.

The text is the language reference behind `help()` and the docstrings of the standard library; the label of a
docstring is the module it belongs to. Sources are parsed and never imported.
"""

import ast
import dataclasses
import functools
import os
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from t5like.errors import UserError

Split = Literal["train", "validation"]

# The modules with most docstrings among those in CPython 3.11 to 3.13 and in every packaging of it
# (tkinter, the largest, is often left out); the rarest has some 110 docstrings, the commonest some 340.
LABELS = (
    "asyncio",
    "decimal",
    "email",
    "http",
    "importlib",
    "logging",
    "mailbox",
    "multiprocessing",
    "tarfile",
    "turtle",
    "unittest",
    "xml",
)

_SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests", "turtledemo"}
)
_MIN_CHARACTERS = 20
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledDocstring:
    """A docstring and the module it documents."""

    text: str
    label: str  # one of LABELS
    index: int  # position among the labelled docstrings of both splits: no two have the same


class _Docstring(NamedTuple):
    text: str
    module: str


def documents(split: Split) -> list[str]:
    """Returns the entries of the language reference, then the docstrings, each text once, in a fixed order.

    Raises:
      UserError: this Python came without the sources of its standard library.
    """
    texts = dict.fromkeys(_topics() + tuple(docstring.text for docstring in _docstrings()))
    return [text for text in texts if _split_of(text) == split]


def labelled_docstrings(split: Split) -> list[LabelledDocstring]:
    """Returns the docstrings of the modules in LABELS, each text once, in a fixed order.

    Raises:
      UserError: this Python came without the sources of its standard library.
    """
    labelled = (docstring for docstring in _docstrings() if docstring.module in LABELS)
    return [
        LabelledDocstring(text, module, index)
        for index, (text, module) in enumerate(labelled)
        if _split_of(text) == split
    ]


def _split_of(text: str) -> Split:
    """Returns where `text` belongs, one in ten to validation, from its content alone.

    The same text is therefore held out from every function here, whatever else a version of Python holds.
    """
    return "validation" if zlib.crc32(text.encode("utf-8", "surrogatepass")) % 10 == 0 else "train"


def _topics() -> tuple[str, ...]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise _no_sources() from error
    return tuple(text for _, text in sorted(topics.items()))


@functools.lru_cache(maxsize=1)
def _docstrings() -> tuple[_Docstring, ...]:
    """Returns every docstring of the standard library, the first of those with the same text."""
    first_of_text: dict[str, _Docstring] = {}
    folder = sysconfig.get_path("stdlib")
    for path in _source_files(folder):
        module = os.path.relpath(path, folder).split(os.sep)[0].removesuffix(".py")
        module = module.removeprefix("_py")  # decimal's docstrings are in _pydecimal, and so on
        for text in _docstrings_in_file(path):
            if len(text) >= _MIN_CHARACTERS:
                first_of_text.setdefault(text, _Docstring(text, module))
    if not first_of_text:
        raise _no_sources()
    return tuple(first_of_text.values())


def _source_files(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        yield from (os.path.join(parent, name) for name in sorted(names) if name.endswith(".py"))


def _docstrings_in_file(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in strings; nothing the user could mend
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return
    # Expressions hold no docstrings: walking statements only is six times as fast as ast.walk.
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
        for block in reversed(_BLOCKS):
            children = getattr(node, block, [])
            if isinstance(children, list):  # the body of a lambda is one expression
                pending.extend(reversed(children))


def _no_sources() -> UserError:
    return UserError(
        f"The embedded text is read from the standard library's sources, and {sysconfig.get_path('stdlib')} "
        "holds none; use a Python that ships them, or name text of your own with --data."
    )
