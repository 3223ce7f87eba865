"""A run on several hosts ends on all of them when one is lost, with its name; here training is a loop that prints."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.cluster import Cluster

GO_ON = "; all hosts end; given again on each, the same command goes on from the last checkpoint.\n"
# With which a host that only stands still is lost; a busy machine lets nobody stand for so long.
TIMEOUT_SECONDS = 3

TRAINING = """
import os
import sys
import time

from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.hosts.member import this_member


def main(argv):
    host = os.environ["T5LIKE_HOST_NAME"]
    os.write(1, b"greeting of a library\\n")
    os.write(2, b"warning of a library\\n")
    for step in range(int(argv[0])):
        this_member().mark(is_under_way=step > 0)
        print("step", step, flush=True)
        if f"fail-{host}" in argv:
            raise UserError(f"There is no file {host}; give one.")
        while f"stick-{host}" in argv and step == 3:
            time.sleep(0.1)
        while any(word.startswith("stick-") for word in argv) and step == 4:
            time.sleep(0.1)  # the others wait
        time.sleep(0.05)
    print("done")


sys.exit(run_entry(main, spans_hosts=True))
"""

Start = Callable[..., Cluster]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Returns a function from arguments of the loop, and of `Cluster`, to the running hosts."""
    (tmp_path / "training.py").write_text(TRAINING)

    def start(*arguments: str, num_hosts: int = 3, **options: object) -> Cluster:
        options = {"timeout_seconds": TIMEOUT_SECONDS, **options}
        return Cluster([str(tmp_path / "training.py"), *arguments], num_hosts, tmp_path, **options)  # type: ignore[arg-type]

    return start


def test_a_run_that_all_finish_is_done(start: Start) -> None:
    with start("3") as hosts:
        assert hosts.codes() == [0, 0, 0], hosts.errors()
        # The first alone prints; what libraries print is no output of ours, and no error of ours is lost.
        assert hosts.out(0) == "step 0\nstep 1\nstep 2\ndone\n"
        assert hosts.out(1) == hosts.out(2) == ""
        assert set(hosts.errors().values()) == {"warning of a library\n"}


def test_a_host_that_never_joins_is_named(start: Start) -> None:
    with start("3", present=[0, 2], join_seconds=2) as hosts:
        assert hosts.codes() == [4, 4]
        assert set(hosts.errors().values()) == {f"error: Host 1 of 3 has not joined within 2 s{GO_ON}"}
        assert hosts.out(0) == ""


def test_the_first_host_that_never_joins_is_named(start: Start) -> None:
    with start("3", present=[1, 2], join_seconds=1) as hosts:
        assert hosts.codes() == [4, 4]
        for error in hosts.errors().values():
            assert error.startswith("error: Host 0 of 3 has not answered at 127.0.0.1:")
            assert error.endswith(GO_ON)
            assert error.count("\n") == 1


