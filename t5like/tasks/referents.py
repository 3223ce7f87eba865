"""Pronouns and what they stand for: WSC's texts with their spans marked, and WSC and DPR as T5 asks for the referent."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from t5like.errors import UserError
from t5like.tasks.base import NO_CLASS, Answer, Example
from t5like.tasks.text_files import read_lines

_DETERMINERS = frozenset(
    (
        *("a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our"),
        *("some", "that", "the", "their", "these", "this", "those", "which", "whose", "your"),
    )
)
_DPR_FILE = "DPR/train.c.txt"


def mark_spans(row: Mapping[str, Any]) -> str:
    """Returns a text of WSC with * around the noun and # around the pronoun.

        Mark told Pete lies. He lied.   Pete 2, He 4   ->   Mark told * Pete * lies. # He # lied.

    A span is taken where it stands nearest to the word with its number, in capitals or not, and may be a part of the
    word: `Mark's` -> `* Mark *'s`. A noun that stands nowhere in one piece is left unmarked, as in T5.

    Source: T5's `wsc` preprocessor.
    """
    text = row["text"]
    marks = []
    for span, mark, inner in (("span1", "*", 0), ("span2", "#", 1)):  # a pronoun may be a part of the noun
        if (found := _find_span(text, row[f"{span}_text"], row[f"{span}_index"])) is not None:
            marks += [(found[0], inner, f"{mark} "), (found[1], -inner, f" {mark}")]
    for place, _, mark in sorted(marks, reverse=True):
        text = text[:place] + mark + text[place:]
    return text


def mark_pronoun(text: str, pronoun: str, index: int) -> str:
    """Returns a text with stars at the pronoun nearest to word `index`; what follows it in its word stands off.

        Good for him," he said.   him 2   ->   Good for *him* ," he said.

    Source: T5's `wsc_simple` preprocessor. It has two sentences by hand, this one and one whose number is one word off.
    """
    found = _find_span(text, pronoun, index)
    if found is None:
        return text
    start, end = found
    gap = " " if text[end : end + 1].strip() else ""
    return f"{text[:start]}*{pronoun}*{gap}{text[end:]}"


def referent_of(row: Mapping[str, Any]) -> str:
    """Returns the noun of a WSC row, written as in its text where that takes the case of a letter or a last full stop.

    Source: TFDS's `super_glue/wsc.fixed`, from which T5 was trained.
    """
    text, span = row["text"], row["span1_text"]
    words = text.split()
    if span in text or row["span1_index"] >= len(words):
        return span
    is_lower = words[row["span1_index"]][0].islower()
    first = span[0].lower() if is_lower else span[0].upper()
    fixed = (first + span[1:]).rstrip(".").replace("\n", " ")
    return fixed if fixed in text else span


def referent_example(index: int, row: Mapping[str, Any]) -> Example:
    """Returns a row of WSC as T5 asks it: the answer is whether the noun is what the pronoun stands for.

    Source: T5's `wsc_simple` preprocessor.
    """
    return Example(
        index=index,
        inputs=f"wsc: {mark_pronoun(row['text'], row['span2_text'], row['span2_index'])}",
        targets=referent_of(row),
        answer=row["label"],
        row_id=row["idx"],
    )


def parse_referent(text: str, example: Example) -> Answer:
    """Returns 1 where the text that was written names the example's target, else 0; see `names_noun`."""
    return names_noun(text, example.targets)


def names_noun(text: str, noun: str) -> Answer:
    """Returns 1 where the text that was written names the noun, else 0, and `NO_CLASS` where it names nothing.

    Capitals and determiners do not count. It names the noun where the words of one are all words of the other, and
    both or neither have an apostrophe:

        written 'the fuzzy bunny'   noun 'bunny'      -> 1
        written 'Bob'               noun "Bob's hat"  -> 0
        written 'the'               any               -> -1

    Source: T5's `wsc_simple` postprocessor.
    """
    written, named = _content(text), _content(noun)
    if not written:
        return NO_CLASS
    if not named or ("'" in " ".join(written)) != ("'" in " ".join(named)):
        return 0
    return int(set(written) <= set(named) or set(named) <= set(written))


def dpr_examples(data_dir: pathlib.Path, first_index: int) -> list[Example]:
    """Returns the Definite Pronoun Resolution data under `data_dir` in the same form; none where they are not there.

    The file DPR/train.c.txt has five lines an example: sentence, pronoun, two candidates, the right one, nothing. As in
    T5 the pronoun is where it first stands between a blank and a blank, full stop or comma.

    Raises:
      UserError: the file is broken.
    """
    path = data_dir / _DPR_FILE
    if not path.is_file():
        return []
    lines = [line.strip() for line in read_lines(path)]
    examples: list[Example] = []
    for start in range(0, len(lines), 5):
        if not any(lines[start:]):
            break
        sentence, pronoun, candidates, right, *after = [*lines[start : start + 5], "", "", "", ""][:5]
        if (
            not (sentence and pronoun)
            or right not in [c.strip() for c in candidates.split(",")]
            or any(after)
        ):
            raise UserError(
                f"{path}, line {start + 1}: five lines belong together, a sentence, a pronoun, two candidates with a "
                "comma between them, the right one and an empty line: mend them, or fetch the file again."
            )
        marked = re.sub(rf" ({re.escape(pronoun)})( |\.|,)", r" *\1*\2", sentence, count=1)
        examples.append(
            Example(index=first_index + len(examples), inputs=f"wsc: {marked}", targets=right, answer=1)
        )
    return examples


def _content(text: str) -> list[str]:
    return [word for word in text.lower().split() if word not in _DETERMINERS]


def _find_span(text: str, span: str, index: int) -> tuple[int, int] | None:
    """Returns where a span starts and ends in a text, nearest to the word with number `index`; None: nowhere."""
    for wanted in (span, span.rstrip(".")):
        blank = r"\s+"
        pattern = rf"(?<!\w){blank.join(map(re.escape, wanted.split()))}(?!\w)"
        places = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
        if places and wanted:
            return min(places, key=lambda place: abs(_word_number(text, place[0]) - index))
    return None


def _word_number(text: str, place: int) -> int:
    """Returns how many words end before a place."""
    before = text[:place]
    return len(before.split()) - (not before[-1:].isspace() and before != "")
