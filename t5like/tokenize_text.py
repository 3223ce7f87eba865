"""Entry point: keep the ids of a pretraining run's text in a token store, so that the run need not make them.

t5like tokenize configs/books_cpu.py --data my_books/ --vocabulary t5/spiece.model --token_store tokens/
t5like pretrain configs/books_cpu.py --data my_books/ --vocabulary t5/spiece.model --token_store tokens/ --workdir runs/books

It may be stopped at any time and goes on where it was; a run reads what is there already.
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

from t5like.config import load_config_file, parse_command_line, to_json
from t5like.data.sources.base import Source
from t5like.data.token_parts import PartSize
from t5like.data.token_store import TokenStore, build_store, count_parts
from t5like.data.vocabulary import Vocabulary
from t5like.entry import run_entry
from t5like.errors import UserError
from t5like.optim.base import require_positive
from t5like.pretrain import Pretrain, choose_vocabulary, read_text
from t5like.progress import Progress
from t5like.trained_model import load_model

COMMAND = "t5like tokenize"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenize(Pretrain):
    """The run whose text is tokenised, and how."""

    num_processes: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    """Processes that tokenise; as many as there are cores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "num_processes")


def main(argv: list[str]) -> None:
    """Fills the token store with the text of the run that the command line says."""
    default = None
    if argv and not argv[0].startswith("-"):
        run = load_config_file(Path(argv[0]), Pretrain)
        # Shallow: the fields are frozen.
        default = Tokenize(**{field.name: getattr(run, field.name) for field in dataclasses.fields(Pretrain)})
        argv = argv[1:]
    config, options = parse_command_line(
        argv,
        command=COMMAND,
        config_class=Tokenize,
        default=default,
        has_workdir=False,
        example="--token_store runs/store",
    )
    if options.prints_config:
        print(to_json(config))
        return
    tokenize(config)


def tokenize(config: Tokenize) -> list[TokenStore]:
    """Returns the stores of what the run trains on, one a component of its mixture, whole but for damaged data.

    Raises:
      UserError: for input that cannot work; nothing has been written then. Or the store cannot be written, or the text
        changed.
    """
    if config.token_store is None:
        raise UserError(f"{COMMAND} needs --token_store, the folder to keep the ids in.")
    text = read_text(config)
    vocabulary = choose_vocabulary(config, text, load_model(config.init) if config.init else None)
    root = Path(config.token_store).expanduser()
    return [_tokenize(root, source, vocabulary, config.num_processes) for source in text.train]


def _tokenize(root: Path, source: Source, vocabulary: Vocabulary, num_processes: int) -> TokenStore:
    started = time.monotonic()
    with Progress(
        count_parts(source.num_blocks), description=f"tokenising {source.location}, parts"
    ) as progress:

        def show(num_parts: int, made: PartSize) -> None:
            rate = made.num_ids / (time.monotonic() - started)
            progress.update(num_parts, {"tokens_per_second": rate} if rate else {})

        store = build_store(
            root, source, vocabulary, num_processes=num_processes, note=progress.note, progress=show
        )
    num_records, num_ids, num_bytes = store.size
    print(
        f"{store.folder}: {num_records:,} documents, {num_ids:,} tokens, "
        f"{store.num_parts_stored:,} of {store.num_parts:,} parts, {num_bytes:,} bytes, "
        f"{time.monotonic() - started:.1f} s"
    )
    return store


if __name__ == "__main__":
    from t5like import tokenize_text as this_module  # so that configs name t5like.tokenize_text, not __main__

    sys.exit(run_entry(this_module.main))
