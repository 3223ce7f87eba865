"""GLUE: prompts, hazards of its files, errors in them, and agreement of the two sources."""

import importlib
import itertools
import pathlib
import subprocess
import sys

import pytest

from t5like.data import tfds_preparation
from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.tasks.glue import FORMATS

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
GLUE = SHARED / "glue"
needs_glue = pytest.mark.skipif(
    not GLUE.exists(), reason="shared data not in this checkout: the real files of GLUE"
)

ROWS = {
    "cola": ["src\t0\t*\tThey drank the pub.\n", "src\t1\t\tThe pub was drunk dry.\n"],
    "mrpc": [
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
        "1\t7\t8\tHe left.\tHe went away.\n",
        "0\t9\t10\tHe left.\tHe stayed.\n",
    ],
    "rte": [
        "index\tsentence1\tsentence2\tlabel\n",
        "0\tIt rains.\tIt is wet.\tentailment\n",
        "1\tIt rains.\tIt is dry.\tnot_entailment\n",
    ],
    "sst2": ["sentence\tlabel\n", "a charming film \t1\n", "a dull film \t0\n"],
}
TEST_ROWS = {
    "cola": ["index\tsentence\n", "0\tThey drank.\n"],
    "mrpc": ["index\t#1 ID\t#2 ID\t#1 String\t#2 String\n", "0\t1\t2\tHe left.\tHe went.\n"],
    "rte": ["index\tsentence1\tsentence2\n", "0\tIt rains.\tIt is wet.\n"],
    "sst2": ["index\tsentence\n", "0\ta film\n"],
}
FOLDERS = {form.name: form.folder for form in FORMATS}


def _write(
    data_dir: pathlib.Path, name: str, text: str | bytes, file_name: str = "train.tsv"
) -> pathlib.Path:
    """Writes a file of task `name` and returns GLUE's folder."""
    folder = data_dir / FOLDERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file_name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return data_dir


def _load(data_dir: pathlib.Path, name: str, split: str = "train") -> list[Example]:
    return find_task(f"glue/{name}").load(split, data_dir)


# --- prompts and labels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cola",
            [
                ("cola sentence: They drank the pub.", "unacceptable"),
                ("cola sentence: The pub was drunk dry.", "acceptable"),
            ],
        ),
        (
            "mrpc",
            [
                ("mrpc sentence1: He left. sentence2: He went away.", "equivalent"),
                ("mrpc sentence1: He left. sentence2: He stayed.", "not_equivalent"),
            ],
        ),
        (
            "rte",
            [
                ("rte sentence1: It rains. sentence2: It is wet.", "entailment"),
                ("rte sentence1: It rains. sentence2: It is dry.", "not_entailment"),
            ],
        ),
        # GLUE's blank at the end of a sentence stays, as in T5.
        (
            "sst2",
            [("sst2 sentence: a charming film ", "positive"), ("sst2 sentence: a dull film ", "negative")],
        ),
    ],
)
def test_prompts_and_labels_are_those_of_t5(tmp_path, name, expected):
    root = _write(tmp_path, name, "".join(ROWS[name]))
    expected_examples = [Example(*texts, index) for index, texts in enumerate(expected)]
    assert _load(root, name) == expected_examples
    assert _load(root / FOLDERS[name], name) == expected_examples  # the task's own folder will do


def test_prompt_keys_are_in_the_order_of_the_alphabet():
    for form in FORMATS:
        assert list(form.texts) == sorted(form.texts)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("cola", "cola sentence: They drank."),
        ("mrpc", "mrpc sentence1: He left. sentence2: He went."),
        ("rte", "rte sentence1: It rains. sentence2: It is wet."),
        ("sst2", "sst2 sentence: a film"),
    ],
)
def test_test_split_has_no_labels(tmp_path, name, inputs):
    root = _write(tmp_path, name, "".join(TEST_ROWS[name]), "test.tsv")
    assert _load(root, name, "test") == [Example(inputs, "<unk>", 0)]


def test_metrics_are_those_of_t5():
    metrics = {form.name: [metric.name for metric in form.metrics] for form in FORMATS}
    assert metrics == {
        "cola": ["matthews_corrcoef"],
        "mrpc": ["f1", "accuracy"],
        "rte": ["accuracy"],
        "sst2": ["accuracy"],
    }


