"""SQuAD: both forms of an example, scores of stored predictions, files, and answers read back from the real ones."""

import json
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5like.data.vocabulary import Vocabulary, find_vocabulary, load_public_vocabulary
from t5like.errors import UserError
from t5like.objectives.answer_spans import AnswerReader, AnswerSpans, Span
from t5like.tasks import find_task
from t5like.tasks.base import Example, Task, score
from t5like.tasks.question_answering import as_in_context, pad_punctuation, prompt
from t5like.tasks.squad_files import read_questions

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
REAL = SHARED / "squad_cs224n"
needs_squad = pytest.mark.skipif(
    not REAL.exists(), reason="shared data not in this checkout: real files of SQuAD"
)
V1, V2 = find_task("squad/v1"), find_task("squad/v2")

CONTEXT = "Ada (b. 1815) left."
LEFT = {"id": "q0", "question": "Who left?", "answers": [{"text": "Ada", "answer_start": 0}]}
BORN = {
    "id": "q1",
    "question": "Born  when?",
    "answers": [{"text": "(b. 1815)", "answer_start": 4}, {"text": "1815", "answer_start": 8}] * 2,
}
STAYED = {
    "id": "q2",
    "question": "Who stayed?",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [],
}
HIDDEN = {"id": "q3", "question": "Who?"}


def _content(*questions, context: str = CONTEXT):
    return {"data": [{"title": "Ada", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def _write(folder: pathlib.Path, *questions, name: str = "train-v1.1.json", content=None) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content or _content(*questions))
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def _example(*accepted: str, context: str = "") -> Example:
    answer = accepted[0] if accepted else ""
    return Example(
        index=0, inputs="", targets="", texts=("", context), answer=answer, accepted=accepted, starts=()
    )


# --- both forms


def test_examples_in_both_forms(tmp_path):
    left, born = V1.load("train", _write(tmp_path, LEFT, BORN))
    assert left == Example(
        index=0,
        inputs="question: Who left ? context: Ada ( b . 1815 ) left . ",
        targets="Ada",
        texts=("Who left?", CONTEXT),
        answer="Ada",
        accepted=("Ada",),
        starts=(0,),
        row_id="q0",
    )
    assert (born.texts, born.answer) == (("Born  when?", CONTEXT), "(b. 1815)")
    assert (born.accepted, born.starts) == (("(b. 1815)", "1815"), (4, 8))
    assert (born.index, born.row_id) == (1, "q1")
    assert born.inputs == "question: Born when ? context: Ada ( b . 1815 ) left . "
    assert born.targets == " ( b . 1815 ) "


def test_questions_without_an_answer(tmp_path):
    folder = _write(tmp_path, LEFT, STAYED, HIDDEN, name="dev-v2.0.json")
    left, stayed, hidden = V2.load("validation", folder)
    assert left.answer == "Ada"
    assert (stayed.answer, stayed.accepted, stayed.starts) == ("", (), ())
    assert stayed.targets == "unanswerable"
    assert (hidden.answer, hidden.targets) == (None, "<unk>")
    with pytest.raises(UserError, match="example 2 is not published"):
        score(V2, [left, stayed, hidden], ["", "", ""])


def test_whether_there_may_be_no_answer_is_known_of_the_task():
    assert not V1.may_have_no_answer
    assert V2.may_have_no_answer
    assert V1.kind == V2.kind == "span"


# As in T5's own tests.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '"This  is a string with "punctuation (1845-1986) ".',
            ' " This is a string with " punctuation ( 1845 - 1986 ) " . ',
        ),
        ('"Introducci\u00f3n (la v\u00eddeo)".', ' " Introducci\u00f3n ( la v\u00eddeo ) " . '),
        ("a_b\u2013c\u00a0d \n\te", "a _ b\u2013c\u00a0d e"),  # ASCII alone, of marks and of blanks
        ("", ""),
    ],
)
def test_punctuation_is_padded_as_in_t5(text, expected):
    assert pad_punctuation(text) == expected


def test_prompt_is_that_of_t5():
    assert prompt("A question?", "Some context.") == "question: A question ? context: Some context . "
    assert prompt(" A  question", "\nSome context") == "question: A question context: Some context"


