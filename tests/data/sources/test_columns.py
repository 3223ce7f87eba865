import contextlib
import os
import re
import subprocess
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.sources import open_source
from t5like.data.sources.arrow_messages import ArrowFile
from t5like.data.sources.files import File
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import table, unicode_texts, write_arrow, write_dataset

TEXTS = unicode_texts(300, seed=2)


def _write_stream(content, path, **options):
    with pa.ipc.new_stream(path, content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(content, 70)


def _write_file(content, path, **options):
    with pa.ipc.new_file(path, content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(content, 70)


WRITE = {
    "parquet": lambda content, path: pq.write_table(content, path, row_group_size=70),
    "arrow": _write_stream,
}
TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
]


def _write(kind, folder, content):
    path = folder / f"a.{kind}"
    WRITE[kind](content, path)
    return str(path)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("column", TEXT_TYPES, ids=str)
def test_every_type_that_holds_text_gives_it(tmp_path, kind, column):
    texts = (
        pa.array(TEXTS).dictionary_encode()
        if pa.types.is_dictionary(column)
        else pa.array(TEXTS, pa.string()).cast(column)
    )
    path = _write(kind, tmp_path, pa.table({"n": range(300), "text": texts}))
    assert read_all(open_source(path)) == TEXTS


def test_views_of_text_give_it(tmp_path):
    path = _write("arrow", tmp_path, pa.table({"text": pa.array(TEXTS, pa.string_view())}))
    assert read_all(open_source(path)) == TEXTS


def test_a_block_is_a_row_group(tmp_path):
    source = open_source(_write("parquet", tmp_path, table(TEXTS)))
    assert [len(list(source.read(block))) for block in range(source.num_blocks)] == [70, 70, 70, 70, 20]
    assert list(source.read(2, 69)) == [TEXTS[209]]


@pytest.mark.parametrize("kind", WRITE)
def test_columns_that_are_not_there_or_not_text_are_refused_with_the_file(tmp_path, kind):
    path = _write(kind, tmp_path, table(TEXTS))
    with pytest.raises(
        UserError, match=rf"{path}: no field 'body', only id, text, score: name the .* --text_field"
    ):
        open_source(path, text_field="body")
    with pytest.raises(UserError, match=f"{path}: the column 'score' is int64, not text") as caught:
        open_source(path, text_field="score")
    assert not isinstance(caught.value, DamagedDataError)


@pytest.mark.parametrize("kind", WRITE)
def test_two_columns_of_the_name_are_refused(tmp_path, kind):
    arrays = [pa.array(["x"]), pa.array(["y"])]
    path = _write(kind, tmp_path, pa.Table.from_arrays(arrays, names=["text", "text"]))
    with pytest.raises(UserError, match=f"{path}: it has 2 columns named 'text'") as caught:
        open_source(path)
    assert not isinstance(caught.value, DamagedDataError)


@pytest.mark.parametrize(("kind", "place"), [("parquet", "row group 1, row 3"), ("arrow", "row 73")])
@pytest.mark.parametrize(
    ("value", "words"), [(None, "the field 'text' is null"), (b"\xff", "the field 'text' is not UTF-8 text")]
)
def test_a_row_without_text_is_named_after_those_before_it(tmp_path, kind, place, value, words):
    values = [text.encode() for text in TEXTS]
    values[73] = value
    path = _write(kind, tmp_path, pa.table({"text": pa.array(values, pa.binary())}))
    source = open_source(path)
    block, before = (1, TEXTS[70:73]) if kind == "parquet" else (73, [])
    read = []
    with pytest.raises(DamagedDataError, match=f"{path}, {place}: {words}"):
        read.extend(source.read(block))
    assert read == before


@pytest.mark.parametrize("kind", WRITE)
def test_what_is_none_of_its_kind_is_damage(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"this is no table, " * 99)
    with pytest.raises(DamagedDataError, match=f"Cannot read {path} as {kind.title()}"):
        open_source(str(path))


@pytest.mark.parametrize("kind", WRITE)
def test_a_table_without_rows_holds_no_text(tmp_path, kind):
    with pytest.raises(UserError, match="holds no text"):
        open_source(_write(kind, tmp_path, table([])))


def test_a_batch_whose_metadata_say_that_there_is_none_is_damage(tmp_path, monkeypatch):
    class Ended:
        def read_next_batch(self):
            raise StopIteration

    write_arrow(tmp_path / "a.arrow", ["one", "two"])
    source = open_source(str(tmp_path / "a.arrow"))
    monkeypatch.setattr("pyarrow.ipc.open_stream", lambda buffer, options: Ended())
    with pytest.raises(DamagedDataError, match=r"a\.arrow.*its metadata mark an end where a batch is"):
        list(source.read(0))


def test_damaged_offsets_in_arrow_are_told_before_they_are_followed(tmp_path):
    texts = [f"the text of row {number}" for number in range(64)]
    path = tmp_path / "a.arrow"
    write_arrow(path, texts)
    content = path.read_bytes()
    # The offsets of the first batch of 33: where each text starts, the sixth 20 numbers on.
    offsets = b"".join(sum(map(len, texts[:row])).to_bytes(4, "little") for row in range(34))
    start = content.index(offsets) + 4 * 20
    damaged = tmp_path / "damaged" / "a.arrow"
    damaged.parent.mkdir()
    damaged.write_bytes(content[:start] + b"\xff\xff\xff\x7f" + content[start + 4 :])
    source = open_source(str(damaged))
    with pytest.raises(DamagedDataError, match=r"a.arrow, row 19: it is damaged"):
        read_all(source)
    rows = [row for row in range(64) if row not in (19, 20)]  # each is a block
    assert [list(source.read(row)) for row in rows] == [[texts[row]] for row in rows]


ARROW = {"stream": _write_stream, "file": _write_file}
OPTIONS = [{}, {"compression": "lz4"}, {"compression": "zstd"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ARROW)
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_rows_of_arrow_are_those_of_its_column_from_any_row_on(tmp_path_factory, kind, options, data):
    column = data.draw(st.sampled_from([*TEXT_TYPES, pa.string_view()]))
    texts = data.draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=1, max_size=200))
    texts[-1] += "x"
    values = pa.array(texts, pa.string())
    values = values.dictionary_encode() if pa.types.is_dictionary(column) else values.cast(column)
    ranges = [list(range(number % 3)) for number in range(len(texts))]
    colours = pa.array(["red", None] * len(texts)).slice(0, len(texts)).dictionary_encode()
    content = pa.table({"ranges": ranges, "colour": colours, "text": values, "n": range(len(texts))})
    path = str(tmp_path_factory.mktemp("arrow") / "a.arrow")
    ARROW[kind](content, path, **options)
    size = os.stat(path).st_size
    file = File(filesystem=LocalFileSystem(), path=path, name="a", relative="a", size=size)
    first = data.draw(st.integers(0, len(texts)))
    end = data.draw(st.integers(first, len(texts)))
    rows = ArrowFile(file).read(2, first, end, data.draw(st.integers(1, 80)))
    read = [value for array in rows for value in array.to_pylist()]
    assert [value.decode() if isinstance(value, bytes) else value for value in read] == texts[first:end]
    assert read_all(open_source(path)) == texts


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ARROW)
def test_an_arrow_file_that_is_cut_anywhere_is_damage_that_names_it(tmp_path, kind, options):
    path = tmp_path / "a.arrow"
    ARROW[kind](table(TEXTS[:100]), path, **options)
    content = path.read_bytes()
    cut = tmp_path / "cut.arrow"
    for num_bytes in [*range(1, len(content) - 20, 97), *range(len(content) - 20, len(content))]:
        cut.write_bytes(content[:num_bytes])
        with pytest.raises(DamagedDataError, match=f"{cut} as Arrow: it is"):
            open_source(str(cut))


