"""A command that trains is watched from outside: it ends with the right code whatever happens to it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS, ENOUGH_SECONDS = 2.0, 60.0

TRAINING = f"""
import re
import signal
import sys
import time

from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.phases import Deadlines, enter, limited
from t5like.preemption import listening, under_way


def hang_here():
    while True:
        time.sleep(0.05)


def main(argv):
    how, phase = argv
    with listening(), limited(Deadlines(**{{name + "_seconds": {DEADLINE_SECONDS} for name in
                              ("init", "compile", "step", "evaluate", "save")}})):
        enter(phase, 6)
        print("ready", flush=True)
        if how == "hang":
            hang_here()
        if how == "spin":  # with the lock of the interpreter held
            time.sleep(1)
            re.match("(a+)+$", "a" * 64 + "b")
        if how == "go_on":
            for step in range(8):
                enter(phase, step)
                time.sleep({DEADLINE_SECONDS} / 3)
        if how == "fail":
            raise UserError("There is no such thing; give one.")
        if how == "wait":
            time.sleep(60)
        if how == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(60)
    print("done", flush=True)


sys.exit(run_entry(main, is_watched=True))
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Returns a function from what the training process does, and in which phase, to the process that watches it."""
    (tmp_path / "training.py").write_text(TRAINING)
    started = []

    def start(how: str, phase: str = "step", **environment: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, str(tmp_path / "training.py"), how, phase],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=ENOUGH_SECONDS)


def training(process: subprocess.Popen[str]) -> int:
    """Returns the process id of the one that trains."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def is_running(pid: int) -> bool:
    """Returns whether a process has not ended."""
    with contextlib.suppress(FileNotFoundError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.mark.parametrize(
    ("phase", "what"),
    [
        ("init", "it has not started"),
        ("wait", "no batch has come for step 7"),
        ("compile", "the first step has not been compiled"),
        ("step", "step 7 has not ended"),
        ("evaluate", "the evaluation at step 6 has not ended"),
        ("save", "the checkpoint of step 6 has not been taken"),
        ("finish", "scores and report have not been made"),
    ],
)
def test_a_phase_that_hangs_ends_the_run_with_its_stacks(phase: str, what: str, start: Start) -> None:
    process = start("hang", phase)
    child, began = training(process), time.monotonic()
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 8
    assert time.monotonic() - began < DEADLINE_SECONDS + 10
    *stacks, sentence = errors.splitlines()
    deadline = {"wait": "step", "finish": "evaluate"}.get(phase, phase) + "_seconds"
    assert sentence == (
        f"error: The run has hung: {what} within {DEADLINE_SECONDS:g} s (--deadlines.{deadline}). Above are the stacks of its threads; given again, "
        "the same command goes on from the last checkpoint."
    )
    assert f"the threads of process {child}, whose state is S:" in stacks
    assert any(re.search(r"line \d+ in hang_here", line) for line in stacks), errors
    assert any("in _beat" in line for line in stacks), "the stacks of all threads"
    assert not is_running(child)


def test_a_process_that_is_stopped_is_seen_to_be(start: Start) -> None:
    process = start("wait")
    time.sleep(1)  # so that its phase is known
    os.kill(training(process), signal.SIGSTOP)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 8
    assert (
        f"step 7 has not ended within {DEADLINE_SECONDS:g} s (--deadlines.step_seconds), and its process is stopped."
        in errors
    )


def test_a_process_that_lets_no_other_thread_run_is_seen_to_hang(start: Start) -> None:
    process = start("spin")
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 8
    assert "in main" in errors


def test_a_run_that_goes_on_is_left_alone(start: Start) -> None:
    process = start("go_on")
    output, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert (process.returncode, output, errors) == (0, "done\n", "")


def test_an_error_is_said_once_with_its_code(start: Start) -> None:
    process = start("fail")
    output, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert (process.returncode, output) == (2, "")
    assert errors == "error: There is no such thing; give one.\n"


def test_ctrl_c_is_handed_on(start: Start) -> None:
    process = start("wait")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 130
    assert errors.startswith("interrupted; ")


def test_sigterm_is_handed_on_and_heeded_or_not(start: Start) -> None:
    process = start("wait")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 7
    assert errors == (
        "error: Told to end by SIGTERM, with nothing new to save; given again, the same command goes on.\n"
    )
    process = start("deaf")
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == -signal.SIGTERM


def test_a_training_process_that_is_killed_is_told_of(start: Start) -> None:
    process = start("wait")
    os.kill(training(process), signal.SIGKILL)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 137
    assert errors == (
        "error: The training process was ended by SIGKILL (by the system, if nobody else did, for want of memory); given "
        "again, the same command goes on from the last checkpoint.\n"
    )


def test_a_watcher_that_is_killed_leaves_no_training_behind(start: Start) -> None:
    process = start("wait")
    child = training(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_z_stops_both_and_costs_no_phase_its_time(start: Start) -> None:
    process = start("go_on")
    child = training(process)
    process.send_signal(signal.SIGTSTP)
    time.sleep(DEADLINE_SECONDS + 1)
    for pid in (process.pid, child):
        assert " T " in Path(f"/proc/{pid}/stat").read_text()
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert (process.returncode, output, errors) == (0, "done\n", "")


def test_without_a_watchdog_it_is_one_process(start: Start) -> None:
    process = start("wait", T5LIKE_WATCHDOG="off")
    assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
