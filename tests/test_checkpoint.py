"""A checkpoint comes back bit for bit, on any mesh, or says in one sentence why it cannot."""

import contextlib
import dataclasses
import math
import shutil
import signal
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from t5like.checkpoint import Checkpoints, latest_checkpoint, newest_whole
from t5like.errors import DivergenceError, UserError
from t5like.keeping import Keeping
from t5like.mesh import MeshShape
from t5like.models.config import TransformerConfig
from t5like.optim.adafactor import Adafactor
from t5like.optim.adamw import AdamW
from t5like.optim.base import Optimizer
from t5like.optim.schedules import Constant
from t5like.placement import Placement, abstract_state, place
from t5like.sharding import AxisRules
from t5like.train_step import TrainState

MODEL = TransformerConfig(
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_embeddings=128,
)
ADAMW = AdamW(schedule=Constant(peak=1e-2))
RUN = {"cursor": {"next": 3}, "vocabulary_sha256": "abc"}


def placed(model: TransformerConfig = MODEL, mesh: MeshShape | None = None) -> Placement:
    return place(model, mesh or MeshShape(), AxisRules(), batch_size=8)


def abstract(placement: Placement, optimizer: Optimizer = ADAMW) -> TrainState:
    return abstract_state(placement, optimizer.build(10, placement.axes))


def numbered(placement: Placement, optimizer: Optimizer = ADAMW) -> TrainState:
    """Returns a state in which no two numbers of an array are the same, those of the optimizer included."""

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        numbers = rng.permutation(math.prod(leaf.shape)).reshape(leaf.shape) / 7
        return jax.device_put(numbers.astype(leaf.dtype), leaf.sharding)

    return jax.tree_util.tree_map_with_path(fill, abstract(placement, optimizer))


@pytest.fixture(scope="module")
def state() -> TrainState:
    return numbered(placed())


