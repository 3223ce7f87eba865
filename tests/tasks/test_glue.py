"""GLUE: prompts, hazards of its files, errors in them, and agreement of the two sources."""

import importlib
import itertools
import pathlib
import re
import subprocess
import sys

import pytest

from t5like.data import tfds_preparation
from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.tasks.glue import FORMATS, TASKS, number_text

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
GLUE = SHARED / "glue"
needs_glue = pytest.mark.skipif(
    not GLUE.exists(), reason="shared data not in this checkout: the real files of GLUE"
)

PAIR_HEADER = "index\tsentence1\tsentence2"
STSB_HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
STSB_START = "news\tfile\t2015\t12\tnone\tnone\t"
MNLI_HEADER = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse"
    "\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
MNLI_START = "9\t9e\tfiction\t( It rains . )\t( It . )\t(ROOT (S It))\t(ROOT (S It))\t"
ROWS = {
    "cola": ["src\t0\t*\tThey drank the pub.\n", "src\t1\t\tThe pub was drunk dry.\n"],
    "sst2": ["sentence\tlabel\n", "a charming film \t1\n", "a dull film \t0\n"],
    "mrpc": [
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
        "1\t7\t8\tHe left.\tHe went away.\n",
        "0\t9\t10\tHe left.\tHe stayed.\n",
    ],
    "stsb": [
        f"{STSB_HEADER}\tscore\n",
        f"0\t{STSB_START}A plane lands.\tA plane is landing.\t4.75\n",
        f"1\t{STSB_START}A plane lands.\tA man eats.\t0.500\n",
    ],
    "qqp": [
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n",
        "133\t1\t2\tHow are you?\tHow do you do?\t1\n",
        '7\t3\t4\t"What is ""atheism""?"\tWhat is it?\t0\n',
    ],
    "mnli": [
        f"{MNLI_HEADER}\tlabel1\tgold_label\n",
        f"0\t{MNLI_START}It rains.\tIt is wet.\tentailment\tentailment\n",
        f"1\t{MNLI_START}It rains.\tIt is dry.\tneutral\tcontradiction\n",
    ],
    "qnli": [
        "index\tquestion\tsentence\tlabel\n",
        "0\tWho left?\tHe left.\tentailment\n",
        "1\tWho left?\tIt rains.\tnot_entailment\n",
    ],
    "rte": [
        f"{PAIR_HEADER}\tlabel\n",
        "0\tIt rains.\tIt is wet.\tentailment\n",
        "1\tIt rains.\tIt is dry.\tnot_entailment\n",
    ],
    "wnli": [
        f"{PAIR_HEADER}\tlabel\n",
        "0\tThe fish ate the worm. It was tasty.\tThe worm was tasty.\t1\n",
        "1\tThe fish ate the worm. It was tasty.\tThe fish was tasty.\t0\n",
    ],
}
TEST_ROWS = {
    "cola": ["index\tsentence\n", "0\tThey drank.\n"],
    "sst2": ["index\tsentence\n", "0\ta film\n"],
    "mrpc": ["index\t#1 ID\t#2 ID\t#1 String\t#2 String\n", "0\t1\t2\tHe left.\tHe went.\n"],
    "stsb": [f"{STSB_HEADER}\n", f"0\t{STSB_START}A plane lands.\tA man eats.\n"],
    "qqp": ["id\tquestion1\tquestion2\n", "0\tHow are you?\tWhy?\n"],
    "mnli": [f"{MNLI_HEADER}\n", f"0\t{MNLI_START}It rains.\tIt is wet.\n"],
    "qnli": ["index\tquestion\tsentence\n", "0\tWho left?\tHe left.\n"],
    "rte": [f"{PAIR_HEADER}\n", "0\tIt rains.\tIt is wet.\n"],
    "wnli": [f"{PAIR_HEADER}\n", "0\tIt rained.\tThe sky rained.\n"],
    "ax": [f"{PAIR_HEADER}\n", "0\tThe cat sat.\tThe cat did not sit.\n"],
}
EXPECTED = {
    "cola": [
        ("cola sentence: They drank the pub.", "unacceptable", ("They drank the pub.",), 0),
        ("cola sentence: The pub was drunk dry.", "acceptable", ("The pub was drunk dry.",), 1),
    ],
    # GLUE's blank at the end of a sentence stays, as in T5.
    "sst2": [
        ("sst2 sentence: a charming film ", "positive", ("a charming film ",), 1),
        ("sst2 sentence: a dull film ", "negative", ("a dull film ",), 0),
    ],
    "mrpc": [
        (
            "mrpc sentence1: He left. sentence2: He went away.",
            "equivalent",
            ("He left.", "He went away."),
            1,
        ),
        ("mrpc sentence1: He left. sentence2: He stayed.", "not_equivalent", ("He left.", "He stayed."), 0),
    ],
    # 4.75 is 23.75 fifths, and 0.5 is 2.5 of them, whose even neighbour is 2.
    "stsb": [
        (
            "stsb sentence1: A plane lands. sentence2: A plane is landing.",
            "4.8",
            ("A plane lands.", "A plane is landing."),
            4.75,
        ),
        (
            "stsb sentence1: A plane lands. sentence2: A man eats.",
            "0.4",
            ("A plane lands.", "A man eats."),
            0.5,
        ),
    ],
    "qqp": [
        (
            "qqp question1: How are you? question2: How do you do?",
            "duplicate",
            ("How are you?", "How do you do?"),
            1,
        ),
        (
            'qqp question1: "What is ""atheism""?" question2: What is it?',
            "not_duplicate",
            ('"What is ""atheism""?"', "What is it?"),
            0,
        ),
    ],
    # T5 has the hypothesis first, encoders have the premise first.
    "mnli": [
        (
            "mnli hypothesis: It is wet. premise: It rains.",
            "entailment",
            ("It rains.", "It is wet."),
            0,
        ),
        ("mnli hypothesis: It is dry. premise: It rains.", "contradiction", ("It rains.", "It is dry."), 2),
    ],
    "qnli": [
        ("qnli question: Who left? sentence: He left.", "entailment", ("Who left?", "He left."), 0),
        ("qnli question: Who left? sentence: It rains.", "not_entailment", ("Who left?", "It rains."), 1),
    ],
    "rte": [
        ("rte sentence1: It rains. sentence2: It is wet.", "entailment", ("It rains.", "It is wet."), 0),
        ("rte sentence1: It rains. sentence2: It is dry.", "not_entailment", ("It rains.", "It is dry."), 1),
    ],
    "wnli": [
        (
            "wnli sentence1: The fish ate the worm. It was tasty. sentence2: The worm was tasty.",
            "entailment",
            ("The fish ate the worm. It was tasty.", "The worm was tasty."),
            1,
        ),
        (
            "wnli sentence1: The fish ate the worm. It was tasty. sentence2: The fish was tasty.",
            "not_entailment",
            ("The fish ate the worm. It was tasty.", "The fish was tasty."),
            0,
        ),
    ],
}
FOLDERS = {form.name: form.folders[0] for form in FORMATS} | {"ax": "AX"}
FILES = {
    "mnli": {"test": "test_matched.tsv", "dev": "dev_matched.tsv"},
    "ax": {"test": "diagnostic.tsv"},
}
TEST_SPLITS = {"mnli": "test_matched"}
ORDER = ("index", "inputs", "targets", "texts", "answer", "row_id")


