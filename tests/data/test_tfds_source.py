"""TFDS data sets fetched, unpacked, prepared and read, from a server on this machine and without TensorFlow."""

import hashlib
import http.server
import io
import json
import socket
import sys
import tarfile
import threading
import time
import zipfile

import pytest
from tensorflow_datasets.core import constants
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.utils import Size
from tensorflow_datasets.datasets.lm1b import lm1b_dataset_builder as lm1b
from tensorflow_datasets.text import glue, super_glue

from t5like.data import tfds_preparation
from t5like.data.sources import open_source
from t5like.data.tfds_source import open_data_source
from t5like.errors import UserError
from t5like.tasks import find_task

COLA = {
    "CoLA/train.tsv": "src\t0\t*\tThey drank the pub.\nsrc\t1\t\tThe pub was drunk dry, \u00e9.\n",
    "CoLA/dev.tsv": "src\t1\t\tHe left.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tThey drank.\n",
}
RTE = {
    "RTE/train.tsv": 'index\tsentence1\tsentence2\tlabel\n0\tIt "rains.\tIt is wet.\tentailment\n'
    "1\tIt rains.\tIt is dry.\tnot_entailment\n",
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tIt rains.\tIt is wet.\n",
}
MRPC_COLUMNS = "\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
MRPC = {
    "msr_paraphrase_train.txt": f"\ufeffQuality{MRPC_COLUMNS}1\t7\t8\tHe left.\tHe went away.\n"
    "0\t9\t10\tHe left.\tHe stayed.\n1\t11\t12\tShe left.\tShe went.\n",
    "msr_paraphrase_test.txt": f"\ufeffQuality{MRPC_COLUMNS}1\t1\t2\tHe left.\tHe went.\n",
    "mrpc_dev_ids.tsv": "9\t10\n",
}


