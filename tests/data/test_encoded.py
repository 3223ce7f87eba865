"""Documents of ids are those of the vocabulary, record by record, and damage comes after what is before it."""

import numpy as np
import pytest

from t5like.data import encoded
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.encoded import Encoded
from t5like.errors import DamagedDataError


class Texts:
    num_blocks = 1

    def __init__(self, texts, error=None):
        self.texts, self.error = texts, error

    def read(self, block, start=0):
        yield from self.texts[start:]
        if self.error:
            raise self.error

    def place(self, block, record):
        return f"a.txt, line {record + 1}"


@pytest.fixture(params=[1, 10, 2**20])
def batch_characters(request, monkeypatch):
    monkeypatch.setattr(encoded, "_BATCH_CHARACTERS", request.param)


TEXTS = ["one", "", "two words", "é", "last"]


@pytest.mark.usefixtures("batch_characters")
@pytest.mark.parametrize("start", range(7))
def test_ids_are_those_of_each_text_from_any_record_on(start):
    vocabulary = ByteVocabulary()
    ids = list(Encoded(Texts(TEXTS), vocabulary).read(0, start))
    assert [i.tolist() for i in ids] == [vocabulary.encode(text).tolist() for text in TEXTS[start:]]
    assert all(i.dtype == np.int32 for i in ids)


@pytest.mark.usefixtures("batch_characters")
def test_what_comes_before_damage_is_read():
    documents = Encoded(Texts(TEXTS, DamagedDataError("a.txt: torn")), ByteVocabulary())
    read = []
    with pytest.raises(DamagedDataError, match="torn"):
        read.extend(documents.read(0, 1))
    assert len(read) == 4


@pytest.mark.usefixtures("batch_characters")
def test_a_text_that_cannot_be_encoded_is_damage_with_a_place():
    documents, read = Encoded(Texts(["one", "two", "half \ud800", "three"]), ByteVocabulary()), []
    with pytest.raises(DamagedDataError, match=r"a\.txt, line 3: .*not valid Unicode"):
        read.extend(documents.read(0))
    assert len(read) == 2
