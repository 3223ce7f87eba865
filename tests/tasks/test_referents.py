"""Pronouns: marks in WSC's texts, what names a referent, DPR's file, and WNLI put as a question about a pronoun."""

import importlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example
from t5like.tasks.referents import mark_pronoun, mark_spans, parse_referent, referent_of
from t5like.tasks.wnli_referent import ask_for_referent
from tests.tasks.super_glue_rows import SHARED, needs, write

WSC = SHARED / "super_glue/WSC"
REFERENT = find_task("super_glue/wsc_referent")


def _row(text: str, noun: str, noun_index: int, pronoun: str, pronoun_index: int) -> dict:
    spans = {
        "span1_text": noun,
        "span1_index": noun_index,
        "span2_text": pronoun,
        "span2_index": pronoun_index,
    }
    return {"text": text, **spans}


# --- marks


@pytest.mark.parametrize(
    ("row", "marked"),
    [
        (_row("Mark told Pete lies. He lied.", "Pete", 2, "He", 4), "Mark told * Pete * lies. # He # lied."),
        (_row("He hit Al, and he fell.", "Al", 2, "he", 4), "He hit * Al *, and # he # fell."),
        (_row("he and he and he", "he", 0, "he", 2), "* he * and # he # and he"),  # the nearest one counts
        (_row("It broke the table.", "The table", 2, "It", 0), "# It # broke * the table *."),
        (_row("He took Mark's hat.", "Mark", 2, "He", 0), "# He # took * Mark *'s hat."),
        (
            _row("Ann saw the\nold mill. It fell.", "old mill.", 3, "It", 5),
            "Ann saw the\n* old mill. * # It # fell.",
        ),
        (
            _row("I saw their mothers run.", "their mothers", 2, "their", 2),
            "I saw * # their # mothers * run.",
        ),
        (
            _row("A use for it is known.", "A use", 0, "it", 2),
            "* A use * for # it # is known.",
        ),  # one word off
        (_row("Al, Bob and Eve say he left.", "Al and Eve", 0, "he", 5), "Al, Bob and Eve say # he # left."),
        (_row('"He" is (Al).', "Al", 2, "He", 0), '"# He #" is (* Al *).'),
    ],
)
def test_spans_are_marked(row, marked):
    assert mark_spans(row) == marked


@pytest.mark.parametrize(
    ("text", "pronoun", "index", "marked"),
    [
        ("Bob asked Tom if he can pay.", "he", 4, "Bob asked Tom if *he* can pay."),
        ('"Good for him," he said.', "him", 2, '"Good for *him* ," he said.'),
        ("Ask him.", "him", 1, "Ask *him* ."),
        ("the hen saw he", "he", 1, "the hen saw *he*"),  # no part of a word
        ("nobody", "he", 0, "nobody"),
    ],
)
def test_a_pronoun_is_marked(text, pronoun, index, marked):
    assert mark_pronoun(text, pronoun, index) == marked


@settings(deadline=None, max_examples=100)
@given(
    words=st.lists(st.sampled_from(["he", "He", "Al", "saw", "him.", "(it)"]), min_size=2, max_size=9),
    data=st.data(),
)
def test_marks_change_nothing_else(words, data):
    first, second = sorted(
        data.draw(st.lists(st.integers(0, len(words) - 1), min_size=2, max_size=2, unique=True))
    )
    nouns = [words[index].strip("().") for index in (first, second)]
    text = " ".join(words)
    marked = mark_spans(_row(text, nouns[0], first, nouns[1], second))
    assert re.sub(r"[*#] | [*#]", "", marked) == text
    assert (marked.count("*"), marked.count("#")) == (2, 2)
    before = marked[: marked.index("*")].replace("# ", "").replace(" #", "")
    assert len(before.strip("(").split()) == first


# --- referents


