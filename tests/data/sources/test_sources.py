"""Laws of all sources, whatever the kind of their files."""

import hashlib
import itertools
import pickle
import shutil
from pathlib import Path

import pytest

from t5like.data import quarantine as quarantine_module
from t5like.data.quarantine import Blocks, Quarantine, Quarantined
from t5like.data.sources import has_own_splits, open_source
from t5like.data.sources.base import Source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.writers import WRITERS, unicode_texts, write_bytes, write_damaged

TEXTS = unicode_texts(500)
PLACES = {
    "a.jsonl": ", line {n1}",
    "a.json.gz": ", line {n1}",
    "a.ndjson.zst": ", line {n1}",
    "a.jsonl.bz2": ", line {n1}",
    "a.jsonl.xz": ", line {n1}",
    "a.parquet": ", row group {group}, row {row}",
    "stream.arrow": ", row {n}",
    "file.arrow": ", row {n}",
    "a.tfrecord-00000-of-00001": ", record {n}",
    "a.tfrecords.gz": ", record {n}",
    "a.array_record": ", record {n}",
}
# Those with a checksum of all content; compressed streams have it behind what has been read by then.
CHECKED_BEHIND = ["a.json.gz", "a.ndjson.zst", "a.jsonl.bz2", "a.jsonl.xz", "a.tfrecords.gz"]
CHECKED_BEFORE = ["a.tfrecord-00000-of-00001", "a.array_record", "a.parquet"]
# Those in which a record may be damaged by itself.
DAMAGED = [name for name in PLACES if name not in ("file.arrow",)]


