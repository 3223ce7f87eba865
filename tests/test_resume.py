"""A run that was stopped and started again ends as one that never was, bit for bit."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import pytest

from t5like import finetune as finetune_entry
from t5like import pretrain as pretrain_entry
from t5like import workdir as workdirs
from t5like.checkpoint import Checkpoints, latest_checkpoint
from t5like.config import to_dict, to_json
from t5like.errors import CheckpointError, UserError
from t5like.ledger import LEDGER_FILE, add_up, read_ledger
from t5like.metrics_log import METRICS_FILE, read_metrics
from t5like.placement import abstract_state, place
from t5like.whole_files import write_json

MEASURED_TIMES = {
    *("tokens_per_second", "model_flops_per_second"),
    *("step_seconds", "input_wait_seconds", "input_wait_percent"),
}
MAX_WAIT_SECONDS = 120.0


class Stopped(BaseException):
    """Stops a run as Ctrl-C would; nothing may catch it."""


class Batches:
    """A training iterator that notes the ids of what it hands out, and stops the run at one of its batches."""

    def __init__(self, batches: grain.DatasetIterator, ids: list[list[int]], stop_at: int | None) -> None:
        self._batches, self._ids, self._stop_at = batches, ids, stop_at

    def __next__(self) -> Any:
        if len(self._ids) == self._stop_at:
            raise Stopped
        batch = next(self._batches)
        self._ids.append(batch["example_ids"].tolist())
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def run(config: Any, workdir: Path, *, stop_at: int | None = None) -> list[list[int]]:
    """Returns the example ids of the batches that a run of the config takes; it stops where batch `stop_at` is due."""
    entry, make = (
        (pretrain_entry, "pretraining_batches")
        if isinstance(config, pretrain_entry.Pretrain)
        else (finetune_entry, "finetuning_batches")
    )
    original, ids = getattr(entry, make), []  # type: ignore[var-annotated]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry, make, lambda *args, **kwargs: Batches(original(*args, **kwargs), ids, stop_at))
        try:
            entry.pretrain(config, workdir) if entry is pretrain_entry else entry.finetune(config, workdir)
        except Stopped:
            assert stop_at is not None
    return ids


def state_of(config: Any, workdir: Path) -> Any:
    """Returns the newest state of a workdir."""
    model, _ = workdirs.load_description(workdir)
    placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)
    abstract = abstract_state(placement, config.optimizer.build(config.num_steps, placement.axes))
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    assert checkpoints.latest_step is not None
    state = checkpoints.restore_state(checkpoints.latest_step, abstract)
    checkpoints.close()
    return state


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    """Returns the log of a workdir without the times, which no two runs share."""
    rows = read_metrics(workdir / METRICS_FILE)
    return [{name: value for name, value in row.items() if name not in MEASURED_TIMES} for row in rows]


def assert_ends_alike(config: Any, one: Path, other: Path) -> None:
    """Asserts that two workdirs hold the same run: parameters, optimizer, log, cursor, samples, scores."""
    states = state_of(config, one), state_of(config, other)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert rows_of(one) == rows_of(other)
    assert cursor_of(one) == cursor_of(other)
    for name in ("evaluation.json", "samples.json", "model.json", "vocabulary/spiece.model"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def cursor_of(workdir: Path) -> Any:
    step = latest_checkpoint(workdir)
    assert step is not None
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    saved = checkpoints.read_run(step)
    checkpoints.close()
    return saved


def test_a_stopped_pretraining_ends_as_a_straight_one(
    small_pretrain: Any, pretrained: Path, tmp_path: Path
) -> None:
    before = run(small_pretrain, tmp_path, stop_at=7)
    assert latest_checkpoint(tmp_path) == 4
    after = run(small_pretrain, tmp_path)
    straight = [row for row in rows_of(pretrained) if row["split"] == "train"]
    assert len(straight) == 4, "every third step"
    # State 4 goes on with batch 4: what came after its checkpoint is taken again, the same.
    assert after[:3] == before[4:]
    assert len(before[:4] + after) == small_pretrain.num_steps
    assert len({tuple(ids) for ids in before[:4] + after}) == small_pretrain.num_steps
    assert_ends_alike(small_pretrain, tmp_path, pretrained)


def test_a_fine_tuning_stopped_twice_ends_as_a_straight_one(
    small_finetune: Any, pretrained: Path, finetuned: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretrained, tmp_path / "init")
    workdir, config = tmp_path / "run", dataclasses.replace(small_finetune, init=str(tmp_path / "init"))
    # Before its first checkpoint, a run must begin again from the parameters of `init`, not from fresh ones.
    first = run(config, workdir, stop_at=2)
    assert latest_checkpoint(workdir) is None
    assert workdirs.load_config(workdir) == config
    second = run(config, workdir, stop_at=6)
    assert latest_checkpoint(workdir) == 4
    # From then on it stands alone.
    shutil.rmtree(tmp_path / "init")
    last = run(config, workdir)
    assert first == second[:2]
    assert second[4:] == last[:2]
    assert len(second[:4] + last) == config.num_steps
    assert_ends_alike(config, workdir, finetuned)


@pytest.fixture(scope="module")
def lengthened(small_pretrain: Any, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pretrained`, made two steps longer."""
    workdir = tmp_path_factory.mktemp("resume") / "lengthened"
    shutil.copytree(pretrained, workdir)
    assert len(run(dataclasses.replace(small_pretrain, num_steps=14), workdir)) == 2
    return workdir


