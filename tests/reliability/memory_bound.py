"""Reads a corpus of 2 GB through the input pipeline in a process that may hold 1 GB.

    python tests/reliability/memory_bound.py [--gigabytes 2] [--limit_gigabytes 1]

The corpus is one .jsonl file of made-up words with C4's law of lengths, written under a temporary folder and removed at
the end. The pipeline is that of T5: documents joined, span-corrupted, inputs 512, batches of 128, T5's vocabulary. It
runs until it is through the corpus once; the most memory that the process ever held is what the kernel says (VmHWM).

Last line: memory_bound peak_rss=... MB limit=... MB read=... MB tokens_per_second=...
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/benchmarks"))

import c4_like  # noqa: E402
import our_input  # noqa: E402

from t5like.data.example_ids import parse_id  # noqa: E402
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary  # noqa: E402


def write_corpus(path: pathlib.Path, num_bytes: int) -> None:
    """Writes lines of made-up words up to a size."""
    rng = np.random.default_rng(0)
    words = c4_like.random_words(20_000, rng)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < num_bytes:
            for length in np.maximum(rng.lognormal(5.28, 1.04, 1000), 1).astype(int):
                file.write('{"text": "' + " ".join(words[c4_like.zipf(length, rng)]) + '"}\n')


def peak_rss_bytes() -> int:
    """Returns the most memory that this process has held."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not say how much memory a process has held")


def read_through(path: pathlib.Path, vocabulary: pathlib.Path) -> None:
    """Reads the corpus once and prints the peak and the pace."""
    batches = our_input.our_batches(path, SentencePieceVocabulary.load(vocabulary))
    start, num_tokens, epochs = time.perf_counter(), 0, {0}
    while epochs == {0}:  # until some lane is through
        batch = next(batches)
        num_tokens += our_input.count_tokens(batch)
        epochs = {parse_id(example).epoch for example in batch["example_ids"]}
    print(peak_rss_bytes(), num_tokens / (time.perf_counter() - start))


def main() -> None:
    """Writes the corpus and reads it in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--limit_gigabytes", type=float, default=1.0)
    parser.add_argument("--vocabulary", type=pathlib.Path, default=c4_like.T5_MODEL, help="spiece.model")
    parser.add_argument("--corpus", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus is not None:
        return read_through(options.corpus, options.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "corpus.jsonl"
        write_corpus(corpus, int(options.gigabytes * 1e9))
        size = corpus.stat().st_size
        done = subprocess.run(
            [sys.executable, __file__, "--corpus", corpus, "--vocabulary", options.vocabulary],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    peak, pace = map(float, done.stdout.split())
    limit = options.limit_gigabytes * 1e9
    print(
        f"memory_bound peak_rss={peak / 1e6:.0f} MB limit={limit / 1e6:.0f} MB read={size / 1e6:.0f} MB "
        f"tokens_per_second={pace:.0f}"
    )
    if peak > limit:
        raise SystemExit("the pipeline held more than it may")


if __name__ == "__main__":
    main()
