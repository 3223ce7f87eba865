"""The doctor finds what is wrong with hosts and chips, and says so of well ones that they are."""

import os
from pathlib import Path

import pytest

from t5like import doctor
from t5like.doctor import Doctor, main
from t5like.errors import UserError
from tests.hosts.cluster import Cluster

NUM_DEVICES = 8


def lines(text: str) -> dict[str, str]:
    """Returns what was found, by what was examined, with how it is: ok or BAD."""
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line.startswith(("ok ", "BAD "))]
    return {name: f"{how} {found}" for how, name, found in rows}


def test_a_machine_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "--folder",
            str(tmp_path),
            "--seconds",
            "0",
            "--expected_devices",
            str(NUM_DEVICES),
            "--expected_hosts",
            "1",
        ]
    )
    found = lines(capsys.readouterr().out)
    assert list(found) == ["versions", "devices", "limits", "disk", "folder", "sum"]
    assert all(text.startswith("ok") for text in found.values())
    assert found["devices"] == f"ok {NUM_DEVICES} of cpu, hosts: 1"
    assert "jax" in found["versions"]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("words", "name", "complaint"),
    [
        (
            ["--expected_devices", "3"],
            "devices",
            f"3 devices are expected of each: Host 0 of 1 has {NUM_DEVICES}",
        ),
        (["--expected_hosts", "4"], "devices", "4 hosts are expected: give the same command to all of them"),
        (["--folder", "/no/such/folder"], "folder", "No such file or directory"),
    ],
)
def test_what_is_wrong_is_named(
    words: list[str], name: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"Not all is well with {name}; see above"):
        main([*words, "--seconds", "0"])
    printed = capsys.readouterr().out
    assert lines(printed)[name].startswith("BAD")
    assert complaint in printed


def test_too_few_open_files_and_a_full_disk_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_MIN_OPEN_FILES", 1 << 60)
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 1e30)
    with pytest.raises(UserError, match="limits, disk"):
        main(["--seconds", "0"])
    printed = capsys.readouterr().out
    assert "raise it on Host 0 of 1: ulimit -n 100000" in printed
    assert "make room on Host 0 of 1" in printed


def test_hosts_are_compared_with_the_first() -> None:
    same = {"jax": "1", "python": "3.12"}
    assert doctor._hosts_unlike_the_first([same, same]) == ""
    assert doctor._hosts_unlike_the_first([same, {**same, "jax": "2"}]) == "Host 1 of 1 (jax 2)"


@pytest.mark.parametrize("field", ["expected_hosts", "expected_devices", "seconds"])
def test_numbers_below_zero_are_refused(field: str) -> None:
    with pytest.raises(UserError, match=field):
        Doctor(**{field: -1})


def test_two_hosts_are_examined_together(tmp_path: Path) -> None:
    flags = os.environ["XLA_FLAGS"].replace(f"count={NUM_DEVICES}", "count=2")
    command = ("-m", "t5like", "doctor", "--folder", str(tmp_path), "--seconds", "0")
    with Cluster(
        (*command, "--expected_hosts", "2", "--expected_devices", "2"),
        2,
        tmp_path,
        environment={"XLA_FLAGS": flags},
    ) as hosts:
        assert hosts.codes() == [0, 0], hosts.errors()
        found = lines(hosts.out(0))
        assert hosts.out(1) == ""
    assert found["devices"] == "ok 4 of cpu, hosts: 2"
    assert all(text.startswith("ok") for text in found.values())
