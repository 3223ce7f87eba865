"""What every kind of source is to its readers: texts in blocks that can be read apart from one another."""

import abc
import hashlib
from collections.abc import Callable, Iterator, Sequence


class Source(abc.ABC):
    """Texts in a fixed order, cut into blocks of neighbours.

    A block is what is shuffled, dealt to readers and retried: a few records of a file that has random access, a
    stretch of bytes of a plain text, a whole compressed file. Blocks are in the order of the files, by path.

    Attributes:
      location: what the user named.
      num_blocks: at least 1.
      blank: the text that stands for one that cannot be read.
    """

    location: str
    num_blocks: int
    blank = ""

    @abc.abstractmethod
    def read(self, block: int, start: int = 0) -> Iterator[str]:
        """Yields the texts of a block from its record number `start` on; it holds one record at a time, or a batch.

        Args:
          block: below `num_blocks`.
          start: records of the block to leave out; nothing is yielded where there are no more.

        Raises:
          DamagedDataError: the block cannot be read, or what is read is not text; the message names the file, and the
            line or record. Records before the damage have been yielded. DamagedRecordError: of one record alone; those
            that follow it can be read. UserError: a file is of another kind than its name says.
        """

    @abc.abstractmethod
    def place(self, block: int, record: int) -> str:
        """Returns where a record is, for messages and audits: `corpus/a.jsonl, line 7`; it may read to find out."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns a sha256 in hex of the names and sizes of what is read, and of how: cheap, without the content.

        A run goes on only with data of the same fingerprint. A path counts from the location on, so that a copy of a
        folder elsewhere has the same.
        """

    @abc.abstractmethod
    def digest(self, file_digest: Callable[[str], str]) -> str:
        """Returns a sha256 in hex of all content and of how it is read, which no change of it survives.

        Args:
          file_digest: from the path or URL of a file to the sha256 of its content.
        """


class Part(Source):
    """Some of the blocks of a source, as a source of its own."""

    def __init__(self, whole: Source, blocks: Sequence[int]) -> None:
        self.location = whole.location
        self.num_blocks = len(blocks)
        self._whole = whole
        self._blocks = blocks

    def read(self, block: int, start: int = 0) -> Iterator[str]:
        """Yields the texts of the whole's block."""
        return self._whole.read(self._blocks[block], start)

    def place(self, block: int, record: int) -> str:
        """Returns where a record is."""
        return self._whole.place(self._blocks[block], record)

    def fingerprint(self) -> str:
        """Returns that of the whole: which blocks are left out is decided by whoever asks."""
        return self._whole.fingerprint()

    def digest(self, file_digest: Callable[[str], str]) -> str:
        """Returns one of the whole's and of which blocks these are."""
        blocks = ",".join(map(str, self._blocks))
        return hashlib.sha256(f"{self._whole.digest(file_digest)} {blocks}".encode()).hexdigest()
