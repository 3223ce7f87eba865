"""A run reads the same ids with a token store as without one, whatever became of the store."""

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from t5like.batch import SpecialTokens
from t5like.data import file_digests, token_parts, token_store
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.encoded import Encoded
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.sources import open_source
from t5like.data.sources.base import Source
from t5like.data.token_store import build_store, open_store
from t5like.errors import DamagedDataError, UserError

ROOT = Path(__file__).resolve().parents[2]
BYTES = ByteVocabulary()

BLOCKS = [
    ["one", "", "two words", "é", "last"],
    [],
    ["", "", ""],
    ["a <extra_id_0> b", "x" * 700, "漢字"],
    ["end"],
]


class Texts(Source):
    """Blocks in memory, of which one may end in damage."""

    location = "texts"

    def __init__(self, blocks, damaged=None):
        self.blocks, self.damaged = blocks, damaged
        self.num_blocks = len(blocks)

    def read(self, block, start=0):
        yield from self.blocks[block][start:]
        if block == self.damaged:
            raise DamagedDataError(f"texts, block {block}: torn")

    def place(self, block, record):
        return f"texts, block {block}, record {record}"

    def fingerprint(self):
        return self.digest(str)

    def digest(self, file_digest):
        return hashlib.sha256(repr(self.blocks).encode()).hexdigest()