def _fields(example: Example) -> tuple:
    return tuple(getattr(example, name) for name in ORDER)


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


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_prompts_and_labels_are_those_of_t5(tmp_path, name, expected):
    root = _write(tmp_path, name, "".join(ROWS[name]))
    examples = _load(root, name)
    assert [_fields(example) for example in examples] == [
        (index, *fields, None) for index, fields in enumerate(expected)
    ]
    assert _load(root / FOLDERS[name], name) == examples  # the task's own folder will do


def test_every_task_is_here():
    assert list(EXPECTED) == [form.name for form in FORMATS]
    assert [task.name for task in TASKS] == [f"glue/{name}" for name in TEST_ROWS]


def test_prompts_have_their_keys_in_the_order_of_the_alphabet():
    for form in FORMATS:
        texts = {key: f"<{key}>" for key in form.texts}
        places = [form.prompt(texts).index(text) for _, text in sorted(texts.items())]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("cola", "cola sentence: They drank."),
        ("sst2", "sst2 sentence: a film"),
        ("mrpc", "mrpc sentence1: He left. sentence2: He went."),
        ("stsb", "stsb sentence1: A plane lands. sentence2: A man eats."),
        ("qqp", "qqp question1: How are you? question2: Why?"),
        ("mnli", "mnli hypothesis: It is wet. premise: It rains."),
        ("qnli", "qnli question: Who left? sentence: He left."),
        ("rte", "rte sentence1: It rains. sentence2: It is wet."),
        ("wnli", "wnli sentence1: It rained. sentence2: The sky rained."),
        ("ax", "mnli hypothesis: The cat did not sit. premise: The cat sat."),
    ],
)
def test_test_split_has_no_labels_and_names_its_rows(tmp_path, name, inputs):
    text = "".join(TEST_ROWS[name]).replace("\n0\t", "\n41\t")
    root = _write(tmp_path, name, text, FILES.get(name, {}).get("test", "test.tsv"))
    (example,) = _load(root, name, TEST_SPLITS.get(name, "test"))
    unpublished = "-1.0" if name == "stsb" else "<unk>"  # as in T5
    assert (example.index, example.inputs, example.targets) == (0, inputs, unpublished)
    assert (example.answer, example.row_id) == (None, 41)


