"""How an entry point ends: with which exit code, and in how many lines."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from t5like import entry
from t5like.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def memory_left_alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keeps the tests' own process as it is; gives what was asked for."""
    asked: list[str] = []
    monkeypatch.setattr(entry, "keep_freed_memory", lambda: asked.append("keep"))
    monkeypatch.setattr(entry, "keep_compiled_programs", lambda: None)
    return asked


def test_a_command_that_returns_is_done() -> None:
    seen: list[list[str]] = []
    assert entry.run_entry(seen.append, ["a", "b"]) == 0
    assert seen == [["a", "b"]]


def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> None:
        raise UserError("There is no such file; give one.")

    assert entry.run_entry(main, []) == 2
    assert capsys.readouterr() == ("", "error: There is no such file; give one.\n")


def test_only_what_spans_hosts_and_does_more_than_print_looks_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "T5LIKE_NUM_HOSTS", "2")
    seen: list[list[str]] = []
    assert entry.run_entry(seen.append, ["a"]) == 0
    assert entry.run_entry(seen.append, ["--help"], spans_hosts=True) == 0
    assert entry.run_entry(seen.append, ["a"], spans_hosts=True) == 2
    assert seen == [["a"], ["--help"]]
    assert capsys.readouterr().err.startswith("error: T5LIKE_COORDINATOR is not set: ")


def test_ctrl_c_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> None:
        raise KeyboardInterrupt

    assert entry.run_entry(main, []) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("ours"), ConnectionRefusedError(111, "refused"), OSError("of a library")]
)
def test_a_mistake_of_ours_is_not_hidden(error: Exception) -> None:
    def main(argv: list[str]) -> None:
        raise error

    with pytest.raises(type(error), match=str(error.args[-1])):
        entry.run_entry(main, [])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            "runs/a: No space left on device; make room ",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room "),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"),
            "x/y: Not a directory; a file is where ",
        ),
        (
            MemoryError("Unable to allocate 2 TiB"),
            "out of memory (Unable to allocate 2 TiB); make batch_size ",
        ),
    ],
)
def test_what_cannot_be_written_or_held_is_one_line_and_exit_code_2(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        raise error

    assert entry.run_entry(main, []) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {sentence}")
    assert printed.count("\n") == 1


def test_a_device_without_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import jax.numpy as jnp

    assert entry.run_entry(lambda argv: jnp.zeros((1 << 45,)).block_until_ready(), []) == 2
    assert capsys.readouterr().err.startswith(
        "error: out of memory (RESOURCE_EXHAUSTED: Out of memory allocating "
    )


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    command = [sys.executable, "-m", "t5like", "pretrain", "configs/tiny.py", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        printed = process.stderr.read()
    assert (printed, process.returncode) == (b"", 141)


@pytest.mark.parametrize(
    ("platforms", "asked"), [("cpu", ["keep"]), ("cpu,tpu", ["keep"]), ("tpu,cpu", []), ("cuda", [])]
)
def test_memory_is_kept_where_the_cpu_computes(
    platforms: str, asked: list[str], memory_left_alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "JAX_PLATFORMS", platforms)
    entry.run_entry(lambda argv: memory_left_alone.append("main"), [])
    assert memory_left_alone == [*asked, "main"]


def test_a_command_for_one_host_is_refused_on_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"COORDINATOR": "a:1", "NUM_HOSTS": "4", "HOST": "2"}.items():
        monkeypatch.setenv(f"T5LIKE_{name}", value)
    ran: list[list[str]] = []
    assert entry.run_entry(ran.append, ["x"], needs_one_host=True) == 2
    assert ran == []
    assert capsys.readouterr().err == (
        "error: This command runs on one host, and this is host 2 of 4; take a slice of one host, such as v5e-8.\n"
    )


def test_a_command_for_one_host_runs_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    assert entry.run_entry(ran.append, ["x"], needs_one_host=True) == 0
    assert ran == [["x"]]
