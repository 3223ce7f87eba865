"""The text that comes with Python, in blocks."""

import hashlib
from collections.abc import Callable, Iterator

from t5like.data import standard_library
from t5like.data.sources.base import Source
from t5like.data.sources.block_sizes import records_per_block
from t5like.data.standard_library import Split


class Embedded(Source):
    """The documents of `standard_library`, some to a block, held in memory: there are a few megabytes."""

    def __init__(self, location: str, split: Split) -> None:
        """Collects the documents of a split.

        Raises:
          UserError: this Python came without the sources of its standard library.
        """
        self.location = location
        self._documents = standard_library.documents(split)
        self._block_records = records_per_block(len(self._documents))
        self.num_blocks = -(-len(self._documents) // self._block_records)

    def read(self, block: int, start: int = 0) -> Iterator[str]:
        """Yields the documents of a block."""
        first = block * self._block_records
        yield from self._documents[first + start : first + self._block_records]

    def place(self, block: int, record: int) -> str:
        """Returns the number of a document."""
        return f"{self.location}, document {block * self._block_records + record}"

    def fingerprint(self) -> str:
        """Returns that of the content: it differs between versions of Python, and it is small."""
        digest = hashlib.sha256(f"embedded block_records={self._block_records}\n".encode())
        for text in self._documents:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    def digest(self, file_digest: Callable[[str], str]) -> str:
        """Returns the fingerprint, which is of all content."""
        return self.fingerprint()
