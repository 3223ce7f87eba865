"""Small vocabularies of every kind, and what the real ones are compared with where they lie beside the checkout."""

import json
import string
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import tokenizers

from t5like.data.byte_level_bpe import BART, GPT2, ROBERTA, ByteLevelBPESettings, ByteLevelBPEVocabulary
from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.vocabulary import Vocabulary
from t5like.data.wordpiece import WordPieceSettings, WordPieceVocabulary

DOCUMENTS = [text for _, text in sorted(topics.items())][:12]


@pytest.fixture(scope="session")
def small_wordpiece() -> WordPieceVocabulary:
    """A cased vocabulary of some letters, words and word ends."""
    letters = string.ascii_letters + string.digits + "éüß漢字"
    words = ["the", "The", "of", "un", "able", "don", "12"]
    return WordPieceVocabulary(
        [
            *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
            *(letters + string.punctuation),
            *(f"##{letter}" for letter in letters),
            *words,
            *("##able", "##ing"),
        ],
        WordPieceSettings(lowercases=False),
    )


@pytest.fixture(scope="session")
def small_bpe() -> dict[str, ByteLevelBPEVocabulary]:
    """By family: vocabularies of all bytes and the merges of some text."""
    return {settings.layout: _train_bpe(settings) for settings in (GPT2, ROBERTA, BART)}


def _train_bpe(settings: ByteLevelBPESettings) -> ByteLevelBPEVocabulary:
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[] if settings.layout == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>"],
        show_progress=False,
    )
    trained.train_from_iterator(DOCUMENTS, trainer)
    model: dict[str, Any] = json.loads(trained.to_str())["model"]
    pieces = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    pieces[settings.mask_token or settings.end_token] = len(pieces)
    return ByteLevelBPEVocabulary(pieces, [(a, b) for a, b in model["merges"]], settings)


@pytest.fixture(scope="session")
def small_vocabularies(
    small_wordpiece: WordPieceVocabulary,
    small_bpe: dict[str, ByteLevelBPEVocabulary],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Vocabulary]:
    """By family: a vocabulary of every kind, and of every layout of marks."""
    path: Path = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    train_vocabulary(DOCUMENTS, size=400, path=path)
    return {
        "t5": SentencePieceVocabulary.load(path),
        "bert": small_wordpiece,
        **small_bpe,
        "byt5": ByteVocabulary(),
    }
