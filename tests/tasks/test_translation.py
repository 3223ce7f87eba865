"""Translation: prompts, which files are which split, errors in them, BLEU and chrF as sacreBLEU has them."""

import math
import pathlib
import random
from collections import Counter

import pytest
import sacrebleu

from t5like.errors import UserError
from t5like.tasks import find_task
from t5like.tasks.base import Example, score
from t5like.tasks.translation import CHRF, LANGUAGES, ParallelText, bleu, splits_of_folder

SHARED = (pathlib.Path(__file__).resolve().parents[2] / "../shared/data").resolve()
needs_multi30k = pytest.mark.skipif(
    not (SHARED / "multi30k").exists(), reason="shared data not in this checkout: the real files of multi30k"
)
needs_newstest = pytest.mark.skipif(
    not (SHARED / "newstest2014").exists(), reason="shared data not in this checkout: newstest2014"
)

ENGLISH = "A man sleeps.\nTwo dogs run.\n"
GERMAN = "Ein Mann schläft.\nZwei Hunde laufen.\n"

# Stored predictions: right, a word wrong, cased otherwise, cut short, empty, with marks and with letters beyond ASCII.
TARGETS = (
    "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
    "Zwei Hunde laufen über das nasse Gras.",
    "Eine Frau, die lacht, sieht aus dem Fenster.",
    "Drei Kinder spielen im Schnee.",
    "Er sagte: \u201eNein, danke.\u201c",
    "Das kostet 1.000,50 Euro (ohne Steuer).",
)
PREDICTIONS = (
    "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
    "Zwei Hunde rennen über das nasse Gras.",
    "eine frau, die lacht, sieht aus dem fenster.",
    "Drei Kinder",
    "",
    "Das kostet 1.000,50 Euro ohne Steuer.",
)


