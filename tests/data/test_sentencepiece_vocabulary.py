import json
import pathlib
import re
import subprocess
import sys
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data import sentencepiece_vocabulary
from t5like.data.sentencepiece_vocabulary import SentencePieceVocabulary, train_vocabulary
from t5like.data.vocabulary import load_public_vocabulary, save_public_vocabulary
from t5like.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = (ROOT / "../shared/data").resolve()
needs_shared_data = pytest.mark.skipif(
    not SHARED.exists(),
    reason="shared data not in this checkout: T5's vocabulary and the vectors made with it",
)

DOCUMENTS = [text for _, text in sorted(topics.items())][:12]


@pytest.fixture(scope="module")
def small_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "small.model"
    train_vocabulary(DOCUMENTS, size=400, path=path)
    return path


@pytest.fixture(scope="module")
def small(small_path):
    return SentencePieceVocabulary.load(small_path)


@pytest.fixture(scope="module")
def t5():
    return SentencePieceVocabulary.load(SHARED / "vocab/t5/spiece.model")


@pytest.fixture(scope="module")
def t5_with_own_sentinels():
    return SentencePieceVocabulary.load(
        SHARED / "vocab/t5/sentencepiece_cc_all.32000.100extra-sentencepiece.model"
    )


@needs_shared_data
def test_t5_base_vectors(t5):
    cases = json.loads((SHARED / "tokenizer_vectors/tokenizer_tests.json").read_text())["t5-base"]
    assert len(cases) == 18
    for case in cases:
        ids = case["encoded"]["input_ids"]
        assert [*t5.encode(case["input"]), t5.eos_id] == ids
        if t5.unk_id not in ids and "!!" not in case["input"]:  # the vectors drop a space before punctuation
            assert t5.decode(ids) == case["decoded_without_special"]


@needs_shared_data
def test_t5_base_long_vector(t5):
    case = json.loads((SHARED / "tokenizer_vectors/t5_base_encoded.json").read_text())
    assert t5.encode(case["text"]).tolist() == [token for token in case["token_ids"] if token != t5.eos_id]


@needs_shared_data
def test_t5_ids_and_sizes(t5):
    assert (t5.pad_id, t5.eos_id, t5.unk_id) == (0, 1, 2)
    assert (t5.num_tokens, t5.num_embeddings, t5.num_extra_ids) == (32100, 32128, 100)
    assert t5.special_tokens.eos_id == 1
    assert t5.special_tokens.sentinel_ids.tolist() == list(range(32099, 31999, -1))


@needs_shared_data
def test_sentinels_in_text_as_in_the_docstrings(t5):
    ids = [37, 32099, 10681, 16, 32098, 2447]
    assert t5.encode("The <extra_id_0> walks in <extra_id_1> park").tolist() == ids
    assert t5.encode("The <extra_id_0> walks in<extra_id_1> park").tolist() == ids
    decoded = "The <extra_id_0> walks in <extra_id_1> park"
    assert t5.decode([37, 32099, 10681, 0, 16, 32098, 2447, 1, 37]) == decoded
    assert t5.encode("<extra_id_0><extra_id_1><extra_id_99>").tolist() == [32099, 32098, 32000]
    assert 32000 not in t5.encode("<extra_id_100>")


@needs_shared_data
def test_a_model_with_sentinels_of_its_own_keeps_its_ids(t5, t5_with_own_sentinels):
    own = t5_with_own_sentinels
    assert (own.num_tokens, own.num_embeddings, own.num_extra_ids) == (32101, 32128, 0)
    assert (own.pad_id, own.eos_id, own.unk_id) == (0, 1, 3)
    assert own.special_tokens.sentinel_ids.tolist() == list(range(32100, 32000, -1))
    text = "The <extra_id_0> walks in<extra_id_1> park."
    np.testing.assert_array_equal(own.encode(text), t5.encode(text) + 1)
    assert own.decode(own.encode(text)) == t5.decode(t5.encode(text))


@needs_shared_data
def test_reencoding_real_documents_gives_their_ids(t5):
    """The ids T5's own pipeline made of 500 documents decode to text that encodes to the same ids."""
    path = next((SHARED / "t5_span_corruption_vectors").glob("c4_tokenized*.jsonl"))
    documents = [json.loads(line)["targets"] for line in path.read_text().split("\n")[:50] if line]
    documents = [ids for ids in documents if t5.unk_id not in ids]
    assert len(documents) >= 20
    texts = [t5.decode(ids) for ids in documents]
    assert [ids.tolist() for ids in t5.encode_batch(texts)] == documents


