import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5like.data.sources import open_source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import table, unicode_texts, write_arrow

TEXTS = unicode_texts(300, seed=2)
WRITE = {
    "parquet": lambda content, path: pq.write_table(content, path, row_group_size=70),
    "arrow": lambda content, path: pa.ipc.new_stream(path, content.schema).write_table(content, 70),
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
