"""SuperGLUE: what is asked of an encoder-decoder, in T5's words, and of an encoder, and how answers are scored."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Hashable
from typing import Any

from t5like.tasks import referents
from t5like.tasks.base import NO_LABEL, Answer, Example, Task
from t5like.tasks.metrics import ACCURACY, ALL_RIGHT, F1, GENDER_PARITY, MACRO_F1_OF_3, MATTHEWS, Metric
from t5like.tasks.squad_metrics import EXACT_MATCH, RECORD_F1
from t5like.tasks.super_glue_records import (
    BOOLEANS,
    NUMBERS,
    Layout,
    Record,
    expand_multirc,
    expand_record,
    expand_wsc,
)

Examples = Callable[[int, Record, str], list[Example]]
"""(index of the first, record, split) -> the examples that a record makes."""

_BOOLEAN_LABELS = ("False", "True")
_RTE_LABELS = ("entailment", "not_entailment")
_CB_LABELS = ("entailment", "contradiction", "neutral")  # not in MNLI's order
_COPA_LABELS = ("choice1", "choice2")
_COPA_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def _task(
    name: str,
    layout: Layout,
    examples: Examples,
    *,
    labels: tuple[str, ...] = (),
    metrics: tuple[Metric, ...] = (ACCURACY,),
    parse: Callable[[str, Example], Answer] | None = None,
    choice_texts: Callable[[Example, int], tuple[str, ...]] | None = None,
) -> Task:
    """Returns a task, which asks for a label where it has some and else for a text."""

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        all_examples: list[Example] = []
        for record in layout.read(split, data_dir):
            all_examples += examples(len(all_examples), record, split)
        return all_examples

    return Task(
        name=f"super_glue/{name}",
        kind="label" if labels else "text",
        labels=labels,
        metrics=metrics,
        splits=tuple(layout.files),
        read=read,
        parse=parse,
        choice_texts=choice_texts,
    )


def _asked(
    prompt: str,
    texts: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    group: Callable[[Record], Hashable] = lambda record: None,
) -> Examples:
    """Returns what makes one example of a record with a label.

    Args:
      prompt: what an encoder-decoder reads, with fields in braces.
      texts: what an encoder reads, likewise.
      labels: label texts by class id.
      group: record -> group.
    """

    def examples(index: int, record: Record, split: str) -> list[Example]:
        label = record["label"]
        return [
            Example(
                index=index,
                inputs=prompt.format_map(record),
                targets=NO_LABEL if label is None else labels[label],
                texts=tuple(text.format_map(record) for text in texts),
                answer=label,
                group=group(record),
                row_id=record["idx"],
            )
        ]

    return examples


def _copa(index: int, record: Record, split: str) -> list[Example]:
    """Returns an example that asks an encoder in the words of COPA's authors, once for each choice."""
    ask = _asked(
        "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
        ("{premise} {asked}",),
        _COPA_LABELS,
    )
    question = record["question"]
    (example,) = ask(index, {**record, "asked": _COPA_QUESTIONS.get(question, question)}, split)
    return [dataclasses.replace(example, choices=(record["choice1"], record["choice2"]))]


def _multirc(index: int, record: Record, split: str) -> list[Example]:
    """Returns one option of a question, whose options are a group. Markup goes, as in T5."""
    ask = _asked(
        "multirc question: {question} answer: {answer} paragraph: {paragraph}",
        ("{paragraph}", "{question} {answer}"),
        _BOOLEAN_LABELS,
        group=lambda record: record["idx"][:2],
    )
    texts = {name: _without_markup(record[name]) for name in ("paragraph", "question", "answer")}
    return ask(index, {**record, **texts}, split)


def _without_markup(text: str) -> str:
    """Returns a text without bold face, and with blanks for line breaks."""
    return re.sub("</?b>", "", text.replace("<br>", " "))


def _record(index: int, record: Record, split: str) -> list[Example]:
    """Returns a query: in training once for each of its answers, as in T5, else once.

    Source: T5's `record` preprocessor. In evaluation it repeats queries too, and scores the first of each.
    """
    passage = re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", record["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    entities, answers = tuple(record["entities"]), tuple(record["answers"])
    inputs = f"record query: {record['query']} entities: {', '.join(entities)} passage: {passage}"
    targets = answers or (NO_LABEL,)
    return [
        Example(
            index=index + number,
            inputs=inputs,
            targets=target,
            texts=(passage, record["query"]),
            answer=target if answers else None,
            accepted=answers,
            choices=entities,
            group=record["idx"],
            row_id=record["idx"][1],
        )
        for number, target in enumerate(targets if split == "train" else targets[:1])
    ]


def _with_entity(example: Example, number: int) -> tuple[str, ...]:
    """Returns a passage of ReCoRD, and its query with an entity filled in."""
    passage, query = example.texts
    return passage, query.replace("@placeholder", example.choices[number])


