"""The same texts as files of every kind."""

import bz2
import gzip
import json
import lzma
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from tensorflow_datasets.proto import tf_example_pb2

from t5like.data.sources.crc32c import crc32c
from t5like.data.sources.tfrecord import _masked


def unicode_texts(num_texts: int, seed: int = 0) -> list[str]:
    """Returns texts of up to 600 characters from all of Unicode, line ends, quotes and controls among them."""
    rng = np.random.default_rng(seed)
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    common = '\n\n\n\r\t"\\ \u2028\x00\x1f'
    texts = []
    for _ in range(num_texts):
        length = int(rng.integers(1, rng.choice([3, 40, 600])))
        bounds = [planes[plane] for plane in rng.choice(5, length, p=[0.6, 0.1, 0.1, 0.1, 0.1])]
        characters = [chr(rng.integers(*bound)) for bound in bounds]
        for index in np.flatnonzero(rng.random(length) < 0.1):
            characters[index] = common[rng.integers(len(common))]
        texts.append("".join(characters))
    return texts


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, compressed as the end of its name says."""
    compress: dict[str, Callable[[bytes], bytes]] = {
        ".gz": lambda content: gzip.compress(content, 1),
        ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compress.get(path.suffix, bytes)(content))


def write_jsonl(path: Path, texts: Sequence[str]) -> None:
    """Writes the texts in `text`, every other line as ASCII."""
    lines = [
        json.dumps({"id": number, "text": text}, ensure_ascii=bool(number % 2))
        for number, text in enumerate(texts)
    ]
    write_bytes(path, "".join(line + "\n" for line in lines).encode())


def example(text: str | bytes, text_field: str = "text") -> bytes:
    """Returns a tf.train.Example with the text, and a number."""
    record = tf_example_pb2.Example()
    content = text.encode() if isinstance(text, str) else text
    record.features.feature[text_field].bytes_list.value.append(content)
    record.features.feature["number"].int64_list.value.append(7)
    return record.SerializeToString(deterministic=True)  # the ids of tests hold it


def framed(record: bytes) -> bytes:
    """Returns a record of TFRecord."""
    length = struct.pack("<Q", len(record))
    checksums = [struct.pack("<I", _masked(crc32c(part))) for part in (length, record)]
    return length + checksums[0] + record + checksums[1]


def write_tfrecord(path: Path, texts: Sequence[str]) -> None:
    """Writes records of Examples."""
    write_bytes(path, b"".join(framed(example(text)) for text in texts))


def write_array_record(path: Path, texts: Sequence[str]) -> None:
    """Writes records of Examples."""
    _write_array_records(path, [example(text) for text in texts])


def _write_array_records(path: Path, records: Sequence[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def table(texts: Sequence[str], kind: pa.DataType | None = None) -> pa.Table:
    """Returns the texts in a column between two others."""
    numbers = pa.array(range(len(texts)), pa.int64())
    return pa.table({"id": numbers, "text": pa.array(texts, kind or pa.string()), "score": numbers})


def write_parquet(path: Path, texts: Sequence[str]) -> None:
    """Writes row groups of 70."""
    pq.write_table(table(texts), path, row_group_size=70, write_page_checksum=True, data_page_size=1000)


def write_arrow(path: Path, texts: Sequence[str]) -> None:
    """Writes the kind that streams, in batches of 33 rows."""
    with pa.ipc.new_stream(path, table([]).schema) as writer:
        writer.write_table(table(texts), 33)


def write_arrow_file(path: Path, texts: Sequence[str]) -> None:
    """Writes the kind with a footer."""
    with pa.ipc.new_file(path, table([]).schema) as writer:
        writer.write_table(table(texts), 33)


def write_dataset(folder: Path, texts: Sequence[str]) -> None:
    """Writes what `save_to_disk` of Hugging Face datasets does, in three files whose order their names do not have."""
    folder.mkdir(parents=True)
    names = ["data-00001-of-00003.arrow", "data-00002-of-00003.arrow", "data-00000-of-00003.arrow"]
    third = -(-len(texts) // 3)
    for number, name in enumerate(names):
        write_arrow(folder / name, texts[number * third : (number + 1) * third])
    (folder / "dataset_info.json").write_text(json.dumps({"description": "", "features": {}}, indent=2))
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0123456789abcdef",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True))


# By the name of the file: every kind that gives the texts back one for one.
WRITERS: dict[str, Callable[[Path, Sequence[str]], None]] = {
    "a.jsonl": write_jsonl,
    "a.json.gz": write_jsonl,
    "a.ndjson.zst": write_jsonl,
    "a.jsonl.bz2": write_jsonl,
    "a.jsonl.xz": write_jsonl,
    "a.parquet": write_parquet,
    "stream.arrow": write_arrow,
    "file.arrow": write_arrow_file,
    "dataset": write_dataset,
    "a.tfrecord-00000-of-00001": write_tfrecord,
    "a.tfrecords.gz": write_tfrecord,
    "a.array_record": write_array_record,
}


def write_damaged(path: Path, texts: Sequence[str], bad: Sequence[int]) -> None:
    """Writes a file of the kind that its name says, with records in it that are not what they should be."""
    values = [text.encode() for text in texts]
    name = path.name
    if "json" in name:
        lines = [json.dumps({"text": text}).encode() for text in texts]
        broken = [b'{"text": ', b'{"text": null}', b'{"text": "\xff"}', b"{}"]
        for index, number in enumerate(bad):
            lines[number] = broken[index % len(broken)]
        write_bytes(path, b"\n".join(lines))
        return
    if "record" in name:
        records = [example(value) for value in values]
        for index, number in enumerate(bad):
            records[number] = [example(b"\xff"), b"\xff\xff"][index % 2]
        if "array" in name:
            _write_array_records(path, records)
            return
        content = bytearray(b"".join(map(framed, records)))
        content[-5] ^= 1  # of the last record, which fails its checksum
        write_bytes(path, bytes(content))
        return
    for index, number in enumerate(bad):
        values[number] = [None, b"\xff"][index % 2]
    content = pa.table({"text": pa.array(values, pa.binary())})
    if "parquet" in name:
        pq.write_table(content, path, row_group_size=70)
    else:
        with pa.ipc.new_stream(path, content.schema) as writer:
            writer.write_table(content, 33)
