"""The checkout that is brought to hosts."""

import pathlib
import subprocess
import tarfile

from launch.pod.checkout import ROOT, digest_of, pack_checkout


def names_in(archive: pathlib.Path) -> set[str]:
    with tarfile.open(archive) as packed:
        return set(packed.getnames())


def small_checkout(folder: pathlib.Path) -> pathlib.Path:
    for name, text in {
        "setup.py": "",
        "t5like/a.py": "1",
        "t5like/__pycache__/a.pyc": "",
        "runs/x": "",
        "mine.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text("runs/\n__pycache__/\n")
    return folder


def test_what_git_ignores_stays_here(tmp_path: pathlib.Path) -> None:
    folder = small_checkout(tmp_path)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    assert names_in(pack_checkout(folder)) == {".gitignore", "setup.py", "t5like/a.py", "mine.py"}


def test_without_git_it_is_what_belongs_to_the_project(tmp_path: pathlib.Path) -> None:
    assert names_in(pack_checkout(small_checkout(tmp_path))) == {"setup.py", "t5like/a.py"}


def test_its_name_tells_its_content(tmp_path: pathlib.Path) -> None:
    folder = small_checkout(tmp_path)
    first = digest_of(pack_checkout(folder))
    assert digest_of(pack_checkout(folder)) == first
    (folder / "t5like" / "a.py").write_text("2")
    assert digest_of(pack_checkout(folder)) != first


def test_what_a_host_needs_is_in_it() -> None:
    assert {"setup.py", "launch/tpu.lock", "launch/host/job.sh", "t5like/cli.py"} <= names_in(
        pack_checkout(ROOT)
    )
