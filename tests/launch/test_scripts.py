"""The scripts are clean, and what hosts install is what setup.py asks for."""

import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("launch/**/*.sh"), *ROOT.glob("tests/*.sh"), ROOT / ".ci" / "run"]
)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_shellcheck_finds_nothing(script: pathlib.Path) -> None:
    program = shutil.which("shellcheck", path=str(pathlib.Path(sys.executable).parent)) or shutil.which(
        "shellcheck"
    )
    assert program is not None, "it comes with the extras [test]"
    done = subprocess.run(
        [program, "--external-sources", str(script)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def locked() -> dict[str, str]:
    """Returns the versions of launch/tpu.lock."""
    text = (ROOT / "launch" / "tpu.lock").read_text(encoding="utf-8")
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^ ;]+)", text, re.MULTILINE)
    }


def test_the_lock_holds_what_setup_asks_for() -> None:
    versions = locked()
    environment = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}
    wanted = [Requirement(text) for text in importlib.metadata.requires("t5like") or []]
    for extra in ("", "tpu", "gcs"):
        for requirement in wanted:
            marker = requirement.marker
            if marker is not None and not marker.evaluate({**environment, "extra": extra}):
                continue
            version = versions.get(requirement.name.lower().replace("_", "-"))
            assert version is not None, (
                f"{requirement.name} is not in launch/tpu.lock: make it anew, see its head"
            )
            assert requirement.specifier.contains(version, prereleases=True), (requirement, version)


def test_every_package_of_the_lock_has_a_digest() -> None:
    text = (ROOT / "launch" / "tpu.lock").read_text(encoding="utf-8")
    packages = re.split(r"\n(?=\S)", text[text.index("absl-py") :])
    assert len(packages) > 50
    assert all("--hash=sha256:" in package for package in packages)
