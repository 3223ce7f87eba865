"""Named entities: F1 on stored predictions, the form in text and back, and real files."""

import pathlib

import pytest
import seqeval.metrics
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st

from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example, score, task_score
from t5like.tasks.conll import entities, to_iob2
from t5like.tasks.tagging import parse_entities, written

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
WNUT = SHARED / "wnut17"
needs_wnut = pytest.mark.skipif(
    not WNUT.exists(), reason="shared data not in this checkout: the real files of WNUT-17"
)
WNUT17 = find_task("ner/wnut17")
KINDS = ("person", "creative-work")

any_tag = st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in KINDS)])


@st.composite
def tagged(draw, words):
    """Draws words and tags in IOB2."""
    some = draw(words)
    return some, to_iob2(draw(st.lists(any_tag, min_size=len(some), max_size=len(some))))


def _example(*tags: str) -> Example:
    return Example(index=0, inputs="", targets="", answer=tags)


# --- the metric


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ("B-person I-person O B-location", "B-person I-person O B-location", 1.0),
        ("B-person I-person O B-location", "B-person O O B-location", 1 / 2),  # a wrong end is no hit
        ("B-person I-person O B-location", "B-person I-person O B-person", 1 / 2),  # nor is a wrong kind
        ("B-person I-person", "I-person I-person", 0.0),  # no entity begins with I-
        ("B-person I-person", "B-person I-location", 0.0),  # the entity ends where its kind does
        ("B-person B-person", "B-person I-person", 0.0),
        ("B-person O", "B-person I-person", 0.0),
        ("B-person O", "O O", 0.0),  # an empty answer
        ("O O", "O O", 0.0),  # nothing to find, nothing found
        ("O B-location", "B-person B-location", 2 / 3),  # precision 1/2, recall 1
    ],
)
def test_entity_f1_of_stored_predictions(target, prediction, expected):
    scores = score(WNUT17, [_example(*target.split())], [tuple(prediction.split())])
    assert scores == {"entity_f1": pytest.approx(100 * expected)}
    assert task_score(WNUT17, scores) == scores["entity_f1"]


@given(pairs=st.lists(st.lists(st.tuples(any_tag, any_tag), min_size=1, max_size=6), min_size=1, max_size=5))
def test_entity_f1_is_that_of_counted_entities_over_all_sentences(pairs):
    targets = [to_iob2([target for target, _ in sentence]) for sentence in pairs]
    predictions = [tuple(prediction for _, prediction in sentence) for sentence in pairs]
    hits = both = 0
    for target, prediction in zip(targets, predictions, strict=True):
        found, right = set(entities(prediction)), set(entities(target))
        hits, both = hits + len(found & right), both + len(found) + len(right)
    value = score(WNUT17, [_example(*target) for target in targets], predictions)["entity_f1"]
    assert value == pytest.approx(200 * hits / both if both else 0.0)
    scheme = seqeval.scheme.IOB2
    lists = [list(map(list, targets)), list(map(list, predictions))]
    official = seqeval.metrics.f1_score(*lists, mode="strict", scheme=scheme, zero_division=0)
    assert value == pytest.approx(100 * official)


def test_sentences_of_other_lengths_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="another number of tags"):
        score(WNUT17, [_example("O", "O")], [("O",)])


# --- as text


@given(
    sentence=tagged(
        st.lists(st.text("ab;: c", min_size=1).map(lambda w: w.replace(" ", "_")), unique=True, max_size=8)
    )
)
def test_written_entities_are_read_back_where_no_word_comes_twice(sentence):
    words, tags = sentence
    assert parse_entities(written(words, tags), words, KINDS) == tags


@given(sentence=tagged(st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)))
def test_as_many_words_of_each_kind_are_read_back_where_words_come_again(sentence):
    words, tags = sentence
    read = parse_entities(written(words, tags), words, KINDS)
    assert read == to_iob2(read)
    mentions = [[(e.kind, words[e.start : e.end]) for e in entities(t)] for t in (tags, read)]
    # What a mention took may be missing to one that overlaps it; none is made up.
    assert all(mentions[1].count(mention) <= mentions[0].count(mention) for mention in mentions[1])
    assert bool(mentions[1]) == bool(mentions[0])


@given(text=st.text("ab;: personone", max_size=30), words=st.lists(st.sampled_from("abnop"), max_size=5))
def test_anything_written_gives_valid_tags(text, words):
    read = parse_entities(text, words, ("person", "one"))
    assert len(read) == len(words)
    assert read == to_iob2(read)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("person: Ada; person: Ben Nye", "B-person O B-person I-person O O O"),
        ("person: Ben Nye; person: Ada", "O O B-person I-person O O B-person"),  # the next one
        ("person: Paris; person: Ben Nye", "O O B-person I-person O B-person O"),
        ("person:Ada ;person : Ben  Nye ", "B-person O B-person I-person O O O"),
        ("person: Ada; place: Paris; Paris; person: Bath", "B-person O O O O O O"),
        ("person: Ada; person: Ada", "B-person O O O O O B-person"),  # the second one is the next
        ("person: Ada; person: Ada; person: Ada", "B-person O O O O O B-person"),
        ("person: ada", "O O O O O O O"),
        ("person: Ben Nye in; person: Nye", "O O B-person I-person I-person O O"),
        ("creative-work: met Ben", "O B-creative-work I-creative-work O O O O"),
        ("none", "O O O O O O O"),
        ("", "O O O O O O O"),
        ("person:", "O O O O O O O"),
    ],
)
def test_what_is_written_finds_its_words(text, expected):
    words = ["Ada", "met", "Ben", "Nye", "in", "Paris", "Ada"]
    assert parse_entities(text, words, KINDS) == tuple(expected.split())


