import gc
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t5like.batch import EXAMPLE_IDS
from t5like.data import pipeline
from t5like.data.example_ids import parse_id
from t5like.data.lanes import HostShare, Packing
from t5like.data.pipeline import evaluation_batches, finetuning_batches, held_out_rows, pretraining_batches
from t5like.errors import UserError
from tests.data.fakes import Copy, Documents, Vocabulary

_NUM_BATCHES = 12


def _batches(documents, *, length=4, batch_size=3, seed=0, **arguments):
    return pretraining_batches(
        [documents],
        objective=Copy(length),
        vocabulary=Vocabulary(),
        batch_size=batch_size,
        seed=seed,
        **arguments,
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
        for k in range(len(batch[EXAMPLE_IDS]))
    ]


def test_prefetching_runs_ahead_of_the_state():
    documents = Documents([4] * 1000, per_block=1)
    iterator = _batches(documents, groups_tokens=1, batch_size=1)
    assert documents.reads == []
    before = json.dumps(iterator.get_state())
    next(iterator)
    for _ in range(1000):
        if len(documents.reads) > 1:
            break
        threading.Event().wait(0.005)
    assert 1 < len(documents.reads) <= pipeline._PREFETCH_BATCHES + 4
    after = iterator.get_state()["lanes"]["0"]
    assert json.dumps(iterator.get_state()) != before
    assert after["drawn"] == 1
    iterator.close()


def test_closing_or_dropping_an_iterator_ends_its_thread():
    def prefetching():
        return [t for t in threading.enumerate() if "prefetch" in t.name or "t5like" in t.name]

    gc.collect()
    before = len(prefetching())
    closed, dropped = _batches(Documents([4])), _batches(Documents([4]))
    next(closed), next(dropped)
    assert len(prefetching()) >= before + 4
    closed.close()
    del dropped
    gc.collect()
    assert len(prefetching()) == before


