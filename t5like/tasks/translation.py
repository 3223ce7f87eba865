"""Translation, T5's way, from parallel text: line n of a file in one language is line n of the other's.

    translation/multi30k_en_de --data_dir multi30k      train.en train.de, val.*, test_2016_flickr.*
    translation:en-de:FOLDER                            any folder, see `splits_of_folder`

An encoder-decoder reads `translate English to German: A man sleeps.` and writes the line of the other file. BLEU and
chrF are sacreBLEU's; `bleu` with tokenizer "intl" is what T5 reported.
"""

import dataclasses
import difflib
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from t5like.errors import UserError
from t5like.tasks.base import Answer, Example, Metric, Task
from t5like.tasks.measures import CountedMeasure, OfCounts
from t5like.tasks.text_files import nearest_name, read_lines

BleuTokenizer = Literal["13a", "intl", "char", "none"]

PREFIX = "translation"

# English names by ISO 639-1, as T5's prompts have them; a language that is not here goes by its code.
LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "cy": "Welsh",
    "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French", "ga": "Irish", "gl": "Galician",
    "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "ko": "Korean", "lt": "Lithuanian",
    "lv": "Latvian", "mk": "Macedonian", "mt": "Maltese", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian",
    "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

_VALIDATION_STEMS = ("validation", "valid", "val", "dev")


@dataclasses.dataclass(frozen=True)
class SacreBleuMeasure(CountedMeasure):
    """A score of sacreBLEU as a fraction: of the corpus, of which each example adds its n-grams.

    Attributes:
      kind: which.
      tokenizer: of BLEU, how sacreBLEU cuts words; chrF has none.
    """

    kind: Literal["bleu", "chrf"]
    tokenizer: BleuTokenizer = "13a"

    def of_counts(self, examples: Sequence[Example], answers: Sequence[Answer]) -> OfCounts:
        """Returns the score as a function of how often each example counts."""
        scorer = self._scorer()
        references = itertools.zip_longest(*(example.accepted or (example.answer,) for example in examples))
        # What sacreBLEU's classes ask of one another, and its own bootstrap of them: the n-grams of each sentence.
        statistics = np.array(scorer._extract_corpus_statistics(answers, list(references)), np.int64)
        return lambda counts: scorer._compute_score_from_stats((counts @ statistics).tolist()).score / 100.0

    def signature(self, num_references: int = 1) -> str:
        """Returns sacreBLEU's signature, which a paper gives with the score: `nrefs:1|case:mixed|eff:no|tok:13a|...`."""
        return str(self._scorer(references=[[""]] * num_references).get_signature())

    def _scorer(self, **options: Any) -> Any:
        from sacrebleu.metrics import BLEU, CHRF  # most commands score nothing

        # `force` keeps it from warning in every evaluation of texts that end in " .".
        if self.kind == "bleu":
            return BLEU(tokenize=self.tokenizer, force=True, **options)
        return CHRF(**options)


def bleu(tokenizer: BleuTokenizer = "13a") -> Metric:
    """Returns corpus BLEU, cased, exponentially smoothed.

    Args:
      tokenizer: sacreBLEU's; "13a" is its default, and "intl" what T5's scores are of.

    Source: Post 2018, A Call for Clarity in Reporting BLEU Scores.
    """
    return Metric("bleu", SacreBleuMeasure("bleu", tokenizer))


