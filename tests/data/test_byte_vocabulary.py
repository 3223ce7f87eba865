"""ByT5's bytes: every text is its own UTF-8, and the sentinels are the last ids downward."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.byte_vocabulary import ByteVocabulary

BYTES = ByteVocabulary()
# Without sentinels spelt out: the laws put those in themselves.
any_text = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "<extra_id_" not in text)
english = st.text(st.characters(max_codepoint=127), min_size=1).filter(lambda text: "<extra_id_" not in text)


def test_ids_and_sizes() -> None:
    assert (BYTES.num_tokens, BYTES.num_embeddings) == (259, 384)
    assert (BYTES.pad_id, BYTES.eos_id, BYTES.unk_id) == (0, 1, 2)
    assert BYTES.special_tokens.sentinel_ids.tolist() == list(range(258, 158, -1))


@settings(deadline=None, max_examples=200)
@given(any_text)
def test_ids_are_bytes_plus_three_and_come_back(text: str) -> None:
    ids = BYTES.encode(text)
    assert ids.tolist() == [byte + 3 for byte in text.encode()]
    assert BYTES.decode(ids) == text


def test_sentinels_as_in_the_docstring() -> None:
    assert BYTES.encode("a <extra_id_0>é").tolist() == [100, 35, 258, 198, 172]
    assert BYTES.decode([100, 35, 258, 198, 172]) == "a <extra_id_0>é"
    for plain in ("<extra_id_100>", "<extra_id_00>", "<extra_id_-1>", "<extra_id_²>", "<extra_id_>"):
        assert BYTES.encode(plain).tolist() == [byte + 3 for byte in plain.encode()]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(any_text, st.integers(0, 10)), max_size=4))
def test_the_first_eleven_sentinels_survive_among_any_text(parts: list[tuple[str, int]]) -> None:
    text = "".join(f"{before}<extra_id_{number}>" for before, number in parts)
    assert BYTES.decode(BYTES.encode(text)) == text


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(english, st.integers(0, 63)), max_size=4))
def test_those_of_leading_bytes_survive_among_english(parts: list[tuple[str, int]]) -> None:
    text = "".join(f"<extra_id_{number}>{after}" for after, number in parts)
    assert BYTES.decode(BYTES.encode(text)) == text


@pytest.mark.parametrize("end", [1, 2, 3])
def test_half_a_character_at_the_end_reads_as_nothing(end: int) -> None:
    assert BYTES.decode(BYTES.encode("ok 🤷")[: 3 + end]) == "ok "
    assert BYTES.decode(BYTES.encode("🤷 ok")[4 - end :]) == " ok"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(2, 400)))
def test_any_ids_can_be_read(ids: list[int]) -> None:
    assert BYTES.decode(ids) == BYTES.decode([token for token in ids if 3 <= token < 259])
