"""Laws of rows for tagging: each word is asked once, at its first token, and its tag comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.vocabulary import Vocabulary
from t5like.data.wordpiece import WordPieceVocabulary
from t5like.errors import UserError
from t5like.objectives.classification import count_marks, text_rows
from t5like.objectives.tagging import NOT_ASKED, tagging_rows, tags_of_words
from tests.tiny_models import vocabulary_of

TAGS = ("O", "B-x", "I-x", "B-y", "I-y")
NAMES = {"bert": "bert", "roberta": "roberta", "t5": "t5-1.0", "bytes": ""}
VOCABULARIES: dict[str, Vocabulary] = {
    name: ByteVocabulary() if name == "bytes" else vocabulary_of(NAMES[name]) for name in NAMES
}

words = st.text(st.sampled_from("abcdeé.'🙂"), min_size=1, max_size=6)
sentences = st.lists(st.tuples(words, st.sampled_from(TAGS)), min_size=1, max_size=8)
quick = settings(deadline=None, max_examples=100)


def _rows(vocabulary: Vocabulary, tagged: list[list[tuple[str, str]]], length: int):
    texts = [" ".join(word for word, _ in sentence) for sentence in tagged]
    tag_ids = [[TAGS.index(tag) for _, tag in sentence] for sentence in tagged]
    return texts, tagging_rows(texts, tag_ids, vocabulary, length=length)


@pytest.mark.parametrize("name", NAMES)
@quick
@given(tagged=st.lists(sentences, min_size=1, max_size=3))
def test_tags_come_back_from_rows_with_room(name, tagged):
    _, (features, places) = _rows(VOCABULARIES[name], tagged, 256)
    for row, sentence in enumerate(tagged):
        read = tags_of_words(features["tag_ids"][row], places[row], TAGS)
        # A word that the vocabulary has no token for is outside.
        known = [len(VOCABULARIES[name].encode(word)) > 0 for word, _ in sentence]
        assert read == tuple(tag if k else "O" for (_, tag), k in zip(sentence, known, strict=True))


@pytest.mark.parametrize("name", NAMES)
@quick
@given(tagged=st.lists(sentences, min_size=1, max_size=3), length=st.integers(4, 40))
def test_each_word_is_asked_at_its_first_token_and_words_beyond_the_end_are_outside(name, tagged, length):
    vocabulary = VOCABULARIES[name]
    texts, (features, places) = _rows(vocabulary, tagged, length)
    plain = text_rows([(text,) for text in texts], vocabulary, length=length)
    for feature, rows in plain.items():
        np.testing.assert_array_equal(features[feature], rows)
    num_before = len(vocabulary.special_tokens.begin_ids)
    room = length - count_marks(vocabulary.special_tokens, is_pair=False)
    for row, (text, sentence) in enumerate(zip(texts, tagged, strict=True)):
        ((_, spans),) = vocabulary.encode_with_offsets([text])
        asked = places[row][places[row] != NOT_ASKED]
        assert np.flatnonzero(features["tag_weights"][row]).tolist() == asked.tolist()
        assert np.all(np.diff(asked) > 0)
        start = 0
        for (word, _), place in zip(sentence, places[row].tolist(), strict=True):
            tokens = [
                i for i, (s, e) in enumerate(spans.tolist()) if e > s and start <= s < start + len(word)
            ]
            assert place == (tokens[0] + num_before if tokens and tokens[0] < room else NOT_ASKED)
            start += len(word) + 1
        read = tags_of_words(features["tag_ids"][row], places[row], TAGS)
        assert read == tuple(
            "O" if place == NOT_ASKED else tag for (_, tag), place in zip(sentence, places[row], strict=True)
        )
    assert {array.dtype for name, array in features.items() if name == "tag_weights"} == {np.dtype("float32")}
    assert features["tag_ids"].dtype == np.int32


def test_worked_example():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "old", "paddi", "##ngton", "calls"]
    features, places = tagging_rows(
        ["Old Paddington calls"], [[0, 3, 0]], WordPieceVocabulary(pieces), length=7
    )
    assert features["encoder_input_tokens"].tolist() == [[2, 5, 6, 7, 8, 3, 0]]
    assert features["tag_ids"].tolist() == [[0, 0, 3, 0, 0, 0, 0]]
    assert features["tag_weights"].tolist() == [[0, 1, 1, 0, 1, 0, 0]]
    assert places[0].tolist() == [1, 2, 4]


def test_a_word_without_a_token_is_outside_and_takes_no_other_words_place():
    vocabulary = VOCABULARIES["bert"]
    ((ids, _),) = vocabulary.encode_with_offsets(["a \u200b b"])
    assert len(ids) == 2  # BERT reads no control characters
    features, places = tagging_rows(["a \u200b b"], [[1, 3, 2]], vocabulary, length=8)
    assert places[0].tolist() == [1, NOT_ASKED, 2]
    assert tags_of_words(features["tag_ids"][0], places[0], TAGS) == ("B-x", "O", "I-x")


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="inputs_length 2 has no room for text: 2 marks"):
        tagging_rows(["a"], [[0]], VOCABULARIES["bert"], length=2)
    with pytest.raises(ValueError, match="text 1: 2 words but 1 tags"):
        tagging_rows(["a", "a b"], [[0], [0]], VOCABULARIES["bert"], length=8)


def test_no_texts_make_no_rows():
    features, places = tagging_rows([], [], VOCABULARIES["bert"], length=8)
    assert places == []
    assert {array.shape for array in features.values()} == {(0, 8)}
