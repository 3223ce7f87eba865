"""A bad update ends a run, is skipped or goes back, and what follows is the same however often the run is stopped."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like import pretrain as pretrain_entry
from t5like.checkpoint import checkpoint_steps
from t5like.data.audit import AUDIT_FILE
from t5like.errors import DivergenceError, UserError
from t5like.guard import Guard, Judge
from t5like.ledger import LEDGER_FILE, add_up, read_ledger
from t5like.left_out import (
    LEFT_OUT_FILE,
    LeftOut,
    PassingOver,
    kept_at,
    place_of_batch,
    read_left_out,
    write_left_out,
)
from t5like.losses import LossSums
from t5like.show_batch import rebuild_batch
from t5like.train_step import TrainState, train_step
from tests.test_resume import Stopped, assert_ends_alike, rows_of, state_of

BAD = 10
"""The place of the batch that is bad; its update makes state 11, after the checkpoint of step 8."""
FACTORS = {"not finite": np.float32(np.nan), "spike": np.float32(1e4)}


class Poisoned:
    """A training iterator of which one batch weighs its tokens wrongly."""

    def __init__(self, batches: Any, factor: np.float32, bad_ids: list[int], stop_at: int | None) -> None:
        self._batches, self._factor, self._bad_ids = batches, factor, bad_ids
        self._num_taken, self._stop_at = 0, stop_at

    def __next__(self) -> Any:
        if self._num_taken == self._stop_at:
            raise Stopped
        self._num_taken += 1
        batch = next(self._batches)
        if batch["example_ids"].tolist() == self._bad_ids:
            batch = {**batch, "decoder_loss_weights": batch["decoder_loss_weights"] * self._factor}
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


@pytest.fixture(scope="module")
def config(small_pretrain: Any) -> Any:
    """A run that logs every step, whose gradients weigh as much as their tokens."""
    return dataclasses.replace(
        small_pretrain, log_every_steps=1, loss_normalizing_factor=50.0, audits_examples=True
    )


@pytest.fixture(scope="module")
def bad_ids(config: Any, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The examples of the bad batch."""
    workdir = tmp_path_factory.mktemp("guard") / "run"
    pretrain_entry.pretrain(dataclasses.replace(config, num_steps=BAD + 1), workdir)
    row = json.loads((workdir / AUDIT_FILE).read_text().splitlines()[BAD])
    return [example for (example,) in row["example_ids"]]


def guarded(config: Any, when_bad: Any, **more: Any) -> Any:
    """Returns a config that leaves out what is bad."""
    return dataclasses.replace(config, guard=Guard(when_bad=when_bad, spike_factor=20.0, **more))


def run(config: Any, workdir: Path, what: str, bad_ids: list[int], *, stop_at: int | None = None) -> None:
    """Runs a config on batches of which one is bad; it stops where so many have been taken."""
    original = pretrain_entry.pretraining_batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pretrain_entry,
            "pretraining_batches",
            lambda *args, **kwargs: Poisoned(original(*args, **kwargs), FACTORS[what], bad_ids, stop_at),
        )
        try:
            pretrain_entry.pretrain(config, workdir)
        except Stopped:
            assert stop_at is not None


@pytest.mark.parametrize("what", FACTORS)
def test_a_run_that_went_back_is_one_that_never_had_the_batch(
    what: str, config: Any, bad_ids: list[int], tmp_path: Path
) -> None:
    config = guarded(config, "rewind")
    run(config, tmp_path / "run", what, bad_ids)
    (row,) = read_left_out(tmp_path / "run")
    assert (row.step, row.batch, row.how) == (BAD + 1, BAD, "rewound")
    assert row.example_ids == [[example] for example in bad_ids]
    assert ("not finite" in row.why) == (what == "not finite")
    # From the beginning on without that batch.
    (tmp_path / "without").mkdir()
    write_left_out(tmp_path / "without", [row])
    shutil.copy(tmp_path / "run" / "config.json", tmp_path / "without" / "config.json")
    run(config, tmp_path / "without", what, [])
    assert_ends_alike(config, tmp_path / "run", tmp_path / "without")
    for workdir in (tmp_path / "run", tmp_path / "without"):
        learned = [json.loads(line) for line in (workdir / AUDIT_FILE).read_text().splitlines()]
        assert [line["step"] for line in learned] == list(range(config.num_steps))
        assert not {example for line in learned for (example,) in line["example_ids"]} & set(bad_ids)
        for step in (BAD - 1, BAD):  # as `t5like batch` makes them again
            batch, _ = rebuild_batch(config, step, workdir)
            assert batch["example_ids"].tolist() == [i for (i,) in learned[step]["example_ids"]]
    assert add_up(read_ledger(tmp_path / "run" / LEDGER_FILE)).num_attempts == 2
    # Stopped after it went back, or before; then the same command is given again.
    run(config, tmp_path / "stopped", what, bad_ids, stop_at=BAD + 4 if what == "spike" else BAD)
    assert max(checkpoint_steps(tmp_path / "stopped")) == 8
    run(config, tmp_path / "stopped", what, bad_ids)
    assert_ends_alike(config, tmp_path / "run", tmp_path / "stopped")


