import json
import tracemalloc
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.sources import open_source
from t5like.data.sources.file_source import FileSource
from t5like.data.sources.files import File
from t5like.data.sources.jsonl import CompressedJsonLines, JsonLines
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import write_bytes

SHARED = (Path(__file__).resolve().parents[3] / "../shared/data").resolve()

# Lines as they may be in a file: objects, some of several bytes a character, and lines that do not count.
LINES = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=6).map(
            lambda text: json.dumps({"text": text}, ensure_ascii=False)
        ),
        st.sampled_from(["", " ", "\t"]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=300)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 40))
def test_blocks_cut_at_any_byte_give_every_record_once(tmp_path_factory, lines, end, ends_so, block_bytes):
    lines = [*lines, '{"text": "x"}']
    content = (end.join(lines) + end * ends_so).encode()
    texts = [json.loads(line)["text"] for line in lines if line.strip()]
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    folder = tmp_path_factory.mktemp("jsonl")
    sources = []
    for name in ("a", "a.gz"):
        write_bytes(folder / name, content)
        size = (folder / name).stat().st_size
        file = File(
            filesystem=LocalFileSystem(), path=str(folder / name), name=name, relative=name, size=size
        )
        form = (
            JsonLines([file], "text", block_bytes=block_bytes) if name == "a" else CompressedJsonLines("text")
        )
        sources.append(FileSource(name, [(file, form)]))
    plain, compressed = sources
    assert plain.num_blocks == -(-len(content) // block_bytes)
    assert read_all(plain) == read_all(compressed) == texts
    places = [
        plain.place(block, record)
        for block in range(plain.num_blocks)
        for record, _ in enumerate(plain.read(block))
    ]
    assert places == [f"a, line {number}" for number in numbers]
    assert [compressed.place(0, record) for record in range(len(texts))] == [
        f"a.gz, line {number}" for number in numbers
    ]
    for start in range(len(texts) + 2):
        assert list(compressed.read(0, start)) == texts[start:]


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a"}\n\n{"text": ', "line 3: not JSON"),
        (b"[" * 100_000, "line 1: not JSON"),
        (
            b'{"text": "a"}\n{"txt": "b", "id": 1}',
            "line 2: no field 'text', only txt, id; the nearest is 'txt'",
        ),
        (b'["text"]', "line 1: not a JSON object but a list, so it has no field 'text'"),
        (b'{"text": "a"}\n{"text": null}', "line 2: the field 'text' is null, not a string"),
        (b'{"text": "a"}\n{"text": ["a"]}', r"line 2: the field 'text' is \[\"a\"\], not a string"),
        (b'{"text": "\\ud83d"}', "line 1: the field 'text' holds half of a surrogate pair"),
        (
            b'{"text": "a"}\n{"text": "\xff"}',
            "line 2: not UTF-8 text: invalid start byte at byte 10 of the line",
        ),
        (b'{"text": "a"}\n{"text": "' + b"a" * (65 << 20), "line 2: a line is longer than 64 MiB"),
    ],
)
def test_bad_lines_are_named_after_what_comes_before_them(tmp_path, compression, content, words):
    path = tmp_path / f"a.jsonl{compression}"
    write_bytes(path, content)
    read = []
    with pytest.raises(DamagedDataError, match=f"{path}, {words}") as caught:
        read.extend(open_source(str(path)).read(0))
    assert "\n" not in str(caught.value)
    assert read == ["a"] * content.startswith(b'{"text": "a"}')


def _error(location) -> str:
    with pytest.raises(UserError) as caught:
        read_all(open_source(str(location)))
    assert not isinstance(caught.value, DamagedDataError)
    return str(caught.value)


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
def test_one_document_is_no_damage_but_has_to_be_written_as_lines(tmp_path, compression, indent):
    rows = [{"text": f"the text of row {number}", "id": number} for number in range(1000)]
    path = tmp_path / f"b.json{compression}"
    for content, query in ((rows, ".[]"), ({"rows": rows}, ".")):
        write_bytes(path, json.dumps(content, indent=indent).encode())
        if query == "." and indent is None:  # a line like another
            assert "line 1: no field 'text', only rows" in _error(tmp_path)
            continue
        decompress = "decompress it, and " * bool(compression)
        words = f"{path} is one JSON document; {decompress}write an object a line (`jq -c '{query}' {tmp_path}/b.json`)."
        assert _error(tmp_path) == words
        # Behind a file of lines it is met when it is read, wherever that begins.
        write_bytes(tmp_path / f"a.json{compression}", b'{"text": "a"}\n')
        assert _error(tmp_path) == words
        source = open_source(str(tmp_path))
        if indent is not None and not compression:
            with pytest.raises(UserError, match="is one JSON document"):
                list(source.read(source.num_blocks - 1))
        (tmp_path / f"a.json{compression}").unlink()