def test_a_finished_run_can_be_made_longer(small_pretrain: Any, pretrained: Path, lengthened: Path) -> None:
    assert latest_checkpoint(lengthened) == 14
    assert workdirs.load_config(lengthened).num_steps == 14
    assert json.loads((lengthened / "evaluation.json").read_text())["step"] == 14
    earlier, later = rows_of(pretrained), rows_of(lengthened)
    assert later[: len(earlier)] == earlier
    assert [(row["step"], row["split"]) for row in later[len(earlier) :]] == [
        (14, "train"),
        (14, "validation"),
    ]
    with pytest.raises(UserError, match="is at step 14 already, beyond num_steps 12"):
        run(small_pretrain, lengthened)


def test_a_finished_run_trains_nothing_and_writes_its_report_again(
    small_pretrain: Any, lengthened: Path, tmp_path: Path
) -> None:
    shutil.copytree(lengthened, tmp_path / "run")
    for name in ("report.html", "evaluation.json", "samples.json", "run.json"):
        (tmp_path / "run" / name).unlink()
    longer = dataclasses.replace(small_pretrain, num_steps=14)
    assert run(longer, tmp_path / "run") == []
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert_ends_alike(longer, tmp_path / "run", lengthened)
    # Time spent before counts.
    before, after = (add_up(read_ledger(folder / LEDGER_FILE)) for folder in (lengthened, tmp_path / "run"))
    assert after.num_attempts == before.num_attempts + 1
    assert after.total_seconds > before.total_seconds
    assert after.seconds["step"] == pytest.approx(before.seconds["step"])


def test_a_run_does_not_go_on_with_other_data(
    small_pretrain: Any, small_text: Path, pretrained: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretrained, tmp_path / "run")
    shutil.copytree(small_text / "text", tmp_path / "text")
    (tmp_path / "text" / "more.txt").write_text("abc def")
    config = dataclasses.replace(small_pretrain, data=str(tmp_path / "text"))
    write_json(tmp_path / "run" / "config.json", to_dict(config))
    with pytest.raises(UserError, match="The training data is not that of the checkpoints"):
        run(config, tmp_path / "run")


