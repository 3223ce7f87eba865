"""Made-up rows of SuperGLUE's files, and where the real ones are."""

import json
import pathlib
from typing import Any

import pytest

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
FOLDERS = {
    "boolq": "BoolQ",
    "cb": "CB",
    "copa": "COPA",
    "multirc": "MultiRC",
    "record": "ReCoRD",
    "rte": "RTE",
    "wic": "WiC",
    "wsc": "WSC",
    "wsc_referent": "WSC",
    "axb": "AX-b",
    "axg": "AX-g",
}
TEST_FILES = {"axb": "AX-b.jsonl", "axg": "AX-g.jsonl"}

_TEXT = 'Bob said: "No."\n@highlight\nAl left\n@highlight\nEve stayed\n@highlight\nBob paid'


def _places(*words: str) -> list[dict[str, Any]]:
    return [
        {"start": _TEXT.index(word), "end": _TEXT.index(word) + len(word) - 1, "text": word} for word in words
    ]


PASSAGE = {
    "source": "CNN",
    "idx": 4,
    "passage": {"text": _TEXT, "entities": _places("Eve", "Bob", "Al", "Bob")},
    "qas": [
        {"idx": 70, "query": "@placeholder met Al.", "answers": _places("Eve", "Bob", "Bob")},
        {"idx": 71, "query": "Bob saw @placeholder.", "answers": _places("Al")},
    ],
}
_WSC = "Mark told Pete lies. He lied."


def _wsc(idx: int, noun: str, index: int, label: bool) -> dict[str, Any]:
    target = {"span1_text": noun, "span1_index": index, "span2_text": "He", "span2_index": 4}
    return {"text": _WSC, "target": target, "idx": idx, "label": label}


ROWS: dict[str, list[dict[str, Any]]] = {
    "boolq": [
        {"question": "is rain wet", "passage": "Rain is wet.", "idx": 0, "label": True},
        {"question": "is rain dry", "passage": "{Rain} falls.", "idx": 1, "label": False},
    ],
    "cb": [
        {"premise": "It rains.", "hypothesis": "It is wet", "label": "entailment", "idx": 0},
        {"premise": "It rains.", "hypothesis": "It is dry", "label": "contradiction", "idx": 1},
        {"premise": "It rains.", "hypothesis": "It is cold", "label": "neutral", "idx": 2},
    ],
    "copa": [
        {
            "premise": "I got wet.",
            "choice1": "It rained.",
            "choice2": "It was dry.",
            "question": "cause",
            "label": 0,
            "idx": 0,
        },
        {
            "premise": "I ate.",
            "choice1": "I slept.",
            "choice2": "I paid.",
            "question": "effect",
            "label": 1,
            "idx": 1,
        },
    ],
    "multirc": [
        {
            "idx": 5,
            "version": 1.1,
            "passage": {
                "text": "<b>Sent 1: </b>Bob paid.<br>Al left.",
                "questions": [
                    {
                        "question": "Who paid?",
                        "sentences_used": [0],
                        "idx": 8,
                        "answers": [
                            {"text": "Bob", "idx": 20, "label": 1},
                            {"text": "Al", "idx": 21, "label": 0},
                        ],
                    },
                    {"question": "Who left?", "idx": 9, "answers": [{"text": "Al", "idx": 22, "label": 1}]},
                ],
            },
        }
    ],
    "record": [PASSAGE],
    "rte": [
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": "entailment", "idx": 0},
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": "not_entailment", "idx": 1},
    ],
    "wic": [
        {
            "word": "place",
            "sentence1": "A place to go.",
            "sentence2": "My places.",
            "idx": 0,
            "label": True,
            "start1": 2,
            "start2": 3,
            "end1": 7,
            "end2": 9,
            "version": 1.1,
        },
        {
            "word": "run",
            "sentence1": "I run.",
            "sentence2": "Run a bank.",
            "idx": 1,
            "label": False,
            "start1": 2,
            "start2": 0,
            "end1": 5,
            "end2": 3,
            "version": 1.1,
        },
    ],
    "wsc": [_wsc(0, "Pete", 2, False), _wsc(1, "Mark", 0, True)],
    "wsc_referent": [_wsc(0, "Pete", 2, False), _wsc(1, "Mark", 0, True)],
    "axb": [
        {
            "idx": "0",
            "label": "not_entailment",
            "logic": "Negation",
            "sentence1": "It rains.",
            "sentence2": "It is dry.",
        }
    ],
    "axg": [
        {
            "premise": "Al said he paid.",
            "hypothesis": "Al paid.",
            "label": "entailment",
            "idx": 0,
            "pair_id": 551,
        },
        {
            "premise": "Al said she paid.",
            "hypothesis": "Al paid.",
            "label": "entailment",
            "idx": 1,
            "pair_id": 553,
        },
    ],
}


def write(
    data_dir: pathlib.Path,
    name: str,
    file: str = "train.jsonl",
    rows: list[dict[str, Any]] | None = None,
    *,
    text: str | bytes | None = None,
) -> pathlib.Path:
    """Writes a file of a task, its made-up rows if nothing else is given, and returns SuperGLUE's folder."""
    folder = data_dir / FOLDERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if text is None:
        text = "".join(json.dumps(row) + "\n" for row in rows or ROWS[name])
    path = folder / TEST_FILES.get(name, file)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return data_dir


def needs(folder: pathlib.Path) -> None:
    """Skips the test where the real files are not there."""
    if not folder.exists():
        pytest.skip(f"shared data not in this checkout: {folder.name}")
