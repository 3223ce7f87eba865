"""Runs as each format of checkpoints had them, one zip each: they are read, and gone on with, for ever.

A zip holds the workdir of `t5like pretrain CONFIG.py --workdir format-N` after two steps, made by the first version with
that format, without what nobody reads again, and digests.json with the fingerprint of each array. A new format gets a zip
of its own; those that are there stay as they are.
"""

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest

from t5like.checkpoint import Checkpoints, checkpoint_steps, newest_whole
from t5like.fingerprints import fingerprints
from t5like.manifest import FORMAT
from t5like.placement import abstract_state, place
from t5like.pretrain import pretrain
from t5like.workdir import load_config, load_description, load_workdir
from tests.made_up_text import write_text

FOLDER = Path(__file__).with_name("checkpoint_formats")


@pytest.fixture(params=range(1, FORMAT + 1))
def workdir(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workdir of a format, and beside it, where the process works, the text of its run."""
    with zipfile.ZipFile(FOLDER / f"format-{request.param}.zip") as archive:
        archive.extractall(tmp_path / "run")
    write_text(tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_its_arrays_are_those_that_were_saved(workdir: Path) -> None:
    config, (model, _) = load_config(workdir), load_description(workdir)
    assert newest_whole(workdir) == (2, {})
    placement = place(model, config.mesh, config.rules, batch_size=config.batch_size)
    abstract = abstract_state(placement, config.optimizer.build(config.num_steps, placement.axes))
    checkpoints = Checkpoints(workdir / "checkpoints", is_read_only=True)
    state = checkpoints.restore_state(2, abstract)
    checkpoints.close()
    expected = json.loads((workdir / "digests.json").read_text())
    found = fingerprints({"params": state.params, "optimizer": state.optimizer})
    assert {name: of_array.digest for name, of_array in found.items()} == expected
    params = fingerprints({"params": load_workdir(workdir).restore(placement.params)})
    assert {name: of_array.digest for name, of_array in params.items()}.items() <= expected.items()


def test_its_run_goes_on(workdir: Path) -> None:
    config = dataclasses.replace(load_config(workdir), num_steps=4)
    pretrain(config, workdir)
    assert checkpoint_steps(workdir) == (2, 4)
    assert newest_whole(workdir) == (4, {})
