import collections
import dataclasses
import gc
import itertools
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t5like.batch import EXAMPLE_IDS, SpecialTokens
from t5like.data import pipeline
from t5like.data.pipeline import evaluation_batches, finetuning_batches, held_out_rows, pretraining_batches
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.errors import UserError

_NUM_BATCHES = 12


class NumberVocabulary:
    """Reads the document "5 6 7" as the ids [5 6 7]."""

    special_tokens = SpecialTokens(1, np.array([1000, 999], np.int32))

    def encode_documents(self, texts):
        return [np.array(list(map(int, text.split())), np.int32) for text in texts]


@dataclasses.dataclass(frozen=True)
class Copy:
    """An objective that keeps the tokens and shows which random numbers it was given."""

    tokens_length: int

    def __call__(self, tokens, rng, special_tokens):
        assert special_tokens.eos_id == 1
        row = np.zeros(self.tokens_length, np.int32)
        row[: len(tokens)] = tokens
        return {"decoder_target_tokens": row, "draw": rng.random(2)}


def _documents(lengths):
    """Documents of the given numbers of tokens, every token with an id of its own from 1 on."""
    ids = itertools.count(1)
    return [" ".join(str(next(ids)) for _ in range(length)) for length in lengths]


def _batches(documents, *, tokens_length=4, batch_size=3, seed=0, group_documents=3):
    return pretraining_batches(
        documents,
        vocabulary=NumberVocabulary(),
        objective=Copy(tokens_length),
        batch_size=batch_size,
        seed=seed,
        group_documents=group_documents,
    )


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def _assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def _rows(batches):
    return [
        {name: feature[k] for name, feature in batch.items()}
        for batch in batches
        for k in range(len(batch["draw"]))
    ]


