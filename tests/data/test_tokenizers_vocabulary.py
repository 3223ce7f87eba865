"""Added tokens: found in a text before anything else, as Transformers finds them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t5like.data.byte_level_bpe import ByteLevelBPEVocabulary
from t5like.data.vocabulary import (
    Vocabulary,
    load_public_vocabulary,
    load_vocabulary,
    save_public_vocabulary,
    save_vocabulary,
)
from t5like.data.wordpiece import WordPieceVocabulary

# Each with settings of its own; [new] is no special token and is looked for in normalised text.
ADDED = [
    {"content": "[new]", "special": False, "normalized": True},
    {"content": "<|left|>", "special": True, "lstrip": True},
    {"content": "<|right|>", "special": True, "rstrip": True},
    {"content": "word", "special": False, "single_word": True},
]
PARTS = [
    "[new]",
    "[NEW]",
    "<|left|>",
    " <|left|> ",
    "<|right|>",
    " <|right|> ",
    "word",
    "words",
    " ",
    "the",
    "[MASK]",
    "<mask>",
]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(
    request: pytest.FixtureRequest,
    small_wordpiece: WordPieceVocabulary,
    small_bpe: dict[str, ByteLevelBPEVocabulary],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A public folder with added tokens, named after its family."""
    folder: Path = tmp_path_factory.mktemp("public") / request.param
    vocabulary: Vocabulary = small_wordpiece if request.param == "bert" else small_bpe["roberta"]
    save_public_vocabulary(vocabulary, folder, request.param)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for token_id, token in enumerate(ADDED, start=vocabulary.num_tokens):
        flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False} | token
        config["added_tokens_decoder"][str(token_id)] = flags
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_added_tokens_make_the_vocabulary_larger(folder: Path, small_wordpiece: WordPieceVocabulary) -> None:
    vocabulary = load_public_vocabulary(folder, folder.name)
    ids = [vocabulary.encode(str(token["content"])).tolist() for token in ADDED]
    first = vocabulary.num_tokens - len(ADDED)
    assert ids == [[token] for token in range(first, vocabulary.num_tokens)]
    if folder.name == "bert":
        assert first == small_wordpiece.num_tokens


def test_they_survive_every_kind_of_folder(folder: Path, tmp_path: Path) -> None:
    vocabulary = load_public_vocabulary(folder, folder.name)
    save_vocabulary(vocabulary, tmp_path / "own")
    assert load_vocabulary(tmp_path / "own").sha256 == vocabulary.sha256
    save_public_vocabulary(vocabulary, tmp_path / "public", folder.name)
    assert load_public_vocabulary(tmp_path / "public", folder.name).sha256 == vocabulary.sha256
    (tmp_path / "public" / "tokenizer_config.json").unlink()  # they are in tokenizer.json too
    assert load_public_vocabulary(tmp_path / "public", folder.name).sha256 == vocabulary.sha256


def test_only_the_special_ones_are_taken_out_of_documents(folder: Path) -> None:
    vocabulary = load_public_vocabulary(folder, folder.name)
    new, left, *_ = range(vocabulary.num_tokens - len(ADDED), vocabulary.num_tokens)
    assert vocabulary.encode_documents(["[new]<|left|>[new]"])[0].tolist() == [new, new]
    assert vocabulary.encode("[new]<|left|>[new]").tolist() == [new, left, new]


@pytest.fixture(scope="module")
def public_tokenizer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip(
        "transformers", reason="Transformers is not installed: it is compared with"
    )
    transformers.logging.set_verbosity_error()
    again = tmp_path_factory.mktemp("again")
    save_public_vocabulary(load_public_vocabulary(folder, folder.name), again, folder.name)
    return transformers.AutoTokenizer.from_pretrained(again)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(PARTS), max_size=8))
def test_transformers_finds_the_same_in_a_text(folder: Path, public_tokenizer: Any, parts: list[str]) -> None:
    vocabulary, text = load_public_vocabulary(folder, folder.name), "".join(parts)
    assert public_tokenizer(text, add_special_tokens=False).input_ids == vocabulary.encode(text).tolist()