def test_shapes_and_sizes(small):
    assert small.num_tokens == 500
    assert small.num_embeddings == 512
    assert (small.pad_id, small.eos_id, small.unk_id) == (0, 1, 2)
    assert small.special_tokens.sentinel_ids.tolist() == list(range(499, 399, -1))
    assert small.special_tokens.sentinel_ids.dtype == np.int32
    for text in ("", "  ", "the module"):
        assert small.encode(text).dtype == np.int32
        assert small.encode(text).ndim == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["the", "module", "<extra_id_0>", "<extra_id_7>", "x", "12", "(a,", "b)"])))
def test_words_and_sentinels_survive_the_round_trip(small, words):
    text = " ".join(words)
    assert small.decode(small.encode(text)) == text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_a_batch_is_its_texts_one_by_one(small, texts):
    batch = small.encode_batch(texts)
    assert len(batch) == len(texts)
    for text, ids in zip(texts, batch, strict=True):
        np.testing.assert_array_equal(ids, small.encode(text))
        assert np.all((ids >= 0) & (ids < small.num_tokens))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8), st.lists(st.integers(0, 600), max_size=4))
def test_decode_reads_any_ids_up_to_the_end_mark(small, ids, after):
    ids = [token for token in ids if token != small.eos_id]
    text = small.decode(np.array(ids, np.int64))
    assert text == small.decode([*ids, small.eos_id, *after])
    assert text == small.decode([token if 0 <= token < small.num_tokens else small.unk_id for token in ids])
    padded = [token for each in ids for token in (small.pad_id, each)]
    assert text == small.decode(padded)


def test_saving_and_loading_keeps_the_vocabulary(small, tmp_path):
    path = tmp_path / "new" / "folder" / "spiece.model"
    small.save(path.parent)
    loaded = SentencePieceVocabulary.load(path)
    assert loaded.sha256 == small.sha256
    assert path.read_bytes() == small.model_bytes
    assert [entry.name for entry in path.parent.iterdir()] == ["spiece.model"]
    assert SentencePieceVocabulary.load(path, extra_ids=10).sha256 != small.sha256
    assert SentencePieceVocabulary.load(path, extra_ids=0).special_tokens.sentinel_ids.tolist() == []


def test_a_failed_save_leaves_the_old_file(small, tmp_path, monkeypatch):
    path = tmp_path / "spiece.model"
    path.write_bytes(b"old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left"):
        small.save(tmp_path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["spiece.model"]


def test_the_same_text_trains_the_same_bytes_quietly(small_path, tmp_path, capfd):
    train_vocabulary(iter(DOCUMENTS), size=400, path=tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == small_path.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_too_little_text_names_the_largest_size_that_works(tmp_path, capfd):
    text = ["a vocabulary of a few words, and of a few more"]
    with pytest.raises(UserError, match="largest") as caught:
        train_vocabulary(text, size=4096, path=tmp_path / "v.model")
    assert not (tmp_path / "v.model").exists()
    largest = int(re.search(r"largest it can give is (\d+)", str(caught.value))[1])
    train_vocabulary(text, size=largest, path=tmp_path / "v.model")
    assert SentencePieceVocabulary.load(tmp_path / "v.model").num_tokens == largest + 100
    with pytest.raises(UserError, match="largest"):
        train_vocabulary(text, size=largest + 1, path=tmp_path / "v.model")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("documents", "size", "message"),
    [
        ([], 100, "no text"),
        (["", " \n\t"], 100, "no text"),
        (["abcdefgh"], 5, "smallest that can has"),
        (["abc"], 3, "at least 4"),
        (["abc"], -1, "at least 4"),
        (["a\ud800"], 50, "not valid Unicode at character 1"),
    ],
)
def test_what_cannot_be_trained_is_a_user_error(tmp_path, documents, size, message):
    with pytest.raises(UserError, match=message):
        train_vocabulary(documents, size=size, path=tmp_path / "v.model")
    assert not list(tmp_path.iterdir())


def test_lines_of_any_length_are_used(tmp_path):
    train_vocabulary(["ab " * 30_000], size=8, path=tmp_path / "v.model")
    assert len(SentencePieceVocabulary.load(tmp_path / "v.model").encode("ab ab")) < 5


def test_lone_surrogates_are_a_user_error(small):
    with pytest.raises(UserError, match="not valid Unicode at character 2"):
        small.encode_batch(["fine", "ab\udcff"])


def test_any_truncation_is_a_user_error(small_path, tmp_path):
    content = small_path.read_bytes()
    path = tmp_path / "cut.model"
    for length in [*range(600), *range(600, len(content), 4099), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="truncated"):
            SentencePieceVocabulary.load(path)


@pytest.mark.parametrize("content", [b"plain text\n" * 99, b'{"model": {}}', b"\xff" * 99, bytes(99)])
def test_other_files_are_a_user_error(tmp_path, content):
    path = tmp_path / "other.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.model is truncated or not"):
        SentencePieceVocabulary.load(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"gone\.model: No such file"):
        SentencePieceVocabulary.load(tmp_path / "gone.model")
    with pytest.raises(UserError, match="directory"):
        SentencePieceVocabulary.load(tmp_path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"pad_id": -1, "eos_id": 1, "unk_id": 0}, "padding the id 0"),
        ({"pad_id": 0, "eos_id": -1, "unk_id": 1}, "end mark"),
    ],
)
def test_other_conventions_are_a_user_error(tmp_path, ids, message):
    import sentencepiece

    with open(tmp_path / "v.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["hello world"] * 9),
            model_writer=file,
            vocab_size=11,
            bos_id=-1,
            minloglevel=3,
            **ids,
        )
    with pytest.raises(UserError, match=message):
        SentencePieceVocabulary.load(tmp_path / "v.model")


