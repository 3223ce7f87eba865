"""Downloading and preparing a TFDS data set where there is no TensorFlow, and perhaps no network.

TFDS asks TensorFlow for little: to open files, most of all those it unpacks from archives, and for the names of a few
number types. What it asks for is lent to it from the standard library and numpy while it prepares.
"""

import contextlib
import functools
import glob
import inspect
import os
import queue
import ssl
import sys
import threading
import types
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

_ANSWER_WITHIN_SECONDS = 10
_BEAM_NAMES = {"beam", "apache_beam"}


class UnreachableHostError(Exception):
    """A host that holds files of a data set does not answer; the message names it and says why."""


def needs_beam(builder_class: type) -> bool:
    """Returns whether a data set's own code runs Apache Beam, without which it cannot be prepared."""
    import tensorflow_datasets as tfds

    if issubclass(builder_class, tfds.core.BeamBasedBuilder):
        return True
    methods = [value for value in vars(builder_class).values() if inspect.isfunction(value)]
    return any(not _BEAM_NAMES.isdisjoint(_names_in(method.__code__)) for method in methods)


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_varnames, *code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


@contextlib.contextmanager
def lent_to_tfds(builder_class: type) -> Iterator[None]:
    """Within it, builders of `builder_class` are made and prepared without TensorFlow, and say at once who is silent.

    TFDS's own unpacking is kept: it writes regular files only, and skips absolute paths and those that begin with a dot
    once normalized, so nothing leaves the folder. What TFDS prints on standard output goes to standard error.

    Raises:
      UnreachableHostError: while preparing, the host of a file that is not yet here gives no answer in 10 seconds.
    """
    from tensorflow_datasets.core.download import downloader, extractor

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_replaced(downloader, "_open_url", _once_answered(downloader._open_url)))
        for module in (downloader, extractor, sys.modules[builder_class.__module__]):
            if "tf" in vars(module):
                stack.enter_context(_replaced(module, "tf", _STAND_IN))
        yield


@contextlib.contextmanager
def _replaced(module: types.ModuleType, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _open_file(path: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    """Returns an open file as tf.io.gfile does: text is UTF-8, and only LF ends a line."""
    if "b" in mode:
        return open(path, mode)
    return open(path, mode, encoding="utf-8", newline="\n")


def _as_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")


class _StandIn(types.SimpleNamespace):
    """What a module of TFDS finds in place of TensorFlow, or of a part of it."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"it asks for {name!r} of TensorFlow")


_STAND_IN = _StandIn(
    io=_StandIn(
        gfile=_StandIn(
            GFile=_open_file,
            exists=os.path.exists,
            glob=glob.glob,
            isdir=os.path.isdir,
            listdir=os.listdir,
        )
    ),
    compat=_StandIn(as_text=_as_text),
    bool=np.bool_,
    float32=np.float32,
    int32=np.int32,
    int64=np.int64,
)


def _once_answered(open_url: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `open_url`, which tries a silent host for minutes, with each host asked for a word first."""
    require_answer = functools.cache(_require_answer)

    def open_answered_url(url: str, **options: Any) -> Any:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https"):
            require_answer(f"{parts.scheme}://{parts.netloc}/")
        return open_url(url, **options)

    return open_answered_url


def _require_answer(root: str) -> None:
    """Raises unless the server at `root` says anything at all.

    The request waits in a thread of its own: a timeout of urllib holds for each address of the host, and for none of
    the time that looking the host up takes.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_why_silent(root)), daemon=True).start()
    try:
        reason = answers.get(timeout=_ANSWER_WITHIN_SECONDS)
    except queue.Empty:
        reason = f"no answer in {_ANSWER_WITHIN_SECONDS} seconds"
    if reason is not None:
        raise UnreachableHostError(f"{urllib.parse.urlsplit(root).netloc} cannot be reached ({reason})")


def _why_silent(root: str) -> str | None:
    request = urllib.request.Request(root, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=2 * _ANSWER_WITHIN_SECONDS):  # nobody waits as long
            return None
    except urllib.error.HTTPError:
        return None  # an answer, if only that there is nothing at the root
    except urllib.error.URLError as error:
        # TFDS brings its own certificates; where only ours are wanting, the host did answer.
        return None if isinstance(error.reason, ssl.SSLCertVerificationError) else str(error.reason)
    except Exception as error:
        return str(error) or type(error).__name__
