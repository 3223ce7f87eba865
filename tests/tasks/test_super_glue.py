"""SuperGLUE: prompts, what encoders read, hazards of its files, errors in them, and agreement of the two sources."""

import importlib
import json
import pathlib
import re
from collections import Counter

import pytest

from t5like.data.tfds_preparation import lent_to_tfds
from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.tasks.super_glue import TASKS
from tests.tasks.super_glue_rows import FOLDERS, PASSAGE, ROWS, SHARED, TEST_FILES, needs, write

SUPER_GLUE = SHARED / "super_glue"
NAMES = [task.name.removeprefix("super_glue/") for task in TASKS]


def _load(data_dir: pathlib.Path | None, name: str, split: str | None = None) -> list[Example]:
    return find_task(f"super_glue/{name}").load(
        split or ("test" if name in TEST_FILES else "train"), data_dir
    )


# --- what is asked

EXPECTED = {
    "boolq": [
        ("boolq passage: Rain is wet. question: is rain wet", "True", ("Rain is wet.", "is rain wet"), 1),
        ("boolq passage: {Rain} falls. question: is rain dry", "False", ("{Rain} falls.", "is rain dry"), 0),
    ],
    "cb": [
        ("cb hypothesis: It is wet premise: It rains.", "entailment", ("It rains.", "It is wet"), 0),
        ("cb hypothesis: It is dry premise: It rains.", "contradiction", ("It rains.", "It is dry"), 1),
        ("cb hypothesis: It is cold premise: It rains.", "neutral", ("It rains.", "It is cold"), 2),
    ],
    "copa": [
        (
            "copa choice1: It rained. choice2: It was dry. premise: I got wet. question: cause",
            "choice1",
            ("I got wet. What was the cause of this?",),
            0,
        ),
        (
            "copa choice1: I slept. choice2: I paid. premise: I ate. question: effect",
            "choice2",
            ("I ate. What happened as a result?",),
            1,
        ),
    ],
    # Markup goes, as in T5.
    "multirc": [
        (
            "multirc question: Who paid? answer: Bob paragraph: Sent 1: Bob paid. Al left.",
            "True",
            ("Sent 1: Bob paid. Al left.", "Who paid? Bob"),
            1,
        ),
        (
            "multirc question: Who paid? answer: Al paragraph: Sent 1: Bob paid. Al left.",
            "False",
            ("Sent 1: Bob paid. Al left.", "Who paid? Al"),
            0,
        ),
        (
            "multirc question: Who left? answer: Al paragraph: Sent 1: Bob paid. Al left.",
            "True",
            ("Sent 1: Bob paid. Al left.", "Who left? Al"),
            1,
        ),
    ],
    "rte": [
        ("rte hypothesis: It is wet. premise: It rains.", "entailment", ("It rains.", "It is wet."), 0),
        ("rte hypothesis: It is dry. premise: It rains.", "not_entailment", ("It rains.", "It is dry."), 1),
    ],
    "wic": [
        (
            "wic sentence1: A place to go. sentence2: My places. word: place",
            "True",
            ("place: A place to go.", "place: My places."),
            1,
        ),
        (
            "wic sentence1: I run. sentence2: Run a bank. word: run",
            "False",
            ("run: I run.", "run: Run a bank."),
            0,
        ),
    ],
    "wsc": [
        (
            "wsc text: Mark told * Pete * lies. # He # lied.",
            "False",
            ("Mark told * Pete * lies. # He # lied.",),
            0,
        ),
        (
            "wsc text: * Mark * told Pete lies. # He # lied.",
            "True",
            ("* Mark * told Pete lies. # He # lied.",),
            1,
        ),
    ],
    "wsc_referent": [("wsc: Mark told Pete lies. *He* lied.", "Mark", (), 1)],
    "axb": [
        ("rte hypothesis: It is dry. premise: It rains.", "not_entailment", ("It rains.", "It is dry."), 1)
    ],
    "axg": [
        (
            "rte hypothesis: Al paid. premise: Al said he paid.",
            "entailment",
            ("Al said he paid.", "Al paid."),
            0,
        ),
        (
            "rte hypothesis: Al paid. premise: Al said she paid.",
            "entailment",
            ("Al said she paid.", "Al paid."),
            0,
        ),
    ],
}


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_prompts_and_labels_are_those_of_t5(tmp_path, name, expected):
    root = write(tmp_path, name)
    examples = _load(root, name)
    assert [(e.index, e.inputs, e.targets, e.texts, e.answer) for e in examples] == [
        (index, *fields) for index, fields in enumerate(expected)
    ]
    assert _load(root / FOLDERS[name], name) == examples  # the task's own folder will do


def test_every_task_is_here():
    assert {*EXPECTED, "record"} == set(NAMES)


