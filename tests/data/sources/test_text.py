import gzip

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.sources import open_source
from t5like.data.sources.file_source import FileSource
from t5like.data.sources.files import File
from t5like.data.sources.text import CompressedText, Text
from t5like.errors import DamagedDataError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import write_bytes

CONTENTS = st.lists(st.sampled_from(["a", "\n", "\r\n", "é", "漢", " ", "\u2028"]), max_size=40).map("".join)


@pytest.mark.parametrize("compression", ["", ".gz", ".zst", ".bz2", ".xz"])
def test_a_short_file_is_one_document_with_lf_line_ends_and_no_mark(tmp_path, compression):
    write_bytes(tmp_path / f"a.md{compression}", b"\xef\xbb\xbfOne\r\n\r\ntwo \xc3\xa9")
    source = open_source(str(tmp_path))
    assert read_all(source) == ["One\n\ntwo é"]
    assert list(source.read(0, 1)) == []
    assert source.place(0, 0) == f"{tmp_path}/a.md{compression}, line 1"


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_files_set_end_to_end_decompress_as_one(tmp_path, compression):
    for name in "ab":
        write_bytes(tmp_path / f"{name}{compression}", {"a": b"one ", "b": b"two"}[name])
    parts = [(tmp_path / f"{name}{compression}").read_bytes() for name in "ab"]
    (tmp_path / f"a{compression}").write_bytes(b"\0\0\0\0".join(parts) + b"\0" * 70_000)
    assert read_all(open_source(str(tmp_path / f"a{compression}"))) == ["one two"]


def test_a_long_file_is_cut_at_ends_of_lines_into_passages_of_64_kib(tmp_path):
    lines = [f"line {number} é\n" for number in range(40_000)]
    write_bytes(tmp_path / "a.txt", "".join(lines).encode())
    write_bytes(tmp_path / "b.txt.gz", "".join(lines).encode())
    plain, compressed = open_source(str(tmp_path / "a.txt")), open_source(str(tmp_path / "b.txt.gz"))
    passages = read_all(plain)
    assert "".join(passages) == "".join(lines)
    assert len(passages) == plain.num_blocks == -(-len("".join(lines).encode()) // 65_536)
    assert all(abs(len(passage.encode()) - 65_536) < 20 for passage in passages[:-1])
    assert read_all(compressed) == passages
    assert list(compressed.read(0, 3)) == passages[3:]
    first = passages[3].partition(" é")[0].removeprefix("line ")
    assert plain.place(3, 0) == f"{tmp_path}/a.txt, line {int(first) + 1}"
    assert compressed.place(0, 3) == f"{tmp_path}/b.txt.gz, line {int(first) + 1}"


@settings(deadline=None, max_examples=300)
@given(CONTENTS.filter(lambda text: bool(text.strip())), st.integers(1, 12))
def test_passages_together_are_the_text_wherever_they_are_cut(tmp_path_factory, text, passage_bytes):
    folder = tmp_path_factory.mktemp("text")
    content = text.encode()
    sources = []
    for name, form in (
        ("a", Text(passage_bytes=passage_bytes)),
        ("a.gz", CompressedText(passage_bytes=passage_bytes)),
    ):
        path = folder / name
        write_bytes(path, content)
        size = path.stat().st_size
        file = File(filesystem=LocalFileSystem(), path=str(path), name=name, relative=name, size=size)
        sources.append(FileSource(name, [(file, form)]))
    plain, compressed = sources
    passages = read_all(plain)
    assert all(passage.strip() for passage in passages)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert "\r\n" not in "".join(passages)
    assert list(compressed.read(0)) == passages
    blocks = [block for block in range(plain.num_blocks) if list(plain.read(block))]
    for record, block in enumerate(blocks):
        assert list(compressed.read(0, record)) == passages[record:]
        assert compressed.place(0, record) == plain.place(block, 0).replace("a,", "a.gz,")


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"abc\xff", "line 1: not UTF-8 text: invalid start byte at byte 3 of the line"),
        ("text".encode("utf-16"), "line 1: not UTF-8 text: invalid start byte at byte 0 of the line"),
        (
            b"a\n" * 60_000 + b"xy\xe6\n",
            "line 60001: not UTF-8 text: invalid continuation byte at byte 2 of the line",
        ),
    ],
)
def test_what_is_not_utf8_is_named_with_its_line(tmp_path, compression, content, words):
    write_bytes(tmp_path / f"a{compression}", content)
    with pytest.raises(DamagedDataError, match=f"{tmp_path}/a{compression}, {words}"):
        read_all(open_source(str(tmp_path)))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_line_of_more_than_64_mib_is_damage(tmp_path, name):
    content = b"ok\n" * 30_000 + b"a" * (65 << 20)
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    with pytest.raises(
        DamagedDataError, match=rf"{name}, line \d+: a line is longer than 64 MiB.*: break it"
    ):
        read_all(open_source(str(tmp_path)))
