"""How an entry point ends: with which exit code, and in how many lines."""

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


def test_ctrl_c_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> None:
        raise KeyboardInterrupt

    assert entry.run_entry(main, []) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistake_of_ours_is_not_hidden() -> None:
    def main(argv: list[str]) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        entry.run_entry(main, [])


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
