import io
import tracemalloc

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.sources import lines
from t5like.data.sources.fields import RecordError
from t5like.data.sources.files import File
from t5like.data.sources.lines import (
    line_number,
    lines_of,
    lines_of_stream,
    passage_of,
    passages_of_stream,
)

# Few letters, so that ends of lines are everywhere: in a row, at the start, after CR, and not at the end.
CONTENTS = st.lists(
    st.sampled_from([b"a", b"\n", b"\r\n", "é".encode(), "漢".encode(), b" "]), max_size=40
).map(b"".join)


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """From bytes to a file of them."""
    path = tmp_path_factory.mktemp("lines") / "a"

    def write(content: bytes) -> File:
        path.write_bytes(content)
        return File(filesystem=LocalFileSystem(), path=str(path), name="a", relative="a", size=len(content))

    return write


def _stretches(file: File, num_bytes: int):
    return [(start, start + num_bytes) for start in range(0, file.size, num_bytes)]


def test_stretches_as_in_the_docstring(file_of):
    file = file_of(b"ab.cdefg..h".replace(b".", b"\n"))
    passages = [passage_of(file, *stretch)[1] for stretch in _stretches(file, 3)]
    assert passages == [b"ab\n", b"cdefg\n", b"", b"\nh"]


@settings(deadline=None, max_examples=300)
@given(CONTENTS, st.integers(1, 12))
def test_every_line_is_in_exactly_the_stretch_that_it_starts_in(file_of, content, num_bytes):
    file = file_of(content)
    expected: list[list[bytes]] = [[] for _ in _stretches(file, num_bytes)]
    start = 0
    for line in content.split(b"\n"):
        if start < len(content):
            expected[start // num_bytes].append(line)
        start += len(line) + 1
    for stretch, whole in zip(_stretches(file, num_bytes), expected, strict=True):
        assert list(lines_of(file, *stretch)) == whole
        offset, passage = passage_of(file, *stretch)
        assert passage.removesuffix(b"\n") == b"\n".join(whole)
        if whole:
            assert content[offset:].startswith(passage)
            assert line_number(file, offset) == content[:offset].count(b"\n") + 1


@settings(deadline=None, max_examples=300)
@given(CONTENTS, st.integers(1, 12), st.integers(1, 7))
def test_a_stream_has_the_passages_and_lines_of_the_file(file_of, content, num_bytes, read_bytes):
    file = file_of(content)
    passages = [
        passage for stretch in _stretches(file, num_bytes) if (passage := passage_of(file, *stretch)[1])
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_READ_BYTES", read_bytes)
        streamed = list(passages_of_stream(io.BytesIO(content), num_bytes))
        assert [passage for _, passage in streamed] == passages
        number = 1
        for first, passage in streamed:
            assert first == number
            number += passage.count(b"\n")
        assert (
            list(lines_of_stream(io.BytesIO(content)))
            == content.removesuffix(b"\n").split(b"\n")[: None if content else 0]
        )


@settings(deadline=None)
@given(CONTENTS.filter(bool), st.integers(1, 12))
def test_a_byte_order_mark_is_no_part_of_the_first_line(file_of, content, num_bytes):
    mark = b"\xef\xbb\xbf"
    file = file_of(mark + content)
    whole = b"".join(passage_of(file, *stretch)[1] for stretch in _stretches(file, num_bytes))
    assert whole == content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_READ_BYTES", 1)
        assert b"".join(p for _, p in passages_of_stream(io.BytesIO(mark + content), num_bytes)) == content
        assert b"\n".join(lines_of_stream(io.BytesIO(mark + content))) == content.removesuffix(b"\n")


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 30), max_size=12), st.booleans(), st.integers(1, 12), st.integers(1, 7))
def test_a_line_that_is_too_long_is_told_of_in_its_place(file_of, lengths, ends_so, num_bytes, read_bytes):
    whole = [bytes([97 + number]) * length for number, length in enumerate(lengths)]
    content = b"\n".join(whole) + b"\n" * ends_so
    file = file_of(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_READ_BYTES", read_bytes)
        patch.setattr(lines, "_BEYOND_BYTES", 3)
        patch.setattr(lines, "MAX_LINE_BYTES", 15)
        streamed = list(lines_of_stream(io.BytesIO(content)))
        blocks = [line for stretch in _stretches(file, num_bytes) for line in lines_of(file, *stretch)]
        passages = list(passages_of_stream(io.BytesIO(content), num_bytes))
    for read in (streamed, blocks):
        assert len(read) == content.removesuffix(b"\n").count(b"\n") + bool(content)
        for line, expected in zip(read, whole, strict=False):
            if isinstance(line, RecordError):
                assert len(expected) > 15
                assert "longer than" in str(line)
            else:
                assert line == expected
                assert len(line) <= 15 + 30  # one that ends in what was read anyway may be longer
    numbers = [content[:at].count(b"\n") + 1 for at in range(len(content))]
    for number, passage in passages:
        if isinstance(passage, RecordError):
            continue
        assert numbers[content.index(passage)] == number or passage.isspace()
    kept = b"".join(passage for _, passage in passages if isinstance(passage, bytes))
    for line in whole:
        if line and content.index(line) // num_bytes not in {
            content.index(long) // num_bytes for long in whole if len(long) > 15
        }:
            assert line in kept


def test_a_line_is_not_held_beyond_what_a_line_may_be(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100_000)
    content = b"ok\n" + b"a" * 30_000_000 + b"\nmore\n"
    for read in (lines_of_stream, lambda stream: (p for _, p in passages_of_stream(stream, 2))):
        stream = io.BytesIO(content)
        tracemalloc.start()
        first, error, last = read(stream)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [line.removesuffix(b"\n") for line in (first, last)] == [b"ok", b"more"]
        assert isinstance(error, RecordError)
        assert peak < 2_000_000
