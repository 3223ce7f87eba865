"""The command `t5like ngram`: what it counts, what it says, and what it writes where."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from t5like.cli import dispatch
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.errors import UserError
from t5like.ngram import Ngram, measure, read_documents
from t5like.ngram_model import NgramModel
from tests.data.fakes import Numbers

FILES = {"config.json", "evaluation.json", "report.html", "run.json", "samples.json"}


@pytest.fixture
def config(tmp_path: Path) -> Ngram:
    """A model of two short texts, measured on a third; one of their letters takes two bytes."""
    texts = {"train/1.txt": "the cat sat", "train/2.txt": "the dog sat", "held_out.txt": "the cät sat"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    held_out = str(tmp_path / "held_out.txt")
    return Ngram(data=str(tmp_path / "train"), validation_data=held_out, order=3)


def test_the_scores_are_those_of_the_model_per_token_and_per_byte(
    config: Ngram, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = ByteVocabulary()
    marked = [
        np.append(vocabulary.encode(text), vocabulary.eos_id)
        for text in ("the cat sat", "the dog sat", "the cät sat")
    ]
    nats = {
        order: -NgramModel.fit(marked[:2], num_tokens=vocabulary.num_tokens, order=order)
        .log_probabilities(marked[2:])
        .sum()
        for order in (1, 3)
    }
    scores = {score.name: score for score in measure(config)}
    tokens, num_bytes = len(marked[2]), 12  # the end mark is a token and no byte
    assert tokens == 13
    expected = {
        "held-out nats per token": lambda total: total / tokens,
        "held-out bits per token": lambda total: total / tokens / math.log(2),
        "held-out bits per byte": lambda total: total / num_bytes / math.log(2),
        "held-out perplexity per token": lambda total: math.exp(total / tokens),
    }
    for name, of_total in expected.items():
        assert math.isclose(scores[name].value, of_total(nats[3]), rel_tol=1e-12)
        assert math.isclose(scores[name].baseline or 0, of_total(nats[1]), rel_tol=1e-12)
        assert scores[name].beats_baseline
    unigram = scores["held-out nats per token of the unigram"]
    assert math.isclose(unigram.value, nats[1] / tokens, rel_tol=1e-12)
    assert unigram.baseline == math.log(vocabulary.num_tokens)
    printed = capsys.readouterr().out
    assert "3-gram model of 24 tokens, measured on 13 held-out tokens of 12 bytes\n" in printed
    assert "held-out bits per byte: " in printed


@pytest.mark.parametrize("max_tokens", [1, 6, 7, 100, 10**6])
def test_documents_are_read_until_there_are_enough_tokens(max_tokens: int) -> None:
    source, vocabulary = Numbers([2, 0, 1, 3] * 5), ByteVocabulary()
    documents = read_documents(source, vocabulary, max_tokens=max_tokens)
    texts = [vocabulary.decode(ids) for ids in documents.sequences]
    assert len(set(texts)) == len(texts) <= 30
    assert all(ids[-1] == vocabulary.eos_id for ids in documents.sequences)
    assert documents.num_tokens == sum(map(len, documents.sequences))
    assert documents.num_bytes == sum(map(len, texts))
    without_last = documents.num_tokens - len(documents.sequences[-1])
    assert without_last < max_tokens
    assert documents.num_tokens >= max_tokens or len(texts) == 30


def test_a_workdir_holds_the_scores_and_a_report(config: Ngram, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    scores = measure(config, workdir)
    assert {path.name for path in workdir.iterdir()} == FILES
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert evaluation["rows"] == [dataclasses.asdict(score) for score in scores]
    facts = json.loads((workdir / "run.json").read_text())
    assert (facts["training_tokens"], facts["held_out_tokens"], facts["held_out_bytes"]) == (24, 13, 12)
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "N-gram model" in page
    assert "held-out bits per byte" in page
    assert "Not everything is here" not in page
    assert measure(config, workdir) == scores  # again, in the same folder
    with pytest.raises(UserError, match="belongs to another config: order was 3 and is now 4"):
        measure(dataclasses.replace(config, order=4), workdir)


def test_a_folder_of_other_files_is_left_alone(config: Ngram, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds files but no run"):
        measure(config, tmp_path / "train")
    assert {path.name for path in (tmp_path / "train").iterdir()} == {"1.txt", "2.txt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--order", "1"], "order is 1; give 2 or more"),
        (["--max_train_tokens", "0"], "max_train_tokens"),
        (["--data", "nowhere.txt"], "nowhere.txt"),
        (["--vocabulary", "nowhere.model"], "nowhere.model"),
        (["--n", "3"], "There is no field --n in this config"),
    ],
)
def test_what_cannot_work_is_said_and_nothing_written(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        dispatch(["ngram", "--workdir", str(tmp_path / "run"), *arguments])
    assert not (tmp_path / "run").exists()


def test_data_without_text_are_named() -> None:
    with pytest.raises(UserError, match="The data numbers hold no text"):
        read_documents(Numbers([0, 0]), ByteVocabulary(), max_tokens=5)


def test_held_out_text_is_missed_by_name_where_lines_are_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("All unhappy families are unhappy in their own way. " * 6000)
    with pytest.raises(UserError, match=f"{path} to be held out holds no text.*--validation_data"):
        dispatch(["ngram", "--data", str(path)])


def test_the_config_can_be_shown_without_running(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["ngram", "--print_config", "--order", "4"])
    assert json.loads(capsys.readouterr().out)["order"] == 4
