"""Documents of ids, encoded as they are read."""

from collections.abc import Iterator

import numpy as np

from t5like.data.sources.base import Source
from t5like.data.vocabulary import Vocabulary
from t5like.errors import DamagedDataError, DamagedRecordError, UserError

# Texts encoded at a time: enough that the call costs nothing, and little to hold for each of many lanes.
_BATCH_CHARACTERS = 2**18


class Encoded:
    """The ids of each text of a source, in its blocks."""

    blank = np.zeros(0, np.int32)

    def __init__(self, source: Source, vocabulary: Vocabulary) -> None:
        self.num_blocks = source.num_blocks
        self._source, self._vocabulary = source, vocabulary

    def read(self, block: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yields the ids [num_tokens] int32 of each record of a block, from record `start` on.

        Raises:
          DamagedDataError: as the source raises it, after what comes before the damage; or a text is none that a
            vocabulary can encode.
        """
        for texts in self._batches(block, start):
            yield from self._encode(texts, block, start)
            start += len(texts)

    def _batches(self, block: int, start: int) -> Iterator[list[str]]:
        """Yields the texts some at a time; those before damage too, and then raises."""
        texts: list[str] = []
        num_characters = 0
        damage = None
        try:
            for text in self._source.read(block, start):
                texts.append(text)
                num_characters += len(text)
                if num_characters >= _BATCH_CHARACTERS:
                    yield texts
                    texts, num_characters = [], 0
        except DamagedDataError as error:
            damage = error
        if texts:
            yield texts
        if damage is not None:
            raise damage

    def _encode(self, texts: list[str], block: int, start: int) -> Iterator[np.ndarray]:
        try:
            encoded = self._vocabulary.encode_documents(texts)
        except UserError as error:
            for number, text in enumerate(texts):  # one by one, to find the one at fault
                try:
                    (ids,) = self._vocabulary.encode_documents([text])
                except UserError:
                    place = self._source.place(block, start + number)
                    raise DamagedRecordError(f"{place}: {error}") from error
                yield ids
            return
        yield from encoded
