"""Summarisation: examples from tables, and ROUGE as T5 computes it."""

import json
import pathlib

import pytest
from rouge_score.rouge_scorer import RougeScorer

from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example, score
from t5like.tasks.summarisation import METRICS, rouge, summarisation_task
from t5like.tasks.tables import TableColumns

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
VECTORS = SHARED / "t5_eval_testdata"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="shared data not in this checkout: T5's evaluation vectors"
)

TARGETS = ("The cat sat . The dog ran .", "Rain fell on the town.", "Nobody came", "A . B")
PREDICTIONS = ("The dog ran . The cat sat .", "Rain falls on the old town", "", "A . B")


def _examples(*targets: str) -> list[Example]:
    return [
        Example(index=index, inputs="", targets=target, answer=target) for index, target in enumerate(targets)
    ]


def _write(path: pathlib.Path, *rows: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# --- examples


def test_worked_example(tmp_path):
    row = {"article": "The cat, which was old, sat.", "highlights": "The cat sat .\nIt was old .", "id": "7"}
    _write(tmp_path / "train.jsonl", row)
    _write(tmp_path / "val.jsonl", row)
    _write(tmp_path / "test.jsonl", {"article": "The dog ran."})
    task = find_task(f"summarisation:{tmp_path}")
    assert (task.kind, task.splits) == ("text", ("train", "validation", "test"))
    for split in ("train", "validation"):
        assert task.load(split) == [
            Example(
                index=0,
                inputs="summarize: The cat, which was old, sat.",
                targets="The cat sat .\nIt was old .",
                answer="The cat sat .\nIt was old .",
            )
        ]
    assert task.load("test") == [Example(index=0, inputs="summarize: The dog ran.", targets="<unk>")]


def test_columns_may_be_named(tmp_path):
    path = tmp_path / "notes.jsonl"
    _write(path, *({"note": f"Note {n}.", "title": f"Title {n}"} for n in range(20)))
    task = find_task(f"summarisation:{path}", TableColumns(text_columns="note", label_column="title"))
    assert (len(task.load("train")), len(task.load("validation"))) == (18, 2)
    assert all(e.answer.split()[1] == e.inputs.split()[-1][:-1] for e in task.load("train"))


def test_tables_that_cannot_work_are_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    _write(path, {"article": "a", "highlights": "b"}, {"article": "c", "highlights": ""})
    with pytest.raises(UserError, match=r"train\.jsonl, line 2: column 'highlights' is empty"):
        [summarisation_task(str(path)).load(split) for split in ("train", "validation")]
    with pytest.raises(UserError, match=r"line 1 has no column 'summary'"):
        summarisation_task(str(path), label_column="summary").load("train")
    with pytest.raises(
        UserError, match="takes one column of texts and another of summaries, not a, b, highl"
    ):
        find_task(f"summarisation:{path}", TableColumns(text_columns="a,b"))
    with pytest.raises(UserError, match="not article, article"):
        find_task(f"summarisation:{path}", TableColumns(label_column="article"))
    with pytest.raises(UserError, match="leave out --data_dir"):
        summarisation_task(str(path)).load("train", tmp_path)
    with pytest.raises(
        UserError, match=r"There is no .*trian\.jsonl; the nearest name there is 'train\.jsonl'"
    ):
        find_task(f"summarisation:{tmp_path / 'trian.jsonl'}")


# --- metrics


def test_rouge_by_hand():
    (example,) = _examples("the cat sat on the mat")
    answer = "the cat lay on a mat"
    # Unigrams: the, cat, on, mat of 6 and 6; bigrams: "the cat" of 5 and 5; the longest common subsequence is 4 words.
    assert rouge("rouge1").measure([example], [answer]) == pytest.approx(4 / 6)
    assert rouge("rouge2").measure([example], [answer]) == pytest.approx(1 / 5)
    assert rouge("rougeLsum").measure([example], [answer]) == pytest.approx(4 / 6)


def test_sentences_end_at_lines_and_at_dots_between_blanks():
    # Of two texts on one line each the longest common subsequence is one sentence; of lines, both are found.
    (example,) = _examples("The cat sat . The dog ran .")
    swapped = "The dog ran . The cat sat ."
    assert rouge("rougeL").measure([example], [swapped]) == pytest.approx(3 / 6)
    assert rouge("rougeLsum").measure([example], [swapped]) == pytest.approx(1.0)
    (lines,) = _examples("The cat sat.\nThe dog ran.")
    assert rouge("rougeLsum").measure([lines], [swapped]) == pytest.approx(1.0)
    (one_line,) = _examples("The cat sat. The dog ran.")
    assert rouge("rougeLsum").measure([one_line], ["The dog ran. The cat sat."]) == pytest.approx(3 / 6)


def test_words_are_not_stemmed():
    (example,) = _examples("falling")
    assert rouge("rouge1").measure([example], ["falls"]) == 0.0


def test_stored_predictions_score_as_rouge_score_scores_them():
    scorer = RougeScorer([metric.name for metric in METRICS])
    pairs = [
        (target.replace(" . ", " .\n"), prediction.replace(" . ", " .\n"))
        for target, prediction in zip(TARGETS, PREDICTIONS, strict=True)
    ]
    for metric in METRICS:
        expected = sum(scorer.score(*pair)[metric.name].fmeasure for pair in pairs) / len(pairs)
        assert metric.measure(_examples(*TARGETS), PREDICTIONS) == pytest.approx(expected, abs=1e-12)


def test_the_best_of_several_references_counts():
    example = Example(index=0, inputs="", targets="a b", answer="a b", accepted=("a b", "c d e"))
    for metric in METRICS:
        assert metric.measure([example], ["c d e"]) == pytest.approx(1.0)


def test_perfect_and_empty_answers(tmp_path):
    _write(tmp_path / "a.jsonl", {"article": "a", "highlights": "b"})
    task = summarisation_task(str(tmp_path / "a.jsonl"))
    targets = ("The cat sat .\nThe dog ran .", "Rain fell on the town.")
    assert score(task, _examples(*targets), list(targets)) == {
        metric.name: pytest.approx(100.0) for metric in METRICS
    }
    assert score(task, _examples(*targets), ["", ""]) == {metric.name: 0.0 for metric in METRICS}


@needs_vectors
def test_scores_are_those_that_t5_expects():
    targets, predictions = (
        (VECTORS / f"{side}_large.txt").read_text(encoding="utf-8").split("\n")[:1000]
        for side in ("target", "prediction")
    )
    expected = json.loads((VECTORS / "expected_bootstrap_results.json").read_text(encoding="utf-8"))
    for metric in METRICS:
        # T5's is the median of 1000 resampled means, whose own spread is half a percent; the test it comes from allows
        # one of a tenth.
        value = 100 * metric.measure(_examples(*targets), predictions)
        assert value == pytest.approx(expected[metric.name], abs=0.05)
