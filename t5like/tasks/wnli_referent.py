"""WNLI as T5 answers it: a model that was trained on WSC writes what a pronoun stands for. To be evaluated only.

WNLI's second sentence is its first, or a part of it, with a noun in place of a pronoun. Which pronoun and which noun is
found by comparing the words; the label says whether the noun is what the pronoun stands for.

Source: T5's `wnli_simple` preprocessor, whose choices are kept.
"""

import dataclasses
import pathlib
import re

from t5like.tasks.base import Example, Task
from t5like.tasks.glue import WNLI
from t5like.tasks.metrics import ACCURACY
from t5like.tasks.referents import parse_referent

_PRONOUNS = frozenset(("he", "she", "they", "it", "her", "his", "their", "them", "him"))
_ARTICLES = ("a", "an", "the")
_ENDS = (".", ",", "?", "!")


def ask_for_referent(premise: str, hypothesis: str) -> tuple[str, str]:
    """Returns the premise with stars at the pronoun that the hypothesis replaces, and what it puts there.

        The fish ate the worm. It was tasty.   The worm was tasty.   ->   The fish ate the worm. *It* was tasty.   The worm

    Of the pronouns the one counts around which most words of the premise stand in the hypothesis too, of equals the
    first. Where the premise has none of them nothing is marked, and where no noun is found there it is empty: such a row is
    answered with not_entailment.
    """
    words = [word.lower().strip() for word in premise.split(" ")]
    places = [place for place, word in enumerate(words) if _without_end(word) in _PRONOUNS]
    if not places:
        return premise, ""
    hypothesis_words = _clean(hypothesis)
    pairs = {
        place: (_clean(" ".join(words[:place])), _clean(" ".join(words[place + 1 :]))) for place in places
    }
    kept = {place: _shared(*pair, hypothesis_words) for place, pair in pairs.items()}
    best = max(places, key=lambda place: sum(map(len, kept[place])))
    noun = _between(*kept[best], " ".join(hypothesis_words))
    return _starred(premise.split(" "), best), _as_written(noun, hypothesis)


def _clean(text: str) -> list[str]:
    """Returns the words in small letters, each without one mark at its end."""
    return [word for word in map(_without_end, text.strip().lower().split(" ")) if word]


def _without_end(word: str) -> str:
    return word[:-1] if word.endswith(_ENDS) else word


def _shared(before: list[str], after: list[str], hypothesis: list[str]) -> tuple[list[str], list[str]]:
    """Returns how much on both sides of a pronoun stands in the hypothesis in one piece, counted from the pronoun."""
    num_before = _num_shared(before[::-1], " ".join(hypothesis[::-1]))
    num_after = _num_shared(after, " ".join(hypothesis))
    return before[len(before) - num_before :], after[:num_after]


def _num_shared(words: list[str], text: str) -> int:
    """Returns the length of the longest beginning of the words that a text contains."""
    for length in range(len(words)):
        if " ".join(words[: length + 1]) not in text:
            return length
    return len(words)


def _between(before: list[str], after: list[str], hypothesis: str) -> str:
    """Returns what stands between the shared words, or else before those after it, or after those before it."""
    if not before and not after:
        return ""
    head, tail = ([re.escape(word) for word in words] for words in (before, after))
    for pattern in ([*head, "(.+)", *tail], ["^(.+)", *tail], [*head, "(.+)$"]):
        if found := re.search(" ".join(pattern), hypothesis):
            return found[1]
    return ""


def _as_written(noun: str, hypothesis: str) -> str:
    """Returns a noun with its capitals, from its last kind of article on, not possessive and without a mark at its end."""
    words = noun.split(" ")
    words = words[max((words.index(article) for article in _ARTICLES if article in words), default=0) :]
    pattern = " ".join(rf"{re.escape(word)}[.,?!]?" for word in words)
    found = re.search(pattern, hypothesis, re.IGNORECASE)
    return _without_end(found[0] if found else "").removesuffix("'s").removesuffix("'")


def _starred(words: list[str], place: int) -> str:
    word = words[place]
    bare = _without_end(word)
    starred = f"*{bare}*" if bare == word else f"*{bare}* {word[-1]}"
    return " ".join([*words[:place], starred, *words[place + 1 :]])


def _read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
    return [_asked(example) for example in WNLI.read(split, data_dir)]


def _asked(example: Example) -> Example:
    marked, noun = ask_for_referent(*example.texts)
    return dataclasses.replace(example, inputs=f"wsc: {marked}", targets=noun, texts=())


TASK = Task(
    name="glue/wnli_referent",
    labels=WNLI.labels,
    metrics=(ACCURACY,),
    splits=("validation", "test"),
    read=_read,
    parse=parse_referent,
)
