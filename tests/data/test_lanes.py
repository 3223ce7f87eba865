"""Laws of the global batch: the same on any number of hosts, from any state on, each example once an epoch."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.batch import EXAMPLE_IDS
from t5like.data.example_ids import parse_id
from t5like.data.lanes import HostShare, count_lanes, merge_cursors
from t5like.data.pipeline import pretraining_batches
from t5like.errors import DamagedDataError, DamagedRecordError, UserError
from tests.data.fakes import Copy, Damaged, Documents, Vocabulary, tokens_of

ONLY = HostShare(0, 1)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a stream is made of; two components where there is a second list of lengths."""

    lengths: tuple[int, ...]
    others: tuple[int, ...] = ()
    per_block: int = 2
    length: int = 4
    batch_size: int = 4
    seed: int = 0
    packs: bool = False
    groups_tokens: int = 40

    def batches(self, host=ONLY):
        components = [Documents(self.lengths, per_block=self.per_block)]
        if self.others:
            components.append(Documents(self.others, per_block=1, first=10_000))
        return pretraining_batches(
            components,
            objective=Copy(self.length, joins_documents=not self.packs),
            vocabulary=Vocabulary(),
            batch_size=self.batch_size,
            seed=self.seed,
            shares=(0.75, 0.25) if self.others else (1.0,),
            packs_rows=self.packs,
            groups_tokens=self.groups_tokens,
            host=host,
        )


has_text = st.lists(st.integers(0, 12), min_size=1, max_size=14).filter(any).map(tuple)
streams = st.builds(
    Setting,
    lengths=has_text,
    others=st.one_of(st.just(()), has_text),
    per_block=st.integers(1, 3),
    length=st.integers(1, 9),
    batch_size=st.sampled_from([1, 4, 8, 12]),
    seed=st.integers(0, 2**40),
    packs=st.booleans(),
    groups_tokens=st.integers(1, 60),
)


def _take(batches, count):
    """Returns the next batches, and as JSON the state before each and after the last."""
    states, taken = [json.dumps(batches.get_state())], []
    for _ in range(count):
        taken.append(next(batches))
        states.append(json.dumps(batches.get_state()))
    batches.close()
    return taken, states


def _assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(_wide(batch[name], other[name]), _wide(other[name], batch[name]))


def _wide(ids, other):
    """Ids of packed rows are as wide as the most segments of the hosts' own rows."""
    if ids.ndim != 2 or ids.shape[1] >= other.shape[1]:
        return ids
    return np.pad(ids, ((0, 0), (0, other.shape[1] - ids.shape[1])), constant_values=-1)


def _joined(parts):
    """The global batch of the hosts' parts."""
    widest = max(part[EXAMPLE_IDS].shape[-1] for part in parts)
    narrow = [{**part, EXAMPLE_IDS: _wide(part[EXAMPLE_IDS], np.zeros((0, widest)))} for part in parts]
    return {name: np.concatenate([part[name] for part in narrow]) for name in parts[0]}


@settings(deadline=None, max_examples=40)
@given(streams, st.sampled_from([2, 4]))
def test_hosts_only_share_the_rows_out(setting, num_hosts):
    if setting.batch_size % num_hosts:
        return
    whole, _ = _take(setting.batches(), 8)
    shares = [_take(setting.batches(HostShare(host, num_hosts)), 8)[0] for host in range(num_hosts)]
    _assert_same(whole, [_joined(parts) for parts in zip(*shares, strict=True)])


@settings(deadline=None, max_examples=40)
@given(streams, st.integers(0, 8))
def test_going_on_from_any_state_is_going_straight_on(setting, k):
    batches, states = _take(setting.batches(), 11)
    resumed = setting.batches()
    resumed.set_state(json.loads(states[k]))
    assert json.dumps(resumed.get_state()) == states[k]
    again, states_again = _take(resumed, 3)
    _assert_same(again, batches[k : k + 3])
    assert states_again == states[k : k + 4]


