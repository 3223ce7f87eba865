"""The audit has one line a batch handed out, and after a restart none of what is handed out again."""

import json
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from t5like.data.audit import Audited
from t5like.errors import UserError


class Counted:
    """Batches whose ids say which they are; packed ones have several a row."""

    def __init__(self, *, packed):
        self.packed, self.next, self.is_closed = packed, 0, False

    def __next__(self):
        ids = np.array([10 * self.next, 10 * self.next + 1])
        self.next += 1
        return {"example_ids": np.stack([ids, [-1, 7]], axis=1) if self.packed else ids}

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]

    def close(self):
        self.is_closed = True


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_a_batch_says_the_ids_of_each_row(tmp_path, packed):
    batches = Counted(packed=packed)
    audited = Audited(batches, tmp_path / "audit.jsonl", first_step=0)
    for _ in range(2):
        next(audited)
    ids = [[[0], [1, 7]], [[10], [11, 7]]] if packed else [[[0], [1]], [[10], [11]]]
    assert _lines(tmp_path / "audit.jsonl") == [{"step": n, "example_ids": ids[n]} for n in (0, 1)]
    assert audited.get_state() == {"next": 2}
    audited.close()
    assert not batches.is_closed  # they may go on under another audit


@pytest.mark.parametrize("torn", ["", '{"step": 5, "exam', '{"step": 5, "example_ids": [[50], [51]]}'])
def test_a_restart_goes_on_after_the_lines_of_earlier_batches(tmp_path, torn):
    path = tmp_path / "audit.jsonl"
    straight = Audited(Counted(packed=False), tmp_path / "straight.jsonl", first_step=0)
    killed = Audited(Counted(packed=False), path, first_step=0)
    for _ in range(8):
        next(straight)
    for _ in range(5):
        next(killed)
    killed.close()
    with path.open("a") as file:
        file.write(torn)
    resumed = Audited(Counted(packed=False), path, first_step=3)
    resumed.set_state({"next": 3})
    for _ in range(5):
        next(resumed)
    resumed.close()
    straight.close()
    assert path.read_text() == (tmp_path / "straight.jsonl").read_text()


def _line(step):
    return f'{{"step": {step}, "example_ids": [[{step}]]}}\n'


def test_a_restart_holds_a_line_at_a_time(tmp_path):
    path = tmp_path / "audit.jsonl"
    ids = json.dumps([[2**57 + number] for number in range(500)])
    path.write_text("".join(f'{{"step": {step}, "example_ids": {ids}}}\n' for step in range(300)))
    num_bytes = path.stat().st_size
    audited = Audited(Counted(packed=False), path, first_step=250)
    tracemalloc.start()
    next(audited)
    assert tracemalloc.get_traced_memory()[1] < num_bytes / 10
    tracemalloc.stop()
    audited.close()
    assert [line["step"] for line in _lines(path)] == list(range(251))


@pytest.mark.parametrize(
    "damage", ["[" * 100_000 + "\n", "\0\0\0\n", '{"step": 1, "example_ids": [[3\n', "\n", "[1]\n"]
)
def test_a_damaged_line_is_one_sentence_and_stays(damage, tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text(content := _line(0) + damage + _line(2))
    audited = Audited(Counted(packed=False), path, first_step=3)
    with pytest.raises(
        UserError, match=rf"^{path} is damaged after byte {len(_line(0))}; remove it, or cut it there\.$"
    ):
        next(audited)
    audited.close()
    assert path.read_text() == content


def test_what_is_handed_out_again_may_be_damaged(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text(_line(0) + _line(1) + "\0\n")
    audited = Audited(Counted(packed=False), path, first_step=1)
    next(audited)
    audited.close()
    assert [line["step"] for line in _lines(path)] == [0, 1]


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(tmp_path):
    path = tmp_path / "audit.jsonl"
    audited = Audited(Counted(packed=False), path, first_step=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70, limits[1]))
    try:
        next(audited)
        with pytest.raises(UserError, match=rf"^{path} cannot be written: File too large; make room"):
            next(audited)
        audited.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resumed = Audited(Counted(packed=False), path, first_step=1)
    next(resumed)
    resumed.close()
    assert [line["step"] for line in _lines(path)] == [0, 1]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be written: No such file"):
        next(Audited(Counted(packed=False), tmp_path / "gone" / "audit.jsonl", first_step=0))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="takes a file that opens and cannot be read")
def test_an_audit_that_cannot_be_read_is_one_sentence():
    with pytest.raises(UserError, match=r"^/proc/self/mem cannot be written: Input/output error; make room"):
        next(Audited(Counted(packed=False), Path("/proc/self/mem"), first_step=1))