def test_metrics_are_those_of_the_leaderboard():
    metrics = {
        name: [metric.name for metric in task.metrics] for name, task in zip(NAMES, TASKS, strict=True)
    }
    assert metrics == {
        **{key: ["accuracy"] for key in ("boolq", "copa", "rte", "wic", "wsc", "wsc_referent")},
        "cb": ["macro_f1", "accuracy"],
        "multirc": ["f1", "exact_match"],
        "record": ["f1", "exact_match"],
        "axb": ["matthews_corrcoef"],
        "axg": ["accuracy", "gender_parity"],
    }


# --- choices, groups and names of rows


def test_copa_is_a_choice_between_two(tmp_path):
    task = find_task("super_glue/copa")
    cause, effect = _load(write(tmp_path, "copa"), "copa")
    assert task.choice_texts(cause, 1) == ("I got wet. What was the cause of this?", "It was dry.")
    assert task.choice_texts(effect, 0) == ("I ate. What happened as a result?", "I slept.")
    assert [task.choice_answer(number, cause) for number in (0, 1)] == [0, 1]


def test_a_query_of_record_is_asked_once_an_answer_in_training_and_else_once(tmp_path):
    task = find_task("super_glue/record")
    root = write(tmp_path, "record")
    write(tmp_path, "record", "val.jsonl")
    train, validation = (task.load(split, root) for split in ("train", "validation"))
    inputs = (
        "record query: @placeholder met Al. entities: Al, Bob, Eve passage: "
        'Bob said: "No." Al left. Eve stayed. Bob paid'
    )
    assert [(e.inputs, e.targets, e.answer) for e in train[:2]] == [
        (inputs, "Bob", "Bob"),
        (inputs, "Eve", "Eve"),
    ]
    assert [e.index for e in train] == [0, 1, 2]
    assert [e.inputs for e in validation] == [train[0].inputs, train[2].inputs]
    for example in (*train[:2], validation[0]):
        assert (example.accepted, example.choices) == (("Bob", "Eve"), ("Al", "Bob", "Eve"))
        assert (example.group, example.row_id) == ((4, 70), 70)
    assert task.choice_texts(train[0], 2) == ('Bob said: "No." Al left. Eve stayed. Bob paid', "Eve met Al.")
    assert task.choice_answer(2, train[0]) == "Eve"


def test_record_without_answers_has_nothing_published(tmp_path):
    rows = json.loads(json.dumps(ROWS["record"]))
    for query in rows[0]["qas"]:
        del query["answers"]
    first, second = _load(write(tmp_path, "record", "test.jsonl", rows), "record", "test")
    assert (first.targets, first.answer, first.accepted) == ("<unk>", None, ())
    assert (first.row_id, second.row_id) == (70, 71)


def test_options_of_a_question_are_a_group_and_named_by_three_numbers(tmp_path):
    examples = _load(write(tmp_path, "multirc"), "multirc")
    assert [example.group for example in examples] == [(5, 8), (5, 8), (5, 9)]
    assert [example.row_id for example in examples] == [(5, 8, 20), (5, 8, 21), (5, 9, 22)]


def test_rows_are_named_by_their_idx(tmp_path):
    for name in ("boolq", "cb", "copa", "rte", "wic", "wsc", "axb", "axg"):
        rows = [{**row, "idx": 40 + number} for number, row in enumerate(ROWS[name])]
        examples = _load(write(tmp_path / name, name, rows=rows), name)
        assert [example.row_id for example in examples] == list(range(40, 40 + len(rows)))
    assert [e.row_id for e in _load(write(tmp_path, "axb"), "axb")] == [0]  # whose idx is a text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*TEST_FILES, "multirc", "record")])
def test_test_split_has_no_labels(tmp_path, name):
    rows = [{key: value for key, value in row.items() if key != "label"} for row in ROWS[name]]
    examples = _load(write(tmp_path, name, "test.jsonl", rows), name, "test")
    assert len(examples) == len(rows)
    assert {example.answer for example in examples} == {None}
    if name != "wsc_referent":  # which asks whether what it has as its target is right
        assert {example.targets for example in examples} == {"<unk>"}


# --- hazards of the files


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n \n",
    ],
    ids=["byte order mark", "CRLF", "no last line end", "empty lines at the end"],
)
def test_bytes_around_the_text_change_nothing(tmp_path, name, change):
    text = "".join(json.dumps(row) + "\n" for row in ROWS[name])
    plain = _load(write(tmp_path / "plain", name), name)
    assert _load(write(tmp_path / "changed", name, text=change(text)), name) == plain


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\t"])
def test_rows_end_at_newlines_only(tmp_path, letter):
    row = json.dumps({**ROWS["boolq"][0], "question": f"is rain{letter}wet"}, ensure_ascii=False)
    root = write(tmp_path, "boolq", text=row.replace("\t", "\\t"))
    assert [example.texts[1] for example in _load(root, "boolq")] == [f"is rain{letter}wet"]


