"""What hosts say of their job, and what they come to together."""

import pytest

from launch.pod.jobs import INCURABLE, HostJob, Verdict, exit_code, judge, parse_state
from t5like import errors


def hosts(*said: str) -> list[HostJob]:
    return [parse_state(f"w{number}", text) for number, text in enumerate(said)]


@pytest.mark.parametrize(
    ("said", "verdict", "code"),
    [
        (["job 1 running", "job 1 running"], Verdict.RUNNING, 0),
        (["job 1 exited 0", "job 1 exited 0"], Verdict.DONE, 0),
        (["job 1 exited 0", "job 1 exited 1"], Verdict.FAILED, 1),
        (
            ["job 1 exited 4", "job 1 exited 2"],
            Verdict.FAILED,
            2,
        ),  # what no restart cures goes before what one does
        (["job 1 exited 4", "job 1 exited 137"], Verdict.FAILED, 4),
        (["job 1 exited 0", "job 1 lost"], Verdict.FAILED, 137),
        (["job 1 exited 0", "job 1 running"], Verdict.ENDING, 0),
        (["job 1 exited 6", "job 1 running"], Verdict.ENDING, 6),
        (["job 0 none", "job 0 none"], Verdict.IDLE, 0),
        (["job 0 bare", "job 1 running"], Verdict.BARE, 0),
        (["job 2 running", "job 1 exited 4"], Verdict.PARTLY, 0),
        (["job 2 running", "job 0 none"], Verdict.PARTLY, 0),
        (["job 2 exited 4", "job 1 exited 4"], Verdict.FAILED, 4),
        (["", "job 1 running"], Verdict.UNREACHABLE, 0),
        (["job 1 stopped 7", "job 1 stopped 7"], Verdict.STOPPED, 7),
        (["job 1 stopped 7", "job 1 exited 4"], Verdict.STOPPED, 7),
        (["job 1 stopped 7", "job 1 running"], Verdict.ENDING, 7),
    ],
)
def test_hosts_together(said: list[str], verdict: Verdict, code: int) -> None:
    assert judge(hosts(*said)) is verdict
    assert exit_code(hosts(*said)) == code


def test_a_failure_on_one_host_is_never_taken_for_success() -> None:
    for bad in ("job 1 lost", *(f"job 1 exited {code}" for code in range(1, 256))):
        jobs = hosts("job 1 exited 0", bad, "job 1 exited 0")
        assert judge(jobs) is Verdict.FAILED
        assert exit_code(jobs) != 0


@pytest.mark.parametrize(
    "text", ["", "bash: no such file", "job x running", "job 1 exited", "job 1 exited -9", "job 1"]
)
def test_what_makes_no_sense_is_no_answer(text: str) -> None:
    assert parse_state("w0", text).how == "unreachable"


def test_other_lines_count_for_nothing() -> None:
    assert parse_state("w0", "Welcome!\njob 3 exited 7\n") == HostJob("w0", "exited", 3, 7)


def test_what_no_restart_cures_is_what_the_exit_codes_say() -> None:
    curable = {errors.HostLostError.exit_code, errors.PreemptedError.exit_code, errors.HangError.exit_code}
    named = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and hasattr(kind, "exit_code")
    }
    assert set(INCURABLE) == (named - curable) | {126, 127}
