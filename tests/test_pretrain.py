"""Which vocabulary a run is given and what it keeps of it, and that runs of every objective work."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from t5like import evaluation
from t5like import pretrain as pretrain_module
from t5like import workdir as workdirs
from t5like.checkpoint import checkpoint_steps
from t5like.config import from_dict
from t5like.data.vocabulary import Vocabulary, load_vocabulary, save_public_vocabulary
from t5like.data.wordpiece import WordPieceVocabulary
from t5like.errors import DamagedDataError, DivergenceError, UserError
from t5like.generate import Generate, generate
from t5like.ngram_model import NgramModel
from t5like.objectives.bart_denoising import BartDenoising
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.prefix_lm import PrefixLM
from t5like.objectives.text_to_text import TextToText
from t5like.objectives.ul2 import DENOISERS, UL2
from t5like.optim.adamw import AdamW
from t5like.optim.schedules import Constant
from t5like.placement import place
from t5like.pretrain import choose_vocabulary, final_scores, pretrain, read_text
from t5like.report.workdir import read_runs

# The vocabulary of a few words writes all mode tokens alike.
NAMELESS = tuple(dataclasses.replace(denoiser, mode=None) for denoiser in DENOISERS)


def test_a_run_on_bytes_keeps_them(small_pretrain: Any, tmp_path: Path) -> None:
    config = dataclasses.replace(small_pretrain, vocabulary="bytes", num_steps=2)
    pretrain(config, tmp_path / "run")
    trained = workdirs.load_workdir(tmp_path / "run")
    assert trained.vocabulary.kind == "bytes"
    assert trained.config.num_embeddings == 384
    pretrain(dataclasses.replace(config, num_steps=3), tmp_path / "run")
    assert workdirs.load_workdir(tmp_path / "run").step == 3
    objective = TextToText(inputs_length=12, targets_length=4)
    init = str(tmp_path / "run")
    assert len(list(generate(Generate(init=init, text=("abc <extra_id_0>",), objective=objective)))) == 1


def test_a_vocabulary_may_come_from_another_workdir(small_pretrain: Any, pretrained: Path) -> None:
    own = load_vocabulary(pretrained / "vocabulary")
    config = dataclasses.replace(small_pretrain, vocabulary=str(pretrained / "vocabulary"))
    assert choose_vocabulary(config, [], None).sha256 == own.sha256
    init = workdirs.load_workdir(pretrained)
    assert choose_vocabulary(config, [], init).sha256 == own.sha256
    with pytest.raises(UserError, match="vocabulary bytes does not match the checkpoint"):
        choose_vocabulary(dataclasses.replace(config, vocabulary="bytes"), [], init)


def test_a_run_ends_beside_single_tokens_and_n_grams(pretrained: Path) -> None:
    (run,) = read_runs(pretrained)
    unigram, ngram = run.evaluation[:2]
    assert unigram.value == ngram.value
    assert unigram.baseline_name == "unigram entropy of the same tokens"
    assert re.fullmatch(r"5-gram model of [\d,]+ training tokens", ngram.baseline_name or "")
    assert 0 < (ngram.baseline or 0) < math.log(vocabulary_of(pretrained).num_tokens)


def test_the_n_gram_model_has_seen_no_more_rows_than_the_run(
    small_pretrain: Any, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, text = vocabulary_of(pretrained), read_text(small_pretrain)
    rows = text.held_out_rows(small_pretrain.objective, vocabulary, seed=0, max_rows=8, max_damaged_blocks=0)
    arguments = {"seed": 0, "max_damaged_blocks": 0}
    training = text.training_rows(small_pretrain.objective, vocabulary, max_rows=20, **arguments)
    assert len(training) == 20
    everything = text.training_rows(small_pretrain.objective, vocabulary, max_rows=10**6, **arguments)
    assert 20 < len(everything) < 10**6

    seen: list[int] = []

    def count(sequences: list[np.ndarray], *, num_tokens: int) -> NgramModel:
        seen.append(len(sequences))
        return NgramModel([], num_tokens=num_tokens)  # of order 0, which is uniform

    monkeypatch.setattr(evaluation.NgramModel, "fit", count)
    for num_steps, limit in ((2, 2_000_000), (10**6, 200)):
        monkeypatch.setattr(pretrain_module, "MAX_NGRAM_TOKENS", limit)
        config = dataclasses.replace(small_pretrain, num_steps=num_steps)
        _, ngram = final_scores(config, text, vocabulary, {"nats_per_token": 1.0}, rows)
        assert math.isclose(ngram.baseline or 0, math.log(vocabulary.num_tokens))
    length = len(rows[0]["decoder_target_tokens"])
    assert seen == [2 * small_pretrain.batch_size, 200 // length]


def test_a_run_whose_data_are_gone_at_its_end_has_its_other_score(
    small_pretrain: Any, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").mkdir()
    for number in range(3):
        (tmp_path / "text" / f"{number}.txt").write_text("some text of a run " * 20)
    config = dataclasses.replace(small_pretrain, data=str(tmp_path / "text"))
    vocabulary, text = vocabulary_of(pretrained), read_text(config)
    rows = text.held_out_rows(config.objective, vocabulary, seed=0, max_rows=8, max_damaged_blocks=0)
    for file in (tmp_path / "text").iterdir():
        file.unlink()
    (unigram,) = final_scores(config, text, vocabulary, {"nats_per_token": 1.0}, rows)
    assert unigram.name == "held-out nats per token"
    assert "there is no n-gram model to compare with: " in capsys.readouterr().err


def test_a_vocabulary_is_trained_on_what_can_be_read_within_the_budget(
    small_pretrain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("t5like.data.quarantine.PAUSE_SECONDS", 0.0)
    lines = [json.dumps({"text": f"some text of a run, number {number}"}) for number in range(2000)]
    for name, damaged in (("first", 0), ("middle", 3), ("whole", None)):
        content = ['{"text' if number == damaged else line for number, line in enumerate(lines)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(content))
    held_out = str(tmp_path / "whole.jsonl")
    config = dataclasses.replace(
        small_pretrain, vocabulary=None, vocabulary_size=60, validation_data=held_out
    )
    for name in ("first", "middle"):
        damaged = dataclasses.replace(config, data=str(tmp_path / f"{name}.jsonl"))
        with pytest.raises(DamagedDataError, match=f"{name}.jsonl, line .: not JSON .* --max_damaged_blocks"):
            choose_vocabulary(damaged, read_text(damaged), None)
        damaged = dataclasses.replace(damaged, max_damaged_blocks=1)
        assert choose_vocabulary(damaged, read_text(damaged), None).num_tokens >= 60
        assert f"{name}.jsonl, line " in capsys.readouterr().err


def vocabulary_of(workdir: Path) -> Vocabulary:
    """Returns the vocabulary of a run."""
    return load_vocabulary(workdir / "vocabulary")


def test_span_corruption_needs_a_vocabulary_with_sentinels(small_pretrain: Any, tmp_path: Path) -> None:
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop")
    save_public_vocabulary(WordPieceVocabulary(pieces), tmp_path / "bert", "bert")
    config = dataclasses.replace(small_pretrain, vocabulary=str(tmp_path / "bert"))
    with pytest.raises(UserError, match="the vocabulary has 0 sentinels"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


BERT = {"num_decoder_layers": 0, "predicts_next_sentence": True, "pooler": "tanh"}
BART = {"positions": "learned", "num_positions": 26, "position_offset": 2}  # 24 tokens at most


@pytest.mark.parametrize(
    ("objective", "stacks"),
    [
        (CausalLM(length=24), {"num_encoder_layers": 0}),
        (PrefixLM(length=24, stacks="decoder"), {"num_encoder_layers": 0}),
        (MaskedLM(length=24, whole_word=True), {"num_decoder_layers": 0}),
        (MaskedLM(length=24, second_text="next_sentence"), BERT),
        (PrefixLM(length=24), {}),
        (BartDenoising(length=24), BART),
        (UL2(inputs_length=40, denoisers=NAMELESS), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_is_trained_by_any_objective(
    objective: Any, stacks: Any, small_pretrain: Any, tmp_path: Path
) -> None:
    model = dataclasses.replace(small_pretrain.model, **stacks)
    config = dataclasses.replace(small_pretrain, model=model, objective=objective, num_steps=2)
    pretrain(config, tmp_path / "run")
    assert workdirs.load_workdir(tmp_path / "run").step == 2
    assert from_dict(json.loads((tmp_path / "run" / "config.json").read_text())) == config
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert len(samples) == 8
    assert all(sample["inputs"] and sample["targets"] for sample in samples)


def test_packed_rows_train_where_documents_are_not_joined(small_pretrain: Any, tmp_path: Path) -> None:
    model = dataclasses.replace(small_pretrain.model, num_encoder_layers=0)
    config = dataclasses.replace(
        small_pretrain,
        model=model,
        objective=PrefixLM(length=24, stacks="decoder"),
        num_steps=2,
        packs_rows=True,
    )
    pretrain(config, tmp_path / "run")
    assert workdirs.load_workdir(tmp_path / "run").step == 2


@pytest.mark.parametrize(
    ("objective", "stacks", "says"),
    [
        (
            CausalLM(length=24),
            {},
            "CausalLM is for models with a decoder alone, and this one has an encoder and a",
        ),
        (
            PrefixLM(length=24),
            {"num_encoder_layers": 0},
            "with an encoder and a decoder, and this one has a decoder",
        ),
        (
            MaskedLM(length=24, second_text="sentence_order"),
            {"num_decoder_layers": 0},
            "makes pairs of texts",
        ),
        (MaskedLM(length=24), BERT, "predicts_next_sentence is True, but MaskedLM makes no pairs"),
        (
            MaskedLM(length=24, second_text="next_sentence"),
            {**BERT, "num_token_types": 1},
            "num_token_types is 1, which cannot tell them apart",
        ),
        (MaskedLM(length=24), {"num_decoder_layers": 0, "head": "none"}, "has the head none"),
    ],
)
def test_an_objective_and_a_model_that_do_not_fit_are_refused(
    objective: Any, stacks: Any, says: str, small_pretrain: Any, tmp_path: Path
) -> None:
    model = dataclasses.replace(small_pretrain.model, **stacks)
    config = dataclasses.replace(small_pretrain, model=model, objective=objective)
    with pytest.raises(UserError, match=says):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_numbers_are_not_finite_any_more_ends_before_they_are_saved(
    small_pretrain: Any, tmp_path: Path
) -> None:
    wild = dataclasses.replace(
        small_pretrain,
        optimizer=AdamW(schedule=Constant(peak=1e15)),
        checkpoint_every_steps=1,
        num_checkpoints_kept=9,
    )
    with pytest.raises(DivergenceError, match="Lower the learning rate"):
        pretrain(wild, tmp_path / "run")
    last = workdirs.load_workdir(tmp_path / "run")
    placement = place(last.config, wild.mesh, wild.rules, batch_size=wild.batch_size)
    for step in checkpoint_steps(tmp_path / "run"):
        params = dataclasses.replace(last, step=step).restore(placement.params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)), step
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") >= 1