# --- hazards of the files


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
    ],
    ids=["byte order mark", "CRLF", "no last line end"],
)
def test_bytes_around_the_text_change_nothing(tmp_path, name, change):
    text = "".join(ROWS[name])
    plain = _load(_write(tmp_path / "plain", name, text), name)
    assert _load(_write(tmp_path / "changed", name, change(text)), name) == plain


def test_quote_marks_are_letters(tmp_path):
    rows = [ROWS["mrpc"][0], '1\t7\t8\t"He left.\tHe said: ""no"".\n', '0\t9\t10\tHe left"\t"He stayed"\n']
    examples = _load(_write(tmp_path, "mrpc", "".join(rows)), "mrpc")
    assert [example.inputs for example in examples] == [
        'mrpc sentence1: "He left. sentence2: He said: ""no"".',
        'mrpc sentence1: He left" sentence2: "He stayed"',
    ]


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\r"])
def test_rows_end_at_newlines_only(tmp_path, letter):
    root = _write(tmp_path, "sst2", f"sentence\tlabel\none{letter}two\t1\n")
    assert [example.inputs for example in _load(root, "sst2")] == [f"sst2 sentence: one{letter}two"]


# --- errors


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rte", ROWS["rte"][0] + ROWS["rte"][1] + "1\tonly two\n", "line 3: 2 columns where 4 belong"),
        ("rte", ROWS["rte"][0] + "0\ta\tb\tentailment\tmore\n", "line 2: 5 columns where 4 belong"),
        ("rte", ROWS["rte"][0] + "\n" + ROWS["rte"][1], "line 2: 1 columns where 4 belong"),
        ("rte", ROWS["rte"][0] + "0\ta\tb\tneutral\n", "line 2: label 'neutral' is none of entailment"),
        ("sst2", ROWS["sst2"][0] + "a\t1\nb\t2\n", "line 3: label '2' is none of 0, 1"),
        ("cola", "sentence\tlabel\tmark\tsource\n" + ROWS["cola"][0], "line 1: label 'label' is none of"),
        ("rte", "index\tquestion\tsentence\tlabel\n" + ROWS["rte"][1], "line 1: the header must be"),
        ("sst2", ROWS["sst2"][1], "line 1: the header must be"),
        ("sst2", "", "holds no examples"),
        ("sst2", "\ufeff", "holds no examples"),
        ("sst2", ROWS["sst2"][0], "holds no examples"),
        ("sst2", b"sentence\tlabel\nfine\t1\ncaf\xe9\t1\n", "line 3: not UTF-8"),
        ("sst2", b"\xef\xbb\xbfsentence\tlabel\n\xff\t1\n", "line 2: not UTF-8"),
    ],
)
def test_broken_file_is_reported_with_its_line(tmp_path, name, text, message):
    root = _write(tmp_path, name, text)
    with pytest.raises(UserError) as caught:
        _load(root, name)
    assert str(root / FOLDERS[name] / "train.tsv") in str(caught.value)
    assert message in str(caught.value)


def test_missing_file_is_reported_with_the_folder(tmp_path):
    _write(tmp_path, "sst2", "".join(ROWS["sst2"]))
    with pytest.raises(UserError, match=r"SST-2.dev\.tsv: --data_dir must be the folder of GLUE") as caught:
        _load(tmp_path, "sst2", "validation")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match="There is no"):
        _load(tmp_path / "nowhere", "mrpc")


@pytest.mark.parametrize(("name", "other"), itertools.permutations(ROWS, 2))
def test_files_of_another_task_are_refused(tmp_path, name, other):
    root = _write(tmp_path, other, "".join(ROWS[other]))
    with pytest.raises(UserError, match="line 1: "):
        _load(root / FOLDERS[other], name)


# --- the real files


@needs_glue
@pytest.mark.parametrize(
    ("name", "num_train", "num_validation", "num_test"),
    [
        ("cola", 8551, 1043, 1063),
        ("mrpc", 3668, 408, 1725),
        ("rte", 2490, 277, 3000),
        ("sst2", 67349, 872, 1821),
    ],
)
def test_real_files_have_the_published_rows(name, num_train, num_validation, num_test):
    labels = set(find_task(f"glue/{name}").labels)
    expected = {
        "train": (num_train, labels),
        "validation": (num_validation, labels),
        "test": (num_test, {"<unk>"}),
    }
    for split, (num_rows, targets) in expected.items():
        examples = _load(GLUE, name, split)
        assert len(examples) == num_rows
        assert {example.targets for example in examples} == targets
        assert [example.index for example in examples] == list(range(num_rows))


