"""What `fit` does when: the order of one step, what is logged, and how far dispatching runs ahead of reporting."""

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from t5like import loop
from t5like.errors import DivergenceError, PreemptedError
from t5like.flops import FlopMeter
from t5like.guard import Guard, LeavingOut
from t5like.loop import Evaluator, fit
from t5like.metrics_log import METRICS_FILE, MetricsLog, read_metrics
from t5like.models.config import TransformerConfig
from t5like.preemption import listening
from t5like.progress import Progress
from t5like.reporter import Reporter
from t5like.train_step import TrainState

TOKENS = 6.0
MODEL = TransformerConfig(
    embed_dim=1,
    num_heads=1,
    head_dim=1,
    mlp_dim=1,
    num_encoder_layers=0,
    num_decoder_layers=1,
    num_embeddings=1,
)


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """Leaves the signal as it was."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


class Recorder:
    """Stands in for everything `fit` is given, and notes what is called in which order."""

    def __init__(
        self, start: int = 0, not_finite: tuple[int, ...] = (), told_in: tuple[str, int] | None = None
    ) -> None:
        self.told_in = told_in  # what is being done, and at which step, when SIGTERM comes
        self.not_finite = not_finite  # steps of states
        self.events: list[tuple[Any, ...]] = []
        self.taken = start
        self.waited = False

    def perhaps_be_told(self, *moment: Any) -> None:
        if moment == self.told_in:
            signal.raise_signal(signal.SIGTERM)

    def __next__(self) -> dict[str, np.ndarray]:
        self.perhaps_be_told("take", self.taken)
        self.events.append(("take", self.taken))
        self.taken += 1
        self.perhaps_be_told("taken", self.taken - 1)  # which breaks off with the batch in nobody's hands
        return {"x": np.full(1, self.taken - 1), "example_ids": np.zeros(1, np.int64)}

    def get_state(self) -> dict[str, int]:
        return {"next": self.taken}

    def put_batch(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        assert "example_ids" not in batch
        return {"x": jnp.asarray(batch["x"])}

    def step(
        self, state: TrainState, batch: dict[str, jax.Array], limit: float
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        assert limit == np.inf, "nothing is a spike"
        assert int(batch["x"][0]) == int(state.step), "step n takes batch n"
        self.events.append(("dispatch", int(state.step)))
        self.perhaps_be_told("dispatch", int(state.step))
        metrics = {
            "loss": jnp.float32(state.step),
            "decoder_tokens": jnp.float32(TOKENS),
            "gradient_norm": jnp.float32(np.nan if int(state.step) + 1 in self.not_finite else 1.0),
            "update_norm": jnp.float32(1.0),
        }
        return TrainState(state.step + 1, state.params + 1, state.optimizer), metrics

    def evaluate(self, params: Any) -> dict[str, float]:
        self.perhaps_be_told("evaluate", int(params))
        self.events.append(("evaluate", int(params)))
        return {"accuracy": float(params)}

    @property
    def latest_step(self) -> int | None:
        saved = [event[1] for event in self.events if event[0] == "checkpoint"]
        return saved[-1] if saved else None

    def save(self, step: int, state: TrainState, run: dict[str, Any], metrics: dict[str, float]) -> None:
        assert int(state.step) == step
        assert metrics == ({"accuracy": float(step)} if ("evaluate", step) in self.events else {})
        self.perhaps_be_told("checkpoint", step)
        self.events.append(("checkpoint", step, run))

    def wait(self) -> None:
        self.waited = True


class NotingLog(MetricsLog):
    """A log that notes its rows among the other events."""

    def __init__(self, workdir: Path, recorder: Recorder, resume_step: int | None) -> None:
        super().__init__(workdir, resume_step=resume_step)
        self._recorder = recorder

    def write(self, split: Any, step: int, metrics: Any) -> None:
        self._recorder.events.append(("row", split, step))
        super().write(split, step, metrics)


def run(
    workdir: Path,
    *,
    num_steps: int,
    start: int = 0,
    log: int = 1,
    checkpoint: int = 1,
    evaluators: tuple[int, ...] = (1,),
    recorder: Recorder | None = None,
) -> Recorder:
    """Runs `fit` from state `start`; the params of state n are the number n."""
    recorder = recorder or Recorder(start)
    state = TrainState(jnp.int32(start), jnp.int32(start), None)
    progress = Progress(num_steps, description="test", console=Console(file=io.StringIO()))
    meter, left_out = FlopMeter(MODEL, None, 1), LeavingOut(Guard(), workdir, step=start)
    with NotingLog(workdir, recorder, start or None) as metrics_log, progress:
        final = fit(
            state,
            recorder,  # type: ignore[arg-type]
            step_function=recorder.step,
            put_batch=recorder.put_batch,
            meter=meter,
            num_steps=num_steps,
            evaluators=tuple(Evaluator(every, recorder.evaluate) for every in evaluators),
            checkpoints=recorder,  # type: ignore[arg-type]
            checkpoint_every_steps=checkpoint,
            run={"who": "me"},
            reporter=Reporter(metrics_log, progress, meter, log, num_steps, left_out),
        )
    assert int(final.step) == num_steps
    assert recorder.waited
    return recorder


def of_kind(recorder: Recorder, *kinds: str) -> list[Any]:
    """Returns the steps of the events of these kinds, in order."""
    return [event[1] for event in recorder.events if event[0] in kinds]


def rows(recorder: Recorder, split: str) -> list[int]:
    """Returns the steps of the logged rows of a split, in order."""
    return [event[2] for event in recorder.events if event[:2] == ("row", split)]


def test_the_order_of_a_step(tmp_path: Path) -> None:
    recorder = run(tmp_path, num_steps=3, checkpoint=2, evaluators=(2,))
    assert recorder.events == [
        ("evaluate", 0),  # 1, of state 0
        ("row", "validation", 0),
        ("take", 0),  # 3; a state that no update has made yet is not worth a checkpoint
        ("dispatch", 0),  # 4
        ("take", 1),
        ("dispatch", 1),
        ("row", "train", 1),  # 5: the update that made state 1, once step 1 is on its way
        ("row", "train", 2),  # early, so that it is on disk before state 2 is measured or can be resumed from
        ("evaluate", 2),
        ("row", "validation", 2),
        ("checkpoint", 2, {"who": "me", "cursor": {"next": 2}}),  # 2, with the cursor that gives batch 2
        ("take", 2),
        ("dispatch", 2),
        ("row", "train", 3),
        ("evaluate", 3),
        ("row", "validation", 3),
        ("checkpoint", 3, {"who": "me", "cursor": {"next": 3}}),
    ]


def test_a_restored_state_is_measured_again_but_not_saved_again(tmp_path: Path) -> None:
    recorder = run(tmp_path, num_steps=6, start=4, checkpoint=2, evaluators=(4,))
    assert of_kind(recorder, "evaluate") == [4, 6]
    assert of_kind(recorder, "checkpoint") == [6]
    assert of_kind(recorder, "take") == [4, 5]


@pytest.mark.parametrize("log", [1, 2, 100])
@pytest.mark.parametrize(
    ("not_finite", "saved"),
    [((3,), [2]), ((4,), [2]), ((5, 6), [2, 4]), ((1, 2, 3), []), ((9,), [2, 4, 6, 8])],
)
def test_no_state_that_an_update_which_is_not_finite_has_made_is_saved(
    not_finite: tuple[int, ...], saved: list[int], log: int, tmp_path: Path
) -> None:
    """Nor any after it, though their own updates be finite again."""
    recorder = Recorder(not_finite=not_finite)
    with pytest.raises(DivergenceError, match=f"The update of step {not_finite[0]} is bad") as raised:
        run(tmp_path, num_steps=9, log=log, checkpoint=2, recorder=recorder)
    assert raised.value.exit_code == 6
    assert of_kind(recorder, "checkpoint") == saved


@pytest.mark.parametrize(
    ("told_in", "saved", "ends_at"),
    [
        (("take", 0), [], None),
        (("evaluate", 0), [], None),
        (("dispatch", 0), [], None),
        (("take", 3), [3], 3),
        (("dispatch", 3), [4], 4),
        (("evaluate", 3), [3], 3),
        (("evaluate", 5), [5], 5),
        (("checkpoint", 5), [5], 5),
        (("dispatch", 6), [5, 7], 7),
        (("take", 7), [5, 7], 7),
        (("taken", 3), [3], 3),
        (("taken", 5), [5], 5),
        (("dispatch", 7), [5, 8], None),
        (("checkpoint", 8), [5, 8], None),
    ],
    ids=str,
)
def test_a_run_that_is_told_to_end_saves_what_it_has(
    told_in: tuple[str, int], saved: list[int], ends_at: int | None, tmp_path: Path
) -> None:
    recorder = Recorder(told_in=told_in)
    with listening(), pytest.raises(PreemptedError) as raised:
        run(tmp_path, num_steps=8, checkpoint=5, recorder=recorder)
    assert of_kind(recorder, "checkpoint") == saved
    assert raised.value.exit_code == 7
    if ends_at is None:
        assert "nothing new to save" in str(raised.value)
    else:
        assert f"step {ends_at} is saved, 0." in str(raised.value)
        assert recorder.waited
    for _, step, cursor in (event for event in recorder.events if event[0] == "checkpoint"):
        assert cursor == {"who": "me", "cursor": {"next": step}}
    # What was not evaluated for it is evaluated when the run goes on.
    assert (told_in in recorder.events) == (told_in[0] == "dispatch")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "who ends need not be told again"


def test_a_run_that_has_gone_on_from_its_last_step_has_nothing_to_save(tmp_path: Path) -> None:
    recorder = Recorder(5, told_in=("take", 5))
    with listening(), pytest.raises(PreemptedError, match="nothing new"):
        run(tmp_path, num_steps=8, start=5, recorder=recorder)
    assert of_kind(recorder, "checkpoint") == []


def test_a_finished_run_takes_no_batch(tmp_path: Path) -> None:
    recorder = run(tmp_path, num_steps=4, start=4, checkpoint=2, evaluators=(3,))
    assert of_kind(recorder, "take", "dispatch") == []
    assert of_kind(recorder, "evaluate") == [4]


@settings(deadline=None, max_examples=30)
@given(
    num_steps=st.integers(1, 12),
    start=st.integers(0, 12),
    log=st.integers(1, 5),
    checkpoint=st.integers(1, 5),
    evaluators=st.lists(st.integers(1, 5), max_size=2).map(tuple),
)
def test_what_is_due_happens_at_multiples_and_at_the_end(
    tmp_path_factory: pytest.TempPathFactory,
    num_steps: int,
    start: int,
    log: int,
    checkpoint: int,
    evaluators: tuple[int, ...],
) -> None:
    start = min(start, num_steps)
    recorder = run(
        tmp_path_factory.mktemp("run"),
        num_steps=num_steps,
        start=start,
        log=log,
        checkpoint=checkpoint,
        evaluators=evaluators,
    )

    def due(every: int, first: int) -> list[int]:
        return [step for step in range(first, num_steps + 1) if step % every == 0 or step == num_steps]

    assert rows(recorder, "train") == due(log, start + 1)
    assert rows(recorder, "validation") == sorted(step for every in evaluators for step in due(every, start))
    saved = [step for step in due(checkpoint, start) if step != start or step == num_steps]
    assert of_kind(recorder, "checkpoint") == saved
    assert of_kind(recorder, "take") == of_kind(recorder, "dispatch") == list(range(start, num_steps))


def test_throughput_is_the_mean_since_the_last_row_and_leaves_evaluation_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock["now"])

    def take(recorder: Recorder) -> dict[str, np.ndarray]:
        clock["now"] += 1.0  # every batch is a second late
        return original(recorder)

    original = Recorder.__next__
    monkeypatch.setattr(Recorder, "__next__", take)

    def evaluate(recorder: Recorder, params: Any) -> dict[str, float]:
        clock["now"] += 100.0
        return {}

    monkeypatch.setattr(Recorder, "evaluate", evaluate)
    run(tmp_path, num_steps=4, log=2, evaluators=(2,), checkpoint=10)
    train = [row for row in read_metrics(tmp_path / METRICS_FILE) if row["split"] == "train"]
    assert train[0]["input_wait_seconds"] == pytest.approx(0.5)  # of two batches, the first is not waited for
    for row in train[1:]:  # the first leaves out the step that compiles
        assert row["step_seconds"] == pytest.approx(1.0)
        assert row["input_wait_seconds"] == pytest.approx(1.0)
        assert row["input_wait_percent"] == pytest.approx(100.0)
        assert row["tokens_per_second"] == pytest.approx(TOKENS)


def test_no_more_than_one_step_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[str, int]] = []

    def block(metrics: dict[str, jax.Array]) -> None:
        waited.append(("wait", int(metrics["loss"])))  # for the update that this step is

    def dispatch(recorder: Recorder, state: TrainState, batch: Any, limit: float) -> Any:
        waited.append(("dispatch", int(state.step)))
        return original(recorder, state, batch, limit)

    original = Recorder.step
    monkeypatch.setattr(loop.jax, "block_until_ready", block)
    monkeypatch.setattr(Recorder, "step", dispatch)
    run(tmp_path, num_steps=4, log=100, checkpoint=100, evaluators=())
    assert waited == [
        ("dispatch", 0),
        ("dispatch", 1),
        ("wait", 0),
        ("dispatch", 2),
        ("wait", 1),
        ("dispatch", 3),
        ("wait", 2),
        ("wait", 3),
    ]
