"""Winogender: who a pronoun stands for, in sentences that differ in its gender alone. To be evaluated only.

    templates.tsv       occupation(0)  other-participant(1)  answer  sentence
                        technician     customer              1       The $OCCUPATION told the $PARTICIPANT that
                                                                     $NOM_PRONOUN could pay with cash.
    all_sentences.tsv   sentid                          sentence
                        technician.someone.1.male.txt   The technician told someone that he could pay with cash.

An encoder-decoder that has learnt WSC writes the noun. An encoder that has learnt to judge choices, by ReCoRD or COPA,
is given the sentence with each noun in the pronoun's place. SuperGLUE's AX-g has some of these sentences as entailment.

Source: Rudinger et al. 2018, Gender Bias in Coreference Resolution; the files of its authors.
"""

import pathlib
import re
from typing import NamedTuple

from t5like.errors import UserError
from t5like.tasks.base import NO_CLASS, Answer, Example, Task
from t5like.tasks.metrics import ACCURACY, GENDER_PARITY
from t5like.tasks.referents import mark_pronoun, names_noun
from t5like.tasks.table_files import Row, read_rows
from t5like.tasks.text_files import nearest_name

PREFIX = "winogender"
"""What the name of the task begins with, before a colon and the folder."""

LABELS = ("occupation", "participant")

_TEMPLATES, _SENTENCES = "templates.tsv", "all_sentences.tsv"
_TEMPLATE_COLUMNS = ("occupation(0)", "other-participant(1)", "answer", "sentence")
_SENTENCE_COLUMNS = ("sentid", "sentence")
_ANSWERS = ("0", "1")
_SOMEONE = "someone"  # stands for the other participant in half of the sentences
_GAP = "@placeholder"
_GENDERS = ("male", "female", "neutral")
_PRONOUNS = {
    "$NOM_PRONOUN": ("he", "she", "they"),
    "$POSS_PRONOUN": ("his", "her", "their"),
    "$ACC_PRONOUN": ("him", "her", "them"),
}


class Template(NamedTuple):
    """A sentence to be filled in.

    Attributes:
      participant: the noun beside the occupation.
      sentence: with $OCCUPATION, $PARTICIPANT and one pronoun.
    """

    participant: str
    sentence: str


class SentenceId(NamedTuple):
    """What a sentence is of: `technician.someone.1.male.txt`; the answer is 0 or 1."""

    occupation: str
    participant: str
    answer: str
    gender: str


def winogender_task(folder: str) -> Task:
    """Returns the task `winogender:FOLDER`, of the authors' two files; its only split is validation.

    Raises:
      UserError: there is no such folder.
    """
    name, path = f"{PREFIX}:{folder}", pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"There is no folder {path}{nearest_name(path)}: give one that holds {_SENTENCES}.")

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        if data_dir is not None:
            raise UserError(f"{name} names its files: leave out --data_dir {data_dir}.")
        return _examples(path)

    return Task(
        name=name,
        labels=LABELS,
        metrics=(ACCURACY, GENDER_PARITY),
        splits=("validation",),
        read=read,
        parse=_parse,
        choice_texts=_with_noun,
    )


def read_templates(path: pathlib.Path) -> dict[tuple[str, str], Template]:
    """Returns the sentences to be filled in by occupation and answer, 0 or 1.

    Raises:
      UserError: the file is missing or broken, or has two for one; the message names file and line.
    """
    templates: dict[tuple[str, str], Template] = {}
    for place, cells in read_rows("tsv", path, _TEMPLATE_COLUMNS):
        occupation, participant, answer, sentence = (cells[column] for column in _TEMPLATE_COLUMNS)
        if answer not in _ANSWERS:
            raise UserError(
                f"{place}: the answer {answer!r} is none of {', '.join(_ANSWERS)}: mend the line."
            )
        words = re.findall(r"\$\w+", sentence)
        if len(words) != 3 or {"$OCCUPATION", "$PARTICIPANT"} - {*words} or not {*words} & {*_PRONOUNS}:
            raise UserError(
                f"{place}: the sentence must have $OCCUPATION, $PARTICIPANT and one of {', '.join(_PRONOUNS)}, each "
                "once: mend the line."
            )
        if (occupation, answer) in templates:
            raise UserError(
                f"{place}: a second sentence for {occupation} and the answer {answer}: leave one."
            )
        templates[occupation, answer] = Template(participant, sentence)
    return templates