def _write(folder: pathlib.Path, **texts: str) -> pathlib.Path:
    """Writes train_en="..." to train.en and returns the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in texts.items():
        stem, _, code = name.rpartition("_")
        (folder / f"{stem}.{code}").write_text(text, encoding="utf-8")
    return folder


def _examples(*targets: str, accepted: tuple[tuple[str, ...], ...] | None = None) -> list[Example]:
    return [
        Example(
            index=index,
            inputs="",
            targets=target,
            answer=target,
            accepted=accepted[index] if accepted else (),
        )
        for index, target in enumerate(targets)
    ]


# --- examples


def test_worked_example(tmp_path):
    _write(tmp_path, val_en=ENGLISH, val_de=GERMAN)
    assert find_task("translation/multi30k_en_de").load("validation", tmp_path) == [
        Example(
            index=0,
            inputs="translate English to German: A man sleeps.",
            targets="Ein Mann schläft.",
            answer="Ein Mann schläft.",
        ),
        Example(
            index=1,
            inputs="translate English to German: Two dogs run.",
            targets="Zwei Hunde laufen.",
            answer="Zwei Hunde laufen.",
        ),
    ]


def test_the_other_direction_swaps_the_texts(tmp_path):
    _write(tmp_path, train_en=ENGLISH, train_de=GERMAN)
    there, back = (find_task(f"translation:{pair}:{tmp_path}").load("train") for pair in ("en-de", "de-en"))
    for one, other in zip(there, back, strict=True):
        assert one.inputs == f"translate English to German: {other.targets}"
        assert other.inputs == f"translate German to English: {one.targets}"


def test_a_language_without_a_name_goes_by_its_code(tmp_path):
    _write(tmp_path, train_en=ENGLISH, train_tlh="tlhIngan\nmaH\n")
    assert "tlh" not in LANGUAGES
    examples = find_task(f"translation:tlh-en:{tmp_path}").load("train")
    assert examples[0].inputs == "translate tlh to English: tlhIngan"


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\x0b", "\x0c", "\r"])
def test_lines_end_at_newlines_only(tmp_path, letter):
    _write(tmp_path, train_en=f"\ufeffone{letter}two\r\n\r\nthree", train_de="a\nb\nc\n")
    examples = find_task(f"translation:de-en:{tmp_path}").load("train")
    assert [example.targets for example in examples] == [f"one{letter}two", "", "three"]


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        (["train"], {"train": "train"}),
        (["dev", "train"], {"train": "train", "validation": "dev"}),
        (["train", "val", "test"], {"train": "train", "validation": "val", "test": "test"}),
        (["newstest2014-deen"], {"test": "newstest2014-deen"}),
        (
            ["train", "valid", "test_2016", "test_2017"],
            {"train": "train", "validation": "valid", "test_2016": "test_2016", "test_2017": "test_2017"},
        ),
    ],
)
def test_splits_are_told_by_the_names_of_files(tmp_path, stems, expected):
    for stem in stems:
        _write(tmp_path, **{f"{stem}_en": "x\n", f"{stem}_de": "y\n"})
    _write(tmp_path, alone_en="x\n", train_fr="z\n")
    assert splits_of_folder(tmp_path, "en", "de") == expected
    task = find_task(f"translation:en-de:{tmp_path}")
    assert task.splits == tuple(expected)
    for split in task.splits:
        assert [example.answer for example in task.load(split)] == ["y"]


# --- what is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("translation:FOLDER", "write translation:en-de:FOLDER"),
        ("translation:en:FOLDER", "write translation:en-de:FOLDER"),
        ("translation:en-en:FOLDER", "write translation:en-de:FOLDER"),
        ("translation:en-de:", "write translation:en-de:FOLDER"),
        ("translation:en-de:FOLDERx", "There is no folder"),
        (
            "translation:en-dee:FOLDER",
            "end in .en and .dee, such as train.en and train.dee: did you mean .de?",
        ),
        ("translation:xy-de:FOLDER", "end in .xy and .de"),
    ],
)
def test_names_of_no_parallel_text_are_refused(tmp_path, name, message):
    folder = _write(tmp_path / "text", train_en=ENGLISH, train_de=GERMAN)
    with pytest.raises(UserError) as caught:
        find_task(name.replace("FOLDER", str(folder)))
    assert message in str(caught.value)


def test_files_of_different_lengths_are_refused(tmp_path):
    _write(tmp_path, train_en=ENGLISH, train_de=GERMAN + "Noch einer.\n")
    with pytest.raises(UserError, match=r"train\.en has 2 lines and .*train\.de 3"):
        find_task(f"translation:en-de:{tmp_path}").load("train")


def test_broken_and_missing_files_are_told(tmp_path):
    task = find_task("translation/multi30k_en_de")
    with pytest.raises(UserError, match=r"needs --data_dir, the folder that holds train\.en and train\.de"):
        task.load("validation")
    _write(tmp_path, train_en=ENGLISH, val_en=ENGLISH, val_de="")
    with pytest.raises(UserError, match=r"There is no .*train\.de; the nearest name there is 'train\.en'"):
        task.load("train", tmp_path)
    (tmp_path / "train.de").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"train\.de, line 2: not UTF-8"):
        task.load("train", tmp_path)
    _write(tmp_path, val_en="")
    with pytest.raises(UserError, match=r"val\.en is empty"):
        task.load("validation", tmp_path)
    _write(tmp_path, dev_en="", dev_de="")
    with pytest.raises(UserError, match="holds val and dev files for the validation"):
        find_task(f"translation:en-de:{tmp_path}")
    (tmp_path / "dev.en").unlink()
    with pytest.raises(UserError, match="leave out --data_dir"):
        find_task(f"translation:en-de:{tmp_path}").load("train", tmp_path)


# --- metrics


def _plain_bleu(targets: list[str], predictions: list[str]) -> float:
    """Returns BLEU of texts whose words are between blanks, by its definition; some n-grams of every order match."""
    log_precision = 0.0
    for order in range(1, 5):
        num_hits = num_all = 0
        for target, prediction in zip(targets, predictions, strict=True):
            grams = [
                Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
                for words in (target.split(), prediction.split())
            ]
            num_hits += sum((grams[0] & grams[1]).values())
            num_all += sum(grams[1].values())
        log_precision += math.log(num_hits / num_all) / 4
    lengths = [sum(len(text.split()) for text in side) for side in (targets, predictions)]
    return math.exp(log_precision + min(0.0, 1 - lengths[0] / lengths[1]))


def test_bleu_is_its_definition():
    chance = random.Random(0)
    targets = [" ".join(chance.choices("abcdef", k=chance.randint(4, 12))) for _ in range(50)]
    predictions = [" ".join(word for word in text.split() if chance.random() < 0.9) for text in targets]
    for one, other in ((targets, predictions), (predictions, targets)):  # too short, and too long
        assert bleu("none").measure(_examples(*one), other) == pytest.approx(_plain_bleu(one, other))


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "char", "none"])
def test_bleu_of_stored_predictions_is_sacrebleus(tokenizer):
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [TARGETS], tokenize=tokenizer).score
    assert 100 * bleu(tokenizer).measure(_examples(*TARGETS), PREDICTIONS) == pytest.approx(
        expected, abs=1e-9
    )


def test_the_default_tokenizer_is_that_of_published_scores():
    examples = _examples(*TARGETS)
    assert bleu() == bleu("13a")
    assert bleu().measure(examples, PREDICTIONS) != bleu("intl").measure(examples, PREDICTIONS)


def test_chrf_of_stored_predictions_is_sacrebleus():
    expected = sacrebleu.corpus_chrf(PREDICTIONS, [TARGETS]).score
    assert 100 * CHRF.measure(_examples(*TARGETS), PREDICTIONS) == pytest.approx(expected, abs=1e-9)


def test_several_references_count_as_in_sacrebleu():
    accepted = tuple((text, text.upper(), text[::-1])[: 1 + index % 3] for index, text in enumerate(TARGETS))
    examples = _examples(*TARGETS, accepted=accepted)
    streams = [[texts[k] if k < len(texts) else None for texts in accepted] for k in range(3)]
    for metric, reference in ((bleu(), sacrebleu.corpus_bleu), (CHRF, sacrebleu.corpus_chrf)):
        expected = reference(PREDICTIONS, streams).score
        assert 100 * metric.measure(examples, PREDICTIONS) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [bleu(), CHRF], ids=lambda metric: metric.name)
def test_perfect_and_empty_answers(metric):
    examples = _examples(*TARGETS)
    assert metric.measure(examples, list(TARGETS)) == pytest.approx(1.0)
    assert metric.measure(examples, [""] * len(examples)) == 0.0


def test_signatures_say_how_the_score_came_about():
    assert bleu().measure.signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "tok:intl" in bleu("intl").measure.signature()
    assert CHRF.measure.signature(2).startswith("nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_tokenizer_of_a_task_is_an_option(tmp_path):
    text = ParallelText(name="t", source="en", target="de", stems={"train": "train"}, folder=tmp_path)
    examples = _examples(*TARGETS)
    scores = score(text.task("intl"), examples, PREDICTIONS)
    assert scores == {
        "bleu": pytest.approx(100 * bleu("intl").measure(examples, PREDICTIONS)),
        "chrf": pytest.approx(100 * CHRF.measure(examples, PREDICTIONS)),
    }


# --- the real files


@needs_multi30k
@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de", "en")])
def test_real_files_have_the_published_rows(source, target):
    folder = SHARED / "multi30k"
    task = find_task(f"translation/multi30k_{source}_{target}")
    num_rows = {"train": 29000, "validation": 1014, "test": 1000}
    generic = find_task(f"translation:{source}-{target}:{folder}")
    assert set(task.splits) == set(generic.splits) == set(num_rows)
    for split, num in num_rows.items():
        examples = task.load(split, folder)
        assert len(examples) == num
        assert generic.load(split) == examples
        assert all(example.targets and not example.inputs.endswith(": ") for example in examples)


@needs_newstest
def test_newstest_is_a_test_split():
    task = find_task(f"translation:en-de:{SHARED / 'newstest2014'}")
    assert task.splits == ("test",)
    assert len(task.load("test")) == 3003
