"""Which row of a head is which label: told by the names that the head came with, never by their order.

labels of glue/mnli   entailment     neutral   contradiction
names of a head       CONTRADICTION  NEUTRAL   ENTAILMENT     rows of the labels  2 1 0
"""

import re
from collections.abc import Sequence

_MAX_NAMED = 12  # names that a message lists before it only counts

_SYNONYMS = {
    "not entailment": ("non entailment", "nonentailment"),
    "positive": ("pos",),
    "negative": ("neg",),
    "unacceptable": ("not acceptable",),
    "equivalent": ("paraphrase",),
    "not equivalent": ("non equivalent", "not paraphrase"),
    "not duplicate": ("non duplicate",),
    "true": ("yes",),
    "false": ("no",),
}
"""What else public classifiers call a label and mean the same, by the label in small letters with blanks."""


def head_rows(labels: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the row of a head that each label has, None where the names are not those of the labels, each once.

    Capitals do not count, and `_`, `-` and blanks are alike; see above for synonyms. What is spelt alike goes first.

    Args:
      labels: of the task, all different.
      names: of the rows of the head.
    """
    for spell in (str, _plain, _usual):
        spelt, wanted = [spell(name) for name in names], [spell(label) for label in labels]
        if len(set(wanted)) == len(wanted) and sorted(spelt) == sorted(wanted):
            return tuple(spelt.index(label) for label in wanted)
    return None


def are_numbers(names: Sequence[str]) -> bool:
    """Returns whether names only count: LABEL_0, LABEL_1, as of a head that nobody named, or 0, 1."""
    return all(re.fullmatch(r"(label)? ?\d+", _plain(name)) for name in names)


def listed(names: Sequence[str]) -> str:
    """Returns names as a message gives them, the first ones where they are many."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _usual(name: str) -> str:
    """Returns the label that a name is a synonym of, else the name."""
    plain = _plain(name)
    return next((label for label, others in _SYNONYMS.items() if plain in others), plain)
