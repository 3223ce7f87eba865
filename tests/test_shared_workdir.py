"""The first host writes, the others see it; hosts are made up here."""

from pathlib import Path
from typing import Any

import jax
import pytest

from t5like import distributed, shared_workdir
from t5like import workdir as workdirs
from t5like.errors import UserError
from t5like.metrics_log import MetricsLog

CREATED = "config.json"


@pytest.fixture(autouse=True)
def simple_workdir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a workdir be made of nothing."""
    monkeypatch.setattr(workdirs, "create", lambda workdir, *_: (workdir / CREATED).touch())


def be_host(host: int, monkeypatch: pytest.MonkeyPatch, *, sees_it: list[bool] | None = None) -> list[Any]:
    """Makes this process a host of two; returns what it will have given to the others."""
    given: list[Any] = []

    def gather(own: Any) -> list[Any]:
        given.append(own)
        return [own, own] if sees_it is None or not isinstance(own, bool) else sees_it

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: host)
    monkeypatch.setattr(shared_workdir, "gather", gather)
    return given


def create(workdir: Path) -> None:
    shared_workdir.create(workdir, None, None, None)  # type: ignore[arg-type]


def test_the_first_host_makes_the_folder_and_leaves_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = be_host(0, monkeypatch)
    create(tmp_path)
    assert given[-1] is True
    assert [path.name for path in tmp_path.iterdir()] == [CREATED]


def test_other_hosts_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_host(1, monkeypatch, sees_it=[True, True])
    create(tmp_path)
    with shared_workdir.open_log(tmp_path, resume_step=None) as log:
        log.write("train", 1, {"loss": 1.0})
    with shared_workdir.open_progress(5, description="x") as progress:
        progress.note("a line")
        progress.update(5, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_one_host_alone_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_workdir, "gather", None)
    create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CREATED]
    with shared_workdir.open_log(tmp_path, resume_step=None) as log:
        assert type(log) is MetricsLog


@pytest.mark.parametrize("host", [0, 1])
def test_a_folder_that_a_host_does_not_see_is_one_sentence_on_all(
    host: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_host(host, monkeypatch, sees_it=[True, False])
    with pytest.raises(UserError) as error:
        create(tmp_path)
    assert str(error.value) == (
        f"Host 1 of 2 does not see the --workdir {tmp_path} of host 0; give a folder on a disk that all hosts share."
    )
    assert distributed.host_name(1) == "Host 1 of 2"