def test_metrics_are_those_of_t5():
    metrics = {task.name.removeprefix("glue/"): [metric.name for metric in task.metrics] for task in TASKS}
    assert metrics == {
        "cola": ["matthews_corrcoef"],
        "sst2": ["accuracy"],
        "mrpc": ["f1", "accuracy"],
        "stsb": ["pearson", "spearman"],
        "qqp": ["f1", "accuracy"],
        "mnli": ["accuracy"],
        "qnli": ["accuracy"],
        "rte": ["accuracy"],
        "wnli": ["accuracy"],
        "ax": ["matthews_corrcoef"],
    }


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (5.0, "5.0"),
        (3.8, "3.8"),
        (4.25, "4.2"),
        (2.5, "2.4"),
        (0.7, "0.8"),
        (1.1, "1.2"),
        (-1.0, "-1.0"),
    ],
)
def test_similarities_are_written_in_fifths_and_halves_go_to_the_even_one(number, text):
    assert number_text(number) == text


def test_similarities_are_written_in_26_ways_none_further_off_than_a_tenth():
    written = {number_text(thousandths / 1000) for thousandths in range(5001)}
    assert len(written) == 26
    for thousandths in range(5001):
        assert abs(float(number_text(thousandths / 1000)) - thousandths / 1000) <= 0.1 + 1e-6


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3.4", 3.4),
        (" 3.4 ", 3.4),
        ("7", 7.0),
        ("", -1.0),
        ("3.4.", -1.0),
        ("four", -1.0),
        ("nan", -1.0),
        ("-inf", -1.0),
    ],
)
def test_what_is_no_number_is_minus_one(text, number):
    task = find_task("glue/stsb")
    assert task.parsed(text, Example(index=0, inputs="", targets="")) == number


# --- MNLI's files, and those of the diagnostic set


def test_mnli_has_two_of_each_split_and_validation_is_the_matched_one(tmp_path):
    for side in ("matched", "mismatched"):
        rows = [MNLI_HEADER + "".join(f"\tlabel{i}" for i in range(1, 6)) + "\tgold_label\n"]
        rows.append(f"0\t{MNLI_START}It is {side}.\tIt is.{5 * chr(9)}neutral\tneutral\n")
        _write(tmp_path, "mnli", "".join(rows), f"dev_{side}.tsv")
        rows = [f"{MNLI_HEADER}\n", f"0\t{MNLI_START}It is {side}.\tIt is.\n"]
        _write(tmp_path, "mnli", "".join(rows), f"test_{side}.tsv")
    for side in ("matched", "mismatched"):
        for split in (f"validation_{side}", f"test_{side}"):
            (example,) = _load(tmp_path, "mnli", split)
            assert example.texts == (f"It is {side}.", "It is.")
    assert _load(tmp_path, "mnli", "validation") == _load(tmp_path, "mnli", "validation_matched")


