"""The files of this checkout as an archive, the same bytes for the same files."""

import gzip
import hashlib
import io
import pathlib
import subprocess
import tarfile
import tempfile

from t5like.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pack_checkout(root: pathlib.Path = ROOT) -> pathlib.Path:
    """Returns an archive of the files that git knows or does not ignore, under a name that tells its content.

    Raises:
      UserError: git does not know the folder.
    """
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
    )
    if listed.returncode:
        raise UserError(
            f"{root} is no git checkout, so which of its files belong to it is not known; clone t5like."
        )
    names = sorted({name for name in listed.stdout.decode().split("\0") if (root / name).is_file()})
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in names:
            archive.add(root / name, name, filter=_without_owner)
    packed = gzip.compress(content.getvalue(), mtime=0)
    digest = hashlib.sha256(packed).hexdigest()[:12]
    path = pathlib.Path(tempfile.gettempdir()) / f"t5like-{digest}.tar.gz"
    path.write_bytes(packed)
    return path


def digest_of(archive: pathlib.Path) -> str:
    """Returns what tells the archive of one checkout from that of another."""
    return archive.name.removeprefix("t5like-").removesuffix(".tar.gz")


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member
