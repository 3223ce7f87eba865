"""The content of compressed files, as a stream that ends in an error where the file is not whole.

What is damaged is told when the checksum behind it is reached: for gzip, at the end of the file.
"""

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import zstandard

from t5like.data.sources.files import File

# By the end of a name: what makes a decompressor of one member, with `decompress`, `eof` and `unused_data`.
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}
COMPRESSED = tuple(_DECOMPRESSORS)

# What comes of a piece of a file is held: of text, four times as much, and of repetitions, ten thousand times. So pieces
# are of a size of which not too much came.
_MIN_INPUT_BYTES, _MAX_INPUT_BYTES = 256, 64 * 1024
_BUFFER_BYTES = 256 * 1024


def open_stream(file: File) -> BinaryIO:
    """Returns the content of a file for reading from front to back, decompressed where its name says it is compressed.

    Raises:
      OSError: it cannot be opened, and in reading: it is truncated, or a checksum in it is not that of the content.
    """
    suffix = os.path.splitext(file.path)[1].lower()
    if suffix in COMPRESSED:
        return io.BufferedReader(_Decompressed(file.open(), _DECOMPRESSORS[suffix]), _BUFFER_BYTES)
    return file.open() if file.is_local else io.BufferedReader(file.open(), _BUFFER_BYTES)  # type: ignore[type-var]


class _Decompressed(io.RawIOBase):
    """The members of a compressed file, one after the other."""

    def __init__(self, compressed: BinaryIO, new_decompressor: Callable[[], Any]) -> None:
        self._compressed = compressed
        self._new_decompressor = new_decompressor
        self._member = new_decompressor()
        self._has_begun = False  # whether the member has been given any of the file
        self._content = memoryview(b"")
        self._input_bytes = _MIN_INPUT_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            content = self._next_content()
            if content is None:
                return 0
            self._content = memoryview(content)
            factor = 2 if len(content) < _BUFFER_BYTES else 0.5
            self._input_bytes = int(min(max(factor * self._input_bytes, _MIN_INPUT_BYTES), _MAX_INPUT_BYTES))
        count = min(len(buffer), len(self._content))
        buffer[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _next_content(self) -> bytes | None:
        """Returns more of the content, perhaps none of it yet, and None where the file ends."""
        compressed = b""
        if self._member.eof:
            compressed = self._member.unused_data
            self._member, self._has_begun = self._new_decompressor(), False
        compressed = compressed or self._compressed.read(self._input_bytes)
        if not compressed and self._has_begun:
            raise OSError("it cannot be decompressed: it is truncated")
        if not compressed:
            return None
        if not self._has_begun:
            compressed = compressed.lstrip(b"\0")  # padding, which tapes and xz put behind members
        self._has_begun = bool(compressed)
        try:
            return self._member.decompress(compressed) if compressed else b""
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise OSError(
                f"it cannot be decompressed: it is damaged, or not what its name says ({error})"
            ) from error

    def close(self) -> None:
        self._compressed.close()
        super().close()
