"""Laws of every vocabulary: batches, marks, documents, folders of ours and public ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t5like.data.vocabulary import (
    Vocabulary,
    find_vocabulary,
    load_public_vocabulary,
    load_vocabulary,
    save_public_vocabulary,
    save_vocabulary,
)
from t5like.errors import UserError

SHARED = (Path(__file__).resolve().parents[2] / "../shared/data").resolve()
needs_shared_data = pytest.mark.skipif(
    not SHARED.exists(),
    reason="shared data not in this checkout: the published vocabularies and texts to read",
)
PUBLISHED = {
    "t5": "t5",
    "mt5": "t5",
    "umt5": "t5",
    "bert": "bert-base-uncased",
    "distilbert": "bert-base-uncased",
    "gpt2": "gpt2",
    "roberta": "roberta-base",
    "bart": "roberta-base",
}

FAMILIES = ("t5", "bert", "gpt2", "roberta", "bart", "byt5")
FILES = {
    "t5": {"spiece.model"},
    "bert": {"vocab.txt"},
    "gpt2": {"vocab.json", "merges.txt"},
    "roberta": {"vocab.json", "merges.txt"},
    "bart": {"vocab.json", "merges.txt"},
    "byt5": set(),
}
MODEL_TYPES = dict(zip(FAMILIES, FAMILIES, strict=True)) | {"byt5": "t5"}

characters = st.characters(exclude_categories=["Cs"])
SPELT_OUT = [
    "<extra_id_0>",
    "[MASK]",
    "[SEP]",
    " <mask>",
    "</s>",
    "<|endoftext|>",
    "<pad>",
    "the ",
    "don't",
    "  ",
]
texts = st.lists(st.one_of(st.text(characters, max_size=8), st.sampled_from(SPELT_OUT)), max_size=5).map(
    "".join
)
quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def vocabulary(family: str, small_vocabularies: dict[str, Vocabulary]) -> Vocabulary:
    return small_vocabularies[family]


@quick
@given(batch=st.lists(texts, max_size=4))
def test_a_batch_is_its_texts_one_by_one(vocabulary: Vocabulary, batch: list[str]) -> None:
    encoded = vocabulary.encode_batch(batch)
    assert len(encoded) == len(batch)
    for text, ids in zip(batch, encoded, strict=True):
        assert ids.dtype == np.int32
        assert ids.ndim == 1
        np.testing.assert_array_equal(ids, vocabulary.encode(text))
        assert np.all((ids >= 0) & (ids < vocabulary.num_tokens))


def test_no_marks_are_added(vocabulary: Vocabulary) -> None:
    special = vocabulary.special_tokens
    marks = {special.eos_id, special.pad_id, *special.begin_ids}
    for text in ("", "  ", "the module of [1]"):
        assert not marks & set(vocabulary.encode(text).tolist())


@quick
@given(text=texts, after=st.lists(st.integers(0, 600), max_size=3), data=st.data())
def test_decoding_ends_at_the_first_end_mark_and_drops_padding_and_begin_marks(
    vocabulary: Vocabulary, text: str, after: list[int], data: st.DataObject
) -> None:
    special = vocabulary.special_tokens
    ids = [token for token in vocabulary.encode(text).tolist() if token != special.eos_id]
    decoded = vocabulary.decode(ids)
    assert vocabulary.decode(np.array([*ids, special.eos_id, *after])) == decoded
    assert vocabulary.decode([*special.begin_ids, *ids, special.eos_id]) == decoded
    if special.pad_id != special.eos_id:
        place = data.draw(st.integers(0, len(ids)))
        assert vocabulary.decode([*ids[:place], special.pad_id, *ids[place:]]) == decoded


def test_ids_outside_read_as_unknown_or_as_nothing(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("the module").tolist()
    instead = [] if vocabulary.unk_id is None else [vocabulary.unk_id]
    for outside in (-1, vocabulary.num_tokens, vocabulary.num_embeddings, 2**31 - 1):
        assert vocabulary.decode([*ids, outside, *ids]) == vocabulary.decode([*ids, *instead, *ids])


@quick
@given(text=texts)
def test_documents_hold_no_special_token(vocabulary: Vocabulary, family: str, text: str) -> None:
    special = vocabulary.special_tokens
    ids, raw = vocabulary.encode(text), vocabulary.encode_documents([text, text])[1]
    assert raw.dtype == np.int32
    if family == "byt5":  # whose sentinels are bytes as well
        assert raw.tolist() == [byte + 3 for byte in text.encode()]
        return
    marks = {
        special.eos_id,
        special.pad_id,
        *special.begin_ids,
        special.mask_id,
        *special.sentinel_ids.tolist(),
    }
    assert raw.tolist() == [token for token in ids.tolist() if token not in marks]


def test_lone_surrogates_are_a_user_error(vocabulary: Vocabulary) -> None:
    for encode in (vocabulary.encode_batch, vocabulary.encode_documents):
        with pytest.raises(UserError, match="not valid Unicode at character 2"):
            encode(["fine", "ab\udcff"])


def test_there_are_as_many_embeddings_as_tokens_and_less_than_128_more(vocabulary: Vocabulary) -> None:
    assert vocabulary.num_embeddings % 128 == 0
    assert 0 <= vocabulary.num_embeddings - vocabulary.num_tokens < 128


# Where the marks stand.


def marks(vocabulary: Vocabulary, first: str, second: str | None = None) -> list[int]:
    """Returns the ids of a text, or of a pair, as `SpecialTokens` says they are laid out."""
    special = vocabulary.special_tokens
    rest = [] if second is None else [*special.separator_ids, *vocabulary.encode(second).tolist()]
    return [*special.begin_ids, *vocabulary.encode(first).tolist(), *rest, special.eos_id]


LAYOUTS = {
    "t5": ("a </s>", "a </s> b </s>", "<pad>", "a </s>"),
    "byt5": ("a </s>", "a </s> b </s>", "<pad>", "a </s>"),
    "bert": ("[CLS] a [SEP]", "[CLS] a [SEP] b [SEP]", "[PAD]", None),
    "roberta": ("<s> a </s>", "<s> a </s> </s> b </s>", None, None),
    "bart": ("<s> a </s>", "<s> a </s> </s> b </s>", "</s>", "<s> a </s>"),
    "gpt2": ("a <|endoftext|>", None, "<|endoftext|>", None),
}


def test_marks_stand_where_the_family_has_them(vocabulary: Vocabulary, family: str) -> None:
    one, pair, start, target = LAYOUTS[family]
    special = vocabulary.special_tokens
    of = {"a": vocabulary.encode("a").tolist(), "b": vocabulary.encode("b").tolist()}
    if family in ("t5", "byt5"):
        of |= {"<pad>": [0], "</s>": [1]}  # not looked for in text

    def ids(layout: str) -> list[int]:
        return [token for word in layout.split() for token in of.get(word, vocabulary.encode(word).tolist())]

    assert marks(vocabulary, "a") == ids(one)
    if pair is not None:
        assert marks(vocabulary, "a", "b") == ids(pair)
    if start is not None:
        assert [special.decoder_start_id] == ids(start)
    if target is not None:
        assert [*special.target_begin_ids, *of["a"], special.eos_id] == ids(target)


# Folders of ours.


def test_saving_and_loading_keeps_the_vocabulary(vocabulary: Vocabulary, family: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    save_vocabulary(vocabulary, folder)
    assert {path.name for path in folder.iterdir()} == FILES[family] | {"vocabulary.json"}
    loaded = load_vocabulary(folder)
    assert type(loaded) is type(vocabulary)
    assert loaded.sha256 == vocabulary.sha256
    assert loaded.num_tokens == vocabulary.num_tokens
    assert str(loaded.special_tokens) == str(vocabulary.special_tokens)
    text = "The module <mask> [MASK] <extra_id_0> é漢\r\n"
    assert loaded.encode(text).tolist() == vocabulary.encode(text).tolist()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_vocabulary(loaded, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert find_vocabulary(str(folder), extra_ids=7).sha256 == vocabulary.sha256


def test_different_vocabularies_have_different_digests(small_vocabularies: dict[str, Vocabulary]) -> None:
    assert len({vocabulary.sha256 for vocabulary in small_vocabularies.values()}) == len(small_vocabularies)


def change(path: Path, act: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    act(content)
    path.write_text(json.dumps(content))


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as raised:
        act()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied", "gone", "no text"])
def test_a_damaged_file_is_a_user_error(
    vocabulary: Vocabulary, family: str, damage: str, tmp_path: Path
) -> None:
    for name in sorted(FILES[family] | {"vocabulary.json"}):
        save_vocabulary(vocabulary, tmp_path)
        path = tmp_path / name
        content = path.read_bytes()
        if damage == "changed":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes(
                {"cut": content[: len(content) // 2], "emptied": b"", "no text": b"\xff\xfe"}[damage]
            )
        assert str(tmp_path) in refused(lambda: load_vocabulary(tmp_path))


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda d: d.update(kind="wordpieces"),
            "its kind is 'wordpieces', none of sentencepiece, wordpiece,",
        ),
        (lambda d: d.pop("kind"), "its kind is None"),
        (lambda d: d.pop("sha256"), "is not the one that was saved there"),
        (lambda d: d.update(settings=[1]), "its settings are none of a wordpiece vocabulary"),
        (lambda d: d["settings"].pop("added_tokens"), "its settings are none of a wordpiece vocabulary"),
        (lambda d: d["settings"].update(more=1), "its settings are none of a wordpiece vocabulary"),
        (lambda d: d["settings"].update(lowercases="no"), "its settings are none of a wordpiece vocabulary"),
        (lambda d: d["settings"].update(begin_token=None), "vocabulary.json is damaged"),
        (lambda d: d["settings"].update(lowercases=True), "a file or a setting of it has changed"),
        (lambda d: d["settings"].update(end_token="[END]"), r"has no '[END]', its end token"),
    ],
)
def test_a_changed_description_is_a_user_error(
    act: Callable[[dict[str, Any]], Any],
    says: str,
    small_vocabularies: dict[str, Vocabulary],
    tmp_path: Path,
) -> None:
    save_vocabulary(small_vocabularies["bert"], tmp_path)
    change(tmp_path / "vocabulary.json", act)
    assert says in refused(lambda: load_vocabulary(tmp_path))


def test_a_file_of_another_vocabulary_is_noticed(
    small_vocabularies: dict[str, Vocabulary], tmp_path: Path
) -> None:
    save_vocabulary(small_vocabularies["roberta"], tmp_path)
    shutil.copy(tmp_path / "vocabulary.json", tmp_path / "kept")
    save_vocabulary(small_vocabularies["gpt2"], tmp_path)
    shutil.move(tmp_path / "kept", tmp_path / "vocabulary.json")
    assert str(tmp_path) in refused(lambda: load_vocabulary(tmp_path))


def test_a_failed_save_leaves_the_old_files(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vocabulary(vocabulary, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert "No space left on device" in refused(lambda: save_vocabulary(vocabulary, tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# What a user names.


def test_what_a_user_names_is_found(small_vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    t5, bert, gpt2 = (small_vocabularies[family] for family in ("t5", "bert", "gpt2"))
    assert find_vocabulary("bytes", extra_ids=9).sha256 == small_vocabularies["byt5"].sha256
    t5.save(tmp_path / "t5")
    assert find_vocabulary(str(tmp_path / "t5"), extra_ids=9).sha256 == t5.sha256
    file = str(tmp_path / "t5" / "spiece.model")
    assert find_vocabulary(file, extra_ids=100).sha256 == t5.sha256
    assert find_vocabulary(file, extra_ids=9).num_tokens == t5.num_tokens - 91
    save_public_vocabulary(bert, tmp_path / "bert", "bert")
    assert find_vocabulary(str(tmp_path / "bert"), extra_ids=9).sha256 == bert.sha256
    save_public_vocabulary(small_vocabularies["byt5"], tmp_path / "byt5", "t5")
    assert find_vocabulary(str(tmp_path / "byt5"), extra_ids=9).kind == "bytes"
    gpt2.save(tmp_path / "gpt2")
    assert "may be one of GPT-2, RoBERTa or BART" in refused(
        lambda: find_vocabulary(str(tmp_path / "gpt2"), extra_ids=9)
    )
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "gpt2"}')
    assert find_vocabulary(str(tmp_path / "gpt2"), extra_ids=9).sha256 == gpt2.sha256


def test_what_is_no_vocabulary_is_a_user_error(tmp_path: Path) -> None:
    assert "holds no vocabulary" in refused(lambda: find_vocabulary(str(tmp_path), extra_ids=9))
    assert "No such file" in refused(lambda: find_vocabulary(str(tmp_path / "gone"), extra_ids=9))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "'llama'; there is for t5, mt5," in refused(lambda: find_vocabulary(str(tmp_path), extra_ids=9))
    assert "There is no folder" in refused(lambda: load_public_vocabulary(tmp_path / "gone", "t5"))
    for model_type in ("t5", "mt5", "umt5", "bert", "distilbert", "roberta", "gpt2", "bart"):
        assert "holds no vocabulary" in refused(
            lambda family=model_type: load_public_vocabulary(tmp_path, family)
        )


# Public folders.


def test_a_public_folder_gives_the_vocabulary_back(
    vocabulary: Vocabulary, family: str, tmp_path: Path
) -> None:
    save_public_vocabulary(vocabulary, tmp_path, MODEL_TYPES[family])
    loaded = load_public_vocabulary(tmp_path, MODEL_TYPES[family])
    assert loaded.sha256 == vocabulary.sha256
    assert str(loaded.special_tokens) == str(vocabulary.special_tokens)
    if family in ("bert", "gpt2", "roberta", "bart"):  # and from tokenizer.json alone
        for name in FILES[family]:
            (tmp_path / name).unlink()
        assert load_public_vocabulary(tmp_path, family).sha256 == vocabulary.sha256
        (tmp_path / "tokenizer_config.json").unlink()
        (tmp_path / "special_tokens_map.json").unlink()
        assert load_public_vocabulary(tmp_path, family).sha256 == vocabulary.sha256


def test_a_vocabulary_is_saved_only_for_a_family_that_has_it(
    small_vocabularies: dict[str, Vocabulary], tmp_path: Path
) -> None:
    for family, model_type, says in (
        ("bert", "t5", "A t5 model has no wordpiece vocabulary"),
        ("t5", "bert", "A bert model has no sentencepiece vocabulary"),
        ("byt5", "mt5", "A mt5 model has no bytes vocabulary"),
        ("gpt2", "bart", "marks its inputs as gpt2 does"),
        ("t5", "llama", "no vocabulary for models of the type 'llama'"),
    ):
        vocabulary = small_vocabularies[family]
        message = refused(lambda v=vocabulary, m=model_type: save_public_vocabulary(v, tmp_path / "new", m))
        assert says in message
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def public_tokenizers(
    small_vocabularies: dict[str, Vocabulary], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """By family, what Transformers loads from the folders that are written for it."""
    transformers = pytest.importorskip(
        "transformers", reason="Transformers is not installed: it is compared with"
    )
    transformers.logging.set_verbosity_error()
    loaded = {}
    for family, vocabulary in small_vocabularies.items():
        folder = tmp_path_factory.mktemp(family)
        save_public_vocabulary(vocabulary, folder, MODEL_TYPES[family], model_max_length=77)
        loaded[family] = transformers.AutoTokenizer.from_pretrained(folder)
    return loaded


@pytest.fixture
def read_publicly(public_tokenizers: dict[str, Any], family: str) -> Callable[[str], list[int]]:
    return lambda text: public_tokenizers[family](text, add_special_tokens=False).input_ids


# Transformers looks for T5's marks in text too, and has a word begin after each; `<` begins them all. It also strips
# what Python calls white space, and SentencePiece does not know some of that.
plain_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="<\x1c\x1d\x1e\x1f\x85"), max_size=30
)


@quick
@given(text=texts, plain=plain_texts)
def test_transformers_reads_the_same_ids_from_what_is_saved(
    vocabulary: Vocabulary, family: str, read_publicly: Callable[[str], list[int]], text: str, plain: str
) -> None:
    text = plain if family in ("t5", "byt5") else text
    assert read_publicly(text) == vocabulary.encode(text).tolist()


def test_transformers_knows_the_marks_and_the_length_of_what_is_saved(
    vocabulary: Vocabulary, family: str, public_tokenizers: dict[str, Any]
) -> None:
    tokenizer, special = public_tokenizers[family], vocabulary.special_tokens
    assert tokenizer.model_max_length == 77
    if family == "gpt2":
        assert tokenizer("the module").input_ids == vocabulary.encode("the module").tolist()
        assert tokenizer.eos_token_id == special.eos_id
        return
    assert tokenizer("the module").input_ids == marks(vocabulary, "the module")
    assert tokenizer("the module", "of 12").input_ids == marks(vocabulary, "the module", "of 12")
    assert tokenizer.pad_token_id == special.pad_id
    assert tokenizer.unk_token_id == special.unk_id
    if special.mask_id is not None:
        assert tokenizer.mask_token_id == special.mask_id
        assert tokenizer.sep_token_id == special.eos_id
    if family == "bert":
        types = tokenizer("the module", "of 12").token_type_ids
        num_first = len(marks(vocabulary, "the module"))
        assert types == [0] * num_first + [1] * (len(types) - num_first)
    if family == "t5":
        assert len(tokenizer) == vocabulary.num_tokens
        assert tokenizer("the <extra_id_0> of <extra_id_99>").input_ids == marks(
            vocabulary, "the <extra_id_0> of <extra_id_99>"
        )


@needs_shared_data
@pytest.mark.parametrize("model_type", PUBLISHED)
def test_published_vocabularies_are_saved_as_transformers_reads_them(model_type: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="Transformers is not installed: it is compared with"
    )
    transformers.logging.set_verbosity_error()
    vocabulary = load_public_vocabulary(SHARED / "vocab" / PUBLISHED[model_type], model_type)
    save_public_vocabulary(vocabulary, tmp_path, model_type)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    cases = json.loads((SHARED / "tokenizer_vectors/tokenizer_tests.json").read_text(encoding="utf-8"))
    inputs = sorted({case["input"] for each in cases.values() for case in each})
    assert len(inputs) >= 18
    expected = tokenizer(inputs, add_special_tokens=False).input_ids
    assert [ids.tolist() for ids in vocabulary.encode_batch(inputs)] == expected


# --- what a token is


def test_special_ids_are_those_of_no_text(vocabulary: Vocabulary) -> None:
    special = vocabulary.special_tokens
    marks = {special.eos_id, special.pad_id, special.mask_id, special.unk_id, *special.begin_ids} - {None}
    assert vocabulary.is_special.shape == (vocabulary.num_tokens,)
    assert vocabulary.is_special.dtype == bool
    assert vocabulary.is_special[sorted(marks)].all()
    ids = np.concatenate(vocabulary.encode_documents(["the module of [1], don't!", "éü", *SPELT_OUT]))
    assert not vocabulary.is_special[ids[ids != vocabulary.unk_id]].any()
    assert vocabulary.starts_word[vocabulary.is_special].all()
    assert not vocabulary.ends_sentence[vocabulary.is_special].any()


def test_sentinels_are_special_where_they_are_no_bytes(
    family: str, small_vocabularies: dict[str, Vocabulary]
) -> None:
    vocabulary = small_vocabularies[family]
    is_special = vocabulary.is_special[vocabulary.special_tokens.sentinel_ids]
    assert is_special.sum() == {"t5": 100, "byt5": 13}.get(family, 0)


def test_an_id_without_a_token_is_special(small_bpe: dict[str, Vocabulary]) -> None:
    pieces = json.loads(small_bpe["gpt2"].files()["vocab.json"]) | {"far": 1000}
    vocabulary = type(small_bpe["gpt2"])(pieces, [], small_bpe["gpt2"]._settings)
    assert vocabulary.is_special[len(pieces) - 1 : 1000].all()
    assert not vocabulary.is_special[1000]


words = st.lists(st.text("abcdeglmnoprstu", min_size=1, max_size=6), min_size=1, max_size=6)


@quick
@given(words=words)
def test_each_word_begins_with_one_token_that_begins_words(vocabulary: Vocabulary, words: list[str]) -> None:
    ids = vocabulary.encode(" ".join(words))
    assert 1 + vocabulary.starts_word[ids[1:]].sum() == len(words)


@quick
@given(words=words)
def test_a_full_stop_ends_a_sentence_and_letters_do_not(vocabulary: Vocabulary, words: list[str]) -> None:
    ids = vocabulary.encode(" ".join(words) + ".")
    assert vocabulary.ends_sentence[ids].tolist() == [False] * (len(ids) - 1) + [True]


@needs_shared_data
@pytest.mark.parametrize(
    ("name", "starts"),
    [
        # The un aff able cats , _ s at .   Did n ' t they ?   Yes !
        ("t5", [1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0]),
        # the una ##ffa ##ble cats , sat .   didn ' t they ?   yes !
        ("bert", [1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        # The unaff able cats , sat .   Didn 't they ?   Yes !
        ("gpt2", [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]),
        ("roberta", [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]),
    ],
)
def test_words_and_sentences_of_the_published_vocabularies(name: str, starts: list[int]) -> None:
    vocabulary = load_public_vocabulary(SHARED / "vocab" / PUBLISHED[name], name)
    ids = vocabulary.encode("The unaffable cats, sat. Didn't they? Yes!")
    assert vocabulary.starts_word[ids].astype(int).tolist() == starts
    ends = np.flatnonzero(vocabulary.ends_sentence[ids])
    assert [vocabulary.decode([ids[end]]).strip() for end in ends] == [".", "?", "!"]
    num_special = {"t5": 103, "bert": 5, "gpt2": 1, "roberta": 5}
    assert vocabulary.is_special.sum() == num_special[name]