@pytest.mark.parametrize("ending", ["", "; batches.close()"])
@pytest.mark.parametrize(
    "making",
    [
        "finetuning_batches([[{'ids': np.zeros(2), 'example_ids': np.array(n)} for n in range(3)]], batch_size=8, seed=0)",
        "pretraining_batches([Documents([4] * 99, per_block=9)], objective=Copy(4), vocabulary=Vocabulary(), batch_size=8,"
        " seed=0)",
    ],
    ids=["fine-tuning", "pretraining"],
)
def test_an_iterator_that_lives_to_the_end_of_the_program_ends_it_quietly(making, ending):
    program = (
        "import numpy as np; from t5like.data.pipeline import finetuning_batches, pretraining_batches;"
        "from tests.data.fakes import Copy, Documents, Vocabulary;"
        f"batches = {making}; next(batches){ending}"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Exception" not in done.stderr


def test_more_components_than_ids_have_room_for_are_refused():
    with pytest.raises(UserError, match="33 components is too large"):
        pretraining_batches(
            [Documents([1])] * 33, objective=Copy(4), vocabulary=Vocabulary(), batch_size=1, seed=0
        )


def test_groups_of_short_documents_hold_no_more_rows_than_of_long_ones():
    rows = []

    class Counting(Copy):
        def __call__(self, documents, rng, vocabulary):
            made = super().__call__(documents, rng, vocabulary)
            rows.append(len(made["decoder_target_tokens"]))
            return made

    for joins_documents in (True, False):
        objective = Counting(10, joins_documents=joins_documents)
        batches = pretraining_batches(
            [Documents([1] * 4000, per_block=50)],
            objective=objective,
            vocabulary=Vocabulary(),
            batch_size=1,
            seed=0,
            groups_tokens=200,
        )
        next(batches)
        batches.close()
    assert max(rows) == 20


def _labelled_rows(count, length=3, num_real=2):
    return [
        {
            "decoder_target_tokens": np.full(length, number + 1, np.int32),
            "decoder_segment_ids": (np.arange(length) < num_real).astype(np.int32),
            EXAMPLE_IDS: np.array(number),
        }
        for number in range(count)
    ]


def _run(iterator, count):
    states, batches = [json.dumps(iterator.get_state())], []
    for _ in range(count):
        batches.append(next(iterator))
        states.append(json.dumps(iterator.get_state()))
    iterator.close()
    return batches, states


@settings(deadline=None, max_examples=15)
@given(st.integers(6, 40), st.integers(1, 8), st.integers(0, 5), st.integers(0, _NUM_BATCHES))
@example(num_rows=1, batch_size=3, seed=0, k=5)
def test_finetuning_has_every_row_once_an_epoch_and_resumes(num_rows, batch_size, seed, k):
    def make_iterator():
        return finetuning_batches([_labelled_rows(num_rows)], batch_size=batch_size, seed=seed)

    batches, states = _run(make_iterator(), _NUM_BATCHES + 2)
    ids = [parse_id(number) for batch in batches for number in batch[EXAMPLE_IDS]]
    for epoch in range(len(ids) // num_rows):
        assert sorted(number.row for number in ids if number.epoch == epoch) == list(range(num_rows))
    assert len(set(ids)) == len(ids)
    for row in _rows(batches):
        np.testing.assert_array_equal(row["decoder_target_tokens"], parse_id(row[EXAMPLE_IDS]).row + 1)
    resumed = make_iterator()
    resumed.set_state(json.loads(states[k]))
    _assert_same(_run(resumed, 2)[0], batches[k : k + 2])


def test_finetuning_shuffles_every_epoch_and_seed_anew():
    orders = []
    for seed in (0, 1):
        batches = finetuning_batches([_labelled_rows(30)], batch_size=30, seed=seed)
        orders += [tuple(parse_id(i).row for i in batch[EXAMPLE_IDS]) for batch in _take(batches, 3)]
    assert len(set(orders)) == 6


def test_finetuning_mixes_packs_and_shares_out():
    def make(host=HostShare(0, 1)):  # noqa: B008
        return finetuning_batches(
            [
                _labelled_rows(40, num_real=1),
            ]
            * 2,
            batch_size=4,
            seed=0,
            shares=(0.75, 0.25),
            packing=Packing(pad_id=0, window=16),
            host=host,
        )

    whole = _take(make(), 9)
    assert all(batch["decoder_segment_ids"].max() == 3 for batch in whole)  # three of one fit three
    components = [parse_id(i).component for batch in whole for i in batch[EXAMPLE_IDS].ravel() if i >= 0]
    assert np.mean(components) == pytest.approx(0.25, abs=0.06)
    halves = [_take(make(HostShare(host, 2)), 9) for host in (0, 1)]
    for batch, parts in zip(whole, zip(*halves, strict=True), strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([part[name] for part in parts]))


@pytest.mark.parametrize("tasks", [[[]], [_labelled_rows(2), []]])
def test_finetuning_without_rows_is_a_user_error(tasks):
    with pytest.raises(UserError, match="no examples"):
        finetuning_batches(tasks, batch_size=2, seed=0)


def test_evaluation_batches_as_in_the_docstring():
    rows = _labelled_rows(8)[5:]
    batches = list(evaluation_batches(rows, batch_size=2))
    assert [batch[EXAMPLE_IDS].tolist() for batch in batches] == [[5, 6], [7, -1]]
    assert batches[1]["decoder_target_tokens"].tolist() == [[8, 8, 8], [0, 0, 0]]
    second = list(evaluation_batches(rows, batch_size=2, host=HostShare(1, 2)))
    assert [batch[EXAMPLE_IDS].tolist() for batch in second] == [[6], [-1]]


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 6), st.sampled_from([1, 2, 4]))
def test_evaluation_has_every_row_once_in_order_on_any_hosts(num_rows, per_host, num_hosts):
    rows = _labelled_rows(num_rows)
    batch_size = per_host * num_hosts
    hosts = [
        list(evaluation_batches(iter(rows), batch_size=batch_size, host=HostShare(host, num_hosts)))
        for host in range(num_hosts)
    ]
    assert {len(batches) for batches in hosts} == {-(-num_rows // batch_size)}
    seen = [row for batches in zip(*hosts, strict=True) for row in _rows(batches)]
    _assert_same(seen[:num_rows], rows)
    assert all(row[EXAMPLE_IDS] == -1 and not row["decoder_target_tokens"].any() for row in seen[num_rows:])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any), st.integers(1, 9), st.integers(1, 12)
)
def test_held_out_rows_are_the_first_of_one_pass(lengths, length, max_rows):
    documents = Documents(lengths)
    arguments = {"vocabulary": Vocabulary(), "objective": Copy(length), "seed": 0}
    everything = held_out_rows(documents, **arguments, max_rows=10**6)
    tokens = [int(t) for row in everything for t in row["decoder_target_tokens"] if t]
    assert tokens == documents.tokens
    first = held_out_rows(documents, **arguments, max_rows=max_rows)
    again = held_out_rows(documents, **arguments, max_rows=max_rows)
    _assert_same(first, again)
    assert len(first) == min(max_rows, len(everything))
    assert [t for row in first for t in row["decoder_target_tokens"] if t] == tokens[
        : sum(int(row["decoder_segment_ids"].sum()) for row in first)
    ]
    assert len({int(row[EXAMPLE_IDS]) for row in everything}) == len(everything)


def test_held_out_text_that_holds_none_is_a_user_error():
    with pytest.raises(UserError, match="held-out documents hold no text"):
        held_out_rows(Documents([0, 0]), vocabulary=Vocabulary(), objective=Copy(4), seed=0, max_rows=3)
