"""WordPiece against BERT's own ids, and what its public folders may look like."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t5like.data.vocabulary import load_public_vocabulary, save_public_vocabulary
from t5like.data.wordpiece import WordPieceSettings, WordPieceVocabulary
from t5like.errors import UserError

SHARED = (Path(__file__).resolve().parents[2] / "../shared/data").resolve()
needs_shared_data = pytest.mark.skipif(
    not SHARED.exists(),
    reason="shared data not in this checkout: BERT's vocabulary and the vectors made with it",
)


@pytest.fixture(scope="module")
def bert() -> Any:
    return load_public_vocabulary(SHARED / "vocab/bert-base-uncased", "bert")


def vectors(name: str) -> Any:
    return json.loads((SHARED / "tokenizer_vectors" / name).read_text(encoding="utf-8"))


@needs_shared_data
def test_bert_ids_and_sizes(bert: WordPieceVocabulary) -> None:
    special = bert.special_tokens
    assert (bert.num_tokens, bert.num_embeddings) == (30522, 30592)
    assert (special.pad_id, special.unk_id, special.mask_id) == (0, 100, 103)
    assert (special.begin_ids, special.eos_id, special.separator_ids) == ((101,), 102, (102,))
    assert special.sentinel_ids.tolist() == []


@needs_shared_data
@pytest.mark.parametrize("name", ["bert-base-uncased", "google-bert/bert-base-uncased"])
def test_bert_vectors(bert: WordPieceVocabulary, name: str) -> None:
    cases = vectors("tokenizer_tests.json")[name]
    assert len(cases) == 18
    for case in cases:
        ids = case["encoded"]["input_ids"]
        assert [101, *bert.encode(case["input"]), 102] == ids
        without_unknown = [token for token in ids if token != bert.unk_id]
        assert bert.decode(without_unknown) == case["decoded_without_special"]
        assert f"[CLS] {bert.decode(ids)} [SEP]" == case["decoded_with_special"]


@needs_shared_data
def test_bert_long_vector(bert: WordPieceVocabulary) -> None:
    case = vectors("bert_uncased_encoded.json")
    assert [101, *bert.encode(case["text"]), 102] == case["token_ids"]
    assert f"[CLS] {bert.decode(case['token_ids'])} [SEP]" == case["decoded_text"]


@needs_shared_data
def test_all_questions_of_squad(bert: WordPieceVocabulary) -> None:
    questions = [question["original"] for question in vectors("question_tokens.json")]
    expected = vectors("tokenized_questions.json")
    assert len(questions) == 10_570
    assert [ids.tolist() for ids in bert.encode_batch(questions)] == expected


@needs_shared_data
def test_a_folder_of_nothing_but_the_vocabulary_reads_as_transformers_reads_it(
    bert: WordPieceVocabulary, tmp_path: Path
) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="Transformers is not installed: it is compared with"
    )
    shutil.copy(SHARED / "vocab/bert-base-uncased/vocab.txt", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (
        "Spelt out: [MASK], [mask], [SEP][CLS] and [PAD]x",
        "Ünïcödé İstanbul \u00df ﬁ Ⅳ 漢字 \u200d\ufeff\x07 c\u0301",
        "🤷🏽 " + "x" * 101 + " " + "y" * 100,
    ):
        assert tokenizer(text, add_special_tokens=False).input_ids == bert.encode(text).tolist()


PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "é",
    "e",
    "É",
    "E",
    "漢",
    "漢字",
    "x",
    "##é",
    "##e",
    "##字",
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (WordPieceSettings(), "e e 漢 [UNK] xe"),
        (WordPieceSettings(lowercases=False), "É e 漢 [UNK] [UNK]"),
        (WordPieceSettings(strips_accents=False), "é e 漢 [UNK] xé"),
        (WordPieceSettings(lowercases=False, strips_accents=True), "E e 漢 [UNK] [UNK]"),
        (WordPieceSettings(splits_chinese=False), "e e 漢字 xe"),
    ],
)
def test_settings_decide_how_a_text_is_read(settings: WordPieceSettings, expected: str) -> None:
    vocabulary = WordPieceVocabulary(PIECES, settings)
    assert vocabulary.decode(vocabulary.encode("É e 漢字 XÉ")) == expected


def test_accents_go_with_case_unless_something_else_is_said() -> None:
    said, unsaid = (WordPieceVocabulary(PIECES, WordPieceSettings(strips_accents=s)) for s in (True, None))
    assert said.sha256 == unsaid.sha256
    cased = WordPieceVocabulary(PIECES, WordPieceSettings(lowercases=False))
    assert cased.sha256 != said.sha256


def test_of_two_equal_pieces_the_later_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vocabulary = WordPieceVocabulary([*PIECES, "x", "last"])
    assert vocabulary.encode("x last").tolist() == [len(PIECES), len(PIECES) + 1]
    assert vocabulary.num_tokens == len(PIECES) + 2
    save_public_vocabulary(vocabulary, tmp_path, "bert")
    capfd.readouterr()  # the library warns of the id that is left out
    assert load_public_vocabulary(tmp_path, "bert").sha256 == vocabulary.sha256
    (tmp_path / "vocab.txt").unlink()
    assert load_public_vocabulary(tmp_path, "bert").sha256 == vocabulary.sha256


def write(folder: Path, **files: Any) -> Path:
    """Writes JSON files, and vocab.txt of strings."""
    for name, content in files.items():
        if name == "vocab":
            (folder / "vocab.txt").write_bytes(content.encode())
        else:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def lines(*pieces: str, end: str = "\n") -> str:
    return "".join(piece + end for piece in pieces)


def test_line_ends_of_any_system_are_read(tmp_path: Path) -> None:
    expected = WordPieceVocabulary(PIECES).sha256
    for content in (lines(*PIECES), lines(*PIECES, end="\r\n"), "\n".join(PIECES)):
        assert load_public_vocabulary(write(tmp_path, vocab=content), "bert").sha256 == expected


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({}, WordPieceSettings()),
        ({"do_lower_case": False}, WordPieceSettings(lowercases=False)),
        ({"do_lower_case": True, "strip_accents": False}, WordPieceSettings(strips_accents=False)),
        ({"strip_accents": None}, WordPieceSettings()),
        ({"tokenize_chinese_chars": False}, WordPieceSettings(splits_chinese=False)),
        ({"unk_token": "x"}, WordPieceSettings(unknown_token="x")),
        ({"mask_token": {"content": "x", "lstrip": False}}, WordPieceSettings(mask_token="x")),
        ({"mask_token": "[NONE]"}, WordPieceSettings(mask_token=None)),
        ({"tokenizer_class": "DistilBertTokenizerFast", "model_max_length": 512}, WordPieceSettings()),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, WordPieceSettings()),
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_settings_of_a_public_folder(
    config: dict[str, Any], settings: WordPieceSettings, model_type: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, vocab=lines(*PIECES), tokenizer_config=config)
    assert load_public_vocabulary(folder, model_type).sha256 == WordPieceVocabulary(PIECES, settings).sha256


def test_special_tokens_may_be_named_in_their_own_file(tmp_path: Path) -> None:
    folder = write(tmp_path, vocab=lines(*PIECES), special_tokens_map={"sep_token": "x"})
    assert load_public_vocabulary(folder, "bert").eos_id == PIECES.index("x")


def test_what_tokenizer_config_does_not_say_tokenizer_json_may(tmp_path: Path) -> None:
    cased = WordPieceVocabulary(PIECES, WordPieceSettings(lowercases=False, splits_chinese=False))
    save_public_vocabulary(cased, tmp_path, "bert")
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_public_vocabulary(tmp_path, "bert").sha256 == cased.sha256
    write(tmp_path, tokenizer_config={"do_lower_case": True, "strip_accents": False})
    expected = WordPieceSettings(strips_accents=False, splits_chinese=False)
    assert load_public_vocabulary(tmp_path, "bert").sha256 == WordPieceVocabulary(PIECES, expected).sha256


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"vocab": lines(*PIECES[:3])}, r"has no '\[SEP\]', its end token"),
        ({"vocab": ""}, r"has no '\[CLS\]', its begin token"),
        ({"tokenizer_config": {"do_lower_case": "yes"}}, "do_lower_case is 'yes', no bool"),
        ({"tokenizer_config": {"pad_token": "[NONE]"}}, r"has no '\[NONE\]', its padding token"),
        ({"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, "is a BertJapaneseTokenizer"),
        ({"tokenizer_config": [1]}, "holds a list where an object belongs"),
        ({"tokenizer": {"model": {"type": "Unigram"}}}, "its model.type is 'Unigram', where this family has"),
        ({"tokenizer": {"normalizer": {"type": "NFKC"}}}, "its normalizer.type is 'NFKC'"),
        ({"added_tokens": {"[NEW]": "seven"}}, "added_tokens.json is damaged"),
        ({"added_tokens": {"[NEW]": 99}}, r"adds the token '\[NEW\]' with the id 99, but its place is 15"),
        ({"tokenizer": {"normalizer": {"lowercase": "yes"}}}, "are not laid out as wordpiece"),
        ({"tokenizer": {"normalizer": ["Lowercase"]}}, "are not laid out as wordpiece"),
        ({"tokenizer": {"added_tokens": [{"id": 3}]}}, "tokenizer.json is damaged: its list of added tokens"),
    ],
)
def test_a_public_folder_that_cannot_be_used_says_why(
    files: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        load_public_vocabulary(write(tmp_path, **{"vocab": lines(*PIECES), **files}), "bert")


@pytest.mark.parametrize(
    "act",
    [
        lambda vocab: vocab.update(x=3),
        lambda vocab: vocab.update(x=-1),
        lambda vocab: vocab.update(x="7"),
        lambda vocab: vocab.update(x=10**9),
        lambda vocab: vocab.clear(),
    ],
)
def test_a_damaged_vocabulary_in_tokenizer_json_is_a_user_error(
    act: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    save_public_vocabulary(WordPieceVocabulary(PIECES), tmp_path, "bert")
    (tmp_path / "vocab.txt").unlink()
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    act(tokenizer["model"]["vocab"])
    with pytest.raises(UserError, match="is damaged"):
        load_public_vocabulary(write(tmp_path, tokenizer=tokenizer), "bert")
