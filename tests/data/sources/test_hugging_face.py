import json

import pytest

from t5like.data.sources import has_own_splits, open_source
from t5like.errors import DamagedDataError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import unicode_texts, write_dataset, write_jsonl

TEXTS = unicode_texts(100, seed=3)


def _error(location, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        open_source(str(location), **arguments)
    assert not isinstance(caught.value, DamagedDataError)
    return str(caught.value)


def _write_dict(folder, **splits):
    for split, texts in splits.items():
        write_dataset(folder / split, texts)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_files_are_read_in_the_order_of_the_data_set_and_others_are_not(tmp_path):
    write_dataset(tmp_path / "data", TEXTS)
    write_dataset(tmp_path / "other", TEXTS[:5])
    (tmp_path / "other/data-00000-of-00003.arrow").rename(tmp_path / "data/cache-0123456789abcdef.arrow")
    assert read_all(open_source(str(tmp_path / "data"))) == TEXTS


def test_a_dict_gives_the_split_asked_for(tmp_path):
    _write_dict(tmp_path, train=TEXTS, validation=TEXTS[:30], test=TEXTS[:10])
    assert has_own_splits(str(tmp_path))
    assert read_all(open_source(str(tmp_path))) == TEXTS
    assert read_all(open_source(str(tmp_path), split="validation")) == TEXTS[:30]
    assert read_all(open_source(str(tmp_path / "test"))) == TEXTS[:10]


def test_a_dict_without_a_split_has_not_its_own(tmp_path):
    _write_dict(tmp_path, train=TEXTS, test=TEXTS[:10])
    assert not has_own_splits(str(tmp_path))
    assert read_all(open_source(str(tmp_path))) == TEXTS
    assert f"{tmp_path} has no split 'validation', only train, test" in _error(tmp_path, split="validation")


@pytest.mark.parametrize("key", ["_indices_files", "_indices_data_files"])
def test_rows_in_an_order_of_indices_are_refused(tmp_path, key):
    write_dataset(tmp_path / "data", TEXTS)
    _edit(tmp_path / "data/state.json", **{key: [{"filename": "indices.arrow"}]})
    assert "flatten_indices()" in _error(tmp_path / "data")
    _edit(tmp_path / "data/state.json", **{key: None})
    assert read_all(open_source(str(tmp_path / "data"))) == TEXTS


def test_a_missing_file_and_a_broken_description_are_named(tmp_path):
    write_dataset(tmp_path / "data", TEXTS)
    (tmp_path / "data/data-00002-of-00003.arrow").unlink()
    assert "lacks data-00002-of-00003.arrow, which its state.json names" in _error(tmp_path / "data")
    names = [
        *({"_data_files": files} for files in (3, None, "x", [], ["x"], [{"file": "x"}], [{"filename": 1}])),
        {},
    ]
    for content in (*map(json.dumps, names), "[]", "[", "[" * 100_000):
        (tmp_path / "data/state.json").write_text(content)
        assert f"{tmp_path}/data/state.json" in _error(tmp_path / "data")
    for content in (
        "[]",
        "",
        "{}",
        *(json.dumps({"splits": splits}) for splits in (None, [], [1], "train", {})),
    ):
        (tmp_path / "dataset_dict.json").write_text(content)
        assert f"{tmp_path}/dataset_dict.json" in _error(tmp_path)


def test_a_data_set_within_a_folder_has_to_be_named_itself(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    write_dataset(tmp_path / "b", TEXTS)
    assert f"{tmp_path}/b is a data set of Hugging Face" in _error(tmp_path)


def test_descriptions_of_tfds_are_no_data_and_other_files_of_these_names_are(tmp_path):
    for folder in ("a", "b"):
        write_jsonl(tmp_path / folder / "features.json", TEXTS)
    assert read_all(open_source(str(tmp_path))) == TEXTS * 2
    (tmp_path / "a/dataset_info.json").write_text("{}")
    (tmp_path / "a/label.labels.txt").write_text("yes\nno\n")
    assert read_all(open_source(str(tmp_path))) == TEXTS
    assert "holds no data" in _error(tmp_path / "a")
