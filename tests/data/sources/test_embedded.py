import pickle

import pytest

from t5like.data import standard_library
from t5like.data.sources import open_source, split_source
from tests.data.sources.test_sources import read_all


@pytest.fixture(scope="module")
def source():
    return open_source("embedded", split="validation")


def test_it_is_the_standard_library_some_documents_to_a_block(source):
    assert read_all(source) == standard_library.documents("validation")
    texts = list(source.read(3))
    assert list(source.read(3, 1)) == texts[1:]
    assert source.place(0, 0) == "embedded, document 0"
    train, held_out = split_source(source)
    assert train.num_blocks + held_out.num_blocks == source.num_blocks


def test_its_fingerprint_is_of_the_text(source, monkeypatch):
    assert pickle.loads(pickle.dumps(source)).fingerprint() == source.fingerprint()
    assert source.digest(str) == source.fingerprint()
    texts = standard_library.documents("validation")
    for changed in (["x", *texts[1:]], texts[:-1], [texts[0] + texts[1], *texts[2:]], texts[::-1]):
        monkeypatch.setattr(standard_library, "documents", lambda split, changed=changed: changed)
        assert open_source("embedded", split="validation").fingerprint() != source.fingerprint()
