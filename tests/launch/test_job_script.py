"""What runs on a host: one command, apart from the shell that started it."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENOUGH_SECONDS = 30.0

# Says when it begins, ends with 7 when it is told to, and says how often that was.
OBEYS = """
import signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("begins", flush=True)
while not told:
    time.sleep(0.05)
time.sleep(0.5)
print("told", len(told), flush=True)
sys.exit(7)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begins', flush=True); time.sleep(300)"

Job = Callable[..., str]


@pytest.fixture
def job(tmp_path: pathlib.Path) -> Iterator[Job]:
    """Returns what calls job.sh of a home folder and gives what it prints, once it ends well."""
    environment = {**os.environ, "HOME": str(tmp_path)}

    def call(*words: object, code: int = 0, path: pathlib.Path | None = None) -> str:
        before = {} if path is None else {"PATH": f"{path}:{os.environ['PATH']}"}
        script = ROOT / "launch" / "host" / "job.sh"
        done = subprocess.run(
            ["bash", str(script), *map(str, words)],
            env=environment | before,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return (done.stdout if code == 0 else done.stderr).strip()

    yield call
    call("stop", 0)


def wait_for(what: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < ENOUGH_SECONDS
        time.sleep(0.02)


def is_over(job: Job) -> bool:
    return "running" not in job("state")


def leader(tmp_path: pathlib.Path, attempt: int) -> int:
    path = tmp_path / "t5like-jobs" / f"{attempt}.pid"
    wait_for(path.exists)
    return int(path.read_text())


def test_a_host_without_a_job_says_so(job: Job) -> None:
    assert job("state") == "job 0 none"
    assert job("stop", 1) == "job 0 none"
    assert job("log", 0, 0) == ""


@pytest.mark.parametrize("code", [0, 1, 2, 6, 77])
def test_the_code_of_the_command_is_that_of_the_job(job: Job, code: int) -> None:
    assert job("start", 1, "k", "bash", "-c", f"exit {code}").startswith("job 1 ")
    wait_for(lambda: is_over(job))
    assert job("state") == f"job 1 exited {code} k"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_command_that_a_signal_ends_has_failed(job: Job, number: int) -> None:
    job("start", 1, "k", "bash", "-c", f"kill -{int(number)} $$")
    wait_for(lambda: is_over(job))
    assert job("state") == f"job 1 exited {128 + number} k"


def test_a_command_that_is_not_there_has_failed(job: Job) -> None:
    job("start", 1, "k", "no-such-command")
    wait_for(lambda: is_over(job))
    assert job("state") == "job 1 exited 127 k"
    assert "no-such-command" in job("log", 1, 0)


def test_words_arrive_as_they_are(job: Job) -> None:
    words = ["two words", "it's", 'a "quote"', "$HOME", "*", "", "new\nline", "\\"]
    job("start", 1, "k", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)
    wait_for(lambda: is_over(job))
    assert job("log", 1, 0) == str(words)


def test_an_attempt_begins_once(job: Job, tmp_path: pathlib.Path) -> None:
    command = ("bash", "-c", f"echo x >>{tmp_path}/began; sleep 300")
    job("start", 1, "k", *command)
    wait_for(lambda: (tmp_path / "began").exists())
    assert job("start", 1, "k", *command) == "job 1 running k"
    job("stop", 0)
    assert job("start", 1, "k", *command).startswith("job 1 stopped")
    assert (tmp_path / "began").read_text() == "x\n"


def test_another_attempt_has_to_wait_for_the_end_of_the_first(job: Job) -> None:
    job("start", 1, "k", "sleep", 300)
    assert "attempt 1 is still running" in job("start", 2, "k", "true", code=3)
    job("stop", 0)
    job("start", 2, "k", "true")
    wait_for(lambda: is_over(job))
    assert job("state") == "job 2 exited 0 k"


def test_stop_tells_the_command_once_and_keeps_its_code(job: Job) -> None:
    job("start", 1, "k", sys.executable, "-c", OBEYS)
    wait_for(lambda: "begins" in job("log", 1, 0))
    assert job("stop", 30) == "job 1 stopped 7 k"
    assert job("log", 1, 0) == "begins\ntold 1"


def test_a_command_that_does_not_heed_is_killed(job: Job) -> None:
    job("start", 1, "k", sys.executable, "-c", DEAF)
    wait_for(lambda: "begins" in job("log", 1, 0))
    assert job("stop", 1) == "job 1 stopped 137 k"


def test_what_a_command_leaves_behind_does_not_keep_the_next_one_waiting(
    job: Job, tmp_path: pathlib.Path
) -> None:
    job("start", 1, "k", "bash", "-c", f"sleep 300 & echo $! >{tmp_path}/left; exit 4")
    wait_for(lambda: is_over(job))
    assert job("state") == "job 1 exited 4 k"
    job("start", 2, "k", "true")
    wait_for(lambda: is_over(job))
    assert job("state") == "job 2 exited 0 k"
    left = pathlib.Path("/proc") / (tmp_path / "left").read_text().strip()
    wait_for(lambda: not left.exists() or "Z" in (left / "stat").read_text().split()[2])


def test_a_job_that_vanished_is_lost_and_is_not_taken_for_a_good_end(
    job: Job, tmp_path: pathlib.Path
) -> None:
    job("start", 1, "k", "bash", "-c", "echo begins; exec sleep 300")
    wait_for(lambda: "begins" in job("log", 1, 0))  # then nothing is being forked, which pkill would not see
    subprocess.run(["pkill", "-KILL", "-s", str(leader(tmp_path, 1))], check=True)
    wait_for(lambda: is_over(job))
    assert job("state") == "job 1 lost k"


def test_what_is_forked_while_the_others_are_killed_is_killed_too(job: Job, tmp_path: pathlib.Path) -> None:
    blind = tmp_path / "bin" / "pkill"  # which sees nothing when it is first called
    blind.parent.mkdir()
    blind.write_text(
        f'#!/bin/sh\n[ -e {tmp_path}/seen ] || {{ touch {tmp_path}/seen; exit 1; }}\nexec {shutil.which("pkill")} "$@"\n'
    )
    blind.chmod(0o755)
    job("start", 1, "k", "bash", "-c", "trap '' TERM; echo begins; exec sleep 300")
    wait_for(lambda: "begins" in job("log", 1, 0))
    assert job("stop", 0, path=blind.parent) == "job 1 stopped 137 k"


def test_a_command_whose_supervisor_is_gone_still_runs(job: Job, tmp_path: pathlib.Path) -> None:
    job("start", 1, "k", "bash", "-c", "echo begins; sleep 300")
    wait_for(lambda: "begins" in job("log", 1, 0))
    os.kill(leader(tmp_path, 1), signal.SIGKILL)
    assert job("state") == "job 1 running k"
    assert job("stop", 0) == "job 1 stopped 137 k"


def test_a_log_is_read_on_from_a_byte(job: Job) -> None:
    job("start", 1, "k", "printf", "abc\\303\\244def")
    wait_for(lambda: is_over(job))
    assert job("log", 1, 5) == "def"


def test_variables_of_the_user_are_set_and_are_in_no_command_line(job: Job, tmp_path: pathlib.Path) -> None:
    (tmp_path / "t5like-jobs").mkdir()
    (tmp_path / "t5like-jobs" / "environment").write_text("TOKEN=very-secret\n")
    job("start", 1, "k", "bash", "-c", 'test "${#TOKEN}" = 11 && tr "\\0" " " </proc/$PPID/cmdline')
    wait_for(lambda: is_over(job))
    assert job("state") == "job 1 exited 0 k"
    assert "very-secret" not in job("log", 1, 0)


@pytest.mark.parametrize("value", ["a b", "$HOME", "$(touch /nowhere)", "a & b", "it's", 'a "b"', "x=y"])
def test_a_variable_is_taken_as_it_is(job: Job, tmp_path: pathlib.Path, value: str) -> None:
    (tmp_path / "t5like-jobs").mkdir()
    (tmp_path / "t5like-jobs" / "environment").write_text(f"# a comment\n\nVALUE={value}")
    job("start", 1, "k", "printenv", "VALUE")
    wait_for(lambda: is_over(job))
    assert job("log", 1, 0) == value


def test_a_job_that_is_ended_counts_as_one_that_has_ended(job: Job) -> None:
    job("start", 1, "k", sys.executable, "-c", OBEYS)
    wait_for(lambda: "begins" in job("log", 1, 0))
    assert job("end", 30) == "job 1 exited 7 k"


def test_an_unknown_action_is_refused(job: Job) -> None:
    assert "knows no action 'begin'" in job("begin", code=2)
