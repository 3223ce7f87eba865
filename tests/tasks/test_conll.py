"""CoNLL files: columns, schemes of tags, and what is said of lines that are broken."""

import itertools

import pytest
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks.conll import entities, read_sentences, tags_of_kinds, to_iob2

KINDS = ("x", "y-z")
any_tags = st.lists(
    st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in KINDS)]), max_size=8
)


def _entities(tags, scheme) -> list[tuple[str, int, int]]:
    """Returns what seqeval finds, (kind, start, end)."""
    return [(e.tag, e.start, e.end) for e in seqeval.scheme.Tokens(list(tags), scheme).entities]


def _write(tmp_path, content: str | bytes):
    path = tmp_path / "train.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- schemes


@given(tags=any_tags)
def test_iob2_keeps_the_entities_of_iob1(tags):
    # In IOB1 B- stands only where an entity touches one of its kind.
    before = ["O", *tags]
    tags = [
        f"I{tag[1:]}" if tag[0] == "B" and b[2:] != tag[2:] else tag
        for b, tag in zip(before, tags, strict=False)
    ]
    converted = to_iob2(tags)
    assert [tuple(e) for e in entities(converted)] == _entities(tags, seqeval.scheme.IOB1)


@given(tags=any_tags)
def test_iob2_stays_as_it_is(tags):
    converted = to_iob2(tags)
    assert to_iob2(converted) == converted
    assert all(tag[2:] == previous[2:] or tag[0] != "I" for previous, tag in itertools.pairwise(converted))


@given(tags=any_tags)
def test_entities_are_those_of_seqeval_even_where_tags_are_invalid(tags):
    assert [tuple(e) for e in entities(tags)] == _entities(tags, seqeval.scheme.IOB2)


def test_worked_examples():
    assert to_iob2(["I-L", "I-L", "O", "I-L", "B-L", "I-P"]) == ("B-L", "I-L", "O", "B-L", "B-L", "B-P")
    assert entities(["B-L", "I-L", "O", "I-L", "B-P"]) == [("L", 0, 2), ("P", 4, 5)]
    assert tags_of_kinds({"person", "location"}) == ("O", "B-location", "I-location", "B-person", "I-person")


# --- files


@pytest.mark.parametrize(
    "content",
    [
        "EU\tNNP\tI-ORG\nrejects\tVBZ\tO\n\nParis\tNNP\tI-LOC\nFrance\tNNP\tB-LOC\n",
        "EU NNP I-ORG\nrejects  VBZ O \n\n\n\t\nParis NNP B-LOC\nFrance NNP B-LOC",
        "-DOCSTART- -X- O\n\nEU B-ORG\nrejects O\n-DOCSTART-\tO\nParis\tB-LOC\nFrance B-LOC\n\n",
        "\ufeffEU\tI-ORG\r\nrejects\tO\r\n\r\nParis\tB-LOC\r\nFrance\tB-LOC\r\n",
    ],
    ids=["tabs, IOB1", "blanks, IOB2", "documents, both kinds of columns", "Windows"],
)
def test_layouts_and_schemes_give_the_same_sentences(tmp_path, content):
    sentences = read_sentences(_write(tmp_path, content))
    assert [sentence[:2] for sentence in sentences] == [
        (("EU", "rejects"), ("B-ORG", "O")),
        (("Paris", "France"), ("B-LOC", "B-LOC")),
    ]


def test_lines_are_where_words_stand_and_other_letters_are_left_alone(tmp_path):
    path = _write(tmp_path, '"\tO\n#1\tB-x\n\n\u00a0\tO\n')
    assert read_sentences(path) == [(('"', "#1"), ("O", "B-x"), (1, 2)), (("\u00a0",), ("O",), (4,))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("EU\tO\nrejects\n", "line 2: 'rejects' is one column where a word and its tag belong"),
        ("EU\tO\nNew York\tB-LOC\n", "line 2: 'New York' is no word"),
        ("\tO\n", "line 1: '' is no word"),
        ("EU NNP\n", "line 1: tag 'NNP' is none of O, B-KIND and I-KIND"),
        ("EU\tS-ORG\n", "line 1: tag 'S-ORG' is none of"),
        ("EU\tB-\n", "line 1: tag 'B-' is none of"),
        ("EU\tO\t\n", "line 1: tag '' is none of"),
        ("", "holds no words"),
        ("\n \n-DOCSTART- O\n", "holds no words"),
        (b"a\tO\n\xff\tO\n", "line 2: not UTF-8"),
    ],
)
def test_broken_files_are_reported_with_their_line(tmp_path, content, message):
    path = _write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_sentences(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