@pytest.fixture
def command(small_pretrain: Any, tmp_path: Path) -> dict[str, Any]:
    """The arguments of `subprocess.Popen` for the real command on `small_pretrain`, workdir `run`."""
    (tmp_path / "config.json").write_text(to_json(small_pretrain))
    (tmp_path / "config.py").write_text(
        "import json\n"
        "from pathlib import Path\n"
        "from t5like.config import from_dict\n\n\n"
        "def get_config():\n"
        "    return from_dict(json.loads(Path(__file__).with_name('config.json').read_text()))\n"
    )
    return {
        "args": [sys.executable, "-m", "t5like", "pretrain", "config.py", "--workdir", "run"],
        "cwd": tmp_path,
        # Eight devices, as here, or the bits would differ.
        "env": os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def stop_after_first_checkpoint(command: dict[str, Any], what: signal.Signals) -> tuple[int, str]:
    """Returns exit code and standard error of a run that gets a signal once its first checkpoint is complete."""
    process = subprocess.Popen(**command)
    first = command["cwd"] / "run" / "checkpoints" / "4"
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(what)
    _, printed = process.communicate(timeout=MAX_WAIT_SECONDS)
    return process.returncode, printed


def test_a_process_that_is_told_to_end_saves_and_goes_on(
    command: dict[str, Any], small_pretrain: Any, pretrained: Path, tmp_path: Path
) -> None:
    """While it starts, and later wherever it is."""
    process = subprocess.Popen(**command)
    while not (tmp_path / "run" / "config.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=MAX_WAIT_SECONDS)
    assert process.returncode == 7, printed
    assert "error: Told to end by SIGTERM" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    code, printed = stop_after_first_checkpoint(command, signal.SIGTERM)
    if code:  # or it came in the very end
        assert code == 7, printed
        said = re.search(
            r"error: Told to end by SIGTERM: step (\d+) is saved, [\d.]+ s after that; ", printed
        )
        assert said is not None, printed
        assert latest_checkpoint(tmp_path / "run") == int(said[1])
    again = subprocess.run(**command)
    assert again.returncode == 0, again.stderr
    assert_ends_alike(small_pretrain, tmp_path / "run", pretrained)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "cut short", "gone"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_it_gone_on_from(
    damage: str,
    small_pretrain: Any,
    pretrained: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(pretrained, tmp_path / "run")
    workdir = tmp_path / "run"
    newest = workdir / "checkpoints" / "12"
    file = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if damage == "gone":
        file.unlink()
    elif damage == "flipped":
        flip(file, 1000)
    else:
        file.write_bytes(file.read_bytes()[:1000])
    damaged = {path: path.read_bytes() for path in newest.rglob("*") if path.is_file()}
    pretrain_entry.pretrain(small_pretrain, workdir)
    printed = capfd.readouterr().err
    assert f"the checkpoint {newest} is damaged ({file.relative_to(newest)} " in printed
    assert "that of step 8 is used" in printed
    assert "resuming at step 8" in printed
    place = workdir / "damaged-checkpoints" / "12-1"
    assert {
        newest / path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()
    } == damaged
    assert_ends_alike(small_pretrain, workdir, pretrained)


def test_where_all_checkpoints_are_damaged_the_run_does_not_begin_again(
    small_pretrain: Any, pretrained: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretrained, tmp_path / "run")
    for manifest in (tmp_path / "run").rglob("manifest.json"):
        manifest.unlink()
    with pytest.raises(
        CheckpointError, match=r"No checkpoint of .* is as it was written: of step 12 manifest.json"
    ) as raised:
        pretrain_entry.pretrain(small_pretrain, tmp_path / "run")
    assert raised.value.exit_code == 5
    assert not (tmp_path / "run" / "damaged-checkpoints").exists()


def test_ctrl_c_ends_in_one_line_and_can_be_gone_on_from(
    command: dict[str, Any], small_pretrain: Any, tmp_path: Path
) -> None:
    code, printed = stop_after_first_checkpoint(command, signal.SIGINT)
    assert code == 130, printed
    assert (
        printed.splitlines()[-1]
        == "interrupted; a run goes on from its last checkpoint when the same command is given again"
    )
    assert "Traceback" not in printed
    step = workdirs.find_resume_step(tmp_path / "run", small_pretrain)
    assert step in (4, 8)
    assert int(state_of(small_pretrain, tmp_path / "run").step) == step