def test_mnli_rows_may_lack_some_of_the_spare_labels(tmp_path):
    rows = [f"{MNLI_HEADER}\tlabel1\tlabel2\tlabel3\tgold_label\n"]
    start = f"0\t{MNLI_START}It rains.\tIt is wet."
    rows += [
        f"{start}\tneutral\tneutral\tentailment\tneutral\n",
        f"{start}\tentailment\tneutral\n",
        f"{start}\tneutral\n",
    ]
    root = _write(tmp_path, "mnli", "".join(rows))
    assert [example.targets for example in _load(root, "mnli")] == ["neutral"] * 3
    for wrong in (f"{start}\n", "\t".join([start, *["neutral"] * 5]) + "\n", f"{start}\t-\n"):
        _write(tmp_path, "mnli", rows[0] + wrong)
        with pytest.raises(UserError, match="line 2: "):
            _load(root, "mnli")


FULL_AX = (
    "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel\r\n"
    "\t\tNegation\t\tArtificial\tThe cat sat.\tThe cat did not sit.\tcontradiction\r\n"
)


@pytest.mark.parametrize("folder", ["AX", "diagnostic"])
def test_the_diagnostic_set_has_answers_where_the_full_file_is_there(tmp_path, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "diagnostic.tsv").write_text("".join(TEST_ROWS["ax"]))
    (hidden,) = _load(tmp_path, "ax", "test")
    (tmp_path / folder / "diagnostic-full.tsv").write_text(FULL_AX, newline="")
    (known,) = _load(tmp_path, "ax", "test")
    assert (hidden.inputs, hidden.texts) == (known.inputs, known.texts)
    assert (hidden.answer, known.answer, known.targets) == (None, 2, "contradiction")


def test_torn_rows_of_qqp_are_left_out_as_everywhere(tmp_path):
    rows = [*ROWS["qqp"][:2], "9\t5\t6\tHow can I\n", "do it?\tWhy?\t1\n", ROWS["qqp"][2]]
    whole = _load(_write(tmp_path / "whole", "qqp", "".join(ROWS["qqp"])), "qqp")
    assert _load(_write(tmp_path / "torn", "qqp", "".join(rows)), "qqp") == whole
    root = _write(tmp_path, "qqp", "id\tquestion1\tquestion2\n0\tWhy?\n", "test.tsv")
    with pytest.raises(UserError, match="line 2: 2 columns where 3 belong"):  # every test row wants an answer
        _load(root, "qqp", "test")


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
        (
            "stsb",
            ROWS["stsb"][0] + f"0\t{STSB_START}a\tb\t5.5\n",
            "line 2: score '5.5' is no number from 0 to 5",
        ),
        ("stsb", ROWS["stsb"][0] + f"0\t{STSB_START}a\tb\thigh\n", "line 2: score 'high' is no number"),
        ("stsb", ROWS["stsb"][0] + f"0\t{STSB_START}a\tb\tnan\n", "line 2: score 'nan' is no number"),
        ("mnli", MNLI_HEADER + "\tlabel2\tgold_label\n", "line 1: the header must be"),
        ("qqp", "id\tquestion1\tquestion2\n0\ta\tb\n", "line 1: the header must be"),
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


@pytest.mark.parametrize("cell", ["x", "", "-1", "\u0663"])
def test_test_rows_need_a_number(tmp_path, cell):
    root = _write(tmp_path, "rte", f"{PAIR_HEADER}\n{cell}\tIt rains.\tIt is wet.\n", "test.tsv")
    with pytest.raises(UserError, match=r"line 2: index .* is no number"):
        _load(root, "rte", "test")


