"""A simulated cloud, and the launcher on it."""

import dataclasses
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.launch.cloud import Cloud
from tests.launch.goldens import BACKENDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUEST = ("--name", "base", "--type", "v5e-8", "--zone", "us-west4-a", "--project", "p")


@dataclasses.dataclass
class Launcher:
    """`launch/pod.sh` where there is nobody to call but a simulated cloud."""

    cloud: Cloud
    folder: pathlib.Path
    backend: str = "qr"

    def command(self, *words: str) -> list[str]:
        """Returns the command line of an action."""
        script = ("bash", str(ROOT / "launch" / "pod.sh"), *BACKENDS[self.backend], *REQUEST)
        return [*script, "--logs", str(self.folder / "logs"), *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts an action."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.cloud.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Returns what an action came to."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def log(self, attempt: int, host: str = "base-w0") -> str:
        """Returns what was fetched of a log."""
        return (self.folder / "logs" / f"attempt-{attempt}" / f"{host}.log").read_text()


@pytest.fixture
def launcher(tmp_path: pathlib.Path) -> Iterator[Callable[..., Launcher]]:
    """Returns what makes a launcher of a backend on a new cloud with faults."""
    clouds = []

    def make(backend: str = "qr", **faults: object) -> Launcher:
        cloud = Cloud.make(tmp_path / "cloud", **faults)
        clouds.append(cloud)
        return Launcher(cloud, tmp_path, backend)

    yield make
    for cloud in clouds:
        cloud.close()
