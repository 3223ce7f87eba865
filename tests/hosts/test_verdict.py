"""Who is lost: laws of the judgement, on made-up records."""

import dataclasses
import signal

import pytest

from t5like.hosts.verdict import GRACE_SECONDS, HostRecord, find_lost

NOW, TIMEOUT = 1000.0, 60.0


def well(**fields: object) -> HostRecord:
    """Returns a host that has just begun step 7, and what else is given."""
    return dataclasses.replace(
        HostRecord(name="h", heard=NOW, mark=7, is_under_way=True, moved=NOW), **fields
    )  # type: ignore[arg-type]


def lost(*records: HostRecord) -> tuple[int, str] | None:
    return find_lost(records, NOW, timeout_seconds=TIMEOUT)


def test_nobody_is_lost_while_all_are_well() -> None:
    assert lost(well(), well(), well()) is None
    assert lost(well(), well(exit_code=0, is_connected=False)) is None
    assert lost(well(exit_code=0), well(exit_code=0)) is None


def test_all_may_take_as_long_as_they_like_over_the_same_thing() -> None:
    long_ago = NOW - 100 * TIMEOUT
    assert lost(well(moved=long_ago), well(moved=long_ago)) is None


@pytest.mark.parametrize("host", [0, 1, 2])
@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"exit_code": -signal.SIGKILL}, "was ended by SIGKILL"),
        ({"is_connected": False}, "is gone: its connection has closed"),
        ({"heard": NOW - TIMEOUT - 1}, "has not been heard of for 60 s"),
        ({"quiet_seconds": TIMEOUT + 1}, "has stood still for 60 s"),
        ({"exit_code": 130, "ended": NOW - GRACE_SECONDS - 1}, "was interrupted"),
        (
            {"exit_code": 2, "why": "There is no b", "ended": NOW - 100},
            "ended with an error (There is no b)",
        ),
        ({"exit_code": 1, "ended": NOW - 100}, "ended with an error (exit code 1)"),
        ({"exit_code": -signal.SIGABRT, "ended": NOW - 100}, "was ended by SIGABRT"),
    ],
)
def test_whoever_it_is_is_named(host: int, fields: dict[str, object], what: str) -> None:
    records = [well(), well(), well()]
    records[host] = well(**fields)
    assert lost(*records) == (host, what)


def test_a_host_that_others_wait_for_is_lost() -> None:
    waiting, stuck = well(moved=NOW - TIMEOUT - 1), well(mark=6, moved=NOW - TIMEOUT - 2)
    assert lost(waiting, stuck, waiting) == (
        1,
        "has not made a step for 60 s, and the others wait for it",
    )
    # Not while anybody goes on: then they do not wait.
    assert lost(waiting, stuck, well()) is None
    assert lost(well(), dataclasses.replace(stuck, moved=NOW)) is None


def test_a_host_that_compiles_while_others_have_their_programs_is_waited_for_longer() -> None:
    def starting(seconds: float) -> tuple[int, str] | None:
        waiting = well(moved=NOW - seconds)
        return lost(waiting, well(mark=6, is_under_way=False, moved=NOW - seconds - 1))

    assert starting(9 * TIMEOUT) is None
    assert starting(11 * TIMEOUT) == (1, "has not made a step for 600 s, and the others wait for it")


def test_silence_says_more_than_a_step_that_is_not_made() -> None:
    waiting = well(moved=NOW - TIMEOUT - 1)
    half = well(mark=6, moved=NOW - TIMEOUT - 5, quiet_seconds=0.9 * TIMEOUT)
    assert lost(waiting, half) is None
    assert lost(waiting, dataclasses.replace(half, quiet_seconds=1.1 * TIMEOUT)) == (
        1,
        "has stood still for 60 s",
    )


def test_those_that_fail_alike_are_left_to_say_so() -> None:
    failed = well(exit_code=2, why="There is no b", ended=NOW - GRACE_SECONDS / 2)
    assert lost(failed, well()) is None
    assert lost(failed, failed) is None
    assert lost(dataclasses.replace(failed, ended=NOW - 100), failed) is None, "nobody is left to be told"


def test_an_abort_is_the_echo_of_what_ended_another() -> None:
    aborted = well(exit_code=-signal.SIGABRT, ended=NOW)
    assert lost(aborted, well()) is None
    assert lost(aborted, well(exit_code=-signal.SIGKILL)) == (1, "was ended by SIGKILL")