# --- errors


BOOLQ, RTE, MULTIRC, WSC = (ROWS[name][0] for name in ("boolq", "rte", "multirc", "wsc"))


def _without(row: dict, *path: str) -> dict:
    copy = json.loads(json.dumps(row))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("boolq", _without(BOOLQ, "passage"), "there is no 'passage': is this the BoolQ file"),
        ("boolq", _without(BOOLQ, "label"), "there is no 'label'"),
        ("boolq", _without(BOOLQ, "idx"), "there is no 'idx'"),
        ("boolq", {**BOOLQ, "label": 1}, "label 1 is none of false, true"),
        ("boolq", {**BOOLQ, "label": "true"}, 'label "true" is none of false, true'),
        ("boolq", {**BOOLQ, "label": None}, "label null is none of"),
        ("boolq", {**BOOLQ, "question": 3}, "question is 3 and not a text"),
        ("boolq", {**BOOLQ, "idx": "x"}, "invalid literal"),
        ("copa", {**ROWS["copa"][0], "label": True}, "label true is none of 0, 1"),
        ("rte", {**RTE, "label": "neutral"}, 'label "neutral" is none of "entailment", "not_entailment"'),
        ("rte", {**RTE, "label": 0}, "label 0 is none of"),
        ("multirc", _without(MULTIRC, "passage", "questions"), "there is no 'questions'"),
        ("multirc", {**MULTIRC, "passage": "text"}, "is this the MultiRC file"),
        ("record", _without(PASSAGE, "passage", "entities"), "there is no 'entities'"),
        (
            "record",
            {**PASSAGE, "qas": [{"query": "x", "idx": 1, "answers": "Bob"}]},
            "is this the ReCoRD file",
        ),
        ("wsc", _without(WSC, "target"), "there is no 'target'"),
        (
            "wsc",
            {**WSC, "target": {**WSC["target"], "span2_index": "3"}},
            'span2_index is "3" and not a number',
        ),
    ],
)
def test_a_broken_row_is_reported_with_its_line(tmp_path, name, row, message):
    root = write(tmp_path, name, rows=[*ROWS[name], row])
    with pytest.raises(UserError) as caught:
        _load(root, name)
    assert f"{root / FOLDERS[name] / 'train.jsonl'}, line {len(ROWS[name]) + 1}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"idx": 0,\n', "line 1: no JSON"),
        ("[" * 100_000, "line 1: no JSON"),
        ("[1]\n", r"line 1: '\[1\]' is no JSON object"),
        ("", "holds no examples"),
        ("\ufeff \n", "holds no examples"),
        (b'{"passage": "caf\xe9"}\n', "line 1: not UTF-8"),
    ],
)
def test_a_broken_file_is_reported(tmp_path, text, message):
    root = write(tmp_path, "boolq", text=text)
    with pytest.raises(UserError, match=message):
        _load(root, "boolq")


def test_a_missing_file_is_reported_with_the_folder(tmp_path):
    root = write(tmp_path, "boolq")
    with pytest.raises(UserError, match=r"BoolQ.val\.jsonl: --data_dir must be the folder of SuperGLUE"):
        _load(root, "boolq", "validation")
    with pytest.raises(UserError, match=r"AX-g.AX-g\.jsonl"):
        _load(root, "axg")
    with pytest.raises(UserError, match="no split 'train': choose one of test"):
        _load(root, "axg", "train")


# --- the real files

REAL_ROWS = {
    ("super_glue", "boolq", "validation"): 3270,
    ("super_glue", "copa", "train"): 400,
    ("super_glue", "copa", "validation"): 100,
    ("super_glue", "copa", "test"): 500,
    ("super_glue", "multirc", "train"): 27243,
    ("super_glue", "multirc", "validation"): 4848,
    ("super_glue", "rte", "train"): 2490,
    ("super_glue", "rte", "validation"): 277,
    ("super_glue", "wic", "train"): 5428,
    ("super_glue", "wic", "validation"): 638,
    ("super_glue", "wic", "test"): 1400,
    ("super_glue", "wsc", "train"): 554,
    ("super_glue", "wsc", "validation"): 104,
    ("super_glue", "wsc", "test"): 146,
    ("super_glue", "wsc_referent", "train"): 259,
    ("super_glue", "wsc_referent", "validation"): 104,
    ("super_glue", "wsc_referent", "test"): 146,
    ("super_glue", "axb", "test"): 1104,
    ("super_glue", "axg", "test"): 356,
    ("fewglue_32", "boolq", "train"): 32,
    ("fewglue_32", "boolq", "validation"): 32,
    ("fewglue_32", "cb", "train"): 32,
    ("fewglue_32", "cb", "validation"): 32,
    ("fewglue_32", "record", "train"): 44,  # 32 queries
    ("fewglue_32", "record", "validation"): 32,
}