@given(context=st.text("ab.('- \n\u00a0", max_size=20), data=st.data())
def test_a_padded_part_of_the_context_is_read_as_letters_of_the_context(context, data):
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(context))] * 2)))
    part, found = context[start:end], as_in_context(pad_punctuation(context[start:end]), context)
    is_whole = not re.search(
        r"\w\w", context[max(start - 1, 0) : start + 1] + " " + context[max(end - 1, 0) : end + 1]
    )
    if part.strip() and is_whole:
        assert found in context
        assert re.sub(r"\s", "", found) == re.sub(r"\s", "", part)
    assert as_in_context(part, context).strip() or not part.strip()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("( b . 1815 )", "(b. 1815)"),
        ("(b. 1815)", "(b. 1815)"),
        (" Ada ( b", "Ada (b"),
        ("ada", "ada"),  # not there in these letters
        ("Ad", "Ad"),  # a part of a word is not there either
        ("Ada . left", "Ada . left"),
        ("", ""),
        ("unanswerable", "unanswerable"),
    ],
)
def test_what_is_written_is_read_as_in_the_context(written, expected):
    assert as_in_context(written, CONTEXT) == expected
    assert V1.parsed(written, _example("x", context=CONTEXT)) == expected
    expected = "" if written == "unanswerable" else expected
    assert V2.parsed(written, _example("x", context=CONTEXT)) == expected


# --- stored predictions


@pytest.mark.parametrize(
    ("prediction", "accepted", "v1", "v2"),
    [
        ("the U.S.", ("us", "America"), (100.0, 100.0), (100.0, 100.0)),
        ("old mill", ("old water mill", "mill"), (0.0, 80.0), (0.0, 80.0)),
        ("", ("mill",), (0.0, 0.0), (0.0, 0.0)),
        ("the", ("a",), (100.0, 0.0), (100.0, 100.0)),  # no word is left on either side
        ("", (), None, (100.0, 100.0)),
        ("mill", (), None, (0.0, 0.0)),
    ],
)
def test_scores_of_stored_predictions_are_those_of_the_official_scripts(prediction, accepted, v1, v2):
    for task, expected in ((V1, v1), (V2, v2)):
        if expected is not None:
            scores = score(task, [_example(*accepted)], [prediction])
            assert scores == pytest.approx(dict(zip(("exact_match", "f1"), expected, strict=True)))


# --- files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "a 'data' is missing or no list"),
        ({"data": []}, "holds no questions"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "a 'context' is missing or no str"),
        (_content({"question": "Who?"}), "a 'id' is missing or no str"),
        (
            _content({"id": "q", "question": 1}),
            "question 'q' is not laid out as SQuAD is: a 'question' is missing",
        ),
        (_content({**LEFT, "answers": [{"text": "Ada"}]}), "question 'q0' is not laid out .* 'answer_start'"),
        (_content({**LEFT, "answers": "Ada"}), "'answers' is missing or no list"),
        (_content({**LEFT, "answers": []}), "question 'q0' has no answer and is not marked as impossible"),
        (
            _content({**LEFT, "answers": [{"text": "Ada", "answer_start": 3}]}),
            "'Ada' is not in the context at",
        ),
        (_content({**LEFT, "answers": [{"text": " ", "answer_start": 3}]}), "' ' is not in the context at"),
        (_content(LEFT, STAYED), "question 'q2' has no answer, but to squad/v1 every question has one"),
    ],
)
def test_broken_files_are_reported(tmp_path, content, message):
    folder = _write(tmp_path, content=content)
    with pytest.raises(UserError, match=message) as caught:
        V1.load("train", folder)
    assert str(folder / "train-v1.1.json") in str(caught.value)


@pytest.mark.parametrize("said", [2, 3, 4, 5, 6])
def test_a_start_that_is_off_by_a_letter_or_two_is_put_right(tmp_path, said):
    question = {**LEFT, "answers": [{"text": "(b. 1815)", "answer_start": said}]}
    (example,) = V1.load("train", _write(tmp_path, question))
    assert example.starts == (4,)


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"pass --data_dir with the folder that holds train-v1\.1\.json"):
        V1.load("train")
    with pytest.raises(
        UserError, match=r"There is no .*dev-v2\.0\.json: --data_dir must be .* task squad:FOLDER"
    ):
        V2.load("validation", tmp_path)
    with pytest.raises(UserError, match="has no split 'test'"):
        V1.load("test", tmp_path)


# --- folders of the user's


def test_a_folder_is_a_task(tmp_path):
    _write(tmp_path, LEFT, name="train.json")
    _write(tmp_path, LEFT, name="valid.json")
    task = find_task(f"squad:{tmp_path}")
    assert (task.splits, task.may_have_no_answer) == (("train", "validation"), False)
    assert [example.answer for example in task.load("train")] == ["Ada"]
    with pytest.raises(UserError, match="leave out --data_dir"):
        task.load("train", tmp_path)
    _write(tmp_path, STAYED, name="valid.json")
    task = find_task(f"squad:{tmp_path}")
    assert task.may_have_no_answer
    assert [metric.name for metric in task.metrics] == ["exact_match", "f1"]
    assert [example.answer for example in task.load("validation")] == [""]


