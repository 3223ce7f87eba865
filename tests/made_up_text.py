"""Text and a task that nobody wrote, the same each time."""

import random
from pathlib import Path

_WORDS = 600


def write_text(folder: Path) -> None:
    """Writes a folder of 60 files of 200 words each."""
    rng = random.Random(0)
    words = _words(rng)
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(" ".join(rng.choices(words, k=200)))


def write_sst2(folder: Path, **num_examples: int) -> None:
    """Writes a task's files by the names of its splits, in a folder as GLUE has it, SST-2/."""
    rng = random.Random(1)
    words = _words(rng)
    (folder / "SST-2").mkdir(parents=True)
    for split, number in num_examples.items():
        rows = [f"{' '.join(rng.choices(words, k=5))}\t{index % 2}" for index in range(number)]
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")


def _words(rng: random.Random) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 6))) for _ in range(_WORDS)]