def test_sentinel_pieces_that_begin_no_word_are_used_as_they_are(tmp_path):
    import sentencepiece

    with open(tmp_path / "v.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["hello world"] * 9), model_writer=file, vocab_size=14, minloglevel=3,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["<extra_id_1>", "<extra_id_0>"],
        )  # fmt: skip
    vocabulary = SentencePieceVocabulary.load(tmp_path / "v.model")
    assert (vocabulary.num_tokens, vocabulary.num_extra_ids) == (14, 0)
    assert vocabulary.special_tokens.sentinel_ids.tolist() == [4, 3]
    assert 4 in vocabulary.encode("hello<extra_id_0> world")
    assert vocabulary.decode(vocabulary.encode("hello<extra_id_0>world")) == "hello<extra_id_0>world"


def test_no_protobuf_is_needed():
    """The Python protobuf that SentencePiece's own model reader demands is newer than many machines have."""
    program = (
        "import sys; sys.modules['google.protobuf'] = None; import t5like.data.sentencepiece_vocabulary;"
        "assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# Public folders.


@pytest.mark.parametrize(
    ("model_type", "config", "num_sentinels"),
    [
        ("t5", {}, 100),
        ("mt5", {"extra_ids": 0, "additional_special_tokens": None}, 0),
        ("umt5", {}, 300),
        ("t5", {"extra_ids": 7}, 7),
        ("t5", {"additional_special_tokens": ["<extra_id_0>", {"content": "<extra_id_1>"}]}, 2),
        ("t5", {"extra_special_tokens": ["<pad>", "<extra_id_0>"]}, 1),
        ("t5", {"tokenizer_class": "T5TokenizerFast"}, 100),
    ],
)
def test_a_public_folder_says_how_many_sentinels_are_added(
    small, tmp_path, model_type, config, num_sentinels
):
    small.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = load_public_vocabulary(tmp_path, model_type)
    assert (
        loaded.sha256 == SentencePieceVocabulary(small.model_bytes, extra_ids=num_sentinels, origin="").sha256
    )
    assert len(loaded.special_tokens.sentinel_ids) == num_sentinels


@pytest.mark.parametrize("name", ["tokenizer.model", "sentencepiece.bpe.model"])
def test_the_model_may_have_another_name_where_it_is_like_t5s(small, tmp_path, name):
    (tmp_path / name).write_bytes(small.model_bytes)
    assert load_public_vocabulary(tmp_path, "umt5").num_tokens == 400 + 300


def test_a_model_with_sentinels_of_its_own_gets_no_others_in_public(small, tmp_path):
    whole = SentencePieceVocabulary(
        sentencepiece_vocabulary._with_sentinels(small.model_bytes, 100), extra_ids=100, origin=""
    )
    assert (whole.num_extra_ids, whole.num_tokens) == (0, 500)
    save_public_vocabulary(whole, tmp_path, "mt5")
    assert load_public_vocabulary(tmp_path, "mt5").sha256 == whole.sha256
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["extra_ids"] == 0


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"tokenizer.json": {"model": {"type": "Unigram"}}},
            "put the spiece.model it was made from beside it",
        ),
        ({}, "there is no spiece.model in it"),
        ({"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"}}, "is a LlamaTokenizer"),
        (
            {"tokenizer_config.json": {"extra_ids": "many"}, "spiece.model": None},
            "extra_ids is 'many', no int",
        ),
        ({"added_tokens.json": {"[NEW]": 500}, "spiece.model": None}, r"adds the token '\[NEW\]' \(id 500\)"),
    ],
)
def test_a_public_folder_that_cannot_be_used_says_why(small, tmp_path, files, says):
    for name, content in files.items():
        if content is None:
            small.save(tmp_path)
        else:
            (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        load_public_vocabulary(tmp_path, "t5")
