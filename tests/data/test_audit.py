"""The audit has one line a batch handed out, and after a restart none of what is handed out again."""

import json

import numpy as np
import pytest

from t5like.data.audit import Audited


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
    assert batches.is_closed


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