def _read_what_can_be(path):
    with contextlib.suppress(UserError):
        source = open_source(str(path))
        for block in range(0, min(source.num_blocks, 100), 33):  # it may say that it has any number
            with contextlib.suppress(DamagedDataError):
                list(source.read(block))


@pytest.mark.parametrize("kind", ARROW)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_flipped_byte_of_arrow_raises_no_other_errors(tmp_path, kind, options):
    path = tmp_path / "a.arrow"
    ARROW[kind](table([f"the text of row {number}" for number in range(100)]), path, **options)
    content = path.read_bytes()
    for position in range(0, len(content), 23):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        # A file that is damaged when it is opened, and one that is damaged after it.
        for path in (tmp_path / f"{position}.arrow", tmp_path / "a.arrow"):
            path.write_bytes(damaged)
            _read_what_can_be(path)


@pytest.mark.parametrize("folder", [False, True])
def test_an_arrow_file_that_is_cut_while_it_is_read_is_damage(tmp_path, folder):
    texts = ["All unhappy families are unhappy in their own way. " * 20 + str(n) for n in range(3000)]
    write = write_dataset if folder else write_arrow
    write(tmp_path / "a.arrow", texts)
    # In a process of its own: one that has mapped the file ends by a signal.
    code = (
        "import os, pathlib, sys\n"
        "from t5like.data.sources import open_source\n"
        "from t5like.errors import DamagedDataError\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "source = open_source(str(path))\n"
        "first = list(source.read(0))\n"
        "for file in path.glob('*.arrow') if path.is_dir() else [path]:\n"
        "    os.truncate(file, 40_000)\n"
        "try:\n"
        "    list(source.read(source.num_blocks - 1))\n"
        "except DamagedDataError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.arrow")], capture_output=True, text=True
    )
    assert result.returncode == 0, result
    assert re.match(rf"Cannot read {tmp_path}/a.arrow.*record 0.*: it has become shorter", result.stdout)


