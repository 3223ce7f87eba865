import sys

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from t5like.data.sources import open_source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import example


def _write(path, records, options="group_size:1"):
    writer = ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()
    return str(path)


@pytest.mark.parametrize("options", ["group_size:1", "group_size:64", "group_size:1,uncompressed"])
@pytest.mark.parametrize("name", ["a.array_record", "a.arrayrecord", "a.array_record-00000-of-00001"])
def test_blocks_are_ranges_of_records_however_they_are_stored(tmp_path, options, name):
    texts = [f"text {number}" for number in range(3000)]
    source = open_source(_write(tmp_path / name, map(example, texts), options))
    assert read_all(source) == texts
    assert source.num_blocks == 750  # of the power of two nearest to a thousandth
    assert list(source.read(700, 1)) == texts[2801:2804]
    assert source.place(700, 1) == f"{tmp_path / name}, record 2801"


def test_what_is_no_example_is_damage(tmp_path):
    path = _write(tmp_path / "a.array_record", [example("a"), b"\xff raw text", example("c")])
    source = open_source(path)
    with pytest.raises(DamagedDataError, match=f"{path}, record 1: not a tf.train.Example"):
        read_all(source)


def test_a_file_of_another_kind_or_without_records_is_refused(tmp_path):
    (tmp_path / "a.array_record").write_bytes(b"text " * 40_000)
    with pytest.raises(DamagedDataError, match=r"a.array_record is damaged, or not an ArrayRecord file"):
        open_source(str(tmp_path))
    _write(tmp_path / "a.array_record", [])
    with pytest.raises(UserError, match="holds no text"):
        open_source(str(tmp_path))


def test_a_system_without_the_package_says_what_to_do(tmp_path, monkeypatch):
    _write(tmp_path / "a.array_record", [example("a")])
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(UserError, match="takes the package array_record"):
        open_source(str(tmp_path))
