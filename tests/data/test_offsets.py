"""Laws of the characters that tokens spell, of every kind of vocabulary."""

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t5like.data.offsets import without_spaces
from t5like.data.vocabulary import Vocabulary, find_vocabulary, load_public_vocabulary
from t5like.errors import UserError

FAMILIES = ("t5", "bert", "gpt2", "roberta", "bart", "byt5")
WITH_SENTINELS = ("t5", "byt5")
SHARED = (Path(__file__).resolve().parents[2] / "../shared/data").resolve()

characters = st.characters(exclude_categories=["Cs"])
spelt_out = st.sampled_from(["<extra_id_0>", "<extra_id_1> ", "[MASK]", " <mask>", "</s>", "the ", "  "])
texts = st.lists(st.one_of(st.text(characters, max_size=8), spelt_out), max_size=5).map("".join)
plain_texts = st.text(string.ascii_letters + string.digits + "  .,-'(", max_size=30)
quick = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def vocabulary(family: str, small_vocabularies: dict[str, Vocabulary]) -> Vocabulary:
    return small_vocabularies[family]


@quick
@given(batch=st.lists(texts, max_size=3))
def test_the_ids_are_those_of_a_batch_and_the_spans_are_in_order(
    vocabulary: Vocabulary, batch: list[str]
) -> None:
    encoded = vocabulary.encode_with_offsets(batch)
    assert len(encoded) == len(batch)
    for text, (ids, spans), expected in zip(batch, encoded, vocabulary.encode_batch(batch), strict=True):
        np.testing.assert_array_equal(ids, expected)
        assert (ids.dtype, spans.dtype, spans.shape) == (np.int32, np.int32, (len(ids), 2))
        assert np.all((spans >= 0) & (spans <= len(text)))
        assert np.all(spans[:, 0] <= spans[:, 1])
        assert np.all(np.diff(spans, axis=0) >= 0)
        for start, end in spans.tolist():
            assert text[start:end].strip() == text[start:end]


@quick
@given(text=plain_texts)
def test_a_token_spells_its_characters_and_all_are_spelt(vocabulary: Vocabulary, text: str) -> None:
    ((ids, spans),) = vocabulary.encode_with_offsets([text])
    tokens = list(vocabulary._tokens())
    for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        if not tokens[token].is_special:
            assert text[start:end] == tokens[token].text.strip()
    spelt = {place for start, end in spans.tolist() for place in range(start, end)}
    assert spelt == {place for place, letter in enumerate(text) if letter != " "}


@pytest.mark.parametrize("name", WITH_SENTINELS)
@quick
@given(data=st.data())
def test_a_sentinel_spells_its_name(
    small_vocabularies: dict[str, Vocabulary], name: str, data: st.DataObject
) -> None:
    words = data.draw(st.lists(st.sampled_from(["a", " the", "  ", "<extra_id_0>", "<extra_id_7>"])))
    text, vocabulary = "".join(words), small_vocabularies[name]
    ((ids, spans),) = vocabulary.encode_with_offsets([text])
    sentinels = vocabulary.special_tokens.sentinel_ids.tolist()
    spelt = [
        (sentinels.index(token), text[start:end])
        for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True)
        if token in sentinels
    ]
    expected = [word for word in words if word.startswith("<")]
    assert spelt == [(int(word[-2]), word) for word in expected]
    plain = [text[s:e] for (s, e), token in zip(spans.tolist(), ids.tolist(), strict=True) if e > s]
    assert "".join(plain) == text.replace(" ", "")


def test_worked_examples(small_vocabularies: dict[str, Vocabulary]) -> None:
    ((_, spans),) = small_vocabularies["byt5"].encode_with_offsets(["Ça va"])
    assert spans.tolist() == [[0, 1], [0, 1], [1, 2], [3, 3], [3, 4], [4, 5]]
    spans = np.array([(0, 1), (1, 4), (1, 3)])
    assert without_spaces(spans, "a  b").tolist() == [[0, 1], [3, 4], [3, 3]]


@quick
@given(text=st.text(st.sampled_from("ab \u00a0\t"), max_size=12), data=st.data())
def test_spans_without_spaces_are_those_of_strip(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    ((start, end),) = without_spaces(np.array([cuts]), text).tolist()
    assert text[start:end] == text[cuts[0] : cuts[1]].strip()
    assert cuts[0] <= start <= end <= cuts[1]
    assert end > start or end == cuts[1]


def test_lone_surrogates_are_a_user_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(UserError, match="not valid Unicode at character 2"):
        vocabulary.encode_with_offsets(["fine", "ab\udcff"])


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not in this checkout: published vocabularies")
def test_published_vocabularies() -> None:
    vocab = SHARED / "vocab"
    t5 = find_vocabulary(str(vocab / "t5/spiece.model"), extra_ids=100)
    bert = load_public_vocabulary(vocab / "bert-base-uncased", "bert")
    roberta = load_public_vocabulary(vocab / "roberta-base", "roberta")
    text = "  The na\u00efve \ufb01 cost\u00bd."
    for vocabulary, expected in (
        (t5, ["The", "", "n", "a", "\u00ef", "ve", "\ufb01", "cost", "", "", "\u00bd."]),
        (bert, ["The", "na\u00efve", "\ufb01", "cost", "\u00bd", "."]),
        (roberta, ["", "The", "na\u00efve", "\ufb01", "\ufb01", "\ufb01", "cost", "\u00bd", "."]),
    ):
        ((_, spans),) = vocabulary.encode_with_offsets([text])
        assert [text[start:end] for start, end in spans.tolist()] == expected