@pytest.fixture(scope="module")
def saved(state: TrainState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workdir with checkpoints 3 and 5, both of `state`; to be read only."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir / "checkpoints")
    for step in (3, 5):
        checkpoints.save(step, state, RUN)
    checkpoints.close()
    return workdir


@pytest.fixture
def reader(saved: Path) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(saved / "checkpoints", is_read_only=True)
    yield checkpoints
    checkpoints.close()


def assert_equal(one: Any, other: Any) -> None:
    """Asserts that two trees are the same bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_state_comes_back_bit_for_bit(state: TrainState, reader: Checkpoints) -> None:
    restored = reader.restore_state(5, abstract(placed()))
    assert int(restored.step) == 5
    assert_equal(restored[1:], state[1:])
    assert reader.read_run(5) == RUN


def test_the_state_of_adafactor_comes_back_too(tmp_path: Path) -> None:
    placement, adafactor = placed(), Adafactor(schedule=Constant(peak=1e-2))
    before = numbered(placement, adafactor)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, before, RUN)
    checkpoints.wait()
    assert_equal(checkpoints.restore_state(7, abstract(placement, adafactor))[1:], before[1:])
    checkpoints.close()


@pytest.mark.parametrize("mesh", [MeshShape(data=1, fsdp=8), MeshShape(data=2, fsdp=2, tensor=2)], ids=str)
def test_a_state_comes_back_on_another_mesh(mesh: MeshShape, state: TrainState, reader: Checkpoints) -> None:
    wanted = abstract(placed(mesh=mesh))
    restored = reader.restore_state(5, wanted)
    assert_equal(restored[1:], state[1:])
    is_split = []
    for leaf, want in zip(jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim)
        is_split.append(not leaf.sharding.is_fully_replicated)
    assert sum(is_split) > len(is_split) / 2


def test_parameters_come_back_alone(state: TrainState, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "checkpoints" / "5" / "optimizer")
    checkpoints = Checkpoints(tmp_path / "copy" / "checkpoints", is_read_only=True)
    assert_equal(checkpoints.restore_params(5, placed().params), state.params)
    checkpoints.close()


def test_saving_may_donate_what_it_has_copied(tmp_path: Path) -> None:
    placement = placed()
    before = numbered(placement)
    expected = jax.device_get(before.params)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, before, RUN)
    for leaf in jax.tree.leaves(before):
        leaf.delete()
    checkpoints.wait()
    assert_equal(jax.device_get(checkpoints.restore_params(1, placement.params)), expected)
    checkpoints.close()


def test_ctrl_c_waits_until_a_save_has_begun_in_order(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    original = checkpoints._manager.save

    def interrupted_save(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(checkpoints._manager, "save", interrupted_save)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, state, RUN)
    checkpoints.close()
    assert latest_checkpoint(tmp_path) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_newest_are_kept(state: TrainState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keeping=Keeping(num_newest=2))
    assert checkpoints.latest_step is None
    for step in (2, 4, 6):
        checkpoints.save(step, state, RUN)
    checkpoints.save(6, state, {"cursor": "not written: 6 is there already"})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "6"]
    assert latest_checkpoint(tmp_path) == 6


def test_the_best_are_kept_too_even_where_a_run_went_on_between(state: TrainState, tmp_path: Path) -> None:
    folder, keeping = tmp_path / "checkpoints", Keeping(num_newest=1, num_best=1)
    for steps in ((2, 4), (6, 8)):
        checkpoints = Checkpoints(folder, keeping=keeping)
        for step in steps:
            checkpoints.save(step, state, RUN, {"nats_per_token": 1.0 if step == 2 else 2.0})
        checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "8"]


def test_a_metric_that_is_not_measured_is_named(state: TrainState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keeping=Keeping(num_best=1, best_metric="los"))
    with pytest.raises(
        UserError, match="'los', which the evaluations do not give; name one of loss, accuracy"
    ):
        checkpoints.save(2, state, RUN, {"loss": 1.0, "accuracy": 0.5})
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_saved(number: float, state: TrainState, tmp_path: Path) -> None:
    leaves, structure = jax.tree.flatten(state.optimizer)
    place = next(i for i, leaf in enumerate(leaves) if leaf.dtype == np.float32 and leaf.size > 1)
    leaves[place] = leaves[place].at[(0,) * leaves[place].ndim].set(number)
    bad = state._replace(optimizer=structure.unflatten(leaves))
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoints.save(4, state, {"cursor": {}})
        with pytest.raises(
            DivergenceError, match=r"The state of step 5 holds .* not finite, in optimizer/.*; it is not"
        ):
            checkpoints.save(5, bad, {"cursor": {}})
        checkpoints.wait()
        assert checkpoints.all_steps == (4,)


def test_the_manifest_is_of_the_metadata_however_late_they_come(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orbax writes them in a thread of its own."""
    from orbax.checkpoint._src.metadata import checkpoint as metadata

    update = metadata._MetadataStoreImpl.update

    def late(*args: Any, **fields: Any) -> None:
        if "custom_metadata" in fields:
            time.sleep(1.5)
        update(*args, **fields)

    monkeypatch.setattr(metadata._MetadataStoreImpl, "update", late)
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoints.save_params(3, state.params)
    assert newest_whole(tmp_path) == (3, {})


def test_an_unfinished_save_does_not_count_and_is_cleared_by_the_next_one(
    state: TrainState, saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(folder / "5" / "params", folder / "8.orbax-checkpoint-tmp" / "params")
    assert latest_checkpoint(tmp_path / "run") == 5
    reader = Checkpoints(folder, is_read_only=True)  # it may be somebody else's, being written at this moment
    assert reader.latest_step == 5
    reader.close()
    assert (folder / "8.orbax-checkpoint-tmp").exists()
    writer = Checkpoints(folder)
    assert writer.latest_step == 5
    writer.save(8, state, RUN)
    writer.close()
    assert sorted(path.name for path in folder.iterdir()) == ["5", "8"]


def test_a_workdir_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert latest_checkpoint(tmp_path) is None


def one_sentence(capfd: pytest.CaptureFixture[str], act: Callable[[], Any]) -> str:
    """Returns the UserError of `act`, which must not print anything beside it."""
    with pytest.raises(UserError) as raised:
        act()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    message = str(raised.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_another_model_is_named_by_its_first_different_array(
    reader: Checkpoints, capfd: pytest.CaptureFixture[str]
) -> None:
    wider = placed(dataclasses.replace(MODEL, mlp_dim=64))
    message = one_sentence(capfd, lambda: reader.restore_params(5, wider.params))
    assert "of another model: params/" in message
    assert "32" in message
    assert "64" in message
    tied = placed(dataclasses.replace(MODEL, head_is_tied=True))
    message = one_sentence(capfd, lambda: reader.restore_params(5, tied.params))
    assert message.endswith("params/logits_dense/kernel is float32[16, 128] there and missing in the config.")
    adafactor = abstract(placed(), Adafactor(schedule=Constant(peak=1.0)))
    assert "of another model: optimizer/" in one_sentence(capfd, lambda: reader.restore_state(5, adafactor))


def array_files(folder: Path) -> list[Path]:
    """Returns the files that hold the numbers of the parameters."""
    return [path for path in (folder / "params").rglob("*") if path.is_file() and path.parent.name == "d"]


def cut_short(folder: Path) -> None:
    for path in array_files(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "arrays cut short": cut_short,
    "arrays gone": lambda folder: [path.unlink() for path in array_files(folder)],
    "no params": lambda folder: shutil.rmtree(folder / "params"),
    "no optimizer": lambda folder: shutil.rmtree(folder / "optimizer"),
    "no run": lambda folder: shutil.rmtree(folder / "run"),
    "no list of arrays": lambda folder: (folder / "params" / "_METADATA").unlink(),
    "another list of arrays": lambda folder: (folder / "params" / "_METADATA").write_text("{"),
    "another run": lambda folder: (folder / "run" / "metadata").write_text("{}"),
    "half a run": lambda folder: (folder / "run" / "metadata").write_text('{"cursor": '),
    "nothing": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_left_alone(
    damage: str, saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    folder = tmp_path / "copy" / "checkpoints"
    DAMAGES[damage](folder / "5")
    before = sorted(folder.rglob("*"))
    checkpoints = Checkpoints(folder, is_read_only=True)

    def restore() -> None:
        checkpoints.read_run(5)
        checkpoints.restore_state(5, wanted)

    wanted = abstract(placed())
    message = one_sentence(capfd, restore)
    assert message.startswith(f"The checkpoint {folder / '5'} is damaged (")
    checkpoints.close()
    assert sorted(folder.rglob("*")) == before


def test_no_thread_and_no_warning_is_left_over(saved: Path, state: TrainState, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, state, RUN)
        checkpoints.close()
        reader = Checkpoints(saved / "checkpoints", is_read_only=True)
        reader.restore_params(5, placed().params)
        reader.close()
    # Orbax runs all its coroutines in one loop of the process, whose pool of helpers stays and is bounded.
    left = [t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio_")]
    assert left == []
