"""Whatever of a checkpoint's files changes, is cut, or goes away is noticed."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest

from t5like.errors import UserError
from t5like.manifest import FORMAT, MANIFEST, find_damage, notes, read_notes, write_manifest

METADATA = "_CHECKPOINT_METADATA"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as Orbax leaves it, with its manifest."""
    folder = tmp_path / "5"
    rng = random.Random(0)
    for name, size in (("params/d/a", 4000), ("params/_METADATA", 300), ("run/metadata", 40), ("empty", 0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(rng.randbytes(size))
    metadata = {
        "init_timestamp_nsecs": 1,
        "commit_timestamp_nsecs": None,
        "custom_metadata": notes(arrays={}),
    }
    (folder / METADATA).write_text(json.dumps(metadata))
    write_manifest(folder)
    # What Orbax does after that.
    (folder / METADATA).write_text(json.dumps(metadata | {"commit_timestamp_nsecs": 2}))
    (folder / "commit_success.txt").write_text("yes")
    return folder


def test_what_is_as_it_was_is_whole(folder: Path) -> None:
    assert find_damage(folder) is None
    assert read_notes(folder) == {"format": FORMAT, "arrays": {}}
    moved = folder.rename(folder.with_name("6"))
    assert find_damage(moved) is None


@pytest.mark.parametrize(
    "name", ["params/d/a", "params/_METADATA", "run/metadata", MANIFEST, METADATA, "empty"]
)
def test_a_file_that_is_gone_is_noticed(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert name in str(find_damage(folder))


@pytest.mark.parametrize("name", ["params/d/a", "params/_METADATA", "run/metadata", MANIFEST, METADATA])
def test_a_file_that_is_cut_short_is_noticed(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    for length in {0, 1, len(content) // 2, len(content) - 2}:
        (folder / name).write_bytes(content[:length])
        assert name in str(find_damage(folder))


def test_a_file_that_is_longer_is_noticed(folder: Path) -> None:
    (folder / "empty").write_bytes(b"x")
    assert find_damage(folder) == "empty is not as long as it was"


def test_any_flipped_bit_is_noticed(folder: Path) -> None:
    """But for those of when the folder took its name, which says nothing of what it holds."""
    rng = random.Random(1)
    for name in ("params/d/a", "params/_METADATA", "run/metadata", MANIFEST, METADATA):
        content = (folder / name).read_bytes()
        stamp = content.find(b'"commit_timestamp_nsecs": 2') + len(b'"commit_timestamp_nsecs": ')
        for _ in range(100):
            place = rng.randrange(len(content))
            changed = bytearray(content)
            changed[place] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(changed)
            if name == METADATA and place == stamp:
                continue
            assert find_damage(folder) is not None, (name, place)
        (folder / name).write_bytes(content)
    assert find_damage(folder) is None


def test_a_folder_that_is_empty_is_noticed(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    assert find_damage(folder) == f"{METADATA} cannot be read"


def test_what_was_written_before_there_were_manifests_is_taken_as_it_is(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / METADATA).write_text('{"custom_metadata": {}}')
    assert find_damage(folder) is None
    assert read_notes(folder) == {"format": 1}


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/etc/passwd", "..", ".", "", "a\0b", "\ud800", "params/d/../d/a"],
)
def test_a_name_that_leads_elsewhere_is_damage_and_is_not_followed(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    opened = []
    monkeypatch.setattr("t5like.manifest._entry", lambda path, **_: opened.append(path))
    assert find_damage(folder) == f"{MANIFEST} cannot be read"
    assert not opened


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"files": [["a", {}]], "format": 2}', '{"files": 3, "format": 2}']
)
def test_a_manifest_that_is_none_is_damage(content: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(content)
    assert find_damage(folder) == f"{MANIFEST} cannot be read"


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"custom_metadata": 3}', '{"custom_metadata": {"format": "2"}}']
)
def test_metadata_that_are_none_are_damage(content: str, folder: Path) -> None:
    (folder / METADATA).write_text(content)
    assert find_damage(folder) == f"{METADATA} cannot be read"


def test_a_later_format_is_refused(folder: Path) -> None:
    (folder / METADATA).write_text(json.dumps({"custom_metadata": {"format": FORMAT + 1}}))
    with pytest.raises(UserError, match=f"of format {FORMAT + 1}.*install"):
        find_damage(folder)
