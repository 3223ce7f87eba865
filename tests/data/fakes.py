"""Stand-ins from which every token can be told: numbered documents, and an objective that copies them."""

import dataclasses
import itertools

import numpy as np

from t5like.batch import SpecialTokens
from t5like.data.sources.base import Source
from t5like.errors import DamagedDataError


class Vocabulary:
    special_tokens = SpecialTokens(1, np.array([1000, 999], np.int32))


class Numbers(Source):
    """Blocks of texts that say where they are."""

    def __init__(self, sizes):
        self.location = "numbers"
        self.num_blocks = len(sizes)
        self.sizes = sizes
        self.num_opened = 0

    def read(self, block, start=0):
        self.num_opened += 1
        for record in range(start, self.sizes[block]):
            yield f"{block}.{record};"

    def place(self, block, record):
        return f"block {block}, record {record}"

    def fingerprint(self):
        return "f"

    def digest(self, file_digest):
        return "d"


class Documents:
    """Documents of the given numbers of tokens, every token with an id of its own from `first` on, some a block."""

    blank = np.zeros(0, np.int32)

    def __init__(self, lengths, *, per_block=2, first=1):
        ids = itertools.count(first)
        self.documents = [np.array([next(ids) for _ in range(length)], np.int32) for length in lengths]
        self.per_block = per_block
        self.num_blocks = -(-len(self.documents) // per_block)
        self.reads = []

    @property
    def tokens(self):
        return [int(token) for document in self.documents for token in document]

    def read(self, block, start=0):
        self.reads.append((block, start))
        yield from self.documents[block * self.per_block : (block + 1) * self.per_block][start:]


class Damaged(Documents):
    """One record cannot be read, and what follows it in its block, for good or for the first few attempts."""

    def __init__(self, lengths, *, block, record, attempts=10**9, kind=DamagedDataError, **arguments):
        super().__init__(lengths, **arguments)
        self.damage, self.attempts, self.kind = (block, record), attempts, kind

    def read(self, block, start=0):
        for number, ids in enumerate(super().read(block, start), start):
            if (block, number) == self.damage and self.attempts:
                self.attempts -= 1
                raise self.kind(f"a.txt, record {number}: torn")
            yield ids


@dataclasses.dataclass(frozen=True)
class Copy:
    """Keeps the tokens, cut to a length, and shows which random numbers it was given."""

    length: int
    joins_documents: bool = True
    stacks = "decoder"
    makes_pairs = False

    @property
    def lengths(self):
        return {"length": self.length}

    def __call__(self, documents, rng, vocabulary):
        assert vocabulary.special_tokens.eos_id == 1
        texts = [np.concatenate([*documents, []])] if self.joins_documents else documents
        chunks = [text[at : at + self.length] for text in texts for at in range(0, len(text), self.length)]
        rows = {
            "decoder_target_tokens": np.zeros((len(chunks), self.length), np.int32),
            "decoder_segment_ids": np.zeros((len(chunks), self.length), np.int32),
            "decoder_draws": rng.random((len(chunks), self.length)),
        }
        for row, chunk in enumerate(chunks):
            rows["decoder_target_tokens"][row, : len(chunk)] = chunk
            rows["decoder_segment_ids"][row, : len(chunk)] = 1
        return rows


def tokens_of(batch):
    """The tokens of a batch, row by row."""
    return [
        [int(token) for token in row[is_real > 0]]
        for row, is_real in zip(batch["decoder_target_tokens"], batch["decoder_segment_ids"], strict=True)
    ]