def _wsc(index: int, record: Record, split: str) -> list[Example]:
    """Returns a text with the noun and the pronoun marked."""
    ask = _asked("wsc text: {text}", ("{text}",), _BOOLEAN_LABELS)
    return ask(index, {**record, "text": referents.mark_spans(record)}, split)


def _wsc_referent(index: int, record: Record, split: str) -> list[Example]:
    """Returns a text that is asked for the referent; in training only where that is known."""
    if split == "train" and not record["label"]:
        return []
    return [referents.referent_example(index, record)]


def _layout(folder: str, name: str, *fields: str, **options: Any) -> Layout:
    return Layout(folder=folder, tfds_config=name, fields=fields, **options)


_WSC_LAYOUT = _layout(
    "WSC",
    "wsc.fixed",
    *("text", "span1_text", "span1_index", "span2_text", "span2_index"),
    label_cells=BOOLEANS,
    expand=expand_wsc,
)
_PAIR = ("premise", "hypothesis")
_PAIR_TEXTS = ("{premise}", "{hypothesis}")
_RTE_PROMPT = "rte hypothesis: {hypothesis} premise: {premise}"
_WSC_REFERENT = _task(
    "wsc_referent",
    _WSC_LAYOUT,
    _wsc_referent,
    labels=_BOOLEAN_LABELS,
    parse=referents.parse_referent,
)


def _read_wsc_referent(split: str, data_dir: pathlib.Path | None) -> list[Example]:
    """Returns a split of WSC; in training with the DPR data after it, where they lie beside WSC/ under `data_dir`."""
    examples = _WSC_REFERENT.read(split, data_dir)
    if split == "train" and data_dir is not None:
        examples += referents.dpr_examples(pathlib.Path(data_dir), len(examples))
    return examples


TASKS = (
    _task(
        "boolq",
        _layout("BoolQ", "boolq", "passage", "question", label_cells=BOOLEANS),
        _asked("boolq passage: {passage} question: {question}", ("{passage}", "{question}"), _BOOLEAN_LABELS),
        labels=_BOOLEAN_LABELS,
    ),
    _task(
        "cb",
        _layout("CB", "cb", *_PAIR, label_cells=_CB_LABELS),
        _asked("cb hypothesis: {hypothesis} premise: {premise}", _PAIR_TEXTS, _CB_LABELS),
        labels=_CB_LABELS,
        metrics=(MACRO_F1_OF_3, ACCURACY),
    ),
    _task(
        "copa",
        _layout("COPA", "copa", "premise", "choice1", "choice2", "question", label_cells=NUMBERS),
        _copa,
        labels=_COPA_LABELS,
        choice_texts=lambda example, number: (*example.texts, example.choices[number]),
    ),
    _task(
        "multirc",
        _layout(
            "MultiRC",
            "multirc",
            *("paragraph", "question", "answer"),
            label_cells=NUMBERS,
            expand=expand_multirc,
        ),
        _multirc,
        labels=_BOOLEAN_LABELS,
        metrics=(F1, ALL_RIGHT),
    ),
    _task(
        "record",
        _layout("ReCoRD", "record", "passage", "query", expand=expand_record),
        _record,
        metrics=(RECORD_F1, EXACT_MATCH),
        choice_texts=_with_entity,
    ),
    _task(
        "rte",
        _layout("RTE", "rte", *_PAIR, label_cells=_RTE_LABELS),
        _asked(_RTE_PROMPT, _PAIR_TEXTS, _RTE_LABELS),
        labels=_RTE_LABELS,
    ),
    _task(
        "wic",
        _layout("WiC", "wic", "word", "sentence1", "sentence2", label_cells=BOOLEANS),
        _asked(
            "wic sentence1: {sentence1} sentence2: {sentence2} word: {word}",
            ("{word}: {sentence1}", "{word}: {sentence2}"),
            _BOOLEAN_LABELS,
        ),
        labels=_BOOLEAN_LABELS,
    ),
    _task("wsc", _WSC_LAYOUT, _wsc, labels=_BOOLEAN_LABELS),
    dataclasses.replace(_WSC_REFERENT, read=_read_wsc_referent),
    _task(
        "axb",
        _layout(
            "AX-b",
            "axb",
            *("sentence1", "sentence2"),
            label_cells=_RTE_LABELS,
            files={"test": ("AX-b.jsonl",)},
        ),
        _asked(
            "rte hypothesis: {sentence2} premise: {sentence1}", ("{sentence1}", "{sentence2}"), _RTE_LABELS
        ),
        labels=_RTE_LABELS,
        metrics=(MATTHEWS,),
    ),
    _task(
        "axg",
        _layout("AX-g", "axg", *_PAIR, label_cells=_RTE_LABELS, files={"test": ("AX-g.jsonl",)}),
        # Sentences that differ in a pronoun alone follow one another; what files call pair_id names no pair.
        _asked(_RTE_PROMPT, _PAIR_TEXTS, _RTE_LABELS, group=lambda record: record["idx"] // 2),
        labels=_RTE_LABELS,
        metrics=(ACCURACY, GENDER_PARITY),
    ),
)
