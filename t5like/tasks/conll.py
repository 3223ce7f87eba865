"""Files of tagged words in CoNLL layout: a word a line, its tag last, a blank line between sentences.

    EU      NNP  I-ORG
    rejects VBZ  O
    German  JJ   I-MISC
    call    NN   O

Columns are parted by tabs, or in a line without one by blanks; those between the first and the last are left alone.
Lines that begin with -DOCSTART- part documents. Tags are in one of two schemes, read alike and given back in the second:

    words   New York   , Berlin   Paris         I- goes on, and begins what has nothing to go on from
    IOB1    I-L I-L    O I-L      B-L           B- only where an entity touches the one before it
    IOB2    B-L I-L    O B-L      B-L           B- on every first word
"""

import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from t5like.errors import UserError
from t5like.objectives.tagging import OUTSIDE
from t5like.tasks.text_files import read_lines

_TAG = re.compile(r"O|[BI]-\S+")
_BLANKS = re.compile(" +")
_DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """Words with their tags in IOB2, one for each; `lines` are where they stand, from 1."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]


class Entity(NamedTuple):
    """The words start to end of a sentence, end not included, and what they are."""

    kind: str
    start: int
    end: int


def read_sentences(path: pathlib.Path) -> list[Sentence]:
    """Returns the sentences of a file, at least one.

    Raises:
      UserError: the file is missing, empty or broken; the message names file and line.
    """
    sentences: list[Sentence] = []
    rows: list[tuple[str, str, int]] = []
    for line, text in enumerate([*read_lines(path), ""], start=1):
        if text.strip() and not text.startswith(_DOCUMENT):
            rows.append((*_word_and_tag(text, f"{path}, line {line}"), line))
        elif rows:
            words, tags, lines = zip(*rows, strict=True)
            sentences.append(Sentence(words, to_iob2(tags), lines))
            rows = []
    if not sentences:
        raise UserError(f"{path} holds no words: put back what it held.")
    return sentences


def _word_and_tag(text: str, place: str) -> tuple[str, str]:
    columns = text.split("\t") if "\t" in text else _BLANKS.split(text.strip(" "))
    if len(columns) < 2:
        raise UserError(
            f"{place}: {text[:40]!r} is one column where a word and its tag belong: mend the line."
        )
    word, tag = columns[0], columns[-1]
    if not word or " " in word:
        raise UserError(f"{place}: {word!r} is no word: a line holds one, without blanks.")
    if not _TAG.fullmatch(tag):
        raise UserError(f"{place}: tag {tag!r} is none of O, B-KIND and I-KIND: only IOB1 and IOB2 are read.")
    return word, tag


def to_iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """Returns tags of IOB1 or IOB2 in IOB2, those of IOB2 as they are.

    I-L I-L O I-L B-L I-P   ->   B-L I-L O B-L B-L B-P
    """
    before = (OUTSIDE, *tags)
    return tuple(
        f"B-{tag[2:]}" if tag.startswith("I-") and previous[2:] != tag[2:] else tag
        for previous, tag in zip(before, tags, strict=False)
    )


def entities(tags: Sequence[str]) -> list[Entity]:
    """Returns the entities of tags in IOB2, in order; an I- with nothing to go on from is in none.

    B-L I-L O I-L B-P   ->   (L, 0, 2) (P, 4, 5)
    """
    found: list[Entity] = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append(Entity(tag[2:], place, place + 1))
        elif tag.startswith("I-") and found and (found[-1].kind, found[-1].end) == (tag[2:], place):
            found[-1] = found[-1]._replace(end=place + 1)
    return found


def tags_of_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Returns all tags of kinds of entities, in the order of the alphabet: O B-location I-location B-person I-person."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI"))
