import gzip
import struct

import pytest

from t5like.data.sources import open_source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import example, framed, write_bytes


def _error(path, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        read_all(open_source(str(path), **arguments))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_records_that_are_left_out_are_not_looked_at(tmp_path):
    records = [framed(example(text)) for text in ("a", "b", "c")]
    broken = records[1][:-5] + b"!" + records[1][-4:]  # the last byte of the data
    for name in ("a.tfrecord", "b.tfrecord.gz"):
        write_bytes(tmp_path / name, records[0] + broken + records[2])
        source = open_source(str(tmp_path / name))
        assert list(source.read(0, 2)) == ["c"]
        read = []
        with pytest.raises(DamagedDataError, match=f"{name}, record 1: its content is damaged"):
            read.extend(source.read(0))
        assert read == ["a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (framed(example("a"))[:-1], "record 0: the file ends in the middle of it"),
        (framed(example("a")) + b"\x01\x02", "record 1: the file ends in the middle of it"),
        (b"text, and no record at all", "record 0: its length is damaged, or this is not a TFRecord file"),
        (bytes(100), "record 0: its length is damaged, or this is not a TFRecord file"),
        (framed(b"\xff\xff"), "record 0: not a tf.train.Example"),
        (framed(b""), "record 0: not a tf.train.Example with features"),
        (
            framed(example(b"\xff")),
            "record 0: the field 'text' is not UTF-8 text: invalid start byte at byte 0",
        ),
        (framed(example("a")) + framed(example("b", "body")), "record 1: no field 'text', only body, number"),
    ],
)
@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_damage_is_named_with_the_record(tmp_path, name, content, words):
    write_bytes(tmp_path / name, content)
    assert f"{tmp_path / name}, {words}" in _error(tmp_path)


def test_a_file_that_ends_in_a_record_that_is_left_out_is_damage(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(framed(example("a")) + framed(example("b"))[:-1])
    source = open_source(str(tmp_path))
    with pytest.raises(DamagedDataError, match="record 1: the file ends in the middle of it"):
        list(source.read(0, 2))


def test_a_length_that_no_text_has_is_not_believed(tmp_path):
    record = framed(b"")
    length = struct.pack("<Q", 1 << 50)
    from t5like.data.sources.crc32c import crc32c
    from t5like.data.sources.tfrecord import _masked

    content = framed(example("a")) + length + struct.pack("<I", _masked(crc32c(length))) + record
    (tmp_path / "a.tfrecord.gz").write_bytes(gzip.compress(content))
    assert "record 1: it is of 1125899906842624 bytes" in _error(tmp_path)


def test_a_feature_must_hold_one_text(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(framed(example("a")))
    assert "record 0: the field 'number' is int64_list of 0 texts, not one text" in _error(
        tmp_path, text_field="number"
    )