@pytest.mark.parametrize(
    ("written", "referent", "answer"),
    [
        ("Mark", "Mark", 1),
        ("mark", "Mark", 1),
        ("the fuzzy bunny", "bunny", 1),
        ("bunny", "The fuzzy bunny", 1),
        ("his bunny ", "her bunny", 1),
        ("fuzzy", "bunny", 0),
        ("the fuzzy rabbit", "fuzzy bunny", 0),
        ("Bob", "Bob's hat", 0),  # the hat, not Bob
        ("Bob's", "Bob's hat", 1),
        ("Bob's hat", "Bob", 0),
        ("", "Mark", -1),
        ("the", "Mark", -1),
        ("   ", "Mark", -1),
        ("Mark", "the", 0),
        ("Mark.", "Mark", 0),
    ],
)
def test_what_names_a_referent(written, referent, answer):
    example = Example(index=0, inputs="", targets=referent, answer=1)
    assert parse_referent(written, example) == answer
    assert (
        REFERENT.parsed(written, example)
        == find_task("glue/wnli_referent").parsed(written, example)
        == answer
    )


@pytest.mark.parametrize(
    ("row", "referent"),
    [
        (_row("It broke the table.", "The table", 2, "It", 0), "the table"),
        (_row("The table fell. It broke the table.", "The table", 5, "It", 3), "The table"),  # which occurs
        (_row("A dog ran. It fell.", "a dog.", 0, "It", 3), "A dog"),
        (_row("Al and Eve ran.", "Al\nand Eve", 0, "Al", 0), "Al and Eve"),
        (_row("Al, Bob and Eve ran.", "Al and Eve", 0, "Al", 0), "Al and Eve"),  # in no one piece
    ],
)
def test_a_referent_is_written_as_in_its_text(row, referent):
    assert referent_of(row) == referent


# --- T5 on the real rows, written out once more


def _t5_input(row: dict) -> str:
    words = row["text"].split(" ")
    index = row["span2_index"]
    if words[index] == 'him,"':
        words[index : index + 1] = ["him", ',"']
    elif words[index] == "use":
        index += 1
    assert words[index] == row["span2_text"]
    words[index] = f"*{row['span2_text']}*"
    return " ".join(["wsc:", *words])


def _t5_marked(row: dict) -> str:
    text = row["text"]
    for span, mark in (("span1", "*"), ("span2", "#")):
        shift = 2 * (span == "span2" and row["span1_index"] < row["span2_index"])
        pattern = rf"^((?:\S+\s){{{row[f'{span}_index'] + shift}}})({row[f'{span}_text']})"
        text = re.sub(pattern, rf"\1{mark} \2 {mark}", text)
    return f"wsc text: {text}"


@pytest.mark.parametrize(("split", "file"), [("train", "train"), ("validation", "val"), ("test", "test")])
def test_real_texts_are_put_as_t5_puts_them(split, file):
    needs(WSC)
    fix = importlib.import_module("tensorflow_datasets.text.super_glue")._fix_wst
    rows = [json.loads(line) for line in (WSC / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
    fixed = [fix({**row, **row["target"]}) for row in rows]
    asked = [row for row in fixed if split != "train" or row["label"]]
    assert [(e.inputs, e.targets, e.row_id) for e in REFERENT.load(split, WSC)] == [
        (_t5_input(row), row["span1_text"], row["idx"]) for row in asked
    ]
    marked = [example.inputs for example in find_task("super_glue/wsc").load(split, WSC)]
    different = [row for row, text in zip(fixed, marked, strict=True) if text != _t5_marked(row)]
    # T5 leaves the pronoun unmarked where its number is one off or the noun does not stand where it should, and marks
    # a noun that its pronoun begins as if it had none.
    assert len(different) == {"train": 0, "validation": 2, "test": 3}[split]
    assert all(_t5_marked(row).count("#") == 0 for row in different)
    assert all(text.count("#") == 2 for text in marked)
    assert sum(text.count("*") != 2 for text in marked) == {"train": 0, "validation": 0, "test": 2}[split]


# --- DPR

DPR = (
    "Bob asked Tom if he can lend some money, he said.\nhe\nBob,Tom\nTom\n\n"
    "The dog bit it.\nit\nThe dog,the cat\nthe cat\n\n"
)


def test_the_dpr_data_follow_where_they_lie_beside_wsc(tmp_path):
    root = write(tmp_path, "wsc_referent")
    plain = REFERENT.load("train", root)
    (root / "DPR").mkdir()
    (root / "DPR/train.c.txt").write_text(DPR)
    examples = REFERENT.load("train", root)
    assert examples[: len(plain)] == plain
    assert [(e.index, e.inputs, e.targets, e.answer) for e in examples[len(plain) :]] == [
        (1, "wsc: Bob asked Tom if *he* can lend some money, he said.", "Tom", 1),
        (2, "wsc: The dog bit *it*.", "the cat", 1),
    ]
    write(root, "wsc_referent", "val.jsonl")
    assert len(REFERENT.load("validation", root)) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (DPR.replace("Bob,Tom", "Bob"), 1),
        (DPR.replace("the cat\n\n", "the bird\n\n"), 6),
        (DPR.replace("Tom\n\n", "Tom\n"), 1),
        (DPR.replace("\nit\n", "\n\n"), 6),
        (DPR + "One more sentence.\n", 11),
    ],
)
def test_a_broken_dpr_file_is_reported_with_its_line(tmp_path, text, line):
    root = write(tmp_path, "wsc_referent")
    (root / "DPR").mkdir()
    (root / "DPR/train.c.txt").write_text(text)
    with pytest.raises(UserError, match=rf"train\.c\.txt, line {line}: five lines belong together"):
        REFERENT.load("train", root)


