"""Raw text to span-corrupted batches for T5, against SeqIO, in alternating runs on the same cores.

    python tests/benchmarks/input_vs_seqio.py [--rounds 9] [--run_seconds 10] [--stored] [--num_cores 2]
                                               [--peer_python PYTHON]

The same on both sides: texts shaped like C4 (see c4_like.py; 262 MB, written once under ~/.cache/t5like/benchmarks and
in the page cache), T5's vocabulary of 32,000 pieces and 100 sentinels, documents joined and cut to chunks of 568
tokens, span corruption (0.15, spans of 3), inputs 512 and targets 114, shuffled, batches of 128 rows in numpy. Counted
are the tokens that are not padding, encoder and decoder together, in runs of at least 10 s after a second that uses up
what was made ahead.

The peer runs what T5 was trained with: `span_corruption` of the t5 package on TFRecords of tf.train.Example in 16
files, SeqIO's own shuffling and parallelism, EncDecFeatureConverter, prefetched. It packs, as T5's training does;
--unpacked_peer leaves that out, which is faster: the chunks of this objective fill a row already. With --stored our side
reads ids that a token store holds.

The peer's environment is made under ~/.cache/t5like/benchmarks if it is not there, as by

    pip install seqio tensorflow-text gin-config babel sacrebleu rouge-score pandas nltk scikit-learn editdistance
    pip install --no-deps t5

because t5 asks for nightly builds that would replace SeqIO. --peer_python uses one that is there.

Last line: input ratio=R ours=TOKENS/S peer=TOKENS/S spread=LOWEST-HIGHEST RATIO
"""

import argparse
import functools
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import c4_like
import numpy as np
from alternating import CACHE, Environment, alternate, argument_parser, serve

SEQIO = Environment(
    "seqio",
    (
        *("seqio==0.0.20", "tensorflow==2.21.0", "tensorflow-text==2.21.1", "tensorflow-datasets==4.9.10"),
        *(
            "gin-config",
            "babel",
            "sacrebleu",
            "rouge-score",
            "pandas",
            "nltk",
            "scikit-learn",
            "editdistance",
        ),
    ),
    bare_requirements=("t5==0.9.4",),
)
BATCH, INPUTS, TARGETS = 128, 512, 114
NUM_RECORD_FILES = 16
DRAIN_SECONDS = 1.0


def serve_batches(batches: Iterator[Any], count_tokens: Callable[[Any], int], run_seconds: float) -> None:
    """Serves runs of so many seconds; a unit is a token."""

    def run(seconds: float) -> int:
        num_tokens, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            num_tokens += count_tokens(next(batches))
        return num_tokens

    serve(lambda: run(run_seconds), before=lambda: run(DRAIN_SECONDS))


def run_ours(options: argparse.Namespace) -> None:
    """Serves our pipeline."""
    from our_input import count_tokens, our_batches, our_stored_batches

    from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary

    vocabulary = SentencePieceVocabulary.load(options.vocabulary)
    batches = (our_stored_batches if options.stored else our_batches)(corpus(options), vocabulary)
    serve_batches(batches, count_tokens, options.run_seconds)


def run_peer(options: argparse.Namespace) -> None:
    """Serves SeqIO's."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import seqio
    import tensorflow as tf
    from t5.data.preprocessors import span_corruption

    vocabulary = seqio.SentencePieceVocabulary(str(options.vocabulary), extra_ids=100)
    feature = seqio.Feature(vocabulary=vocabulary, add_eos=True)
    files = write_records(corpus(options)) / "corpus.tfrecord-*"
    seqio.TaskRegistry.add(
        "c4_like",
        source=seqio.TFExampleDataSource(
            {"train": str(files)}, {"text": tf.io.FixedLenFeature([], tf.string)}
        ),
        preprocessors=[
            functools.partial(seqio.preprocessors.rekey, key_map={"inputs": None, "targets": "text"}),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            span_corruption,
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"inputs": feature, "targets": feature},
    )
    dataset = seqio.get_dataset(
        "c4_like",
        {"inputs": INPUTS, "targets": TARGETS},
        seqio.EncDecFeatureConverter(pack=not options.unpacked_peer),
        shuffle=True,
        num_epochs=None,
        seed=0,
        batch_size=BATCH,
    )

    def count_tokens(batch: dict[str, Any]) -> int:  # nothing but padding has the id 0
        return sum(
            np.count_nonzero(batch[name]) for name in ("encoder_input_tokens", "decoder_target_tokens")
        )

    batches = dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    serve_batches(batches, count_tokens, options.run_seconds)


def corpus(options: argparse.Namespace) -> pathlib.Path:
    """Returns the texts, a .jsonl file, written if it is not there."""
    return c4_like.write_corpus(CACHE / f"data/c4_like-{options.num_copies}", options.num_copies)


def write_records(path: pathlib.Path) -> pathlib.Path:
    """Returns a folder of the same texts in TFRecord files, written whole or not at all if it is not there."""
    import tensorflow as tf

    folder = path.parent / "tfrecord"
    if folder.exists():
        return folder
    partial = path.parent / f"tfrecord.{os.getpid()}.partial"
    partial.mkdir()
    names = [f"corpus.tfrecord-{k:05d}-of-{NUM_RECORD_FILES:05d}" for k in range(NUM_RECORD_FILES)]
    writers = [tf.io.TFRecordWriter(str(partial / name)) for name in names]
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            text = tf.train.BytesList(value=[json.loads(line)["text"].encode()])
            features = tf.train.Features(feature={"text": tf.train.Feature(bytes_list=text)})
            record = tf.train.Example(features=features).SerializeToString()
            writers[number % NUM_RECORD_FILES].write(record)
    for writer in writers:
        writer.close()
    return pathlib.Path(shutil.move(partial, folder))


def main() -> None:
    """Alternates the two sides."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run_seconds", type=float, default=10.0)
    parser.add_argument(
        "--num_copies", type=int, default=128, help="how often the documents are in the corpus"
    )
    parser.add_argument("--vocabulary", type=pathlib.Path, default=c4_like.T5_MODEL, help="T5's spiece.model")
    parser.add_argument("--stored", action="store_true", help="our side reads a token store")
    parser.add_argument("--num_cores", type=int, default=2, help="cores that both sides run on")
    parser.add_argument("--unpacked_peer", action="store_true", help="SeqIO does not pack rows")
    options = parser.parse_args()
    if options.role:
        return (run_ours if options.role == "ours" else run_peer)(options)
    if not options.vocabulary.exists():
        raise SystemExit(
            f"{options.vocabulary} is not there; name T5's SentencePiece model with --vocabulary."
        )
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.num_cores])
    corpus(options)
    alternate("input", __file__, options, environment=SEQIO)


if __name__ == "__main__":
    main()