def _rows_by_epoch(documents, num_epochs, *, group_documents=3, **arguments):
    """Returns the rows of each of the first epochs, in training order, told apart by `example_ids`."""
    num_groups = -(-len(documents) // group_documents)
    epochs = collections.defaultdict(list)
    iterator = _batches(documents, batch_size=1, group_documents=group_documents, **arguments)
    while num_epochs not in epochs:
        (row,) = _rows([next(iterator)])
        epochs[(int(row[EXAMPLE_IDS]) >> 32) // num_groups].append(row)
    assert sorted(epochs) == list(range(num_epochs + 1))
    return [epochs[epoch] for epoch in range(num_epochs)]


def _tokens(row):
    return [int(token) for token in row["decoder_target_tokens"] if token]


# One group and several, groups without text, epochs shorter than a batch, chunks longer than a group.
corpora = st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any)


def _run(iterator, count):
    """Returns the next batches, and as JSON the state before each of them and after the last."""
    states, batches = [json.dumps(iterator.get_state())], []
    for _ in range(count):
        batches.append(next(iterator))
        states.append(json.dumps(iterator.get_state()))
    return batches, states


def _assert_resumes_at(k, make_iterator, batches, states):
    """Holds that a new iterator, set to state k, goes on as the one that ran straight through."""
    resumed = make_iterator()
    resumed.set_state(json.loads(states[k]))
    assert json.dumps(resumed.get_state()) == states[k]
    following = batches[k : k + 3]
    again, states_again = _run(resumed, len(following))
    resumed.close()
    _assert_same(again, following)
    assert states_again == states[k : k + 4]


@settings(deadline=None, max_examples=15)
@given(
    lengths=corpora,
    arguments=st.fixed_dictionaries(
        {
            "tokens_length": st.integers(1, 9),
            "batch_size": st.integers(1, 5),
            "group_documents": st.integers(1, 4),
            "seed": st.integers(0, 2**40),
        }
    ),
    k=st.integers(0, _NUM_BATCHES),
)
def test_going_on_from_any_state_is_going_straight_on(lengths, arguments, k):
    straight = _batches(_documents(lengths), **arguments)
    batches, states = _run(straight, _NUM_BATCHES + 2)
    _assert_resumes_at(k, lambda: _batches(_documents(lengths), **arguments), batches, states)
    straight.set_state(json.loads(states[k]))  # the iterator that ran ahead, turned back
    _assert_same(_take(straight, 2), batches[k : k + 2])
    straight.close()


def test_every_state_resumes_across_groups_and_epochs():
    documents = _documents([5, 0, 7, 9, 1, 3, 2])
    batches, states = _run(_batches(documents), _NUM_BATCHES + 2)
    groups = {int(number) >> 32 for batch in batches[:_NUM_BATCHES] for number in batch[EXAMPLE_IDS]}
    assert groups >= set(range(9))  # three epochs of three groups
    for k in range(_NUM_BATCHES):
        _assert_resumes_at(k, lambda: _batches(documents), batches, states)


def test_prefetching_runs_ahead_of_the_state():
    documents = Recorder(_documents([4] * 1000))
    iterator = _batches(documents, group_documents=1, batch_size=1)
    assert documents.read == []
    next(iterator)
    for _ in range(1000):
        if len(documents.read) > 1:
            break
        threading.Event().wait(0.005)
    assert 1 < len(documents.read) <= pipeline._PREFETCH_BATCHES + 3
    assert iterator.get_state() == {"parent": {"next_index": 0}, "next_index_in_buffer": 1}


@settings(deadline=None, max_examples=25)
@given(corpora, st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
def test_each_epoch_has_every_token_once(lengths, tokens_length, group_documents, seed):
    documents = _documents(lengths)
    arguments = {"tokens_length": tokens_length, "group_documents": group_documents, "seed": seed}
    token_ids = [list(map(int, document.split())) for document in documents]
    for rows in _rows_by_epoch(documents, 2, **arguments):
        by_group = collections.defaultdict(dict)
        for row in rows:
            group, chunk = divmod(int(row[EXAMPLE_IDS]), 2**32)
            assert chunk not in by_group[group]
            by_group[group][chunk] = _tokens(row)
        joined = []
        for chunks in by_group.values():
            assert sorted(chunks) == list(range(len(chunks)))
            *full, tail = (chunks[number] for number in range(len(chunks)))
            assert all(len(chunk) == tokens_length for chunk in full)
            assert 1 <= len(tail) <= tokens_length
            joined += [*itertools.chain(*full), *tail]
        # Documents are whole and next to one another: each begins where some other ended.
        assert sorted(joined) == sorted(itertools.chain(*token_ids))
        for ids in filter(None, token_ids):
            start = joined.index(ids[0])
            assert joined[start : start + len(ids)] == ids


def test_a_group_joined_and_cut_as_in_the_docstring():
    chunks = pipeline._chunks_of_group(3, ["1 2 3", "4 5"], NumberVocabulary(), 4)
    assert [chunk.tokens.tolist() for chunk in chunks] == [[1, 2, 3, 4], [5]]
    assert [chunk.chunk_id for chunk in chunks] == [3 * 2**32, 3 * 2**32 + 1]


def test_example_ids_are_those_of_the_docstring():
    rows = _rows_by_epoch(_documents([40] * 10), 3, group_documents=1)
    assert (2 * 10 + 3) * 2**32 + 7 in {int(row[EXAMPLE_IDS]) for row in rows[2]}
    assert rows[0][0][EXAMPLE_IDS].dtype == np.int64


def test_the_seed_decides_order_and_corruption():
    documents = _documents([6] * 20)
    first = _take(_batches(documents, seed=3), 8)
    _assert_same(first, _take(_batches(documents, seed=3), 8))
    other = _take(_batches(documents, seed=4), 8)
    assert any(
        (a["decoder_target_tokens"] != b["decoder_target_tokens"]).any()
        for a, b in zip(first, other, strict=True)
    )
    assert not {float(x) for b in first for x in b["draw"].flat} & {
        float(x) for b in other for x in b["draw"].flat
    }


def test_a_seed_and_the_next_share_no_epoch():
    """Grain shuffles epoch e with its seed plus e: seeds next to one another must not be handed to it as they are."""
    documents = _documents([1] * 50)
    orders = [
        [tuple(_tokens(row)) for row in rows]
        for seed in (7, 8)
        for rows in _rows_by_epoch(documents, 2, seed=seed, group_documents=1)
    ]
    assert len(set(map(tuple, orders))) == 4


def test_epochs_differ_in_order_and_corruption():
    first, second = _rows_by_epoch(_documents([4] * 20), 2, group_documents=5)
    assert sorted(map(_tokens, first)) == sorted(map(_tokens, second))
    assert list(map(_tokens, first)) != list(map(_tokens, second))
    draws = [{float(x) for row in rows for x in row["draw"]} for rows in (first, second)]
    assert not draws[0] & draws[1]
    assert len(draws[0]) == 2 * len(first)


def test_chunks_of_a_group_are_shuffled():
    (rows,) = _rows_by_epoch(_documents([400]), 1)
    ids = [int(row[EXAMPLE_IDS]) for row in rows]
    assert ids != sorted(ids)
    assert sorted(ids) == list(range(100))


class Recorder(collections.abc.Sequence):
    def __init__(self, documents):
        self._documents = documents
        self.read = []

    def __len__(self):
        return len(self._documents)

    def __getitem__(self, index):
        self.read.append(index)
        return self._documents[index]


class Endless(collections.abc.Sequence):
    """Ten million documents of twenty tokens."""

    def __len__(self):
        return 10_000_000

    def __getitem__(self, index):
        return " ".join([str(index + 1)] * 20)


def test_millions_of_documents_cost_no_more_than_their_first_groups():
    documents = Recorder(Endless())
    iterator = _batches(documents, tokens_length=20, batch_size=4, group_documents=8)
    batch = next(iterator)
    state = json.dumps(iterator.get_state())
    assert len(state) < 100
    iterator.close()
    assert len(documents.read) <= 8 * (pipeline._PREFETCH_BATCHES + 3)
    assert max(documents.read) > 1_000_000  # from all over
    assert batch["decoder_target_tokens"].shape == (4, 20)


@pytest.mark.parametrize("documents", [[], ["", " ", ""], [""] * 7])
def test_no_text_is_a_user_error_and_no_endless_search(documents):
    with pytest.raises(UserError, match=r"no documents|no text"):
        next(_batches(documents))
    with pytest.raises(UserError, match="no text"):
        held_out_rows(documents, vocabulary=NumberVocabulary(), objective=Copy(4), seed=0, max_rows=3)


def test_errors_in_a_document_come_out_of_next():
    class Broken(Endless):
        def __getitem__(self, index):
            raise UserError("record 7 is not text")

    with pytest.raises(UserError, match="record 7"):
        next(_batches(Broken()))


def test_closing_or_dropping_an_iterator_ends_its_thread():
    def prefetching():
        return [thread for thread in threading.enumerate() if "prefetch" in thread.name]

    gc.collect()
    before = len(prefetching())
    closed, dropped = _batches(_documents([4])), _batches(_documents([4]))
    next(closed), next(dropped)
    assert len(prefetching()) == before + 2
    closed.close()
    del dropped
    gc.collect()
    assert len(prefetching()) == before


def test_an_iterator_that_lives_to_the_end_of_the_program_ends_it_quietly():
    program = (
        "import numpy as np; from t5like.data.pipeline import finetuning_batches;"
        "rows = [{'example_ids': np.array(number)} for number in range(3)];"
        "batches = finetuning_batches(rows, batch_size=8, seed=0); next(batches)"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Exception" not in done.stderr


def test_real_tokens_of_a_real_vocabulary(tmp_path):
    texts = [f"document {number} says {'word ' * number}" for number in range(40)]
    train_vocabulary(texts, size=32, path=tmp_path / "v.model")
    vocabulary = SentencePieceVocabulary.load(tmp_path / "v.model")
    iterator = pretraining_batches(texts, vocabulary=vocabulary, objective=Copy(16), batch_size=4, seed=0)
    num_tokens = sum(map(len, vocabulary.encode_batch(texts)))
    rows = _rows(_take(iterator, -(-num_tokens // 16) // 4))
    assert "word word word" in vocabulary.decode(
        np.concatenate([row["decoder_target_tokens"] for row in rows])
    )


def test_no_chunk_holds_a_sentinel_that_a_document_spells_out(tmp_path):
    texts = [f"document {number} says <extra_id_{number}> {'word ' * number}" for number in range(40)]
    train_vocabulary(texts, size=40, path=tmp_path / "v.model")
    vocabulary = SentencePieceVocabulary.load(tmp_path / "v.model")
    sentinel_ids = vocabulary.special_tokens.sentinel_ids
    assert np.isin(sentinel_ids[7], vocabulary.encode(texts[7]))
    for row in held_out_rows(texts, vocabulary=vocabulary, objective=Copy(16), seed=0, max_rows=99):
        assert not np.isin(row["decoder_target_tokens"], sentinel_ids).any()


def _labelled_rows(count):
    return [
        {
            "decoder_target_tokens": np.full(3, number + 1, np.int32),
            "draw": np.zeros(2),
            EXAMPLE_IDS: np.array(number),
        }
        for number in range(count)
    ]


@settings(deadline=None, max_examples=15)
@given(st.integers(6, 40), st.integers(1, 5), st.integers(0, 5), st.integers(0, _NUM_BATCHES))
@example(num_rows=1, batch_size=3, seed=0, k=5)
def test_finetuning_has_every_row_once_an_epoch_and_resumes(num_rows, batch_size, seed, k):
    def make_iterator():
        return finetuning_batches(_labelled_rows(num_rows), batch_size=batch_size, seed=seed)

    batches, states = _run(make_iterator(), _NUM_BATCHES + 2)
    ids = np.concatenate([batch[EXAMPLE_IDS] for batch in batches]).tolist()
    for start in range(0, len(ids) - num_rows + 1, num_rows):
        assert sorted(ids[start : start + num_rows]) == list(range(num_rows))
    for row in _rows(batches):
        np.testing.assert_array_equal(row["decoder_target_tokens"], row[EXAMPLE_IDS] + 1)
    _assert_resumes_at(k, make_iterator, batches, states)


def test_finetuning_shuffles_every_epoch_and_seed_anew():
    orders = []
    for seed in (0, 1):
        batches = finetuning_batches(_labelled_rows(30), batch_size=30, seed=seed)
        orders += [tuple(batch[EXAMPLE_IDS]) for batch in _take(batches, 3)]
    assert len(set(orders)) == 6


def test_finetuning_without_rows_is_a_user_error():
    with pytest.raises(UserError, match="no examples"):
        finetuning_batches([], batch_size=2, seed=0)


def test_evaluation_batches_as_in_the_docstring():
    rows = _labelled_rows(8)[5:]
    batches = list(evaluation_batches(rows, batch_size=2))
    assert [batch[EXAMPLE_IDS].tolist() for batch in batches] == [[5, 6], [7, -1]]
    assert batches[1]["decoder_target_tokens"].tolist() == [[8, 8, 8], [0, 0, 0]]


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 6))
def test_evaluation_has_every_row_once_in_order(num_rows, batch_size):
    rows = _labelled_rows(num_rows)
    batches = list(evaluation_batches(iter(rows), batch_size=batch_size))
    assert len(batches) == -(-num_rows // batch_size)
    for batch in batches:
        assert batch["decoder_target_tokens"].shape == (batch_size, 3)
        assert batch["decoder_target_tokens"].dtype == np.int32
    seen = _rows(batches)
    filling = seen[num_rows:]
    _assert_same(seen[:num_rows], rows)
    assert all(row[EXAMPLE_IDS] == -1 and not row["decoder_target_tokens"].any() for row in filling)


@settings(deadline=None, max_examples=25)
@given(corpora, st.integers(1, 9), st.integers(1, 12))
def test_held_out_rows_are_the_first_of_one_pass(lengths, tokens_length, max_rows):
    documents = _documents(lengths)
    arguments = {"vocabulary": NumberVocabulary(), "objective": Copy(tokens_length), "seed": 0}
    everything = held_out_rows(documents, **arguments, max_rows=10**6)
    assert list(itertools.chain(*map(_tokens, everything))) == list(range(1, sum(lengths) + 1))
    first = held_out_rows(documents, **arguments, max_rows=max_rows)
    _assert_same(first, everything[:max_rows])
    assert len({int(row[EXAMPLE_IDS]) for row in everything}) == len(everything)


def test_held_out_rows_read_no_further_than_needed():
    documents = Recorder(Endless())
    rows = held_out_rows(documents, vocabulary=NumberVocabulary(), objective=Copy(20), seed=0, max_rows=1500)
    assert len(rows) == 1500
    assert documents.read == list(range(2 * pipeline.GROUP_DOCUMENTS))


def test_held_out_corruption_is_not_that_of_training():
    documents = _documents([4] * 8)
    training = _rows(_take(_batches(documents, batch_size=8, group_documents=8), 1))
    held_out = held_out_rows(documents, vocabulary=NumberVocabulary(), objective=Copy(4), seed=0, max_rows=8)
    assert not {float(row["draw"][0]) for row in training} & {float(row["draw"][0]) for row in held_out}