def _zip(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


class _Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name, and nothing at its root."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.num_downloads = 0

    def publish(self, builder_class, name: str, content: bytes, monkeypatch, checksum: str = "") -> str:
        """Returns the address of a new file, which the builder of a data set will take for the official one."""
        self.files[f"/{name}"] = content
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        checksum = checksum or hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(builder_class.url_infos, url, UrlInfo(Size(len(content)), checksum, name))
        return url


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        self.server.num_downloads += 1
        content = self.server.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server():
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    """An empty folder for TFDS, and a TensorFlow that can be found but must not be imported."""
    decoy = tmp_path / "site" / "tensorflow.py"
    decoy.parent.mkdir()
    decoy.write_text("import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n")
    monkeypatch.syspath_prepend(decoy.parent)
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    yield tmp_path / "tfds"
    assert "tensorflow" not in sys.modules
    assert not decoy.with_name("imported").exists()


def _publish_glue(server, monkeypatch, name: str, content: bytes, **options) -> None:
    (config,) = (config for config in glue.Glue.BUILDER_CONFIGS if config.name == name)
    url = server.publish(glue.Glue, f"{config.data_dir}.zip", content, monkeypatch, **options)
    monkeypatch.setattr(config, "data_url", url)


def _error(name: str, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        open_data_source(name, split, alternative="pass --data_dir")
    message = str(caught.value)
    assert "\n" not in message
    assert name.split("/")[0] in message
    return message


@pytest.mark.parametrize(("name", "files"), [("cola", COLA), ("rte", RTE)])
def test_a_task_from_a_zip_gives_what_its_files_give_and_is_fetched_once(
    tmp_path, data_dir, server, monkeypatch, capsys, name, files
):
    _publish_glue(server, monkeypatch, name, _zip(files))
    task = find_task(f"glue/{name}")
    for file_name, text in files.items():
        path = tmp_path / "glue" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for split in ("train", "validation", "test"):
        assert task.load(split, None) == task.load(split, tmp_path / "glue")
    assert len(task.load("train", None)) == 2
    assert server.num_downloads == 1
    assert capsys.readouterr().out == ""
    assert list(data_dir.glob(f"glue/{name}/2.0.0/*.array_record*"))


def test_mrpc_is_put_together_from_its_three_files(server, monkeypatch):
    urls = {name: server.publish(glue.Glue, name, text.encode(), monkeypatch) for name, text in MRPC.items()}
    monkeypatch.setattr(glue, "_MRPC_TRAIN", urls["msr_paraphrase_train.txt"])
    monkeypatch.setattr(glue, "_MRPC_TEST", urls["msr_paraphrase_test.txt"])
    monkeypatch.setattr(glue, "_MRPC_DEV_IDS", urls["mrpc_dev_ids.tsv"])
    task = find_task("glue/mrpc")
    read = {
        split: [(example.inputs, example.targets) for example in task.load(split, None)]
        for split in ("train", "validation", "test")
    }
    assert read == {
        "train": [
            ("mrpc sentence1: He left. sentence2: He went away.", "equivalent"),
            ("mrpc sentence1: She left. sentence2: She went.", "equivalent"),
        ],
        "validation": [("mrpc sentence1: He left. sentence2: He stayed.", "not_equivalent")],
        "test": [("mrpc sentence1: He left. sentence2: He went.", "<unk>")],
    }
    assert server.num_downloads == 3


def test_a_builder_that_asks_for_number_types_gets_them(server, monkeypatch):
    rows = [{"question": "is it", "passage": "It is.", "label": True, "idx": 0}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    content = _zip({f"BoolQ/{split}.jsonl": text for split in ("train", "val", "test")})
    config = super_glue.SuperGlue.BUILDER_CONFIGS[0]
    url = server.publish(super_glue.SuperGlue, "BoolQ.zip", content, monkeypatch)
    monkeypatch.setattr(config, "data_url", url)
    assert list(open_data_source("super_glue/boolq", "train", alternative="")) == [
        {"idx": 0, "label": 1, "passage": b"It is.", "question": b"is it"}
    ]


def test_documents_from_a_tar_of_several_files(server, monkeypatch):
    folder = "1-billion-word-language-modeling-benchmark-r13output"
    files = {
        f"{folder}/training-monolingual.tokenized.shuffled/news.en-00001": "One \u00e9\ntwo\n",
        f"{folder}/training-monolingual.tokenized.shuffled/news.en-00002": "three\n",
        f"{folder}/heldout-monolingual.tokenized.shuffled/news.en.heldout-00001": "four\n",
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    url = server.publish(lm1b.Builder, "lm1b.tar.gz", content.getvalue(), monkeypatch)
    monkeypatch.setattr(lm1b, "_DOWNLOAD_URL", url)
    source = open_source("tfds:lm1b")
    documents = [text for block in range(source.num_blocks) for text in source.read(block)]
    assert sorted(documents) == ["One \u00e9", "three", "two"]
    with pytest.raises(UserError, match="no field 'body', only text"):
        open_source("tfds:lm1b", text_field="body")


def test_nothing_leaves_the_folder_that_an_archive_is_unpacked_in(tmp_path, data_dir, server, monkeypatch):
    outside = tmp_path / "absolute.txt"
    evil = {"../up.txt": "x", "CoLA/../../../up.txt": "x", str(outside): "x"}
    _publish_glue(server, monkeypatch, "cola", _zip(COLA | evil))
    assert len(open_data_source("glue/cola", "train", alternative="")) == 2
    assert not outside.exists()
    assert not list(tmp_path.rglob("up.txt"))
    (extracted,) = (data_dir / "downloads/extracted").iterdir()
    assert {str(path.relative_to(extracted)) for path in extracted.rglob("*.*")} == set(COLA)


def test_a_slice_reads_as_one_record_after_the_other(server, monkeypatch):
    _publish_glue(server, monkeypatch, "cola", _zip(COLA))
    records = open_data_source("glue/cola", "train", alternative="")
    assert records[:] == list(records) == [records[0], records[-1]]
    assert sorted(row["sentence"].decode() for row in records) == [
        "The pub was drunk dry, \u00e9.",
        "They drank the pub.",
    ]
    with pytest.raises(IndexError):
        records[2]


def test_a_file_that_is_not_the_official_one_is_refused_and_may_be_replaced(server, monkeypatch):
    _publish_glue(server, monkeypatch, "cola", _zip(COLA), checksum="0" * 64)
    assert "wrong checksum" in _error("glue/cola")
    _publish_glue(server, monkeypatch, "cola", _zip(COLA))
    assert len(open_data_source("glue/cola", "train", alternative="")) == 2


def test_damaged_data_are_named_with_their_folder(data_dir, server, monkeypatch):
    _publish_glue(server, monkeypatch, "cola", _zip(COLA))
    open_data_source("glue/cola", "train", alternative="")
    assert "no split 'dev', only " in _error("glue/cola", "dev")
    (record_file,) = data_dir.rglob("glue-train.array_record*")
    records = open_data_source("glue/cola", "train", alternative="")
    record_file.write_bytes(record_file.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"glue/cola at {record_file.parent} is damaged .*: remove it"):
        records[0]
    record_file.unlink()
    with pytest.raises(UserError, match="is damaged"):
        find_task("glue/cola").load("train", None)


# --- what cannot be fetched


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("glue/mrpc", "firebasestorage.googleapis.com"),
        ("super_glue/boolq", "dl.fbaipublicfiles.com"),
        ("imdb_reviews", "ai.stanford.edu"),
        ("wmt14_translate/de-en", "www.statmt.org"),
        ("xsum", "raw.githubusercontent.com"),
        ("squad/v1.1", "rajpurkar.github.io"),
    ],
)
def test_without_a_network_the_host_that_has_the_files_is_named(monkeypatch, name, host):
    monkeypatch.setattr(tfds_preparation, "_why_silent", lambda root: "no network")
    message = _error(name)
    assert f"{name} is not prepared on this machine" in message
    assert f"{host} cannot be reached (no network)" in message
    assert (
        ": pass --data_dir, or where a network is, run `pip install tensorflow-datasets tensorflow` and "
        in message
    )
    assert f"`tfds build {name} --file_format=array_record`" in message


def _address_of(server, monkeypatch, port: int) -> None:
    _publish_glue(server, monkeypatch, "cola", _zip(COLA))
    (config,) = (config for config in glue.Glue.BUILDER_CONFIGS if config.name == "cola")
    monkeypatch.setattr(config, "data_url", f"http://127.0.0.1:{port}/CoLA.zip")


def test_a_host_that_refuses_or_never_answers_is_given_up_at_once(data_dir, server, monkeypatch):
    monkeypatch.setattr(tfds_preparation, "_ANSWER_WITHIN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        _address_of(server, monkeypatch, port)
        start = time.monotonic()
        assert f"127.0.0.1:{port} cannot be reached (no answer in 0.3 seconds)" in _error("glue/cola")
    assert f"127.0.0.1:{port} cannot be reached" in (message := _error("glue/cola"))
    assert "Connection refused" in message
    assert time.monotonic() - start < 5
    assert not list(data_dir.glob("glue/cola/*"))


def test_nobody_waits_longer_than_fifteen_seconds_for_a_host():
    assert tfds_preparation._ANSWER_WITHIN_SECONDS <= 15


def test_what_else_goes_wrong_in_a_builder_is_one_sentence(data_dir, server, monkeypatch):
    _publish_glue(server, monkeypatch, "cola", b"not a zip")
    assert "cannot be prepared on it (Error while extracting " in _error("glue/cola")
    (config,) = (config for config in glue.Glue.BUILDER_CONFIGS if config.name == "rte")
    monkeypatch.setattr(config, "data_url", "gs://bucket/RTE.zip")
    message = _error("glue/rte")
    assert "cannot be prepared on it (it asks for 'errors' of TensorFlow): pass --data_dir" in message
    assert "tfds build glue/rte" in message
    assert not list(data_dir.glob("glue/*/2.0.0"))


@pytest.mark.parametrize("name", ["c4/en", "wiki40b/en", "wiki_dialog/OQ"])
def test_data_sets_that_take_beam_are_refused_before_anything_is_fetched(data_dir, name):
    message = _error(name)
    assert f"run `pip install tensorflow-datasets tensorflow apache-beam` and `tfds build {name} " in message
    assert not data_dir.exists()


@pytest.mark.parametrize("name", ["glue/cola", "imdb_reviews", "lm1b", "squad/v1.1"])
def test_data_sets_that_do_not_take_beam_are_told_apart(monkeypatch, name):
    monkeypatch.setattr(tfds_preparation, "_why_silent", lambda root: "no network")
    assert "beam" not in _error(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "TFDS knows none of this name: correct it, or pass --data_dir"),
        ("huggingface:glue/cola", "TFDS knows none of this name"),
        ("glue/mprc", "no configuration 'mprc'; of its 12, the nearest are mrpc"),
        ("imdb_reviews/full", "no configuration 'full'; of its 1, the nearest are plain_text"),
        ("glue/cola:9.9.9", "cannot be loaded at version 9.9.9"),
        ("no name!", "Cannot open the TFDS data set 'no name!'"),
    ],
)
def test_names_that_are_wrong_are_told_what_is_near(name, words):
    assert words in _error(name)