CHRF = Metric("chrf", SacreBleuMeasure("chrf"))
"""chrF2: character n-grams up to 6, recall weighing twice. Source: Popovic 2015."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelText:
    """Parallel text of two languages in files.

    Attributes:
      name: of its task.
      source: code of the language that is read, which is the suffix of its files.
      target: likewise, of the one that is written.
      stems: split -> its files without the suffix: validation -> val means val.en and val.de.
      folder: where they are; None: where --data_dir says.
    """

    name: str
    source: str
    target: str
    stems: Mapping[str, str]
    folder: pathlib.Path | None = None

    def task(self, tokenizer: BleuTokenizer = "13a") -> Task:
        """Returns the task of translating it; the tokenizer is BLEU's."""
        return Task(
            name=self.name,
            kind="text",
            metrics=(bleu(tokenizer), CHRF),
            splits=tuple(self.stems),
            read=self.read,
        )

    def read(self, split: str, data_dir: pathlib.Path | None) -> list[Example]:
        """Returns the examples of a split, one a line.

        Raises:
          UserError: there is no folder or one too many, a file is missing or broken, or one has more lines.
        """
        stem = self._folder(data_dir) / self.stems[split]
        paths = [stem.with_name(f"{stem.name}.{code}") for code in (self.source, self.target)]
        sides = [read_lines(path) for path in paths]
        if len(sides[0]) != len(sides[1]):
            raise UserError(
                f"{paths[0]} has {len(sides[0])} lines and {paths[1]} {len(sides[1])}: line by line they must be the "
                "same sentences, so fetch both again."
            )
        if not sides[0]:
            raise UserError(f"{paths[0]} is empty: put back what it held.")
        source, target = (LANGUAGES.get(code, code) for code in (self.source, self.target))
        return [
            Example(
                index=index, inputs=f"translate {source} to {target}: {line}", targets=other, answer=other
            )
            for index, (line, other) in enumerate(zip(*sides, strict=True))
        ]

    def _folder(self, data_dir: pathlib.Path | None) -> pathlib.Path:
        if self.folder is not None and data_dir is not None:
            raise UserError(f"{self.name} says itself where its files are: leave out --data_dir {data_dir}.")
        folder = self.folder or data_dir
        if folder is None:
            files = f"{self.stems['train']}.{self.source} and {self.stems['train']}.{self.target}"
            raise UserError(f"{self.name} needs --data_dir, the folder that holds {files}.")
        return pathlib.Path(folder)


def parallel_task(location: str) -> Task:
    """Returns the task that `en-de:FOLDER` describes: English is read, German is written.

    Raises:
      UserError: the location is of another form, or there are no such files.
    """
    languages, _, folder = location.partition(":")
    source, _, target = languages.partition("-")
    name = f"{PREFIX}:{location}"
    if not (source and target and folder) or source == target:
        raise UserError(
            f"{name!r} names no parallel text: write {PREFIX}:en-de:FOLDER, with the suffixes of its two languages."
        )
    path = pathlib.Path(folder).expanduser()
    stems = splits_of_folder(path, source, target)
    return ParallelText(name=name, source=source, target=target, stems=stems, folder=path).task()


def splits_of_folder(folder: pathlib.Path, source: str, target: str) -> dict[str, str]:
    """Returns split -> stem of the files that a folder holds in both languages.

        train.en, train.de                                       -> train
        validation.*, or valid.*, val.*, dev.*                   -> validation
        newstest2014.*, where all others are for those two       -> test
        test_2016.*, test_2017.*                                 -> test_2016, test_2017

    Raises:
      UserError: there are none, or several for the validation.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}{nearest_name(folder)}.")
    both = [
        {file.name.removesuffix(f".{code}") for file in folder.iterdir() if file.name.endswith(f".{code}")}
        for code in (source, target)
    ]
    stems = both[0] & both[1]
    if not stems:
        there = sorted({file.suffix[1:] for file in folder.iterdir() if file.suffix})
        near = difflib.get_close_matches(target if both[0] else source, there, n=1)
        raise UserError(
            f"{folder} holds no two files of a name that end in .{source} and .{target}, such as train.{source} and "
            f"train.{target}{f': did you mean .{near[0]}?' if near else '.'}"
        )
    validation = [stem for stem in _VALIDATION_STEMS if stem in stems]
    if len(validation) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(validation)} files for the validation: leave one there."
        )
    others = sorted(stems - {"train", *validation})
    splits = {"train": "train"} if "train" in stems else {}
    if validation:
        splits["validation"] = validation[0]
    return splits | ({"test": others[0]} if len(others) == 1 else {stem: stem for stem in others})


_MULTI30K = {"train": "train", "validation": "val", "test": "test_2016_flickr"}

TASKS = tuple(
    ParallelText(
        name=f"translation/multi30k_{source}_{target}", source=source, target=target, stems=_MULTI30K
    ).task()
    for source, target in (("en", "de"), ("de", "en"))
)