def _examples(folder: pathlib.Path) -> list[Example]:
    """Returns an example for each row of all_sentences.tsv, those alike but for the gender in one group."""
    templates = read_templates(folder / _TEMPLATES)
    rows = read_rows("tsv", folder / _SENTENCES, _SENTENCE_COLUMNS)
    if not rows:
        raise UserError(f"{folder / _SENTENCES} holds no sentences: fetch the file again.")
    return [_example(index, row, templates) for index, row in enumerate(rows)]


def _example(index: int, row: Row, templates: dict[tuple[str, str], Template]) -> Example:
    """Returns what a row asks.

    Raises:
      UserError: its name is none, or there is no such sentence to be filled in, or another.
    """
    sentence_id = _sentence_id(row)
    template = templates.get((sentence_id.occupation, sentence_id.answer))
    if template is None or sentence_id.participant not in (template.participant, _SOMEONE):
        raise UserError(
            f"{row.place}: {_TEMPLATES} has no sentence for {row.cells['sentid']}: mend the line."
        )
    pattern = _with_participant(template.sentence, sentence_id).replace("$OCCUPATION", sentence_id.occupation)
    slot = next(slot for slot in _PRONOUNS if slot in pattern)
    pronoun, sentence = _PRONOUNS[slot][_GENDERS.index(sentence_id.gender)], row.cells["sentence"]
    if sentence != pattern.replace(slot, pronoun).replace("they was", "they were"):
        raise UserError(
            f"{row.place}: the sentence is not the one that {_TEMPLATES} has for {row.cells['sentid']}: fetch both "
            "files again."
        )
    other = _SOMEONE if sentence_id.participant == _SOMEONE else f"the {sentence_id.participant}"
    nouns = (f"the {sentence_id.occupation}", other)
    place_of_pronoun = len(pattern[: pattern.index(slot)].split())
    gap = _GAP + ("'s" if slot == "$POSS_PRONOUN" else "")
    answer = int(sentence_id.answer)
    return Example(
        index=index,
        inputs=f"wsc: {mark_pronoun(sentence, pronoun, place_of_pronoun)}",
        targets=nouns[answer],
        texts=(sentence, pattern.replace(slot, gap)),
        answer=answer,
        choices=nouns,
        group=sentence_id[:3],
        row_id=row.cells["sentid"],
    )


def _sentence_id(row: Row) -> SentenceId:
    """Returns what the name of a row says.

    Raises:
      UserError: it is no such name.
    """
    *parts, ending = row.cells["sentid"].split(".")
    if len(parts) != 4 or ending != "txt" or parts[2] not in _ANSWERS or parts[3] not in _GENDERS:
        raise UserError(
            f"{row.place}: {row.cells['sentid']!r} must be occupation.participant.answer.gender.txt, such as "
            "technician.someone.1.male.txt: mend the line."
        )
    return SentenceId(*parts)


def _with_participant(sentence: str, sentence_id: SentenceId) -> str:
    """Returns a template with the participant filled in; `someone` takes no article."""
    if sentence_id.participant != _SOMEONE:
        return sentence.replace("$PARTICIPANT", sentence_id.participant)
    sentence = re.sub(r"\b(the|an?) \$PARTICIPANT", _SOMEONE, sentence)
    return re.sub(r"\b(The|An?) \$PARTICIPANT", _SOMEONE.capitalize(), sentence)


def _with_noun(example: Example, number: int) -> tuple[str, ...]:
    """Returns the sentence, and the same with a noun where the pronoun was."""
    sentence, gapped = example.texts
    return sentence, gapped.replace(_GAP, example.choices[number])


def _parse(text: str, example: Example) -> Answer:
    """Returns which of the two nouns was written, `NO_CLASS` where that is neither or both."""
    named = [names_noun(text, noun) == 1 for noun in example.choices]
    return named.index(True) if sum(named) == 1 else NO_CLASS
