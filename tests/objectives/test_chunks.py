"""Laws of gathering documents and cutting them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.objectives.chunks import Chunks, cut, gather, positions_in
from tests.objectives.fakes import documents, flat

quick = settings(deadline=None, max_examples=100)


def parted(chunks: Chunks) -> list[list[int]]:
    """Returns the tokens of each chunk."""
    return [part.tolist() for part in np.split(chunks.tokens, np.cumsum(chunks.lengths))[:-1]]


def test_worked_examples():
    chunks = Chunks(np.arange(11, 16), np.array([3, 2]))
    assert chunks.starts.tolist() == [0, 3]
    assert chunks.positions.tolist() == positions_in(chunks.lengths).tolist() == [0, 1, 2, 0, 1]
    assert parted(chunks.take(np.array([1, 0]))) == [[14, 15], [11, 12, 13]]
    texts = [np.array([7, 8]), np.array([]), np.array([9])]
    assert parted(gather(texts, joins_documents=False, end_ids=(1,))) == [[7, 8, 1], [9, 1]]
    assert parted(gather(texts, joins_documents=True, end_ids=(1,))) == [[7, 8, 1, 9, 1]]
    assert parted(cut(Chunks(np.arange(1, 6), np.array([4, 1])), 3)) == [[1, 2, 3], [4], [5]]


@quick
@given(texts=documents, joins=st.booleans(), ends=st.booleans(), length=st.integers(1, 20))
def test_chunks_are_the_texts_and_only_the_last_of_each_is_short(texts, joins, ends, length):
    end_ids = (1,) if ends else ()
    gathered = gather(texts, joins_documents=joins, end_ids=end_ids)
    expected = [[*text.tolist(), *end_ids] for text in texts if len(text)]
    if joins:
        expected = [flat(expected)] if expected else []
    assert parted(gathered) == expected
    assert gathered.tokens.dtype == np.int32
    chunks = cut(gathered, length)
    assert parted(chunks) == [text[i : i + length] for text in expected for i in range(0, len(text), length)]


@quick
@given(texts=documents, data=st.data())
def test_taken_chunks_are_those_asked_for(texts, data):
    chunks = gather(texts, joins_documents=False)
    most = 8 if len(chunks.lengths) else 0
    numbers = data.draw(st.lists(st.integers(0, max(len(chunks.lengths) - 1, 0)), max_size=most))
    taken = chunks.take(np.array(numbers, np.int64))
    assert parted(taken) == [parted(chunks)[number] for number in numbers]