class WideVocabulary(ByteVocabulary):
    """Bytes, with ids that take more than 16 bits."""

    num_tokens = 70_000
    special_tokens = SpecialTokens(1, np.array([], np.int32))
    sha256 = "wide"

    def __init__(self):
        pass

    def encode_documents(self, texts):
        return [ids + 69_000 for ids in BYTES.encode_documents(texts)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(token_parts, "_SECTION_IDS", 7)
    monkeypatch.setattr(token_parts, "_SECTION_RECORDS", 2)


def build(root, source, vocabulary=BYTES, *, notes=None, num_processes=1):
    notes = [] if notes is None else notes
    return build_store(root, source, vocabulary, num_processes=num_processes, note=notes.append)


def reopen(root, source, vocabulary=BYTES, *, notes=None):
    return open_store(root, source, vocabulary, note=([] if notes is None else notes).append)


def assert_reads_the_same(store, source, vocabulary=BYTES):
    assert store.num_blocks == source.num_blocks
    for block in range(source.num_blocks):
        for start in range(7):
            stored, encoded = (
                list(store.read(block, start)),
                list(Encoded(source, vocabulary).read(block, start)),
            )
            assert [ids.tolist() for ids in stored] == [ids.tolist() for ids in encoded]
            assert all(ids.dtype == np.int32 for ids in stored)


def parts(root):
    """The content of each part by name, and what else lies beside them."""
    return {
        path.name: path.read_bytes() for path in sorted(root.glob("*/*")) if path.name != "description.json"
    }


class Unreadable(Texts):
    """A source whose ids must come from the store."""

    def read(self, block, start=0):
        raise AssertionError("the texts were read")
        yield


def test_what_is_stored_is_what_is_encoded_by_every_vocabulary(small_vocabularies, tmp_path):
    source = Texts(BLOCKS)
    for vocabulary in (*small_vocabularies.values(), WideVocabulary()):
        build(tmp_path, source, vocabulary)
        store = reopen(tmp_path, Unreadable(BLOCKS), vocabulary)
        assert store.is_complete
        assert_reads_the_same(store, source, vocabulary)
        expected = [ids for block in range(5) for ids in Encoded(source, vocabulary).read(block)]
        assert store.size[:2] == (len(expected), sum(map(len, expected)))
        assert store.size.num_bytes == sum(path.stat().st_size for path in store.folder.glob("part-*"))


def test_ids_have_sixteen_bits_where_these_are_enough(tmp_path):
    texts = Texts([["x" * 10_000]])
    assert 20_000 < build(tmp_path, texts).size.num_bytes < 21_000
    assert 40_000 < build(tmp_path, texts, WideVocabulary()).size.num_bytes < 41_000


def test_an_id_that_does_not_fit_is_never_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(WideVocabulary, "num_tokens", 65_536)
    with pytest.raises(ValueError, match="not below its number of tokens"):
        build(tmp_path, Texts([["ab"]]), WideVocabulary())
    assert not parts(tmp_path)


@pytest.mark.parametrize("max_parts", [1, 2, 3, 5, 4096])
def test_parts_are_runs_of_blocks_as_few_as_wanted(max_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store, "_MAX_PARTS", max_parts)
    store = build(tmp_path, Texts(BLOCKS))
    assert store.num_parts == {1: 1, 2: 2, 3: 3, 5: 5, 4096: 5}[max_parts]
    assert len(parts(tmp_path)) == store.num_parts
    assert_reads_the_same(store, Texts(BLOCKS))


def test_a_partial_store_is_used_and_grows_while_it_is_open(tmp_path):
    source = Texts(BLOCKS)
    store = build(tmp_path, source)
    whole = parts(tmp_path)
    for name in list(whole)[1::2]:
        (store.folder / name).unlink()
    partial = reopen(tmp_path, source)
    assert (partial.num_parts_stored, partial.num_parts, partial.is_complete) == (3, 5, False)
    assert_reads_the_same(partial, source)
    build(tmp_path, source)
    assert partial.is_complete
    assert parts(tmp_path) == whole


def test_a_store_may_vanish_while_it_is_open(tmp_path):
    source = Texts(BLOCKS)
    store = build(tmp_path, source)
    reader = store.read(0)
    first = next(reader)
    for path in store.folder.iterdir():
        path.unlink()
    assert len([first, *reader]) == 5
    assert_reads_the_same(store, source)


def test_there_is_no_store_of_other_content_or_another_vocabulary(small_vocabularies, tmp_path):
    source = Texts(BLOCKS)
    assert reopen(tmp_path / "none", source) is None
    build(tmp_path, source)
    assert reopen(tmp_path, source) is not None
    assert reopen(tmp_path, Texts([*BLOCKS[:-1], ["End"]])) is None
    assert reopen(tmp_path, source, small_vocabularies["t5"]) is None


def test_extra_ids_and_versions_of_libraries_are_part_of_the_key(tmp_path, monkeypatch):
    train_vocabulary(["a few words for a small vocabulary"] * 9, size=20, path=tmp_path / "spiece.model")
    ten, eleven = (SentencePieceVocabulary.load(tmp_path / "spiece.model", extra_ids=n) for n in (10, 11))
    source = Texts(BLOCKS)
    folder = build(tmp_path, source, ten).folder
    assert reopen(tmp_path, source, eleven) is None
    assert reopen(tmp_path, source, ten).folder == folder
    monkeypatch.setattr(token_store.importlib.metadata, "version", lambda name: "99")
    assert reopen(tmp_path, source, ten) is None


def test_the_text_field_is_part_of_the_key(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x", "b": "x"}\n')
    a, b = (open_source(str(tmp_path / "a.jsonl"), text_field=name) for name in "ab")
    build(tmp_path / "store", a)
    assert reopen(tmp_path / "store", a) is not None
    assert reopen(tmp_path / "store", b) is None


def test_content_is_not_hashed_where_no_store_can_be_of_it(tmp_path, small_vocabularies):
    class Unhashed(Texts):
        def digest(self, file_digest):
            raise AssertionError("the content was hashed")

    build(tmp_path, Texts(BLOCKS))
    assert reopen(tmp_path, Unhashed(BLOCKS[:-1])) is None
    assert reopen(tmp_path, Unhashed(BLOCKS), small_vocabularies["t5"]) is None


def test_one_character_changed_with_its_time_put_back_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", -1.0)  # remembered at once
    path = tmp_path / "a.txt"
    path.write_text("the text")
    before = path.stat()
    build(tmp_path / "store", open_source(str(path)))
    path.write_text("the test")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)
    source = open_source(str(path))
    assert reopen(tmp_path / "store", source) is None
    assert_reads_the_same(build(tmp_path / "store", source), source)


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "swapped", "a folder"])
def test_damage_is_noticed_not_used_and_mended(damage, tmp_path):
    source = Texts(BLOCKS)
    store = build(tmp_path, source)
    whole = parts(tmp_path)
    path = store.folder / list(whole)[3]
    content = whole[path.name]
    # Every byte of a part is under a checksum, those of its table and footer too.
    # The last is in its first section, which opening it does not read.
    positions = reversed(range(len(content))) if damage in ("cut", "flipped") else (0,)
    for position in positions:
        if damage == "cut":
            path.write_bytes(content[:position])
        elif damage == "emptied":
            path.write_bytes(b"")
        elif damage == "flipped":
            path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        elif damage == "swapped":
            path.write_bytes(next(iter(whole.values())))
        else:
            path.unlink()
            path.mkdir()
        notes = []
        damaged = reopen(tmp_path, source, notes=notes)
        for block in (3, 3):
            encoded = list(Encoded(source, BYTES).read(block))
            assert [i.tolist() for i in damaged.read(block)] == [i.tolist() for i in encoded]
        assert len(notes) == 1
        assert f"{path} is damaged and not used, " in notes[0]
    if damage == "a folder":
        path.rmdir()
    notes = []
    build(tmp_path, source, notes=notes)
    assert parts(tmp_path) == whole
    assert notes == [] if damage == "a folder" else f"{path.name}: was damaged and is made anew" in notes[0]