# --- WNLI


@pytest.mark.parametrize(
    ("premise", "hypothesis", "marked", "referent"),
    [
        ("The fish ate the worm. It was tasty.", "The worm was tasty.", "The fish ate the worm. *It* was tasty.", "The worm"),
        ("Al hid Bob's keys because he was drunk.", "Al was drunk.", "Al hid Bob's keys because *he* was drunk.", "Al"),
        ("I took the cup to Eve and thanked her.", "Thanked Eve.", "I took the cup to Eve and thanked *her* .", "Eve"),
        ("The trees shook. Their leaves fell.", "The trees' leaves fell.", "The trees shook. *Their* leaves fell.", "The trees"),
        ("Al met Bob. His car broke.", "Bob's car broke.", "Al met Bob. *His* car broke.", "Bob"),
        # Of two pronouns the one with more of its words around it, and what precedes the last article goes.
        ("He saw it when it fell down.", "The old man saw the cat when it fell down.", "He saw *it* when it fell down.", "the cat"),
        ("Al left , he was ill.", "Bob was ill.", "Al left , *he* was ill.", "Bob"),  # a lone comma is no word
        ("Nobody left.", "Al left.", "Nobody left.", ""),
        ("Al said he left.", "Rain falls.", "Al said *he* left.", ""),
    ],
)  # fmt: skip
def test_wnli_asks_for_what_stands_in_place_of_the_pronoun(premise, hypothesis, marked, referent):
    assert ask_for_referent(premise, hypothesis) == (marked, referent)


def test_wnli_is_evaluated_only(tmp_path):
    task = find_task("glue/wnli_referent")
    assert task.splits == ("validation", "test")
    (tmp_path / "WNLI").mkdir()
    row = "0\tThe fish ate the worm. It was tasty.\tThe worm was tasty."
    (tmp_path / "WNLI/dev.tsv").write_text(f"index\tsentence1\tsentence2\tlabel\n{row}\t1\n")
    (tmp_path / "WNLI/test.tsv").write_text(f"index\tsentence1\tsentence2\n{row}\n")
    (known,), (hidden,) = (task.load(split, tmp_path) for split in ("validation", "test"))
    assert known.inputs == hidden.inputs == "wsc: The fish ate the worm. *It* was tasty."
    assert (known.targets, known.answer, hidden.answer, hidden.row_id) == ("The worm", 1, None, 0)
    assert known.texts == ()


@settings(deadline=None, max_examples=100)
@given(
    words=st.lists(st.sampled_from(["Al", "saw", "the", "mill,", "and", "(it)", "a+b", "ran."]), max_size=8),
    place=st.integers(0, 8),
    noun=st.sampled_from(["Bob", "the old Tower", "a dog"]),
)
def test_a_noun_put_in_place_of_the_only_pronoun_is_found(words, place, noun):
    place = min(place, len(words))
    premise = " ".join([*words[:place], "he", *words[place:]])
    hypothesis = " ".join([*words[:place], noun, *words[place:]])
    marked, referent = ask_for_referent(premise, hypothesis)
    assert marked == " ".join([*words[:place], "*he*", *words[place:]])
    if words:  # else nothing shows where it stands
        assert noun.endswith(referent)
        assert referent
