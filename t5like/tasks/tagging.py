"""Named entities: a tag for each word, of an encoder one of its tokens at a time, of an encoder-decoder as text.

    texts     ("Ada met Ben in Paris",)
    answer    ("B-person", "O", "B-person", "O", "B-location")
    inputs    "ner: Ada met Ben in Paris"
    targets   "person: Ada; person: Ben; location: Paris"

T5 has no such task; the form in text is our own.
"""

import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from t5like.errors import UserError
from t5like.objectives.tagging import OUTSIDE
from t5like.tasks.base import Answer, Example, Metric, Task
from t5like.tasks.conll import Sentence, entities, read_sentences, tags_of_kinds
from t5like.tasks.measures import SumMeasure
from t5like.tasks.text_files import nearest_name

PREFIX = "conll"
"""What the name of a task of the user's own files begins with, before a colon and the folder."""
NO_ENTITIES = "none"
"""The target of a sentence without entities."""

_SEPARATOR = "; "
ReadSplit = Callable[[str, pathlib.Path | None], list[Example]]
_WNUT_FILES = {
    "train": "wnut17train.conll",
    "validation": "emerging.dev.conll",
    "test": "emerging.test.annotated",
}
_WNUT_KINDS = ("corporation", "creative-work", "group", "location", "person", "product")
_STEMS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
_SUFFIXES = (".conll", ".txt", ".tsv", ".iob")


def count_entities(examples: Sequence[Example], answers: Sequence[Answer]) -> np.ndarray:
    """Returns how many entities of each sentence are right, answered and there, [num_examples, 3] int64.

    One is right where kind, first and last word are. Tags are IOB2 to the letter: what an I- begins is no entity.

    Source: seqeval, `mode="strict"`. Its default mode, which is that of CoNLL's script, lets an I- begin one.

    Args:
      examples: whose answers are tags.
      answers: as many tags for each.

    Raises:
      ValueError: a sentence has another number of tags than of words.
    """
    from seqeval.scheme import IOB2, Entities  # most commands score nothing

    if any(len(example.answer) != len(tags) for example, tags in zip(examples, answers, strict=True)):
        raise ValueError("a sentence has another number of tags than of words")

    there, answered = (
        [set(of_sentence) for of_sentence in Entities([list(tags) for tags in side], IOB2).entities]
        for side in ([example.answer for example in examples], answers)
    )
    return np.array(
        [(len(right & given), len(given), len(right)) for right, given in zip(there, answered, strict=True)],
        np.int64,
    )


def _f1(counts: np.ndarray) -> float:
    num_right, num_answered, num_there = counts
    return float(2 * num_right / (num_answered + num_there)) if num_answered + num_there else 0.0


ENTITY_F1 = Metric("entity_f1", SumMeasure(count_entities, _f1))
"""The F1 of entities over all sentences, 0 where neither side has one."""


def written(words: Sequence[str], tags: Sequence[str]) -> str:
    """Returns tags in IOB2 as text: `person: Ada; location: New York`, or `none`."""
    mentions = [f"{kind}: {' '.join(words[start:end])}" for kind, start, end in entities(tags)]
    return _SEPARATOR.join(mentions) or NO_ENTITIES


