"""Ways to damage a valid input: a file bit by bit or as JSON, a folder, a word of a command line; each from a seed."""

import json
import pathlib
import random
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

# What json.dumps would not write, by a text that stands for it.
_UNWRITABLE = {
    '"<huge>"': "9" * 5000,
    '"<deep>"': "[" * 100_000 + "]" * 100_000,
    '"<nested>"': "[" * 400 + "]" * 400,
    '"<nested object>"': '{"a":' * 400 + "1" + "}" * 400,
    '"<deep object>"': '{"a":' * 100_000 + "1" + "}" * 100_000,
    '"<twice>"': '1, "twice": 2',
}
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *(
        "",
        "x",
        "é",
        "\ud800",
        "\x00",
        "a/../../b",
        "/etc/passwd",
        "<huge>",
        "<nested>",
        "<nested object>",
        "<deep>",
        "<deep object>",
        "<twice>",
    ),
    *([], {}, [None], [[1, 2], 3], {"a": 1}, ["x"] * 3, {"__class__": "os.system"}),
)
_CONTENTS = (
    *(b"\x00" * 40, b"null", b"[]", b"{}", b"3", b'"x"', b"\n", b" \n\n ", b"\xef\xbb\xbf", b"\xff\xfe\x00"),
    *(b"\x89PNG\r\n\x1a\n\x00\x00", b"PK\x03\x04\x00\x00", b"\x1f\x8b\x08\x00", b"PAR1", b"ARROW1\x00\x00"),
    *(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<html><body>404</body></html>\n"),
    *(b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93.", b"[" * 100_000),
)
WORDS = (
    *("", " ", "x", "é", "None", "True", "-1", "0", "1", "3", "1.5", "nan", "inf", "-inf", "1e400", "1e-400"),
    *(
        "99999999999999999999",
        "-99999999999999999999",
        "9" * 400,
        "9" * 5000,
        "[]",
        "{}",
        "()",
        "a,b",
        "=",
        "\udcff",
    ),
    *(
        "../../x",
        "/x/y",
        ".",
        "~nobody/x",
        "hf:",
        "tfds:",
        "conll:",
        "*",
        "**",
        "a" * 5000,
        "gs://",
        "x://y",
        "0x10",
    ),
)


def damage_file(path: pathlib.Path, rng: random.Random) -> str:
    """Damages a file, and returns how."""
    content = path.read_bytes()
    documents = _json_documents(content)
    if documents and rng.random() < 0.6:
        return _damage_json(path, documents, rng)
    way = rng.choice(
        (*(_flip, _flip, _cut, _cut, _insert, _delete, _blank, _not_utf8, _lines, _replace), None)
    )
    if way is not None:
        path.write_bytes(way(bytearray(content), rng))
        return way.__name__.strip("_")
    path.unlink()
    if rng.random() < 0.5:
        path.mkdir()
        return "folder"
    return "removed"


def damage_one(folder: pathlib.Path, rng: random.Random, among: Sequence[str] = ("**/*",)) -> tuple[str, str]:
    """Damages one of the files in a folder; returns its name and how.

    Args:
      among: patterns of the files it may be, each as likely as the others.
    """
    files = sorted(path for path in folder.glob(rng.choice(among)) if path.is_file())
    path = rng.choice(files)
    name = path.relative_to(folder).as_posix()
    if len(files) > 1 and rng.random() < 0.05:
        other = rng.choice([file for file in files if file != path])
        shutil.copyfile(other, path)
        return name, f"replaced by {other.name}"
    return name, damage_file(path, rng)


def misspelt(word: str, rng: random.Random) -> str:
    """Returns a word with a letter gone, doubled, or another."""
    place = rng.randrange(len(word))
    return rng.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + rng.choice("qxz_é.-") + word[place + 1 :],
        )
    )


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3) if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.choice((0, rng.randrange(len(content) + 1), max(0, len(content) - 1)))])


def _insert(content: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return bytes(content[:place]) + rng.randbytes(rng.choice((1, 4, 100))) + bytes(content[place:])


def _delete(content: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return bytes(content[:place] + content[place + rng.choice((1, 4, 100)) :])


def _blank(content: bytearray, rng: random.Random) -> bytes:
    """Returns a stretch as NULs, as disks leave it."""
    place, size = rng.randrange(len(content) + 1), rng.choice((1, 8, 512))
    size = min(size, len(content) - place)
    return bytes(content[:place]) + bytes(size) + bytes(content[place + size :])


def _not_utf8(content: bytearray, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    bad = rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"))
    return bytes(content[:place]) + bad + bytes(content[place:])


def _lines(content: bytearray, rng: random.Random) -> bytes:
    """Returns a line doubled, gone, swapped with another, or with a cell more."""
    lines = bytes(content).split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.insert(two, lines[one])
        case 1:
            del lines[one]
        case 2:
            lines[one], lines[two] = lines[two], lines[one]
        case 3:
            lines[one] += rng.choice((b"\t", b",", b' "', b"\tx\ty", b"\r", b"\x0b", b"{"))
    return b"\n".join(lines)


def _replace(content: bytearray, rng: random.Random) -> bytes:
    return rng.choice((*_CONTENTS, rng.randbytes(300)))


def _json_documents(content: bytes) -> list[Any]:
    """Returns the JSON in a file, one document or one a line; nothing where it is no JSON."""
    try:
        return [json.loads(content)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError:
        return []


def _damage_json(path: pathlib.Path, documents: list[Any], rng: random.Random) -> str:
    number = rng.randrange(len(documents))
    holder: list[Any] = [documents[number]]
    places = list(_places(holder))
    inside, key = rng.choice(places)
    way = rng.choice(("value", "value", "value", "gone", "more"))
    if way == "gone" and inside is not holder:
        del inside[key]
    elif way == "more" and isinstance(inside[key], dict | list):
        value = rng.choice(_VALUES)
        if isinstance(inside[key], dict):
            inside[key][rng.choice(("more", "", "é", "__class__", "__proto__", "0"))] = value
        else:
            inside[key].insert(0, value)
    else:
        way, inside[key] = "value", rng.choice(_VALUES)
    documents[number] = holder[0]
    indent = 2 if len(documents) == 1 else None
    text = "\n".join(json.dumps(document, ensure_ascii=True, indent=indent) for document in documents) + "\n"
    for mark, stands_for in _UNWRITABLE.items():
        text = text.replace(mark, stands_for)
    path.write_text(text)
    return f"JSON {way} at {key!r}"


def _places(inside: Any) -> Iterator[tuple[Any, Any]]:
    """Yields (container, key or index) of every value within a value."""
    keys: Sequence[Any] = list(inside) if isinstance(inside, dict) else range(len(inside))
    for key in keys:
        yield inside, key
        if isinstance(inside[key], dict | list):
            yield from _places(inside[key])
