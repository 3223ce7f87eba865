"""The files of this checkout as an archive, the same bytes for the same files."""

import gzip
import hashlib
import io
import pathlib
import subprocess
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


# What belongs to a checkout that git does not know, as one from a zip.
_KNOWN = ("LICENSE", "README.md", "configs", "launch", "pyproject.toml", "setup.py", "t5like", "tests")


def pack_checkout(root: pathlib.Path = ROOT) -> pathlib.Path:
    """Returns an archive of the files that git knows or does not ignore, under a name that tells its content."""
    names = _listed_by_git(root) or [
        str(path.relative_to(root))
        for known in _KNOWN
        for path in (root / known, *(root / known).rglob("*"))
        if "__pycache__" not in path.parts
    ]
    names = sorted({name for name in names if (root / name).is_file()})
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in names:
            archive.add(root / name, name, filter=_without_owner)
    packed = gzip.compress(content.getvalue(), mtime=0)
    digest = hashlib.sha256(packed).hexdigest()[:12]
    path = pathlib.Path(tempfile.gettempdir()) / f"t5like-{digest}.tar.gz"
    path.write_bytes(packed)
    return path


def _listed_by_git(root: pathlib.Path) -> list[str]:
    """Returns the names that git has for the files of a folder, none where there is no git or no checkout of its."""
    listing = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")
    try:
        listed = subprocess.run(["git", "-C", str(root), *listing], capture_output=True)
    except FileNotFoundError:
        return []
    return listed.stdout.decode().split("\0") if listed.returncode == 0 else []


def digest_of(archive: pathlib.Path) -> str:
    """Returns what tells the archive of one checkout from that of another."""
    return archive.name.removeprefix("t5like-").removesuffix(".tar.gz")


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member