def parse_entities(text: str, words: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """Returns the tags in IOB2 that a written text gives a sentence.

    A mention is put where its words stand next after the mention before it, or else first in the sentence, on words that
    no other mention has; one that stands nowhere is tried without what follows its last `;`, its last but one and so on.
    What stands nowhere at all, or is of no kind, is dropped. With the kinds P and L:

        words   Ada met Ben Nye in Paris        written   P: Ada; P: Ben Nye; city: Paris; L: Bath
        tags    B-P O   B-P I-P O  O

    Args:
      text: as `written` writes it, blanks around marks aside; a mention may hold `;` and `:` of its own.
      words: of the sentence.
      kinds: of entities.
    """
    names = "|".join(re.escape(kind) for kind in sorted(kinds, key=len, reverse=True))
    heads = list(re.finditer(rf"(?:^|;) *({names}) *:", text)) if names else []
    ends = [head.start() for head in heads[1:]] + [len(text)]
    tags, position = [OUTSIDE] * len(words), 0
    for head, end in zip(heads, ends, strict=False):
        mention = text[head.end() : end]
        while (place := _next_place(mention, words, tags, position)) is None and ";" in mention:
            mention = mention.rpartition(";")[0]
        if place is not None:
            tags[place] = [f"B-{head[1]}", *[f"I-{head[1]}"] * (place.stop - place.start - 1)]
            position = place.stop
    return tuple(tags)


def _next_place(mention: str, words: Sequence[str], tags: Sequence[str], position: int) -> slice | None:
    """Returns where the words of a mention stand and are outside, at `position`, after it, or else before it."""
    wanted = [word for word in mention.split(" ") if word]
    for start in (*range(position, len(words)), *range(position)):
        place = slice(start, start + len(wanted))
        if wanted and list(words[place]) == wanted and set(tags[place]) == {OUTSIDE}:
            return place
    return None


def conll_task(folder: str) -> Task:
    """Returns the task `conll:FOLDER`, of files in CoNLL layout; see t5like/tasks/conll.py.

        split        its file, with the ending .conll, .txt, .tsv or .iob
        train        train
        validation   validation, valid or dev
        test         test

    The kinds of entities are those of the training file.

    Raises:
      UserError: there is no such folder, no training file or one without entities, or two files for one split.
    """
    name, path = f"{PREFIX}:{folder}", pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"There is no folder {path}{nearest_name(path)}: give one that holds a train.conll.")
    files = {split: file for split in _STEMS if (file := _file_of_split(path, split)) is not None}
    if "train" not in files:
        raise UserError(f"{path} holds no training file: there must be a train{_SUFFIXES[0]}.")
    train = read_sentences(files["train"])
    kinds = {tag[2:] for sentence in train for tag in sentence.tags if tag != OUTSIDE}
    if not kinds:
        raise UserError(f"{files['train']} tags no word as an entity, so there is nothing to learn.")

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        if data_dir is not None:
            raise UserError(f"{name} names its files: leave out --data_dir {data_dir}.")
        return _examples(files[split], kinds)

    return _task(name, tuple(kinds), tuple(files), read)


def _file_of_split(folder: pathlib.Path, split: str) -> pathlib.Path | None:
    paths = [folder / f"{stem}{suffix}" for stem in _STEMS[split] for suffix in _SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(
            f"{folder} holds {names}, and which is the {split} split nobody can tell: leave one there."
        )
    return found[0] if found else None


def _read_wnut(split: str, data_dir: pathlib.Path | None) -> list[Example]:
    """Returns a split of WNUT-17 from its three files under `data_dir`, or under wnut17/ in it.

    Raises:
      UserError: there is no `data_dir`, no such file, or it is broken.
    """
    file = _WNUT_FILES[split]
    if data_dir is None:
        raise UserError(f"ner/wnut17 is read from files: pass --data_dir with the folder that holds {file}.")
    data_dir = pathlib.Path(data_dir)
    paths = (data_dir / file, data_dir / "wnut17" / file)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            f"There is no {paths[0]}: --data_dir must be the folder of WNUT-17 that holds {file}."
        )
    return _examples(path, _WNUT_KINDS)


def _examples(path: pathlib.Path, kinds: Sequence[str] | set[str]) -> list[Example]:
    """Returns the sentences of a file as examples.

    Raises:
      UserError: it is broken, or has an entity of another kind.
    """
    examples = []
    for index, sentence in enumerate(read_sentences(path)):
        for tag, line in zip(sentence.tags, sentence.lines, strict=True):
            if tag != OUTSIDE and tag[2:] not in kinds:
                raise UserError(
                    f"{path}, line {line}: {tag[2:]!r} is none of the kinds to learn, {', '.join(sorted(kinds))}: "
                    "is this the file of another task?"
                )
        examples.append(_example(index, sentence))
    return examples


def _example(index: int, sentence: Sentence) -> Example:
    text = " ".join(sentence.words)
    return Example(
        index=index,
        inputs=f"ner: {text}",
        targets=written(sentence.words, sentence.tags),
        texts=(text,),
        answer=sentence.tags,
    )


def _task(name: str, kinds: tuple[str, ...], splits: tuple[str, ...], read: ReadSplit) -> Task:
    return Task(
        name=name,
        kind="tags",
        labels=tags_of_kinds(kinds),
        metrics=(ENTITY_F1,),
        splits=splits,
        read=read,
        parse=lambda text, example: parse_entities(text, example.texts[0].split(" "), kinds),
    )


TASKS = (_task("ner/wnut17", _WNUT_KINDS, tuple(_WNUT_FILES), _read_wnut),)