def test_damaged_data_are_left_out_and_raise_when_read(tmp_path):
    source, notes = Texts(BLOCKS, damaged=3), []
    store = build(tmp_path, source, notes=notes)
    assert (store.num_parts_stored, store.num_parts) == (4, 5)
    assert len(notes) == 1
    assert "part-00003-of-00005: is left out, texts, block 3: torn" in notes[0]
    read = []
    with pytest.raises(DamagedDataError, match="torn"):
        read.extend(store.read(3))
    assert len(read) == 3
    assert all(name.startswith("part-") for name in parts(tmp_path))


def test_text_that_changes_meanwhile_leaves_nothing(tmp_path):
    class Changing(Texts):
        def read(self, block, start=0):
            yield from super().read(block, start)
            if block == 4:
                self.blocks = [*BLOCKS[:-1], ["another end"]]

    with pytest.raises(UserError, match=r"^texts changed while it was tokenised; start again"):
        build(tmp_path, Changing(BLOCKS))
    assert not parts(tmp_path)


def test_a_file_that_has_grown_since_it_was_found_makes_no_store_of_its_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("first line\nsecond li")
    source = open_source(str(path))
    path.write_text("first line\nsecond line is longer\nthird\n")
    build(tmp_path / "store", source)
    assert_reads_the_same(build(tmp_path / "store", open_source(str(path))), open_source(str(path)))


def test_a_file_that_changes_and_is_put_back_leaves_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "content A"}\n')
    source = open_source(str(path))
    times = os.stat(path)

    class Changing(type(source)):
        def read(self, block, start=0):
            path.write_text('{"text": "content B"}\n')
            yield from super().read(block, start)
            path.write_text('{"text": "content A"}\n')
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    source.__class__ = Changing
    with pytest.raises(UserError, match="changed while it was tokenised"):
        build(tmp_path / "store", source)
    assert not parts(tmp_path / "store")


def test_a_fault_that_passes_leaves_no_part_out(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.quarantine.PAUSE_SECONDS", 0)

    class Passing(Texts):
        num_faults = 2

        def read(self, block, start=0):
            yield from super().read(block, start)
            if block == 3 and self.num_faults:
                self.num_faults -= 1
                raise DamagedDataError("texts, block 3: reset by peer")

    source = Passing(BLOCKS)
    assert build(tmp_path, source).is_complete


def test_a_part_that_another_builder_made_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.quarantine.PAUSE_SECONDS", 0)
    whole = Texts([["one"], ["two"]])

    class Meeting(Texts):
        def read(self, block, start=0):
            build(tmp_path, whole)  # meanwhile another builder, to whom the data were whole
            yield from ()
            raise DamagedDataError(f"texts, block {block}: torn")

    build(tmp_path, Meeting(whole.blocks))
    assert len(parts(tmp_path)) == 2


def test_a_full_disk_is_one_sentence_and_leaves_whole_parts(tmp_path):
    source = Texts([["short"], ["long " * 4000]])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"^The token store .*part-00001-of-00002 cannot be written: File too la"
        ):
            build(tmp_path, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(parts(tmp_path)) <= {"part-00000-of-00002"}
    assert_reads_the_same(build(tmp_path, source), source)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"^The token store .*file/store cannot be written: Not a directory; "
    ):
        build(tmp_path / "file" / "store", Texts(BLOCKS))
    assert reopen(tmp_path / "file" / "store", Texts(BLOCKS)) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_one_sentence_and_can_be_read(tmp_path):
    source = Texts(BLOCKS)
    folder = build(tmp_path, source).folder
    for path in (folder, tmp_path):
        path.chmod(0o555)
    try:
        assert_reads_the_same(reopen(tmp_path, source), source)
        (other := Texts(BLOCKS[:-1]))
        with pytest.raises(UserError, match=r"cannot be written: Permission denied"):
            build(tmp_path, other)
    finally:
        for path in (folder, tmp_path):
            path.chmod(0o755)