def test_a_run_without_a_checkpoint_goes_back_to_its_start(
    config: Any, bad_ids: list[int], tmp_path: Path
) -> None:
    config = guarded(dataclasses.replace(config, checkpoint_every_steps=100), "rewind")
    run(config, tmp_path / "run", "not finite", bad_ids)
    (tmp_path / "without").mkdir()
    write_left_out(tmp_path / "without", read_left_out(tmp_path / "run"))
    shutil.copy(tmp_path / "run" / "config.json", tmp_path / "without" / "config.json")
    run(config, tmp_path / "without", "not finite", [])
    assert_ends_alike(config, tmp_path / "run", tmp_path / "without")


def test_an_update_that_is_skipped_changes_nothing_and_is_skipped_again(
    config: Any, bad_ids: list[int], tmp_path: Path
) -> None:
    what = "not finite"
    config = guarded(config, "skip")
    run(
        dataclasses.replace(config, num_steps=BAD + 1, checkpoint_every_steps=BAD),
        tmp_path / "run",
        what,
        bad_ids,
    )
    assert checkpoint_steps(tmp_path / "run") == (BAD, BAD + 1)
    after = state_of(config, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    shutil.rmtree(tmp_path / "before" / "checkpoints" / str(BAD + 1))
    before = state_of(config, tmp_path / "before")
    assert (int(before.step), int(after.step)) == (BAD, BAD + 1)
    for a, b in zip(jax.tree.leaves(before[1:]), jax.tree.leaves(after[1:]), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    (row,) = read_left_out(tmp_path / "run")
    assert (row.step, row.batch, row.how) == (BAD + 1, BAD, "skipped")
    # Going on from before it says so once more, and once in the file.
    # That of step 11 is looked at for its checkpoint, and with the row of step 12.
    config = dataclasses.replace(config, checkpoint_every_steps=BAD + 1, log_every_steps=4)
    run(config, tmp_path / "before", what, bad_ids)
    run(dataclasses.replace(config, log_every_steps=1), tmp_path / "run", what, bad_ids)
    assert (tmp_path / "run" / LEFT_OUT_FILE).read_bytes() == (
        tmp_path / "before" / LEFT_OUT_FILE
    ).read_bytes()
    ends = (jax.tree.leaves(state_of(config, tmp_path / name)) for name in ("run", "before"))
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    losses = [row["loss"] for row in rows_of(tmp_path / "run") if row["split"] == "train"]
    assert math.isfinite(losses[-1])


def test_a_run_ends_where_nothing_may_be_left_out(config: Any, bad_ids: list[int], tmp_path: Path) -> None:
    for ending in (
        guarded(config, "end"),
        guarded(config, "skip", max_left_out=0),
        guarded(config, "rewind", max_left_out=0),
    ):
        with pytest.raises(DivergenceError, match=rf"The update of step {BAD + 1} is bad: ") as raised:
            run(ending, tmp_path, "spike", bad_ids)
        assert raised.value.exit_code == 6
        assert max(checkpoint_steps(tmp_path)) == 8
        assert read_left_out(tmp_path) == []
    # The same run may go on otherwise.
    run(guarded(config, "rewind"), tmp_path, "spike", bad_ids)
    assert max(checkpoint_steps(tmp_path)) == config.num_steps


def test_a_step_with_a_limit_that_is_kept_is_a_step_without() -> None:
    def loss(params: Any, batch: Any, key: Any) -> dict[str, LossSums]:
        total = jnp.sum(batch["decoder_loss_weights"] * params["x"] ** 2)
        return {"token": LossSums(total, total, *(jnp.float32(0),) * (len(LossSums._fields) - 2))}

    optimizer = optax.adam(0.1)
    params = {"x": jnp.arange(1.0, 5.0)}
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    ones = jnp.ones(4, jnp.int32)
    batch = {
        "decoder_target_tokens": ones,
        "decoder_segment_ids": ones,
        "decoder_loss_weights": jnp.ones(4),
    }
    step = jax.jit(
        lambda state, batch, limit=None: train_step(
            state,
            batch,
            0,
            limit,
            loss_function=loss,
            optimizer=optimizer,
            learning_rate=lambda _: jnp.float32(0.1),
            loss_normalizing_factor=1.0,
        )
    )
    plain, metrics = step(state, batch)
    norm = float(metrics["gradient_norm"])
    for limit in (norm, math.inf):
        kept, _ = step(state, batch, np.float32(limit))
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(plain), strict=True):
            assert np.array_equal(a, b)
    # Too large, or so large that its square is not finite, though the update that Adam would make is.
    huge = {**batch, "decoder_loss_weights": jnp.full(4, 1e25)}
    for bad, limit in ((batch, norm * 0.999), (huge, math.inf)):
        left, _ = step(state, bad, np.float32(limit))
        assert int(left.step) == 1
        for a, b in zip(jax.tree.leaves(left[1:]), jax.tree.leaves(state[1:]), strict=True):
            assert np.array_equal(a, b)


def test_a_spike_is_told_from_rows_that_any_attempt_has() -> None:
    rows = [(step, 1.0 + 0.1 * (step % 3)) for step in range(1, 40)]
    straight = Judge(5.0, rows)
    for resumed_at in range(8, 40):
        resumed = Judge(5.0, [row for row in rows if row[0] <= resumed_at])
        assert resumed.limit(resumed_at + 1) == Judge(5.0, rows[: resumed_at + 1]).limit(resumed_at + 1)
    assert straight.limit(40) == pytest.approx(5.5)
    assert straight.why_bad(40, 5.4, 1.0) is None
    assert (
        straight.why_bad(40, 5.6, 1.0) == "the norm of its gradients is 5.6, more than 5 times the usual 1.1"
    )
    assert Judge(5.0, rows[:4]).limit(40) == math.inf, "too few rows"
    assert Judge(None, rows).limit(40) == math.inf
    for norms in ((math.nan, 1.0), (1.0, math.inf)):
        assert straight.why_bad(40, *norms) == "its gradients hold numbers that are not finite"


class Counted:
    """Batches whose cursor counts them."""

    def __init__(self) -> None:
        self.taken = 0

    def __next__(self) -> dict[str, np.ndarray]:
        self.taken += 1
        return {"place": np.full(1, self.taken - 1)}

    def get_state(self) -> dict[str, int]:
        return {"taken": self.taken}

    def set_state(self, state: dict[str, int]) -> None:
        self.taken = state["taken"]

    def close(self) -> None: ...


@settings(deadline=None, max_examples=100)
@given(st.sets(st.integers(0, 20)), st.integers(0, 15), st.integers(1, 10))
def test_what_is_passed_over_is_so_from_any_step_on(passed_over: set[int], step: int, more: int) -> None:
    expected = [place for place in range(100) if place not in passed_over]
    straight = PassingOver(Counted(), passed_over, step=0)
    assert [int(next(straight)["place"][0]) for _ in range(step)] == expected[:step]
    cursor = straight.get_state()
    assert cursor["taken"] == place_of_batch(step, passed_over), "what follows is passed over later"
    resumed = PassingOver(Counted(), passed_over, step=step)
    resumed.set_state(cursor)
    assert [int(next(resumed)["place"][0]) for _ in range(more)] == expected[step : step + more]


def test_what_was_skipped_later_is_forgotten_and_what_was_rewound_is_not() -> None:
    rows = [LeftOut(step, step - 1, how, "", []) for step in (5, 9) for how in ("rewound", "skipped")]  # type: ignore[arg-type]
    assert [(row.step, row.how) for row in kept_at(rows, 5)] == [
        (5, "rewound"),
        (5, "skipped"),
        (9, "rewound"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "nothing\n",
        "[]\n",
        '{"step": 1}\n',
        '{"step": "x", "batch": 1, "how": "", "why": "", "example_ids": []}\n',
    ],
)
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / LEFT_OUT_FILE).write_text(text)
    with pytest.raises(UserError, match=r"left_out\.jsonl cannot be read"):
        read_left_out(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("spike_factor", 1.0), ("max_left_out", -1)])
def test_a_guard_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"guard\.{field} is "):
        Guard(**{field: value})  # type: ignore[arg-type]
