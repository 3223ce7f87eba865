"""Which vocabulary a run is given, and what it keeps of it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from t5like import workdir as workdirs
from t5like.data.vocabulary import load_vocabulary, save_public_vocabulary
from t5like.data.wordpiece import WordPieceVocabulary
from t5like.errors import UserError
from t5like.generate import Generate, generate
from t5like.objectives.text_to_text import TextToText
from t5like.pretrain import choose_vocabulary, pretrain


def test_a_run_on_bytes_keeps_them(
    small_pretrain: Any, compiled_once: dict[str, str], tmp_path: Path
) -> None:
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


def test_span_corruption_needs_a_vocabulary_with_sentinels(small_pretrain: Any, tmp_path: Path) -> None:
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop")
    save_public_vocabulary(WordPieceVocabulary(pieces), tmp_path / "bert", "bert")
    config = dataclasses.replace(small_pretrain, vocabulary=str(tmp_path / "bert"))
    with pytest.raises(UserError, match="the vocabulary has 0 sentinels"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
