"""Several hosts on this machine: real processes that meet over the loopback, and ways to lose one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENOUGH_SECONDS = 500.0


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Cluster:
    """The processes of one command on several hosts, called a, b, c ...; a context manager that leaves none behind."""

    def __init__(
        self,
        command: Sequence[str],
        num_hosts: int,
        folder: Path,
        *,
        present: Sequence[int] | None = None,
        numbers: Sequence[int] | None = None,
        timeout_seconds: int = 120,
        join_seconds: int = 120,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Starts the command on the hosts that are present, all if None; output and errors go to files in the folder.

        Args:
          numbers: which each says it is, if not its own.
        """
        port = free_port()
        self.present = list(range(num_hosts)) if present is None else list(present)
        self._folder = folder
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._trained: set[int] = set()
        for host in self.present:
            told = {
                "PYTHONPATH": str(ROOT),
                "T5LIKE_COORDINATOR": f"127.0.0.1:{port}",
                "T5LIKE_NUM_HOSTS": str(num_hosts),
                "T5LIKE_HOST": str(host if numbers is None else numbers[host]),
                "T5LIKE_HOST_NAME": "abcdefgh"[host],
                "T5LIKE_HOST_TIMEOUT_SECONDS": str(timeout_seconds),
                "T5LIKE_JOIN_SECONDS": str(join_seconds),
            }
            with open(self._file(host, "out"), "wb") as out, open(self._file(host, "err"), "wb") as err:
                self.processes[host] = subprocess.Popen(
                    [sys.executable, *command],
                    env={**os.environ, **told, **(environment or {})},
                    stdout=out,
                    stderr=err,
                )

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for host, process in self.processes.items():
            if process.poll() is None:
                self._trained |= set(self.children(host))
                process.kill()
                process.wait()
        for child in self._trained:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def _file(self, host: int, what: str) -> Path:
        return self._folder / f"{what}-{host}"

    def out(self, host: int) -> str:
        """Returns what a host has printed."""
        return self._file(host, "out").read_text()

    def err(self, host: int) -> str:
        """Returns what a host has said went wrong."""
        return self._file(host, "err").read_text()

    def children(self, host: int) -> list[int]:
        """Returns the training process of a host, if it runs."""
        pid = self.processes[host].pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def signal_training(self, host: int, what: signal.Signals) -> None:
        """Sends a signal to the training process of a host alone."""
        (child,) = self.children(host)
        self._trained.add(child)
        os.kill(child, what)

    def signal_host(self, host: int, what: signal.Signals) -> None:
        """Sends a signal to all there is of a host."""
        children = self.children(host)
        self._trained |= set(children)
        # The watcher first, which would else tell what becomes of the other.
        for pid in (self.processes[host].pid, *children):
            with contextlib.suppress(ProcessLookupError):  # it ends with its watcher
                os.kill(pid, what)

    def wait_for(self, text: str, host: int = 0) -> None:
        """Returns once a host has printed a text.

        Raises:
          AssertionError: it does not, or somebody ends.
        """
        for _ in self.moments():
            if text in self.out(host):
                return
            assert all(process.poll() is None for process in self.processes.values()), self.errors()

    def moments(self) -> Iterator[None]:
        """Yields now and then, until it takes too long.

        Raises:
          AssertionError: it does.
        """
        deadline = time.monotonic() + ENOUGH_SECONDS
        while time.monotonic() < deadline:
            yield
            time.sleep(0.02)
        raise AssertionError(f"it takes too long: {self.errors()}")

    def errors(self) -> dict[int, str]:
        """Returns what every host has said went wrong, its last lines."""
        return {host: self.err(host)[-800:] for host in self.present}

    def codes(self, *, of: Sequence[int] | None = None) -> list[int]:
        """Returns the exit codes, once all have ended, or those asked for."""
        hosts = self.present if of is None else of
        for _ in self.moments():
            codes = [self.processes[host].poll() for host in hosts]
            if None not in codes:
                return [code for code in codes if code is not None]
        raise AssertionError
