"""Work in other processes gives what it would give here, and no process outlives the others unnoticed."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t5like.data.processes import in_processes
from t5like.errors import DamagedDataError, UserError

ROOT = Path(__file__).resolve().parents[2]


def adder(number):
    return functools.partial(sum_of, number)


def sum_of(first, second):
    return first + second, os.getpid()


def killed():
    return lambda task: os.kill(os.getpid(), signal.SIGKILL)


def refusing():
    def refuse(task):
        raise DamagedDataError(f"a.txt, line {task}: torn")

    return refuse


def sleeping(folder):
    def sleep(task):
        (folder / str(os.getpid())).touch()
        time.sleep(60)

    return sleep


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("num_tasks", [0, 1, 5])
def test_every_task_is_done_once_by_no_more_processes_than_asked_for(num_processes, num_tasks):
    prepare = functools.partial(adder, 10)
    results = list(in_processes(prepare, range(num_tasks), num_processes=num_processes))
    assert sorted(number for number, _ in results) == list(range(10, 10 + num_tasks))
    assert len({process for _, process in results}) <= min(num_processes, num_tasks)


def leaving(folder):
    def leave(task):
        (folder / "pid").write_text(str(os.getpid()))
        return task

    return leave


def unprepared():
    raise UserError("there is no vocabulary")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_a_process_that_ends_between_two_tasks_is_one_sentence(tmp_path):
    results = in_processes(functools.partial(leaving, tmp_path), range(3), num_processes=1)
    assert next(results) == 0
    process = int((tmp_path / "pid").read_text())
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not is_running(process))
    with pytest.raises(UserError, match=r"^A process at work ended with exit code -9"):
        list(results)


def test_what_cannot_be_prepared_is_said_as_it_was_raised():
    with pytest.raises(UserError, match=r"^there is no vocabulary$"):
        list(in_processes(unprepared, range(3), num_processes=2))


def test_a_user_error_comes_back_as_it_was_raised():
    with pytest.raises(DamagedDataError, match=r"^a\.txt, line 7: torn$"):
        list(in_processes(refusing, [7], num_processes=2))


def test_a_process_that_is_killed_is_one_sentence():
    with pytest.raises(UserError, match=r"^A process at work ended with exit code -9; if memory is short"):
        list(in_processes(killed, [1, 2, 3], num_processes=2))


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


USER = """
import functools, pathlib, sys
from t5like.data.processes import in_processes
from tests.data.test_processes import {work}
list(in_processes(functools.partial({work}, pathlib.Path(sys.argv[1])), range(100), num_processes=2))
"""


def napping(folder):
    def nap(task):
        (folder / str(os.getpid())).touch()
        time.sleep(0.2)

    return nap


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
@pytest.mark.parametrize(("ended_by", "work"), [(signal.SIGINT, "sleeping"), (signal.SIGKILL, "napping")])
def test_none_goes_on_when_the_first_has_ended(ended_by, work, tmp_path):
    # Ctrl-C ends them in the middle of a task; of a kill they learn after one.
    command = [sys.executable, "-c", USER.format(work=work), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as first:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert all(map(is_running, workers))
        first.send_signal(ended_by)
        wait_for(lambda: not any(map(is_running, workers)))
        printed = first.communicate()[1].decode()
    assert printed.count("Traceback") == (1 if ended_by == signal.SIGINT else 0)
