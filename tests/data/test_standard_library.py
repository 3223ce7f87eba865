import collections
import pathlib
import subprocess
import sys
import sysconfig

import pytest

from t5like.data import standard_library
from t5like.errors import UserError

_MODULE = '''"""Docstring of the module, long enough."""
raise RuntimeError("imported")

class Outer:
    """Docstring of the class, long enough."""

    if True:
        async def method(self):
            """Docstring of the method, long enough."""
            f = lambda: 0

def short():
    """Too short."""

def again():
    """Docstring of the class, long enough."""
'''


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """A standard library of our own: a function from {path: source} to nothing."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    standard_library._docstrings.cache_clear()

    def write(files):
        for path, source in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(source)

    yield write
    standard_library._docstrings.cache_clear()


def _docstrings_of(split_function):
    return {split: split_function(split) for split in ("train", "validation")}


def test_docstrings_are_found_in_order_without_importing(fake_library):
    fake_library({"email/parser.py": _MODULE, "xml.py": '"""Another module, also long enough."""'})
    labelled = sorted(
        standard_library.labelled_docstrings("train") + standard_library.labelled_docstrings("validation"),
        key=lambda docstring: docstring.index,
    )
    assert [(docstring.text, docstring.label, docstring.index) for docstring in labelled] == [
        ("Another module, also long enough.", "xml", 0),
        ("Docstring of the module, long enough.", "email", 1),
        ("Docstring of the class, long enough.", "email", 2),
        ("Docstring of the method, long enough.", "email", 3),
    ]


def test_a_pure_python_twin_counts_as_its_module(fake_library):
    fake_library({"_pydecimal.py": '"""Arithmetic with decimal numbers."""'})
    labelled = _docstrings_of(standard_library.labelled_docstrings)
    assert [docstring.label for docstring in labelled["train"] + labelled["validation"]] == ["decimal"]


@pytest.mark.parametrize(
    "path",
    ["site-packages/email.py", "test/email.py", "email/test/x.py", "email/__pycache__/x.py", "idlelib/x.py"],
)
def test_folders_that_are_not_the_library_are_skipped(fake_library, path):
    fake_library(
        {"email.py": '"""The module of the library itself."""', path: '"""Not a part of the library."""'}
    )
    texts = standard_library.documents("train") + standard_library.documents("validation")
    assert "The module of the library itself." in texts
    assert "Not a part of the library." not in texts


def test_files_that_do_not_parse_are_skipped(fake_library):
    fake_library({"bad.py": "def (:", "null.py": "\0", "email.py": '"""The only file that parses."""'})
    texts = standard_library.documents("train") + standard_library.documents("validation")
    assert "The only file that parses." in texts


@pytest.mark.parametrize("function", [standard_library.documents, standard_library.labelled_docstrings])
def test_a_library_without_sources_is_a_user_error(fake_library, function):
    fake_library({"email.pyc": ""})
    with pytest.raises(UserError, match="sources"):
        function("train")


def test_a_held_out_docstring_is_in_no_training_split():
    documents = _docstrings_of(standard_library.documents)
    labelled = _docstrings_of(standard_library.labelled_docstrings)
    training = {*documents["train"], *(docstring.text for docstring in labelled["train"])}
    held_out = {*documents["validation"], *(docstring.text for docstring in labelled["validation"])}
    assert not training & held_out
    for split in ("train", "validation"):
        assert {docstring.text for docstring in labelled[split]} <= set(documents[split])
    for split_function in (documents, labelled):
        share = len(split_function["validation"]) / sum(map(len, split_function.values()))
        assert 0.07 < share < 0.14


def test_no_text_and_no_index_comes_twice():
    documents = _docstrings_of(standard_library.documents)
    texts = documents["train"] + documents["validation"]
    assert len(set(texts)) == len(texts)
    labelled = _docstrings_of(standard_library.labelled_docstrings)
    indices = [docstring.index for docstrings in labelled.values() for docstring in docstrings]
    assert sorted(indices) == list(range(len(indices)))


def test_labels_are_worth_learning():
    counts = collections.Counter(
        docstring.label for docstring in standard_library.labelled_docstrings("train")
    )
    assert set(counts) == set(standard_library.LABELS)
    assert counts.total() >= 2000
    assert max(counts.values()) < 0.2 * counts.total()
    assert min(counts.values()) >= 80


def test_text_is_the_same_in_another_process_with_optimised_code():
    program = (
        "import zlib; from t5like.data import standard_library as s;"
        "print(zlib.crc32('\\0'.join(s.documents('train')).encode()))"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    output = subprocess.run(
        [sys.executable, "-OO", "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    import zlib

    assert int(output) == zlib.crc32("\0".join(standard_library.documents("train")).encode())