@needs_glue
def test_real_files_keep_their_quote_marks():
    text = (GLUE / "MRPC/train.tsv").read_text(encoding="utf-8-sig")
    quotes = sum(example.inputs.count('"') for example in _load(GLUE, "mrpc"))
    assert quotes == text.count('"') > 1000


# --- TFDS


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """TFDS with an empty folder of its own."""
    tensorflow_datasets = importlib.import_module("tensorflow_datasets")
    constants = importlib.import_module("tensorflow_datasets.core.constants")
    importlib.import_module("tensorflow_datasets.text.glue")
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    return tensorflow_datasets


def _prepare(tfds, name: str, data_dir: pathlib.Path) -> pathlib.Path:
    """Lets TFDS read the files under `data_dir` with its own code and prepare them."""
    builder = tfds.builder(f"glue/{name}", file_format="array_record")
    files = {"train": "train", "dev": "validation", "test": "test"}
    builder._split_generators = lambda _: {
        split: builder._generate_examples(data_file=str(data_dir / FOLDERS[name] / f"{file}.tsv"), split=file)
        for file, split in files.items()
    }
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return pathlib.Path(builder.data_path)


@pytest.mark.parametrize("name", ["cola", "rte"])
def test_tfds_gives_what_the_files_give(tmp_path, tfds, name):
    many = ROWS[name][:-1] + [ROWS[name][-1].replace(".", f" {i}, \u00e9.") for i in range(30)]
    root = _write(tmp_path, name, "".join(many))
    _write(tmp_path, name, "".join(ROWS[name]), "dev.tsv")
    _write(tmp_path, name, "".join(TEST_ROWS[name]), "test.tsv")
    _prepare(tfds, name, root)
    for split in ("train", "validation", "test"):
        assert _load(None, name, split) == _load(root, name, split)
    assert len(_load(None, name)) > 30


def test_unprepared_tfds_without_a_network_is_reported_at_once(tmp_path, tfds, monkeypatch):
    monkeypatch.setattr(tfds_preparation, "_why_silent", lambda root: "no network")
    with pytest.raises(UserError, match=r"glue/rte is not prepared .*no network.* pass --data_dir") as caught:
        _load(None, "rte")
    assert str(tmp_path / "tfds") in str(caught.value)
    assert "holds RTE/" in str(caught.value)


def test_tfds_data_that_take_tensorflow_are_reported(tmp_path, tfds):
    _write(tmp_path, "rte", "".join(ROWS["rte"]))
    _write(tmp_path, "rte", "".join(ROWS["rte"]), "dev.tsv")
    _write(tmp_path, "rte", "".join(TEST_ROWS["rte"]), "test.tsv")
    info = _prepare(tfds, "rte", tmp_path) / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="only TensorFlow reads it: remove it and pass --data_dir"):
        _load(None, "rte")


@needs_glue
@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("cola", "validation"),
        ("cola", "test"),
        ("mrpc", "train"),
        ("mrpc", "validation"),
        ("rte", "train"),
        ("sst2", "validation"),
        ("sst2", "test"),
    ],
)
def test_real_files_are_read_as_tfds_reads_them(tfds, name, split):
    folder, file = GLUE / FOLDERS[name], {"validation": "dev"}.get(split, split)
    builder = tfds.builder(f"glue/{name}")
    rows = builder._generate_examples(
        data_file=str(folder / f"{file}.tsv"),
        split=file,
        mrpc_files={"dev_ids": GLUE / "MRPC/dev_ids.tsv", "train": GLUE / "MRPC/msr_paraphrase_train.txt"},
    )
    (form,) = (form for form in FORMATS if form.name == name)
    read = []
    for _, row in rows:
        label = row["label"]
        targets = label if isinstance(label, str) else "<unk>" if label == -1 else form.labels[label]
        read.append((form.prompt(row), targets))
    assert [(example.inputs, example.targets) for example in _load(GLUE, name, split)] == read


def test_nothing_heavy_is_imported_with_the_tasks():
    code = (
        "import sys, t5like.tasks; "
        "print([name for name in ('jax', 'sklearn', 'tensorflow', 'tensorflow_datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