def test_worked_example():
    words, text = ["Ada", "met", "Ben", "Nye", "in", "Paris"], "P: Ada; P: Ben Nye; city: Paris; L: Bath"
    assert parse_entities(text, words, ("P", "L")) == ("B-P", "O", "B-P", "I-P", "O", "O")


def test_a_mention_may_hold_marks():
    words = ("12:46", ";", "Star", "Wars:", "a")
    tags = ("B-person", "I-person", "B-creative-work", "I-creative-work", "O")
    assert written(words, tags) == "person: 12:46 ;; creative-work: Star Wars:"
    assert parse_entities(written(words, tags), words, KINDS) == tags


# --- files of the user's


def _write(folder: pathlib.Path, **files: str) -> str:
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return f"conll:{folder}"


TRAIN = "Ada\tI-per\nmet\tO\nBen\tI-per\n\nin O\nNew I-loc\nYork I-loc\n"


def test_a_folder_is_a_task(tmp_path):
    name = _write(tmp_path, train_conll=TRAIN, dev_txt="Bath B-loc\n", test_conll="a O\n")
    task = find_task(name)
    assert (task.name, task.kind, task.splits) == (name, "tags", ("train", "validation", "test"))
    assert task.labels == ("O", "B-loc", "I-loc", "B-per", "I-per")
    assert task.load("train") == [
        Example(
            index=0,
            inputs="ner: Ada met Ben",
            targets="per: Ada; per: Ben",
            texts=("Ada met Ben",),
            answer=("B-per", "O", "B-per"),
        ),
        Example(
            index=1,
            inputs="ner: in New York",
            targets="loc: New York",
            texts=("in New York",),
            answer=("O", "B-loc", "I-loc"),
        ),
    ]
    (nothing,) = task.load("test")
    assert nothing.targets == "none"
    for example in (*task.load("train"), nothing):
        assert task.parsed(example.targets, example) == example.answer


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no training file: there must be a train.conll"),
        (
            {"train_conll": TRAIN, "train_txt": TRAIN},
            "train.conll and train.txt, and which is the train split",
        ),
        ({"train_conll": TRAIN, "dev_conll": TRAIN, "valid_conll": TRAIN}, "which is the validation split"),
        ({"train_conll": "a O\n"}, "tags no word as an entity"),
        ({"train_conll": "a X\n"}, "line 1: tag 'X'"),
    ],
)
def test_folders_that_are_no_task(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        find_task(_write(tmp_path, **files))


def test_other_mistakes_are_reported(tmp_path):
    task = find_task(_write(tmp_path, train_conll=TRAIN, dev_conll="a O\n\nBath B-city\n"))
    with pytest.raises(
        UserError, match=r"dev\.conll, line 3: 'city' is none of the kinds to learn, loc, per"
    ):
        task.load("validation")
    with pytest.raises(UserError, match="has no split 'test': choose one of train, validation"):
        task.load("test")
    with pytest.raises(UserError, match="names its files: leave out --data_dir"):
        task.load("train", tmp_path)
    with pytest.raises(UserError, match=r"There is no folder .*nowhere"):
        find_task("conll:nowhere")
    with pytest.raises(UserError, match=r"pass --data_dir with the folder that holds wnut17train\.conll"):
        WNUT17.load("train")
    with pytest.raises(UserError, match=r"emerging\.dev\.conll: --data_dir must be the folder of WNUT-17"):
        WNUT17.load("validation", tmp_path)


# --- the real files


@needs_wnut
@pytest.mark.parametrize(("split", "num_rows"), [("train", 3394), ("validation", 1009), ("test", 1287)])
def test_real_files_have_the_published_rows_and_their_text_gives_their_tags(split, num_rows):
    examples = WNUT17.load(split, WNUT)
    assert WNUT17.load(split, SHARED) == examples
    assert [example.index for example in examples] == list(range(num_rows))
    assert {tag for example in examples for tag in example.answer} == set(WNUT17.labels)
    for example in examples:
        assert len(example.texts[0].split(" ")) == len(example.answer)
    read = [WNUT17.parsed(example.targets, example) for example in examples]
    # What is lost is an entity whose words stand in its sentence before it, as none.
    assert score(WNUT17, examples, read)["entity_f1"] > 99.8
    assert sum(r != example.answer for r, example in zip(read, examples, strict=True)) <= 2