def num_connected(port: int) -> int:
    """Returns how many connections a server of this machine has at a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(local.endswith(f":{port:04X}") and state == "01" for _, local, _, state, *_ in rows)


def test_a_roll_call_can_be_interrupted(start: Start) -> None:
    with start("3", present=[0, 1], join_seconds=100) as hosts:
        port = int(environment_of(hosts.processes[0].pid)["T5LIKE_COORDINATOR"].split(":")[1])
        for _ in hosts.moments():
            if num_connected(port) == 2:
                break
        hosts.processes[0].send_signal(signal.SIGINT)
        assert hosts.codes() == [130, 4]
        assert hosts.err(1).startswith("error: Host 0 of 3")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_training_process_that_is_killed_is_named(lost: int, start: Start) -> None:
    with start("1000") as hosts:
        hosts.wait_for("step 5\n")
        hosts.signal_training(lost, signal.SIGKILL)
        assert hosts.codes() == [4, 4, 4]
        sentence = f"error: Host {lost} of 3 ({'ab'[lost]}) was ended by SIGKILL{GO_ON}"
        assert [error.removeprefix("warning of a library\n") for error in hosts.errors().values()] == [
            sentence
        ] * 3


@pytest.mark.parametrize("lost", [0, 2])
def test_a_host_that_is_gone_is_named(lost: int, start: Start) -> None:
    with start("1000") as hosts:
        hosts.wait_for("step 5\n")
        hosts.signal_host(lost, signal.SIGKILL)
        rest = [host for host in range(3) if host != lost]
        assert hosts.codes(of=rest) == [4, 4]
        for host in rest:
            assert hosts.err(host).endswith(
                f"error: Host {lost} of 3 ({'abc'[lost]}) is gone: its connection has closed{GO_ON}"
            )


def test_a_training_process_that_stands_still_is_named(start: Start) -> None:
    with start("1000") as hosts:
        hosts.wait_for("step 5\n")
        hosts.signal_training(1, signal.SIGSTOP)
        assert hosts.codes() == [4, 4, 4]
        for error in hosts.errors().values():
            assert error.endswith(f"error: Host 1 of 3 (b) has stood still for {TIMEOUT_SECONDS} s{GO_ON}")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_stands_still_is_named_and_learns_of_it_later(lost: int, start: Start) -> None:
    with start("1000", num_hosts=2) as hosts:
        hosts.wait_for("step 5\n")
        hosts.signal_host(lost, signal.SIGSTOP)
        assert hosts.codes(of=[1 - lost]) == [4]
        name = f"Host {lost} of 2 ({'ab'[lost]})"
        assert hosts.err(1 - lost).endswith(
            f"error: {name} has not been heard of for {TIMEOUT_SECONDS} s{GO_ON}"
        )
        (training,) = hosts.children(lost)
        hosts.processes[lost].send_signal(signal.SIGCONT)  # the training process is still stopped
        assert hosts.codes(of=[lost]) == [4]
        assert f"error: {name} " in hosts.err(lost)
        assert hosts.err(lost).endswith(GO_ON)
        assert not is_running(training)


def test_a_host_that_makes_no_step_is_named(start: Start) -> None:
    with start("1000", "stick-b") as hosts:
        assert hosts.codes() == [4, 4, 4]
        for error in hosts.errors().values():
            assert error.endswith(
                f"error: Host 1 of 3 (b) has not made a step for {TIMEOUT_SECONDS} s, and the others wait for it{GO_ON}"
            )


def test_what_one_host_lacks_is_said_by_all(start: Start) -> None:
    with start("1000", "fail-c") as hosts:
        assert hosts.codes() == [4, 4, 2]
        said = "There is no file c; give one"
        assert f"error: {said}.\n" in hosts.err(2)
        for host in (0, 1):
            assert hosts.err(host).endswith(f"error: Host 2 of 3 (c) ended with an error ({said}){GO_ON}")


def test_what_all_hosts_lack_each_says_for_itself(start: Start) -> None:
    with start("1000", "fail-a", "fail-b", num_hosts=2) as hosts:
        assert hosts.codes() == [2, 2]
        assert "error: There is no file a; give one.\n" in hosts.err(0)
        assert "error: There is no file b; give one.\n" in hosts.err(1)


def test_ctrl_c_on_one_host_ends_all(start: Start) -> None:
    with start("1000") as hosts:
        hosts.wait_for("step 5\n")
        hosts.processes[1].send_signal(signal.SIGINT)
        assert hosts.codes() == [4, 130, 4]
        assert "interrupted; a run goes on from its last checkpoint" in hosts.err(1)
        for host in (0, 2):
            assert hosts.err(host).endswith(f"error: Host 1 of 3 (b) was interrupted{GO_ON}")


def test_a_watcher_that_is_gone_leaves_no_training_behind(start: Start) -> None:
    with start("1000", num_hosts=2) as hosts:
        hosts.wait_for("step 5\n")
        trained = [child for host in (0, 1) for child in hosts.children(host)]
        hosts.processes[0].kill()
        hosts.processes[1].kill()
        assert len(trained) == 2
        for _ in hosts.moments():
            if not any(map(is_running, trained)):
                break


def test_two_processes_that_say_they_are_the_same_host_are_told(start: Start) -> None:
    with start("3", numbers=[0, 1, 1]) as hosts:
        assert hosts.codes() == [2, 2, 2]
        for error in hosts.errors().values():
            assert error.startswith("error: Two processes are host 1, on ")
            assert error.endswith("; give each host a number of its own.\n")


def test_strangers_at_the_door_do_no_harm(start: Start) -> None:
    with start("1000", num_hosts=2) as hosts:
        hosts.wait_for("step 5\n")
        port = int(environment_of(hosts.processes[0].pid)["T5LIKE_COORDINATOR"].split(":")[1])
        for line in (b"GET / HTTP/1.1\r\n\r\n", b'{"host": "x"}\n', b"[1]\n", b'{"host": 1}\n'):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(line)
                assert stranger.recv(100) in (b"", b'{"kind": "beat"}\n')
        # Nor does a host that comes when all are there.
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b'{"host": 1, "num_hosts": 2, "name": "late"}\n')
            told = b""
            while b"\n" not in told.replace(b'{"kind": "beat"}\n', b""):
                told += stranger.recv(1000)
            assert b"Two processes are host 1" in told
        seen = hosts.out(0).count("step")
        for _ in hosts.moments():
            if hosts.out(0).count("step") > seen + 10:
                break
        hosts.signal_host(0, signal.SIGKILL)
        assert hosts.codes(of=[1]) == [4]


def is_running(pid: int) -> bool:
    """Returns whether a process is there, and not only remembered."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def environment_of(pid: int) -> dict[str, str]:
    """Returns the environment a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
