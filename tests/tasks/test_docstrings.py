"""Laws of the embedded task, whose data come with Python."""

import collections
import pathlib

import pytest

from t5like.data import standard_library
from t5like.errors import UserError
from t5like.tasks import find_task

TASK = find_task("embedded/docstrings")


@pytest.fixture(scope="module")
def examples():
    return {split: TASK.load(split) for split in TASK.splits}


def test_white_space_is_collapsed(monkeypatch):
    docstring = standard_library.LabelledDocstring("Return  a\n    list.", "xml", 7)
    monkeypatch.setattr(standard_library, "labelled_docstrings", lambda split: [docstring])
    (example,) = TASK.load("train")
    assert (example.inputs, example.targets, example.index) == ("docstring: Return a list.", "xml", 0)


def test_every_label_occurs_in_both_splits(examples):
    assert set(examples) == {"train", "validation"}
    for split in examples.values():
        counts = collections.Counter(example.targets for example in split)
        assert set(counts) == set(TASK.labels)
        assert max(counts.values()) < 0.5 * len(split)  # no label is worth guessing blindly


def test_examples_are_numbered_and_hold_words(examples):
    for split in examples.values():
        assert [example.index for example in split] == list(range(len(split)))
        for example in split:
            words = example.inputs.split(" ")
            assert words[0] == "docstring:"
            assert len(words) > 1
            assert all(word == "".join(word.split()) != "" for word in words)


def test_splits_are_as_their_source_gives_them(examples):
    for split, loaded in examples.items():
        source = standard_library.labelled_docstrings(split)
        assert [example.targets for example in loaded] == [docstring.label for docstring in source]


def test_folder_of_data_is_refused():
    with pytest.raises(UserError, match="reads no files"):
        TASK.load("train", pathlib.Path("somewhere"))
