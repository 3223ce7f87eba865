"""Texts to train on, wherever they are, as a source of blocks.

A location is one of

    embedded                          the text that comes with Python, see ../standard_library.py
    corpus.txt  c4.jsonl.zst          a file
    ~/corpus  corpus/**/*.parquet     a folder, read recursively, or a glob of files
    gs://bucket/c4/*.tfrecord*        the same, wherever fsspec reaches
    tfds:lm1b  tfds:c4/en:3.0.1       a TFDS data set; downloaded and prepared first if need be

and a file is one of

    .jsonl .ndjson .json              an object a line: a document each
    .parquet  .arrow                  a table: a row is a document
    .tfrecord .array_record           records of tf.train.Example: a document each; also x.tfrecord-00000-of-00008
    anything else                     plain text: a document, or several of some 64 KiB

of which those of text and .jsonl, and .tfrecord, may be compressed: .gz, .zst, .bz2, .xz. Text is UTF-8. A folder that
`save_to_disk` of Hugging Face datasets wrote is read in the order it has there. Nothing is held in memory.
"""

import os
import re
from collections.abc import Callable, Sequence

from t5like.data.sources.array_record import ArrayRecord
from t5like.data.sources.base import Source
from t5like.data.sources.columns import Arrow, Parquet
from t5like.data.sources.compression import COMPRESSED
from t5like.data.sources.embedded import Embedded
from t5like.data.sources.file_source import FileSource, Format
from t5like.data.sources.files import File, find_files
from t5like.data.sources.hugging_face import dataset_files, splits_of, without_descriptions
from t5like.data.sources.jsonl import CompressedJsonLines, JsonLines
from t5like.data.sources.parts import sample_texts, shuffle_blocks, split_source
from t5like.data.sources.text import CompressedText, Text
from t5like.data.sources.tfds import Tfds
from t5like.data.sources.tfrecord import TFRecord
from t5like.data.standard_library import Split
from t5like.data.tfds_source import NoRandomAccessError, splits_on_disk
from t5like.errors import UserError

__all__ = [
    "EMBEDDED",
    "TFDS_PREFIX",
    "has_own_splits",
    "open_source",
    "sample_texts",
    "shuffle_blocks",
    "split_source",
]

EMBEDDED = "embedded"
TFDS_PREFIX = "tfds:"

_SHARD = re.compile(r"-\d+-of-\d+$")
_KIND_OF_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".array_record": "array_record",
    ".arrayrecord": "array_record",
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar")
_FORMATS: dict[tuple[str, bool], Callable[[Sequence[File], str], Format]] = {
    ("text", False): lambda files, text_field: Text(),
    ("text", True): lambda files, text_field: CompressedText(),
    ("jsonl", False): JsonLines,
    ("jsonl", True): lambda files, text_field: CompressedJsonLines(text_field),
    ("parquet", False): Parquet,
    ("arrow", False): Arrow,
    ("tfrecord", False): lambda files, text_field: TFRecord(text_field),
    ("tfrecord", True): lambda files, text_field: TFRecord(text_field),
    ("array_record", False): ArrayRecord,
}


def open_source(location: str, *, split: Split = "train", text_field: str = "text") -> Source:
    """Returns the texts at a location, of which at least one is no white space or damaged, in a fixed order: files by path.

    Args:
      location: see above.
      split: which part of what has parts, see `has_own_splits`; of what has none, there is only the whole.
      text_field: the field, column or feature that holds the text, where texts are in records.

    Raises:
      UserError: nothing is there, or it is not what can be read, or it has no such field; the message names the file.
      DamagedDataError: what says how many blocks a file has cannot be read.
    """
    if location == EMBEDDED:
        return Embedded(location, split)
    if location.startswith(TFDS_PREFIX):
        try:
            return Tfds(location, location.removeprefix(TFDS_PREFIX), split, text_field)
        except NoRandomAccessError as error:
            files = [file for path in error.paths for file in find_files(path)]
            if any(_kind_of(file)[0] != "tfrecord" for file in files):
                raise
    elif (saved := dataset_files(location, split)) is not None:
        files = saved
    else:
        files = without_descriptions(location, find_files(location))
    return _source_of_files(location, files, text_field)


def has_own_splits(location: str) -> bool:
    """Returns whether the data at a location say themselves which part is held out.

    Raises:
      UserError: a TFDS data set is not prepared on this machine, or the file that names the splits of a DatasetDict cannot
        be read.
    """
    if location == EMBEDDED:
        return True
    is_tfds = location.startswith(TFDS_PREFIX)
    splits = splits_on_disk(location.removeprefix(TFDS_PREFIX)) if is_tfds else splits_of(location)
    return {"train", "validation"} <= set(splits)


def _source_of_files(location: str, files: list[File], text_field: str) -> FileSource:
    kinds = [_kind_of(file) for file in files]
    formats = {
        kind: _FORMATS[kind]([file for file, k in zip(files, kinds, strict=True) if k == kind], text_field)
        for kind in dict.fromkeys(kinds)
    }
    return FileSource(location, [(file, formats[kind]) for file, kind in zip(files, kinds, strict=True)])


def _kind_of(file: File) -> tuple[str, bool]:
    """Returns the kind of a file, and whether it is compressed, by its name."""
    name = os.path.basename(file.path).lower()
    stem, suffix = os.path.splitext(name)
    is_compressed = suffix in COMPRESSED
    if is_compressed:
        name = stem
    suffix = os.path.splitext(_SHARD.sub("", name))[1]
    if suffix in _ARCHIVES:
        raise UserError(f"{file.name} is an archive, which is not read: unpack it, and name the folder.")
    kind = _KIND_OF_SUFFIX.get(suffix, "text"), is_compressed
    if kind not in _FORMATS:
        raise UserError(f"{file.name} is compressed, and a {suffix} file is not read so: decompress it.")
    return kind