@pytest.mark.parametrize(("name", "other"), itertools.permutations(ROWS, 2))
def test_files_of_another_task_are_refused(tmp_path, name, other):
    root = _write(tmp_path, other, "".join(ROWS[other]))
    line = 2 if {name, other} == {"rte", "wnli"} else 1  # which have the same header and other labels
    with pytest.raises(UserError, match=f"line {line}: "):
        _load(root / FOLDERS[other], name)


# --- the real files


REAL_ROWS = {
    ("cola", "train"): 8551,
    ("cola", "validation"): 1043,
    ("cola", "test"): 1063,
    ("sst2", "train"): 67349,
    ("sst2", "validation"): 872,
    ("sst2", "test"): 1821,
    ("mrpc", "train"): 3668,
    ("mrpc", "validation"): 408,
    ("mrpc", "test"): 1725,
    ("stsb", "train"): 5749,
    ("stsb", "validation"): 1500,
    ("stsb", "test"): 1379,
    ("qqp", "train"): 16000,  # a sample
    ("qqp", "validation"): 3497,  # likewise
    ("qnli", "validation"): 5463,
    ("qnli", "test"): 5463,
    ("rte", "train"): 2490,
    ("rte", "validation"): 277,
    ("rte", "test"): 3000,
    ("ax", "test"): 1104,
}


@needs_glue
@pytest.mark.parametrize(("name", "split"), REAL_ROWS)
def test_real_files_have_the_published_rows(name, split):
    task = find_task(f"glue/{name}")
    examples = _load(GLUE, name, split)
    num_rows = REAL_ROWS[name, split]
    assert [example.index for example in examples] == list(range(num_rows))
    if split == "test" and name != "ax":
        assert {example.answer for example in examples} == {None}
        assert [example.row_id for example in examples] == list(range(num_rows))
    elif task.kind == "label":
        assert {example.targets for example in examples} == set(task.labels)
        assert all(example.targets == task.labels[example.answer] for example in examples)
    else:
        assert {min(e.answer for e in examples), max(e.answer for e in examples)} == {0.0, 5.0}
        assert len({example.targets for example in examples}) == 26
    assert len({len(example.texts) for example in examples}) == 1


@needs_glue
def test_the_real_diagnostic_set_is_the_same_with_and_without_answers(tmp_path):
    (tmp_path / "diagnostic.tsv").write_bytes((GLUE / "AX/diagnostic.tsv").read_bytes())
    hidden, known = _load(tmp_path, "ax", "test"), _load(GLUE, "ax", "test")
    assert [example.inputs for example in hidden] == [example.inputs for example in known]
    assert [example.row_id for example in hidden] == list(range(1104))


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
    if name == "mnli":
        files = {"train": "train", "dev_matched": "validation_matched", "test_matched": "test_matched"}
    builder._split_generators = lambda _: {
        split: builder._generate_examples(
            data_file=str(data_dir / FOLDERS[name] / f"{file}.tsv"), split=file.split("_")[0]
        )
        for file, split in files.items()
    }
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return pathlib.Path(builder.data_path)


@pytest.mark.parametrize("name", ["cola", "stsb", "qqp", "mnli", "rte", "wnli"])
def test_tfds_gives_what_the_files_give(tmp_path, tfds, name):
    many = ROWS[name][:-1] + [re.sub(r"[.?](?=\s)", f" {i}, \u00e9.", ROWS[name][-1]) for i in range(30)]
    root = _write(tmp_path, name, "".join(many))
    files = FILES.get(name, {})
    _write(tmp_path, name, "".join(ROWS[name]), files.get("dev", "dev.tsv"))
    _write(tmp_path, name, "".join(TEST_ROWS[name]), files.get("test", "test.tsv"))
    _prepare(tfds, name, root)
    for split in ("train", "validation", TEST_SPLITS.get(name, "test")):
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
        ("stsb", "train"),
        ("stsb", "test"),
        ("qqp", "validation"),
        ("qnli", "validation"),
        ("qnli", "test"),
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
        if form.kind == "number":
            targets = number_text(float(label))
        else:
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