def read_all(source: Blocks[str]) -> list[str]:
    """Returns the texts of all blocks, in order."""
    return [text for block in range(source.num_blocks) for text in source.read(block)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The texts in files of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, write in WRITERS.items():
        write(folder / name, TEXTS)
    return folder


@pytest.mark.parametrize("name", WRITERS)
def test_all_blocks_in_order_give_all_texts_in_order(folder, name):
    source = open_source(str(folder / name))
    assert source.num_blocks >= 1
    assert read_all(source) == TEXTS


@pytest.mark.parametrize("name", WRITERS)
def test_a_block_from_a_record_on_is_the_rest_of_the_block(folder, name):
    source = open_source(str(folder / name))
    for block in {0, source.num_blocks // 2, source.num_blocks - 1}:
        texts = list(source.read(block))
        for start in {0, 1, len(texts) // 2, 63, 65, len(texts) - 1, len(texts), len(texts) + 5}:
            assert list(source.read(block, start)) == texts[start:]


@pytest.mark.parametrize("name", WRITERS)
def test_a_source_reads_the_same_in_another_process_and_is_the_same_when_opened_again(folder, name):
    source = open_source(str(folder / name))
    sent = pickle.loads(pickle.dumps(source))
    assert read_all(sent) == TEXTS
    again = open_source(str(folder / name))
    assert again.fingerprint() == sent.fingerprint() == source.fingerprint()
    assert list(again.read(0)) == list(source.read(0))


@pytest.mark.parametrize("name", PLACES)
def test_places_name_the_file_and_the_line_or_record(folder, name):
    source = open_source(str(folder / name))
    numbers = itertools.count()
    for block in range(source.num_blocks):
        for record, _ in enumerate(source.read(block)):
            number = next(numbers)
            if number % 41 == 0:
                place = PLACES[name].format(n=number, n1=number + 1, group=number // 70, row=number % 70)
                assert source.place(block, record) == f"{folder / name}{place}"


@pytest.mark.parametrize("name", WRITERS)
def test_fingerprint_and_digest_are_of_the_data_and_of_how_it_is_read_not_of_the_folder_it_is_in(
    tmp_path, name
):
    write = WRITERS[name]
    for copy, texts in (("a", TEXTS[:90]), ("b", TEXTS[:90]), ("c", TEXTS[1:91]), ("d", TEXTS[:91])):
        (tmp_path / copy).mkdir()
        write(tmp_path / copy / name, texts)
    a, b, c, d = (open_source(str(tmp_path / copy / name)) for copy in "abcd")

    def digest(source: Source) -> str:
        return source.digest(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest())

    if name != "a.array_record":  # which says in itself when it was written
        assert a.fingerprint() == b.fingerprint()
        assert digest(a) == digest(b)
    assert len({digest(source) for source in (a, c, d)}) == 3
    assert a.fingerprint() != d.fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "e")
    e = open_source(str(tmp_path / "e" / name))
    assert (e.fingerprint(), digest(e)) == (a.fingerprint(), digest(a))


@pytest.mark.parametrize("name", WRITERS)
def test_another_text_field_can_be_named_and_one_that_is_not_there_is_a_wrong_name(folder, name):
    with pytest.raises(
        UserError, match=r"no field 'txt', only .*text.*the nearest is 'text'.*--text_field"
    ) as caught:
        open_source(str(folder / name), text_field="txt")
    assert not isinstance(caught.value, DamagedDataError)
    assert str(folder / name) in str(caught.value)
    field = "number" if "record" in name else "id"
    with pytest.raises(UserError, match=rf"{field}' is .*, not (text|one text|a string)") as caught:
        open_source(str(folder / name), text_field=field)
    assert not isinstance(caught.value, DamagedDataError)


def _read_until_damage(path: Path) -> tuple[list[str], str | None]:
    """Returns the texts of a file up to the first damage, and what is said of that."""
    texts: list[str] = []
    try:
        source = open_source(str(path))
        for block in range(source.num_blocks):
            texts.extend(source.read(block))
    except UserError as error:
        return texts, str(error)
    return texts, None


@pytest.mark.parametrize("name", [*CHECKED_BEFORE, *CHECKED_BEHIND])
def test_a_flipped_byte_is_damage_or_is_nothing_and_never_another_text(tmp_path, name):
    texts = TEXTS[:150]
    path = tmp_path / name
    WRITERS[name](path, texts)
    content = path.read_bytes()
    num_damaged = 0
    for position in range(0, len(content), max(1, len(content) // 150)):
        # In another file each time: what is kept open of a file is of the file as it was.
        path = tmp_path / str(position) / name
        path.parent.mkdir()
        flipped = bytes([content[position] ^ 0x10])
        path.write_bytes(content[:position] + flipped + content[position + 1 :])
        read, message = _read_until_damage(path)
        num_damaged += message is not None
        if message is None or name in CHECKED_BEFORE:
            assert read == (texts if message is None else texts[: len(read)]), position
        if message is not None:
            assert str(path) in message
            assert "\n" not in message
    assert num_damaged > 40  # of 150; an ArrayRecord file is filled up with zeros


@pytest.mark.parametrize("name", [*CHECKED_BEFORE, *CHECKED_BEHIND, "stream.arrow", "file.arrow"])
def test_a_file_cut_short_is_damage(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, TEXTS[:150])
    content = path.read_bytes()
    for number, cut in enumerate(
        (7, len(content) // 3, len(content) // 2, len(content) - 9, len(content) - 1)
    ):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedDataError, match=str(path)):
            read_all(open_source(str(path)))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_ends_only_itself(tmp_path, monkeypatch, name):
    monkeypatch.setattr(quarantine_module, "PAUSE_SECONDS", 0.0)
    texts = [text.replace("\n", " ") for text in unicode_texts(150, seed=3)]
    bad = [0, 1, 75, 140, 149]
    write_damaged(tmp_path / name, texts, bad)
    notes: list[str] = []
    source = open_source(str(tmp_path / name))
    read = read_all(Quarantined(source, Quarantine(len(bad), notes.append)))
    assert read == ["" if number in bad else text for number, text in enumerate(texts)]
    assert len(notes) == len(bad)
    for number, note in zip(bad, notes, strict=True):
        place = PLACES[name].format(n=number, n1=number + 1, group=number // 70, row=number % 70)
        assert note.startswith(f"{tmp_path / name}{place}: ")
        assert "; that record is left out" in note
    # And from any number on, without what came before.
    for block in range(source.num_blocks):
        whole = list(Quarantined(source, Quarantine(len(bad), notes.append)).read(block))
        for start in {1, len(whole) // 2, len(whole)}:
            assert (
                list(Quarantined(source, Quarantine(len(bad), notes.append)).read(block, start))
                == whole[start:]
            )


@pytest.mark.parametrize(
    ("name", "lost"),
    [("a.jsonl.gz", "file"), ("a.tfrecord", "file"), ("a.parquet", "row group"), ("a.txt.zst", "file")],
)
def test_damage_that_ends_a_block_says_what_is_lost(tmp_path, name, lost):
    write = {"a.tfrecord": "a.tfrecords.gz", "a.parquet": "a.parquet"}.get(name, "a.jsonl")
    path = tmp_path / name
    WRITERS[write](path, TEXTS[:150])
    source = open_source(str(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedDataError) as caught:
        read_all(source)
    assert caught.value.what_is_lost == f"the rest of this {lost}"


def test_a_folder_of_all_kinds_is_read_in_order_of_path_each_file_by_its_kind(folder, tmp_path):
    names = sorted(name for name in WRITERS if name != "dataset")
    for name in names:
        shutil.copy(folder / name, tmp_path / name)
    write_bytes(tmp_path / "b/plain.md", b"one\ntwo")
    source = open_source(str(tmp_path))
    last_but_two = ["file.arrow", "stream.arrow"]
    assert read_all(source) == TEXTS * (len(names) - 2) + ["one\ntwo"] + TEXTS * len(last_but_two)
    assert source.place(source.num_blocks - 1, 0).startswith(f"{tmp_path}/stream.arrow, row ")
    with pytest.raises(IndexError):
        next(source.read(source.num_blocks))


def test_embedded_data_say_what_is_held_out_and_files_do_not(folder):
    assert has_own_splits("embedded")
    assert not has_own_splits(str(folder))
    assert not has_own_splits(str(folder / "dataset"))
    assert not has_own_splits("nowhere")
    assert not has_own_splits("gs://nowhere")
