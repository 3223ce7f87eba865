"""Byte-level BPE against the ids of GPT-2 and RoBERTa, and what its public folders may look like."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.byte_level_bpe import BART, GPT2, ROBERTA, ByteLevelBPEVocabulary
from t5like.data.vocabulary import load_public_vocabulary, save_public_vocabulary
from t5like.errors import UserError

SHARED = (Path(__file__).resolve().parents[2] / "../shared/data").resolve()
needs_shared_data = pytest.mark.skipif(
    not SHARED.exists(),
    reason="shared data not in this checkout: GPT-2's and RoBERTa's vocabularies and the vectors made with them",
)
Small = dict[str, ByteLevelBPEVocabulary]
# Without special tokens spelt out: they are read as such, and dropped again.
plain_texts = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: ">" not in text.partition("<")[2]
)


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return load_public_vocabulary(SHARED / "vocab/gpt2", "gpt2")


@pytest.fixture(scope="module")
def roberta() -> Any:
    return load_public_vocabulary(SHARED / "vocab/roberta-base", "roberta")


def vectors(name: str) -> Any:
    return json.loads((SHARED / "tokenizer_vectors" / name).read_text(encoding="utf-8"))


@needs_shared_data
def test_gpt2_vectors(gpt2: ByteLevelBPEVocabulary) -> None:
    cases = vectors("tokenizer_tests.json")["distilgpt2"]
    assert len(cases) == 18
    for case in cases:
        assert gpt2.encode(case["input"]).tolist() == case["encoded"]["input_ids"]
        assert gpt2.decode(case["encoded"]["input_ids"]) == case["input"]


@needs_shared_data
def test_gpt2_long_vector(gpt2: ByteLevelBPEVocabulary) -> None:
    case = vectors("gpt2_encoded_tokens.json")
    assert gpt2.encode(case["text"]).tolist() == case["token_ids"]
    assert gpt2.decode(case["token_ids"]) == case["decoded_text"]


@needs_shared_data
def test_ids_and_sizes(gpt2: ByteLevelBPEVocabulary, roberta: ByteLevelBPEVocabulary) -> None:
    assert (gpt2.num_tokens, gpt2.num_embeddings) == (50257, 50304)
    assert (gpt2.eos_id, gpt2.pad_id, gpt2.unk_id, gpt2.special_tokens.mask_id) == (50256, 50256, None, None)
    assert (roberta.num_tokens, roberta.num_embeddings) == (50265, 50304)
    special = roberta.special_tokens
    assert (special.begin_ids, special.pad_id, special.eos_id, special.unk_id) == ((0,), 1, 2, 3)
    assert (special.separator_ids, special.mask_id) == ((2, 2), 50264)
    bart = load_public_vocabulary(SHARED / "vocab/roberta-base", "bart").special_tokens
    assert (bart.decoder_start_id, bart.target_begin_ids, bart.pad_id) == (2, (0,), 1)
    assert roberta.encode("Hello world").tolist() == [31414, 232]


@needs_shared_data
@pytest.mark.parametrize(
    ("folder", "model_type"), [("gpt2", "gpt2"), ("roberta-base", "roberta"), ("roberta-base", "bart")]
)
def test_published_files_read_as_transformers_reads_them(
    folder: str, model_type: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="Transformers is not installed: it is compared with"
    )
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(SHARED / "vocab" / folder / name, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = load_public_vocabulary(tmp_path, model_type)
    texts = [case["input"] for cases in vectors("tokenizer_tests.json").values() for case in cases]
    texts += [question["original"] for question in vectors("question_tokens.json")[:500]]
    texts += [
        "Spelt out: <mask>, a  <mask>b <s></s><pad> <unk> <|endoftext|>.",
        "\u200d\ufeff\x00 c\u0301 🤷🏽 漢字",
    ]
    expected = tokenizer(texts, add_special_tokens=False).input_ids
    assert [ids.tolist() for ids in vocabulary.encode_batch(texts)] == expected


@settings(deadline=None, max_examples=200)
@given(
    text=plain_texts,
    family=st.sampled_from(["gpt2", "roberta", "bart"]),
)
def test_every_text_survives_the_round_trip(small_bpe: Small, text: str, family: str) -> None:
    assert small_bpe[family].decode(small_bpe[family].encode(text)) == text


@settings(deadline=None, max_examples=100)
@given(text=plain_texts)
def test_a_prefix_space_is_taken_back(small_bpe: Small, text: str) -> None:
    spaced = with_prefix_space(small_bpe["roberta"])
    expected = text if text.startswith(" ") or not text else f" {text}"
    np.testing.assert_array_equal(spaced.encode(text), small_bpe["roberta"].encode(expected))
    assert spaced.decode(spaced.encode(text)) == text.removeprefix(" ")


def with_prefix_space(vocabulary: ByteLevelBPEVocabulary) -> ByteLevelBPEVocabulary:
    """Returns the same pieces read with a space before every text."""
    pieces = json.loads(vocabulary.files()["vocab.json"])
    _, *merges = vocabulary.files()["merges.txt"].decode().removesuffix("\n").split("\n")
    pairs = [(a, b) for a, b in (merge.split(" ") for merge in merges)]
    return ByteLevelBPEVocabulary(pieces, pairs, dataclasses.replace(ROBERTA, adds_prefix_space=True))


def test_a_mask_takes_the_space_before_it(small_bpe: Small) -> None:
    vocabulary = small_bpe["roberta"]
    mask = vocabulary.special_tokens.mask_id
    assert vocabulary.encode("a <mask> b").tolist() == [
        *vocabulary.encode("a"),
        mask,
        *vocabulary.encode(" b"),
    ]


# Public folders.


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_merges_may_be_spelt_either_way(small_bpe: Small, tmp_path: Path) -> None:
    save_public_vocabulary(small_bpe["gpt2"], tmp_path, "gpt2")
    (tmp_path / "merges.txt").unlink()
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    merges = [
        merge if isinstance(merge, list) else merge.split(" ") for merge in tokenizer["model"]["merges"]
    ]
    for spelling in (merges, [" ".join(merge) for merge in merges]):
        tokenizer["model"]["merges"] = spelling
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        assert load_public_vocabulary(tmp_path, "gpt2").sha256 == small_bpe["gpt2"].sha256


def test_the_version_line_of_the_merges_may_be_missing(small_bpe: Small, tmp_path: Path) -> None:
    small_bpe["gpt2"].save(tmp_path)
    path = tmp_path / "merges.txt"
    content = path.read_text(encoding="utf-8")
    assert content.startswith("#version")
    path.write_text(content.partition("\n")[2].removesuffix("\n"), encoding="utf-8")
    assert load_public_vocabulary(tmp_path, "gpt2").sha256 == small_bpe["gpt2"].sha256


def test_a_prefix_space_is_read_from_either_file(small_bpe: Small, tmp_path: Path) -> None:
    spaced = with_prefix_space(small_bpe["roberta"])
    save_public_vocabulary(spaced, tmp_path, "roberta")
    assert load_public_vocabulary(tmp_path, "roberta").sha256 == spaced.sha256
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_public_vocabulary(tmp_path, "roberta").sha256 == spaced.sha256
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": false}')
    assert load_public_vocabulary(tmp_path, "roberta").sha256 == small_bpe["roberta"].sha256


def test_gpt2_pads_with_what_its_folder_names(small_bpe: Small, tmp_path: Path) -> None:
    small_bpe["gpt2"].save(tmp_path)
    end = small_bpe["gpt2"].eos_id
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    assert load_public_vocabulary(tmp_path, "gpt2").sha256 == small_bpe["gpt2"].sha256
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "[PAD]"}')
    with pytest.raises(UserError, match=r"has no '\[PAD\]', its padding token"):
        load_public_vocabulary(tmp_path, "gpt2")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[PAD]": end + 1}))
    padded = load_public_vocabulary(tmp_path, "gpt2")
    assert (padded.pad_id, padded.eos_id, padded.num_tokens) == (end + 1, end, end + 2)
    assert padded.encode("[PAD]").tolist() == [end + 1]
    assert padded.encode_documents(["[PAD]"])[0].tolist() == []
    save_public_vocabulary(padded, tmp_path / "again", "gpt2")
    assert load_public_vocabulary(tmp_path / "again", "gpt2").sha256 == padded.sha256


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("vocab.json", '{"a": 1, "<|endoftext|>": 1}', "two of its pieces have the same id"),
        ("vocab.json", '{"a": "one"}', "not all of its pieces have an id"),
        ("vocab.json", '{"a": -1}', "not all of its pieces have an id"),
        ("vocab.json", '{"a": 1, "<|endoftext|>": 2}', "its pieces and merges do not fit"),
        ("vocab.json", "[]", "holds a list where an object belongs"),
        ("merges.txt", "#version: 0.2\na b c\n", "'a b c' is no merge of two pieces"),
        ("merges.txt", "#version: 0.2\na\n", "'a' is no merge of two pieces"),
        ("tokenizer_config.json", '{"eos_token": "</s>"}', "has no '</s>', its end token"),
        ("tokenizer_config.json", '{"tokenizer_class": "LlamaTokenizer"}', "is a LlamaTokenizer"),
        ("tokenizer.json", '{"normalizer": {"type": "NFC"}}', "its normalizer is {'type': 'NFC'}"),
        ("tokenizer.json", '{"pre_tokenizer": {"type": "Sequence"}}', "its pre_tokenizer.type is 'Sequence'"),
    ],
)
def test_a_public_folder_that_cannot_be_used_says_why(
    file: str, content: str, says: str, small_bpe: Small, tmp_path: Path
) -> None:
    small_bpe["gpt2"].save(tmp_path)
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        load_public_vocabulary(tmp_path, "gpt2")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_layout_is_one_of_three() -> None:
    with pytest.raises(UserError, match="layout must be one of gpt2, roberta, bart, not 'opt'"):
        dataclasses.replace(GPT2, layout="opt")
    assert {GPT2.layout, ROBERTA.layout, BART.layout} == {"gpt2", "roberta", "bart"}
