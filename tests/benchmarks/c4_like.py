"""Texts shaped like C4 to measure with: real ones where they lie beside the checkout, made-up ones elsewhere."""

import json
import os
import pathlib
import random
import shutil

import numpy as np

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
T5_MODEL = SHARED / "vocab/t5/spiece.model"

_NUM_WORDS = 20_000
_NUM_DOCUMENTS = 1000
# Of the words of a document in C4: mean and standard deviation of their logarithm.
_LOG_WORDS = (5.28, 1.04)


def documents() -> list[str]:
    """Returns some thousand documents: the public sample of C4, or random words with its law of lengths."""
    path = SHARED / "c4_en_minimal/c4-train.jsonl"
    if path.exists():
        return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    rng = np.random.default_rng(0)
    words = random_words(_NUM_WORDS, rng)
    lengths = np.maximum(rng.lognormal(*_LOG_WORDS, _NUM_DOCUMENTS), 1).astype(int)
    return [" ".join(words[zipf(length, rng)]) for length in lengths]


def random_words(num_words: int, rng: np.random.Generator) -> np.ndarray:
    """Returns words [num_words] of 2 to 9 small letters, as objects."""
    letters = [chr(code) for code in rng.integers(ord("a"), ord("z") + 1, 9 * num_words)]
    lengths = rng.integers(2, 10, num_words)
    return np.array(["".join(letters[9 * k : 9 * k + length]) for k, length in enumerate(lengths)], object)


def zipf(num: int, rng: np.random.Generator) -> np.ndarray:
    """Returns ranks [num] of words, rank r drawn about in proportion to 1 / r."""
    return (_NUM_WORDS ** rng.random(num)).astype(np.int64) - 1


def write_corpus(folder: pathlib.Path, num_copies: int) -> pathlib.Path:
    """Returns corpus.jsonl in a folder, written whole or not at all if it is not there.

    It holds the documents `num_copies` times, as they are and then with their words in other orders, so that lengths
    and words are those of C4 and hardly any stretch of text comes twice.
    """
    path = folder / "corpus.jsonl"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"corpus.{os.getpid()}.partial"
    with partial.open("w", encoding="utf-8") as file:
        for copy in range(num_copies):
            order = random.Random(copy)
            for text in documents():
                words = text.split(" ")
                if copy:
                    order.shuffle(words)
                file.write(json.dumps({"text": " ".join(words)}, ensure_ascii=False) + "\n")
    return pathlib.Path(shutil.move(partial, path))
