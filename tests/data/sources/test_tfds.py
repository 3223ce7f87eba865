import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import file_utils

from t5like.data.sources import has_own_splits, open_source
from t5like.data.splits import open_splits
from t5like.errors import DamagedRecordError, UserError
from tests.data.sources.test_sources import read_all
from tests.data.sources.writers import example, framed

NUM_RECORDS = 2100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the prepared TFDS data set `stories`."""
    folder = tmp_path_factory.mktemp("tfds")

    class Stories(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")
        name = "stories"

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "raw": tfds.features.Text(),
                "year": tfds.features.Scalar(np.int32),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples(NUM_RECORDS)}

        def _generate_examples(self, num_examples):
            for number in range(num_examples):
                yield number, {"text": f"story é {number}", "raw": b"\xff", "year": number}

    tfds.disable_progress_bar()
    Stories(data_dir=folder).download_and_prepare(file_format="array_record")
    tfds.core.add_data_dir(folder)
    yield folder
    file_utils.clear_registered_data_dirs()


@pytest.mark.parametrize("name", ["tfds:stories", "tfds:stories:1.2.0"])
def test_prepared_data_is_read_by_ranges_of_records(folder, name):
    source = open_source(name)
    texts = read_all(source)
    assert sorted(texts) == sorted(f"story é {number}" for number in range(NUM_RECORDS))
    assert source.num_blocks == NUM_RECORDS // 2
    assert list(source.read(500)) == texts[1000:1002]
    assert list(source.read(500, 1)) == texts[1001:1002]
    assert list(source.read(500, 2)) == list(source.read(500, 5)) == []
    assert source.place(500, 1) == f"TFDS data set {name.removeprefix('tfds:')}, record 1001"
    assert read_all(pickle.loads(pickle.dumps(source))) == texts
    # The same records, as the files that they are.
    assert read_all(open_source(str(folder / "stories/1.2.0"))) == texts


def test_fingerprint_and_digest_are_of_the_files(folder):
    source = open_source("tfds:stories")
    assert source.fingerprint() == open_source("tfds:stories").fingerprint()
    digests = {
        source.digest(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest()),
        source.digest(lambda path: "another"),
        source.fingerprint(),
    }
    assert len(digests) == 3


def test_what_has_no_validation_split_is_split_as_files_are(folder):
    assert not has_own_splits("tfds:stories")
    with pytest.raises(UserError, match="nosuch is not prepared"):
        has_own_splits("tfds:nosuch")
    text = open_splits("tfds:stories", validation_data=None, text_field="text")
    train, held_out = (set(read_all(source)) for (source,) in (text.train, text.held_out))
    assert len(train | held_out) == NUM_RECORDS == len(train) + len(held_out)
    assert 0.01 < len(held_out) / NUM_RECORDS < 0.03


def test_what_has_a_validation_split_is_held_out_by_it(folder, tmp_path):
    info = json.loads((folder / "stories/1.2.0/dataset_info.json").read_text())
    copy = tmp_path / "tales/1.2.0"
    shutil.copytree(folder / "stories/1.2.0", copy)
    (split,) = info["splits"]
    template = {"filepathTemplate": "stories-train.array_record-{SHARD_X_OF_Y}"}
    splits = [split | template | {"name": name} for name in ("train", "validation")]
    (copy / "dataset_info.json").write_text(json.dumps(info | {"name": "tales", "splits": splits}))
    tfds.core.add_data_dir(tmp_path)
    assert has_own_splits("tfds:tales")
    text = open_splits("tfds:tales", validation_data=None, text_field="text")
    assert len(read_all(text.held_out[0])) == len(read_all(text.train[0])) == NUM_RECORDS


@pytest.mark.parametrize(
    "template", ["../../../stories/1.2.0/stories-train.array_record-00000-of-00001", "/{outside}"]
)
def test_files_outside_of_the_data_set_are_not_read(folder, tmp_path, template):
    name = f"wide{len(template)}"
    copy = tmp_path / name / "1.2.0"
    shutil.copytree(folder / "stories/1.2.0", copy)
    info = json.loads((copy / "dataset_info.json").read_text())
    (split,) = info["splits"]
    outside = folder / "stories/1.2.0/stories-train.array_record-00000-of-00001"
    split["filepathTemplate"] = template.replace("{outside}", str(outside)[1:])
    (copy / "dataset_info.json").write_text(json.dumps(info | {"name": name, "splits": [split]}))
    tfds.core.add_data_dir(tmp_path)
    with pytest.raises(UserError, match="which lies outside of it"):
        open_source(f"tfds:{name}")


def test_errors_name_the_data_set_and_the_record(folder):
    for arguments, words, kind in (
        ({"text_field": "body"}, "stories has no field 'body', only ", UserError),
        ({"text_field": "year"}, r"stories, record 0: the field 'year' is .*, not text", UserError),
        (
            {"split": "validation"},
            "stories has no split 'validation', only train: name .* --validation_data",
            UserError,
        ),
    ):
        with pytest.raises(UserError, match=words) as caught:
            open_source("tfds:stories", **arguments)
        assert type(caught.value) is kind
    source = open_source("tfds:stories", text_field="raw")
    for start in (0, 1):
        with pytest.raises(
            DamagedRecordError, match=f"stories, record {start}: the field 'raw' is not UTF-8"
        ):
            next(source.read(0, start))


def test_what_tfds_stored_as_tfrecord_is_read_as_files(folder, tmp_path):
    info = json.loads((folder / "stories/1.2.0/dataset_info.json").read_text())
    info |= {"fileFormat": "tfrecord"}
    (split,) = info["splits"]
    split |= {"shardLengths": ["3"], "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}
    copy = tmp_path / "stories/1.3.0"
    copy.mkdir(parents=True)
    (copy / "dataset_info.json").write_text(json.dumps(info | {"version": "1.3.0"}))
    (copy / "features.json").write_bytes((folder / "stories/1.2.0/features.json").read_bytes())
    records = b"".join(framed(example(text)) for text in ("a", "b", "c"))
    (copy / "stories-train.tfrecord-00000-of-00001").write_bytes(records)
    tfds.core.add_data_dir(tmp_path)
    source = open_source("tfds:stories:1.3.0")
    assert read_all(source) == ["a", "b", "c"]
    assert source.place(0, 2) == f"{copy}/stories-train.tfrecord-00000-of-00001, record 2"
    with pytest.raises(UserError, match="no field 'body', only number, text"):
        open_source("tfds:stories:1.3.0", text_field="body")