@pytest.mark.parametrize(("folder", "name", "split"), REAL_ROWS)
def test_real_files_have_the_published_rows(folder, name, split):
    needs(SHARED / folder)
    task = find_task(f"super_glue/{name}")
    examples = task.load(split, SHARED / folder)
    assert [example.index for example in examples] == list(range(REAL_ROWS[folder, name, split]))
    if split == "test" and name not in TEST_FILES:
        assert {example.answer for example in examples} == {None}
    elif name == "wsc_referent" and split == "train":
        assert {example.answer for example in examples} == {1}
    elif task.kind == "label":
        assert {example.answer for example in examples} == set(range(len(task.labels)))
    if task.choice_texts and split != "test":
        for example in examples:
            answers = [task.choice_answer(number, example) for number in range(len(example.choices))]
            assert answers.count(example.answer) == 1
    assert not any(re.search("</?b>|<br>", example.inputs) for example in examples if name == "multirc")


def test_real_counts_within_the_files():
    needs(SUPER_GLUE)
    validation = _load(SUPER_GLUE, "multirc", "validation")
    assert len({example.row_id[0] for example in validation}) == 83
    assert len({example.group for example in validation}) == len({e.row_id[1] for e in validation}) == 953
    assert len({example.row_id[2] for example in validation}) == 4848
    assert sum(example.answer for example in validation) == 2075
    train = _load(SUPER_GLUE, "multirc", "train")
    assert (len({e.row_id[0] for e in train}), len({e.group for e in train})) == (456, 5131)
    assert Counter(example.targets for example in _load(SUPER_GLUE, "axb")) == {
        "not_entailment": 644,
        "entailment": 460,
    }
    assert Counter(example.targets for example in _load(SUPER_GLUE, "axg")) == {
        "not_entailment": 178,
        "entailment": 178,
    }
    assert Counter(example.answer for example in _load(SUPER_GLUE, "wsc", "validation"))[0] == 66


def test_real_pairs_of_ax_g_differ_in_the_premise_alone():
    needs(SUPER_GLUE)
    groups: dict = {}
    for example in _load(SUPER_GLUE, "axg"):
        groups.setdefault(example.group, []).append(example)
    assert len(groups) == 178
    for first, second in groups.values():
        assert (first.texts[1], first.answer) == (second.texts[1], second.answer)
        words = [
            text.lower().replace(".", "").replace(",", "").split()
            for text in (first.texts[0], second.texts[0])
        ]
        different = {(a, b) for a, b in zip(*words, strict=True) if a != b}
        pronouns = {"he", "she", "his", "her", "him", "hers", "himself", "herself"}
        assert different
        assert all({a, b} <= pronouns for a, b in different)


# --- TFDS


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """TFDS with an empty folder of its own."""
    tensorflow_datasets = importlib.import_module("tensorflow_datasets")
    constants = importlib.import_module("tensorflow_datasets.core.constants")
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    return tensorflow_datasets


def _prepare(tfds, name: str, data_dir: pathlib.Path) -> None:
    """Lets TFDS read the files under `data_dir` with its own code and prepare them."""
    super_glue = importlib.import_module("tensorflow_datasets.text.super_glue")
    files = {"train": "train", "val": "validation", "test": "test"}
    if name in TEST_FILES:
        files = {TEST_FILES[name].removesuffix(".jsonl"): "test"}
    with lent_to_tfds(super_glue.SuperGlue):
        config = "wsc.fixed" if name.startswith("wsc") else name
        builder = tfds.builder(f"super_glue/{config}", file_format="array_record")
        builder._split_generators = lambda _: {
            split: builder._generate_examples(str(data_dir / FOLDERS[name] / f"{file}.jsonl"), split)
            for file, split in files.items()
        }
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


@pytest.mark.parametrize("name", [*ROWS, "wsc_referent"])
def test_tfds_gives_what_the_files_give(tmp_path, tfds, name):
    splits = ["test"] if name in TEST_FILES else ["train", "validation", "test"]
    root = write(tmp_path, name)
    if name not in TEST_FILES:
        write(tmp_path, name, "val.jsonl")
        hidden = json.loads(json.dumps(ROWS[name]))
        for row in hidden:
            row.pop("label", None)
            for query in row.get("qas", []):
                query.pop("answers")
            for question in row["passage"]["questions"] if name == "multirc" else []:
                for answer in question["answers"]:
                    answer.pop("label")
        write(tmp_path, name, "test.jsonl", hidden)
    _prepare(tfds, name, root)
    for split in splits:
        examples = _load(None, name, split)
        assert examples == _load(root, name, split)
        assert examples