@pytest.mark.parametrize("kind", ARROW)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_arrow_keeps_no_more_than_some_batches(tmp_path, kind, options):
    texts = [f"{number} " * 1000 for number in range(70 * 30)]
    ARROW[kind](pa.table({"text": texts}), tmp_path / "a.arrow", **options)
    before = pa.total_allocated_bytes()
    source = open_source(str(tmp_path / "a.arrow"))
    assert pa.total_allocated_bytes() - before < 2 * sum(map(len, texts)) / 30  # of 30 batches
    assert read_all(source) == texts
    assert pa.total_allocated_bytes() - before < 6 * sum(map(len, texts)) / 30


@pytest.mark.parametrize("kind", ARROW)
def test_a_batch_that_is_the_whole_file_is_not_held_whole(tmp_path, kind):
    texts = ["All unhappy families are unhappy in their own way. " * 40 + str(n) for n in range(30_000)]
    with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(
        tmp_path / "a.arrow", table([]).schema
    ) as writer:
        writer.write_table(table(texts))
    source = open_source(str(tmp_path / "a.arrow"))
    before, peak = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    for _ in source.read(source.num_blocks // 2):
        peak = max(peak, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peak < 2_000_000 < sum(map(len, texts)) / 4


def test_a_row_group_is_not_held_whole(tmp_path):
    texts = ["All unhappy families are unhappy in their own way. " * 40 + str(n) for n in range(30_000)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=30_000, use_dictionary=False, compression="none"
    )
    source = open_source(str(path))
    assert source.num_blocks == 1
    before, peak = pa.total_allocated_bytes(), 0
    tracemalloc.start()  # what comes of the file is Python's, and what is made of it Arrow's
    for _ in source.read(0):
        peak = max(peak, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peak < 15_000_000 < sum(map(len, texts)) / 4