@pytest.fixture
def text_folder(tmp_path):
    """Files of some hundred kilobytes in a few dozen blocks."""
    folder = tmp_path / "text"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        letters = rng.integers(97, 123, 4000, np.uint8).tobytes().decode()
        (folder / f"{number:02}.txt").write_text(letters)
    return folder


def test_several_processes_make_the_same_bytes(text_folder, small_vocabularies, tmp_path):
    for vocabulary in (
        small_vocabularies["t5"],
        small_vocabularies["bert"],
        small_vocabularies["gpt2"],
        BYTES,
    ):
        source = open_source(str(text_folder))
        alone = build(tmp_path / "alone", source, vocabulary)
        build(tmp_path / "several", source, vocabulary, num_processes=2)
        assert alone.is_complete
        assert parts(tmp_path / "several") == parts(tmp_path / "alone")


def test_an_error_in_a_process_is_the_one_sentence_and_ends_all(tmp_path):
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("long " * 4000)
    source = open_source(str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the processes inherit it
    try:
        with pytest.raises(UserError, match=r"cannot be written: File too large"):
            build(tmp_path / "store", source, num_processes=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(parts(tmp_path / "store")) <= {"part-00000-of-00002"}


SLOW_BUILDER = """
import sys, time
from pathlib import Path
from t5like.data import byte_vocabulary, token_store
from t5like.data.sources import open_source
encode = byte_vocabulary.ByteVocabulary.encode_documents
def slowly(self, texts):
    time.sleep(float(sys.argv[3]))
    return encode(self, texts)
byte_vocabulary.ByteVocabulary.encode_documents = slowly
token_store.build_store(
    Path(sys.argv[2]), open_source(sys.argv[1]), byte_vocabulary.ByteVocabulary(), num_processes=1, note=print
)
"""


def start_builder(text, root, seconds):
    command = [sys.executable, "-c", SLOW_BUILDER, str(text), str(root), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_kill_the_next_builder_ends_with_the_same_bytes(text_folder, tmp_path):
    root = tmp_path / "store"
    builder = start_builder(text_folder, root, 0.05)
    wait_for(lambda: len(list(root.glob("*/part-*"))) >= 3 and list(root.glob("*/.part-*")))
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    left = set(root.glob("*/.part-*"))
    num_parts = len(list(root.glob("*/part-*")))
    source = open_source(str(text_folder))
    before = {path: path.stat().st_mtime_ns for path in root.glob("*/part-*")}
    assert_reads_the_same(reopen(root, source), source)
    store = build(root, source)
    assert 3 <= num_parts < store.num_parts
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not made again
    assert not any(path.exists() for path in left)
    build(tmp_path / "undisturbed", source)
    assert parts(root) == parts(tmp_path / "undisturbed")


def test_two_builders_at_once_make_the_same_bytes(text_folder, tmp_path):
    root, source = tmp_path / "store", open_source(str(text_folder))
    with contextlib.ExitStack() as stack:
        builders = [stack.enter_context(start_builder(text_folder, root, 0.02)) for _ in range(2)]
        wait_for(lambda: list(root.glob("*/part-*")))
        build(root, source)  # a third, which must leave alone what the others are writing
    assert [builder.returncode for builder in builders] == [0, 0]
    build(tmp_path / "undisturbed", source)
    assert parts(root) == parts(tmp_path / "undisturbed")