def test_a_document_of_a_single_long_line_is_told_so_too(tmp_path):
    write_bytes(tmp_path / "a.json", b'[{"text": "' + b"a" * (65 << 20) + b'"}]')
    with pytest.raises(UserError, match="one JSON document"):
        open_source(str(tmp_path))


def test_lines_of_which_the_first_is_damaged_are_no_document(tmp_path):
    for first in (b'{"text": "a', b'{"text": ', b"x", b'["text"]', b'{"text": "a"}}', b"}", b"[1, 2]"):
        write_bytes(tmp_path / "a.jsonl", first + b'\n{"text": "b"}\n')
        source = open_source(str(tmp_path))
        with pytest.raises(DamagedDataError, match="line 1: not"):
            list(source.read(0))


def test_a_wrong_name_of_the_field_is_told_from_a_record_without_it(tmp_path):
    write_bytes(tmp_path / "a.jsonl", b'{"body": "b"}\n{"text": "t"}\n')
    with pytest.raises(UserError, match=r"line 1: no field 'text', only body: .*--text_field") as caught:
        open_source(str(tmp_path))
    assert not isinstance(caught.value, DamagedDataError)
    source = open_source(str(tmp_path), text_field="body")
    with pytest.raises(DamagedDataError, match="line 2: no field 'body', only text"):
        list(source.read(0))
    # What is skipped is not looked at.
    write_bytes(tmp_path / "a.jsonl", b'{"body": "b"}\n{"text": "t"}\n{"body": "c"}')
    assert list(open_source(str(tmp_path), text_field="body").read(0, 2)) == ["c"]


def test_only_escapes_that_are_no_text_are_refused(tmp_path):
    texts = ["a\u2028b", '"quoted"', "tab\tnew\nline", "😀", "\\ud83d", "\x00"]
    write_bytes(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts).encode())
    assert read_all(open_source(str(tmp_path))) == texts


@pytest.mark.parametrize(
    ("total", "block_bytes"),
    [(1, 16 << 10), (16 << 20, 16 << 10), (100 << 20, 128 << 10), (1 << 40, 256 << 10)],
)
def test_block_size_is_of_the_total_alone(total, block_bytes):
    for num_files in (1, 7):
        files = [
            File(filesystem=LocalFileSystem(), path=f"{n}", name="a", relative="a", size=total // num_files)
            for n in range(num_files)
        ]
        form = JsonLines(files, "text")
        assert f"block_bytes={block_bytes}" in form.layout or num_files > 1
        assert form.num_blocks(files[0]) == -(-files[0].size // block_bytes)


def test_millions_of_blocks_take_no_memory_and_no_time_to_find(tmp_path):
    write_bytes(tmp_path / "a.jsonl", b'{"text": "a"}\n')
    file = File(
        filesystem=LocalFileSystem(), path=str(tmp_path / "a.jsonl"), name="a", relative="a", size=5 << 39
    )
    source = FileSource.__new__(FileSource)
    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileSource, "_look_at_first_records", lambda self: None)
        source.__init__("a", [(file, JsonLines([file], "text"))])
    assert source.num_blocks == 10 << 20
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt.zst"])
def test_memory_is_that_of_a_block_whatever_the_file_holds(tmp_path, name):
    line = json.dumps({"text": "All happy families are alike. " * 60}).encode() + b"\n"
    write_bytes(tmp_path / name, line * (64_000_000 // len(line)))
    tracemalloc.start()
    source = open_source(str(tmp_path))
    num_characters = sum(len(text) for block in range(source.num_blocks) for text in source.read(block))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_characters > 60_000_000
    assert peak < 20_000_000


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data not in this checkout: documents of C4")
def test_c4_is_the_same_documents_as_jsonl_and_as_tfrecord():
    folder = SHARED / "c4_en_minimal"
    records = read_all(open_source(str(folder / "tfrecord/*-validation.tfrecord-*")))
    assert len(records) == 200
    assert records == read_all(open_source(str(folder / "c4-validation.jsonl")))
    train = read_all(open_source(str(folder / "tfrecord/*-train.tfrecord-*")))
    assert train == read_all(open_source(str(folder / "c4-train.jsonl")))[: len(train)]
    # The folder is as TFDS left it, with files that describe the data.
    assert len(read_all(open_source(str(folder / "tfrecord")))) == len(train) + len(records)