def test_one_of_several_versions_is_named(tmp_path):
    for name in ("train-v1.1.json", "dev-v1.1.json", "dev-v2.0.json"):
        _write(tmp_path, LEFT if "1" in name else STAYED, name=name)
    with pytest.raises(UserError, match=f"write squad:{tmp_path}/v1.1 or squad:{tmp_path}/v2.0"):
        find_task(f"squad:{tmp_path}")
    assert find_task(f"squad:{tmp_path}/v1.1").splits == ("train", "validation")
    task = find_task(f"squad:{tmp_path}/v2.0")
    assert (task.splits, task.may_have_no_answer) == (("validation",), True)
    with pytest.raises(UserError, match=r"holds no train-v3\.json .* its versions are v1\.1, v2\.0"):
        find_task(f"squad:{tmp_path}/v3")


def test_folders_that_are_no_task(tmp_path):
    with pytest.raises(UserError, match=r"holds no files like train\.json"):
        find_task(f"squad:{tmp_path}")
    with pytest.raises(UserError, match="There is no folder"):
        find_task(f"squad:{tmp_path}/no/where")
    _write(tmp_path, LEFT, name="dev-x.json")
    _write(tmp_path, LEFT, name="valid-x.json")
    with pytest.raises(UserError, match=r"dev-x\.json and valid-x\.json, and which is the validation split"):
        find_task(f"squad:{tmp_path}/x")


# --- the real files

DERIVED = f"squad:{REAL}/v1.1-derived"


def _real(name: str, split: str) -> tuple[Task, list[Example]]:
    task = find_task(name)
    return task, task.load(split, REAL if name == "squad/v2" else None)


@needs_squad
def test_real_files_have_the_rows_that_are_published():
    _, dev = _real("squad/v2", "validation")
    assert len(dev) == 6078
    assert sum(bool(example.accepted) for example in dev) == 2910
    assert len({example.texts[1] for example in dev}) == 646
    assert [len(_real(DERIVED, split)[1]) for split in ("train", "validation")] == [2054, 856]
    assert len({example.row_id for example in dev}) == 6078
    assert read_questions(REAL / "dev-v2.0.json")[0].answers[0].start == 159


@needs_squad
@pytest.mark.parametrize(
    ("name", "split"), [("squad/v2", "validation"), (DERIVED, "train"), (DERIVED, "validation")]
)
def test_what_should_be_written_is_right(name, split):
    task, examples = _real(name, split)
    for example in examples:
        for answer, start in zip(example.accepted, example.starts, strict=True):
            assert example.texts[1][start:].startswith(answer)
    read = [task.parsed(example.targets, example) for example in examples]
    assert score(task, examples, read) == {"exact_match": 100.0, "f1": 100.0}


def _published(name: str) -> Vocabulary:
    if name == "t5":
        return find_vocabulary(str(SHARED / "vocab/t5/spiece.model"), extra_ids=100)
    return load_public_vocabulary(SHARED / "vocab" / name, name.split("-")[0])


@needs_squad
@pytest.mark.parametrize(
    ("vocabulary", "num_inexact"), [("bert-base-uncased", 2), ("roberta-base", 23), ("t5", 74)]
)
def test_every_right_answer_is_read_back(vocabulary, num_inexact):
    # A token that spells more than the answer takes it along: "Japan" in "Japanese", and of T5 and RoBERTa marks after a
    # word. Punctuation does not count, so all are right.
    task, examples = _real("squad/v2", "validation")
    features, windows = AnswerSpans()(
        [example.texts[0] for example in examples],
        [example.texts[1] for example in examples],
        [Span(example.answer, example.starts[0]) if example.starts else None for example in examples],
        _published(vocabulary),
        length=384,
    )
    logits = np.zeros((2, len(windows), 384), np.float32)
    for side in (0, 1):
        logits[side, np.arange(len(windows)), features["span_ends"][:, side]] = 1.0
    rows: list[list[int]] = [[] for _ in examples]
    for row, window in enumerate(windows):
        rows[window.question].append(row)
    read = [
        AnswerReader(max_answer_tokens=64)(
            example.texts[1],
            [windows[row] for row in of_example],
            list(logits[:, of_example].swapaxes(0, 1)),
            may_be_none=True,
        )
        for example, of_example in zip(examples, rows, strict=True)
    ]
    assert score(task, examples, read) == {"exact_match": 100.0, "f1": 100.0}
    assert sum(r != example.answer for r, example in zip(read, examples, strict=True)) <= num_inexact
