"""What cannot be read is tried again, left out within a budget, and ends the run beyond it."""

import pytest

from t5like.data import quarantine as quarantine_module
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.quarantine import Quarantine, Quarantined
from t5like.data.splits import TextSplits
from t5like.errors import DamagedDataError, DamagedRecordError
from tests.data.fakes import Copy, Damaged, Documents, Numbers


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(quarantine_module, "PAUSE_SECONDS", 0.0)


def _read(documents, *, budget, notes=None, quarantine=None):
    quarantine = quarantine or Quarantine(budget, (notes if notes is not None else []).append)
    return [
        ids.tolist() for block in range(documents.num_blocks) for ids in quarantine.read(documents, block, 0)
    ]


def test_a_fault_that_passes_leaves_no_trace():
    notes = []
    documents = Damaged([3, 2, 4], block=0, record=1, attempts=2)
    assert _read(documents, budget=0, notes=notes) == [d.tolist() for d in Documents([3, 2, 4]).documents]
    assert notes == []


def test_faults_that_pass_may_come_often():
    class Flaky(Documents):
        def read(self, block, start=0):
            yield from list(super().read(block, start))[:1]
            if start + 1 < self.per_block:
                raise DamagedDataError("a reset connection")

    documents = Flaky([1] * 12, per_block=6)
    assert len(_read(documents, budget=0)) == 12


def test_within_the_budget_the_rest_of_the_block_is_left_out_and_named():
    notes = []
    documents = Damaged([3, 2, 4, 1, 2], block=0, record=1)
    kept = _read(documents, budget=1, notes=notes)
    assert kept == [d.tolist() for n, d in enumerate(Documents([3, 2, 4, 1, 2]).documents) if n != 1]
    assert notes == [
        "a.txt, record 1: torn; the rest of its block is left out after 3 attempts, 1 of at most 1"
    ]


def test_a_damaged_record_ends_only_itself_and_those_after_it_keep_their_numbers():
    notes = []
    documents = Damaged([3, 2, 4, 1, 2, 3], block=0, record=1, kind=DamagedRecordError, per_block=6)
    whole = [ids.tolist() for ids in documents.documents]
    quarantine = Quarantine(1, notes.append)
    expected = [whole[0], [], *whole[2:]]
    assert _read(documents, budget=1, quarantine=quarantine) == expected
    assert notes == ["a.txt, record 1: torn; that record is left out after 3 attempts, 1 of at most 1"]
    # The place of a lane is the number of the next record.
    for start in range(7):
        assert [ids.tolist() for ids in quarantine.read(documents, 0, start)] == expected[start:]


def test_what_was_left_out_before_is_not_waited_for(monkeypatch):
    documents = Damaged([3, 2], block=0, record=1, kind=DamagedRecordError)
    quarantine = Quarantine(1, lambda note: None)
    _read(documents, budget=1, quarantine=quarantine)
    monkeypatch.setattr(quarantine_module, "PAUSE_SECONDS", float("nan"))  # which `sleep` refuses
    _read(documents, budget=1, quarantine=quarantine)


def test_quarantined_blocks_are_the_blocks_without_what_cannot_be_read():
    documents = Damaged([3, 2, 4, 1, 2], block=0, record=1)
    blocks = Quarantined(documents, Quarantine(1, lambda note: None))
    assert blocks.num_blocks == 3
    kept = [ids.tolist() for block in range(3) for ids in blocks.read(block)]
    assert kept == _read(documents, budget=1)
    assert [ids.tolist() for ids in blocks.read(1, 1)] == [documents.documents[3].tolist()]


class Refused(Documents):
    """Blocks that cannot be read, each time for another reason."""

    def __init__(self, lengths, *, blocks, **arguments):
        super().__init__(lengths, **arguments)
        self.blocks, self.num_requests = blocks, 0

    def read(self, block, start=0):
        if block in self.blocks:
            self.num_requests += 1
            raise DamagedDataError(f"a.txt: 503, request {self.num_requests}")
        yield from super().read(block, start)


def test_a_damaged_block_counts_once_whatever_is_said_of_it():
    notes = []
    quarantine = Quarantine(1, notes.append)
    documents = Refused([3, 2, 4], blocks=[0])
    for _ in range(3):
        assert _read(documents, budget=1, quarantine=quarantine) == [documents.documents[2].tolist()]
    assert len(notes) == 1


@pytest.mark.parametrize("num_components", [1, 2])
def test_two_damaged_blocks_count_twice(num_components):
    quarantine = Quarantine(1, lambda note: None)
    components = [Refused([1] * 2, blocks=[0, 1], per_block=num_components) for _ in range(num_components)]
    first, last = [(documents, block) for documents in components for block in range(documents.num_blocks)]
    assert list(quarantine.read(*first, 0)) == []
    assert list(quarantine.read(*first, 0)) == []
    with pytest.raises(DamagedDataError, match=r"503.*it was tried 3 times, and max_damaged_blocks allows 1"):
        list(quarantine.read(*last, 0))


class Flaky(Numbers):
    """Texts of which the second of each block cannot be read at first."""

    def __init__(self, sizes, num_attempts):
        super().__init__(sizes)
        self.attempts = dict.fromkeys(range(self.num_blocks), num_attempts)

    def read(self, block, start=0):
        for record, text in enumerate(super().read(block, start), start):
            if record == 1 and self.attempts[block]:
                self.attempts[block] -= 1
                raise DamagedDataError("a reset connection")
            yield text


@pytest.mark.parametrize("part", ["held_out_rows", "training_rows"])
def test_held_out_rows_get_over_faults_that_pass_and_end_at_those_that_stay(part):
    def rows(source, budget):
        texts = TextSplits((source,), (1.0,), (source,), (1.0,))
        make = getattr(texts, part)
        rows = make(Copy(8), ByteVocabulary(), seed=0, max_rows=99, max_damaged_blocks=budget)
        return [token for row in rows for token in row["decoder_target_tokens"] if token]

    whole = rows(Numbers([3, 2, 4]), 0)
    assert rows(Flaky([3, 2, 4], 2), 0) == whole
    with pytest.raises(DamagedDataError, match=r"a reset connection.*none may be left out"):
        rows(Flaky([3, 2, 4], 99), 0)
    assert 0 < len(rows(Flaky([3, 2, 4], 99), 3)) < len(whole)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (
            0,
            "a.txt, record 1: torn; it was tried 3 times, and none may be left out: raise --max_damaged_blocks to do "
            "without the rest of its block, or mend the data and begin anew",
        ),
        (1, "allows 1"),
    ],
)
def test_beyond_the_budget_the_run_ends_with_its_own_exit_code(budget, says):
    quarantine = Quarantine(budget, lambda note: None)
    if budget:
        _read(Damaged([1], block=0, record=0), budget=budget, quarantine=quarantine)
    with pytest.raises(DamagedDataError, match=says) as raised:
        _read(Damaged([3, 2], block=0, record=1), budget=budget, quarantine=quarantine)
    assert raised.value.exit_code == 3