@settings(deadline=None, max_examples=15)
@given(streams, st.permutations([1, 4, 2]))
def test_a_history_of_several_host_counts_is_the_straight_one(setting, history):
    setting = dataclasses.replace(setting, batch_size=8)
    straight, _ = _take(setting.batches(), 9)
    state, seen = None, []
    for num_hosts in history:
        hosts = [setting.batches(HostShare(host, num_hosts)) for host in range(num_hosts)]
        if state is not None:
            for host in hosts:
                host.set_state(json.loads(state))
        runs = [_take(host, 3) for host in hosts]
        seen += [_joined(parts) for parts in zip(*(taken for taken, _ in runs), strict=True)]
        state = json.dumps(merge_cursors([json.loads(states[-1]) for _, states in runs]))
    _assert_same(seen, straight)


def _until_epoch(setting, num_epochs):
    """Returns (epoch, component) -> ids, and -> tokens, of all examples until every lane is past those epochs."""
    batches = setting.batches()
    ids, tokens = collections.defaultdict(list), collections.defaultdict(list)
    num_lanes = len(batches.get_state()["lanes"])
    while True:
        batch = next(batches)
        for row in range(len(batch[EXAMPLE_IDS])):
            for segment, example in enumerate(np.atleast_1d(batch[EXAMPLE_IDS][row]), start=1):
                if example >= 0:
                    parsed = parse_id(example)
                    key = parsed.epoch, parsed.component
                    ids[key].append(int(example))
                    own = (
                        batch["decoder_segment_ids"][row] == segment
                        if setting.packs
                        else batch["decoder_segment_ids"][row] > 0
                    )
                    tokens[key].extend(batch["decoder_target_tokens"][row][own].tolist())
        # A lane is past an epoch when its next group begins in a later one; packed windows lie behind.
        state = batches.get_state()["lanes"]
        blocks = [-(-len(setting.lengths) // setting.per_block), len(setting.others)]
        reached = [
            (place[0] * num_lanes + int(lane)) // blocks[number]
            for lane, of_lane in state.items()
            for number, place in enumerate(of_lane["places"])
        ]
        if min(reached) >= num_epochs:
            batches.close()
            return ids, tokens


@settings(deadline=None, max_examples=25)
@given(streams)
def test_every_epoch_has_every_token_and_every_id_once(setting):
    ids, tokens = _until_epoch(setting, 2)
    for component, lengths in enumerate((setting.lengths, setting.others)):
        first = 10_000 if component else 1
        for epoch in (0, 1) if lengths else ():
            assert sorted(tokens[epoch, component]) == list(range(first, first + sum(lengths)))
            assert len(set(ids[epoch, component])) == len(ids[epoch, component])
            by_group = collections.defaultdict(list)
            for example in map(parse_id, ids[epoch, component]):
                by_group[example.group].append(example.row)
            assert all(sorted(rows) == list(range(len(rows))) for rows in by_group.values())


def test_components_have_their_shares_and_are_counted():
    setting = Setting((5,) * 40, (7,) * 9, batch_size=8)
    batches, states = _take(setting.batches(), 50)
    components = [parse_id(example).component for batch in batches for example in batch[EXAMPLE_IDS]]
    counted = np.sum([lane["counts"] for lane in json.loads(states[-1])["lanes"].values()], axis=0)
    assert counted.tolist() == [components.count(0), components.count(1)]
    assert abs(counted[0] - 0.75 * 400) < 6


def test_seeds_and_epochs_differ_in_order_and_draws():
    setting = Setting((4,) * 30, per_block=1, groups_tokens=10_000, batch_size=1)
    orders, draws = [], []
    for seed in (0, 1):
        batches, _ = _take(dataclasses.replace(setting, seed=seed).batches(), 60)
        for epoch in (batches[:30], batches[30:]):
            orders.append(tuple(tuple(tokens_of(batch)[0]) for batch in epoch))
            draws.append({float(draw) for batch in epoch for draw in batch["decoder_draws"].flat})
    assert len(set(orders)) == 4
    assert len(set(map(frozenset, map(sorted, orders)))) == 1
    assert len(set.union(*draws)) == sum(map(len, draws))


def test_documents_of_a_group_are_shuffled_and_so_are_its_rows():
    setting = Setting((8,) * 30, per_block=30, length=4, groups_tokens=10_000, batch_size=1)
    batches, _ = _take(setting.batches(), 60)
    rows = [parse_id(batch[EXAMPLE_IDS][0]).row for batch in batches]
    assert sorted(rows) == list(range(60)) != rows
    in_text_order = [tokens_of(batches[rows.index(row)])[0][0] for row in range(60)]
    assert in_text_order[::2] != sorted(in_text_order[::2])  # documents
    assert all(b == a + 4 for a, b in zip(in_text_order[::2], in_text_order[1::2], strict=True))  # are whole


def test_a_compressed_file_is_read_once_an_epoch_not_once_a_group():
    documents = Documents((5,) * 200, per_block=200)
    batches = pretraining_batches(
        [documents], objective=Copy(5), vocabulary=Vocabulary(), batch_size=4, seed=0, groups_tokens=20
    )
    _take(batches, 45)
    assert documents.reads == [(0, 0)]


def test_the_cursor_stays_small():
    setting = Setting((5,) * 4000, per_block=1, batch_size=64, groups_tokens=2000)
    _, states = _take(setting.batches(), 100)
    assert len(json.loads(states[-1])["lanes"]) == 64
    assert len(states[-1]) < 64 * 80


@pytest.mark.parametrize(
    ("batch_size", "num_blocks", "num_lanes"),
    [(48, 1000, 16), (48, 1, 1), (7, 1000, 1), (2048, 10**6, 64), (64, 100, 8), (64, 15, 1)],
)
def test_lanes_divide_the_batch_and_have_eight_blocks_each(batch_size, num_blocks, num_lanes):
    assert count_lanes(batch_size, num_blocks) == num_lanes


def test_a_batch_that_hosts_cannot_share_is_refused():
    with pytest.raises(UserError, match="batch_size 4 cannot be shared by 3 hosts"):
        Setting((5,)).batches(HostShare(0, 3))


@pytest.mark.parametrize(
    "state",
    [{}, {"lanes": {}}, {"num_lanes": 1, "lanes": {}}, {"num_lanes": 1, "lanes": {"0": {"drawn": 0}}}],
)
def test_a_cursor_of_something_else_is_refused(state):
    with pytest.raises(UserError, match="does not fit"):
        Setting((5,)).batches().set_state(state)


def test_a_cursor_of_more_lanes_is_refused():
    many, few = (Setting((5,) * 64, per_block=1, batch_size=8), Setting((5,) * 32, per_block=1, batch_size=8))
    state = many.batches().get_state()
    assert len(state["lanes"]) == 8
    with pytest.raises(UserError, match="does not fit"):
        few.batches().set_state(state)


def test_text_that_holds_none_is_a_user_error_and_no_endless_search():
    with pytest.raises(UserError, match="no text"):
        next(Setting((0, 0, 0)).batches())


def test_damage_beyond_the_budget_comes_out_of_next(monkeypatch):
    monkeypatch.setattr("t5like.data.quarantine.PAUSE_SECONDS", 0.0)
    notes = []

    def batches(budget):
        return pretraining_batches(
            [Damaged([4] * 8, block=1, record=1)],
            objective=Copy(4),
            vocabulary=Vocabulary(),
            batch_size=1,
            seed=0,
            max_damaged_blocks=budget,
            note=notes.append,
        )

    with pytest.raises(DamagedDataError, match=r"a\.txt, record 1"):
        _take(batches(0), 8)
    taken, _ = _take(batches(1), 7)
    assert sorted(t for batch in taken for row in tokens_of(batch) for t in row) == [
        *range(1, 13),
        *range(17, 33),
    ]
    assert len(notes) == 1


def test_a_damaged_record_moves_no_cursor(monkeypatch):
    monkeypatch.setattr("t5like.data.quarantine.PAUSE_SECONDS", 0.0)

    def batches():
        return pretraining_batches(
            [Damaged([4] * 8, block=0, record=2, kind=DamagedRecordError, per_block=8)],
            objective=Copy(4),
            vocabulary=Vocabulary(),
            batch_size=1,
            seed=0,
            max_damaged_blocks=1,
            groups_tokens=4,
            note=lambda note: None,
        )

    taken, states = _take(batches(), 14)
    for epoch in (taken[:7], taken[7:]):
        tokens = [token for batch in epoch for row in tokens_of(batch) for token in row]
        assert sorted(tokens) == [*range(1, 9), *range(13, 33)]
    for number, state in enumerate(states):
        again = batches()
        again.set_state(json.loads(state))
        _assert_same(_take(again, 14 - number)[0], taken[number:])
