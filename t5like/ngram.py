"""Entry point: fit an n-gram model on text and measure it on held-out text, as the floor for a language model.

t5like ngram --data my_books/ --vocabulary t5/spiece.model
t5like ngram --data train.txt --validation_data test.txt --order 3 --workdir runs/ngram
"""

import dataclasses
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import t5like
from t5like import outcome
from t5like import workdir as workdirs
from t5like.config import parse_command_line, to_dict, to_json
from t5like.data.encoded import Encoded
from t5like.data.quarantine import Retried
from t5like.data.sources import EMBEDDED, shuffle_blocks
from t5like.data.sources.base import Source
from t5like.data.splits import open_splits
from t5like.data.vocabulary import BYTES, Vocabulary, find_vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.ngram_model import NgramModel
from t5like.optim.base import require_at_least_zero, require_positive
from t5like.report import write_report
from t5like.scores import Score
from t5like.whole_files import write_json

COMMAND = "t5like ngram"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ngram:
    """Which n-gram model, and of which text."""

    data: str = EMBEDDED
    """Text to fit on, as in `t5like pretrain`."""
    validation_data: str | None = None
    """Held-out text, as `data`; None takes the data's own validation split, or holds out one block in fifty."""
    text_field: str = "text"
    """The field that holds the text, where texts are in records."""
    vocabulary: str = BYTES
    """A SentencePiece model, the folder of a public model or of a workdir's vocabulary, or bytes."""
    vocabulary_extra_ids: int = 100
    """Sentinels added to a SentencePiece model; folders and bytes have their own."""
    order: int = 5
    """Tokens in the longest n-grams, one more than are looked back at."""
    max_train_tokens: int = 20_000_000
    """Documents are read until there are so many tokens to fit on; each takes some 150 bytes of memory at order 5."""
    max_eval_tokens: int = 1_000_000
    """Held-out documents are read until there are so many tokens to measure."""

    def __post_init__(self) -> None:
        require_positive(self, "max_train_tokens", "max_eval_tokens")
        require_at_least_zero(self, "vocabulary_extra_ids")
        if self.order < 2:
            raise UserError(
                f"order is {self.order}; give 2 or more, for single tokens are what it is compared with."
            )


class Documents(NamedTuple):
    """Texts as a model of them sees them."""

    sequences: list[np.ndarray]  # [any] int32 ids each, the end mark last
    num_tokens: int  # end marks included
    num_bytes: int  # of the texts in UTF-8, as they were before the vocabulary normalised them


def main(argv: list[str]) -> None:
    """Prints the scores; with --workdir, writes them and a report there too."""
    config, options = parse_command_line(argv, command=COMMAND, config_class=Ngram, default=Ngram())
    if options.prints_config:
        print(to_json(config))
        return
    measure(config, options.workdir)


def measure(config: Ngram, workdir: Path | None = None) -> list[Score]:
    """Returns the scores of the n-gram model, having printed them, and written them to the workdir if there is one.

    Raises:
      UserError: for input that cannot work; nothing has been written then.
    """
    started = time.time()
    if workdir is not None:
        workdirs.find_resume_step(workdir, config)  # refuses a folder that is not this config's own
    vocabulary = find_vocabulary(config.vocabulary, extra_ids=config.vocabulary_extra_ids)
    text = open_splits(config.data, validation_data=config.validation_data, text_field=config.text_field)
    fitted = read_documents(text.train[0], vocabulary, max_tokens=config.max_train_tokens)
    measured = read_documents(text.held_out[0], vocabulary, max_tokens=config.max_eval_tokens)
    scores = score(fitted, measured, order=config.order, num_tokens=vocabulary.num_tokens)
    print(
        f"{config.order}-gram model of {fitted.num_tokens:,} tokens, measured on {measured.num_tokens:,} held-out tokens "
        f"of {measured.num_bytes:,} bytes"
    )
    outcome.print_scores(scores)
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", to_dict(config))
        outcome.write_outcome(workdir, 0, scores, [])
        facts = {
            "t5like": t5like.__version__,
            "python": platform.python_version(),
            "training_tokens": fitted.num_tokens,
            "held_out_tokens": measured.num_tokens,
            "held_out_bytes": measured.num_bytes,
            "total_seconds": time.time() - started,
        }
        write_json(workdir / "run.json", facts)
        print(f"report: {write_report(workdir)}")
    return scores


def read_documents(source: Source, vocabulary: Vocabulary, *, max_tokens: int) -> Documents:
    """Returns documents from all over a source until they have so many tokens; those without any are left out.

    Raises:
      UserError: the source holds no text.
      DamagedDataError: it cannot be read.
    """
    sequences: list[np.ndarray] = []
    num_tokens = num_bytes = 0
    for text, ids in _encoded_texts(shuffle_blocks(source, seed=0), vocabulary):
        if len(ids):
            sequences.append(np.append(ids, np.int32(vocabulary.eos_id)))
            num_tokens += len(ids) + 1
            num_bytes += len(text.encode())
        if num_tokens >= max_tokens:
            break
    if not sequences:
        raise UserError(f"The data {source.location} hold no text to count; name others.")
    return Documents(sequences, num_tokens, num_bytes)


def _encoded_texts(source: Source, vocabulary: Vocabulary) -> Iterator[tuple[str, np.ndarray]]:
    texts, encoded = Retried(source), Retried(Encoded(source, vocabulary))
    for block in range(source.num_blocks):
        yield from zip(texts.read(block), encoded.read(block), strict=True)


def score(fitted: Documents, measured: Documents, *, order: int, num_tokens: int) -> list[Score]:
    """Returns what an n-gram model gives held-out text beside order 1, and that beside the uniform distribution.

    Bits per byte compare across vocabularies, as long as these lose nothing of the text.

    Args:
      num_tokens: ids there are.
    """
    of_order = {}
    for size in (1, order):
        model = NgramModel.fit(fitted.sequences, num_tokens=num_tokens, order=size)
        of_order[size] = -float(model.log_probabilities(measured.sequences).mean())
    nats, unigram_nats = of_order[order], of_order[1]
    bits_per_nat = 1 / math.log(2)
    tokens_per_byte = measured.num_tokens / measured.num_bytes

    def beside_unigram(name: str, value: float, unigram: float, unit: str) -> Score:
        return Score(
            name=f"held-out {name}",
            value=value,
            unit=unit,
            baseline=unigram,
            baseline_name="unigram",
            higher_is_better=False,
        )

    uniform = Score(
        name="held-out nats per token of the unigram",
        value=unigram_nats,
        unit="nats",
        baseline=math.log(num_tokens),
        baseline_name="uniform",
        higher_is_better=False,
    )
    per_byte = bits_per_nat * tokens_per_byte
    return [
        beside_unigram("nats per token", nats, unigram_nats, "nats"),
        beside_unigram("bits per token", nats * bits_per_nat, unigram_nats * bits_per_nat, "bits"),
        beside_unigram("bits per byte", nats * per_byte, unigram_nats * per_byte, "bits"),
        beside_unigram("perplexity per token", math.exp(nats), math.exp(unigram_nats), ""),
        uniform,
    ]


if __name__ == "__main__":
    from t5like import ngram as this_module  # so that configs name t5like.ngram, not __main__

    sys.exit(run_entry(this_module.main))
