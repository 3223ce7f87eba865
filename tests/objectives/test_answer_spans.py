"""Laws of windows and of answers: every token of a context is in a row, and what is asked for is read back."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5like.data.byte_vocabulary import ByteVocabulary
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.answer_spans import AnswerReader, AnswerSpans, Span, Window
from t5like.objectives.classification import count_marks
from tests.tiny_models import vocabulary_of

NAMES = {"bert": "bert", "roberta": "roberta", "t5": "t5-1.0", "bytes": ""}
VOCABULARIES: dict[str, Vocabulary] = {
    name: ByteVocabulary() if name == "bytes" else vocabulary_of(NAMES[name]) for name in NAMES
}

texts = st.lists(st.text(st.sampled_from("abcé🙂.(' "), max_size=6), max_size=12).map(" ".join)
quick = settings(deadline=None, max_examples=100)


@st.composite
def asked(draw):
    """Draws a question, its context and an answer in it, or none."""
    context = draw(texts)
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(context))] * 2)))
    answer = Span(context[start:end], start) if draw(st.booleans()) else None
    return draw(texts), context, answer


@pytest.mark.parametrize("name", NAMES)
@quick
@given(
    asked=st.lists(asked(), max_size=3),
    stride=st.integers(1, 12),
    question_tokens=st.integers(1, 6),
    more=st.integers(1, 20),
)
def test_rows_hold_every_token_of_the_context_and_point_at_the_answer(
    name, asked, stride, question_tokens, more
):
    vocabulary = VOCABULARIES[name]
    special = vocabulary.special_tokens
    length = count_marks(special, is_pair=True) + question_tokens + more
    questions, contexts, answers = [list(column) for column in zip(*asked, strict=True)] or [[], [], []]
    spans_of = AnswerSpans(doc_stride=stride, max_question_tokens=question_tokens)
    features, windows = spans_of(questions, contexts, answers, vocabulary, length=length)
    assert {len(array) for array in features.values()} == {len(windows)}
    assert [window.question for window in windows] == sorted(window.question for window in windows)
    assert {window.question for window in windows} == set(range(len(asked)))
    for number, (question, context, answer) in enumerate(asked):
        head = [
            *special.begin_ids,
            *vocabulary.encode(question)[:question_tokens],
            *special.separator_ids,
        ]
        ((ids, spans),) = vocabulary.encode_with_offsets([context])
        token, covered = 0, 0  # where the window starts, and how far those before it reach
        for row, window in enumerate(windows):
            if window.question != number:
                continue
            end = token + len(window.spans)
            expected = [*head, *ids[token:end], special.eos_id]
            assert features["encoder_input_tokens"][row, : len(expected)].tolist() == expected
            assert features["encoder_segment_ids"][row].sum() == len(expected)
            types = features["encoder_token_types"][row, : len(expected)]
            assert types.tolist() == [0] * len(head) + [1] * (len(expected) - len(head))
            assert window.column == len(head)
            np.testing.assert_array_equal(window.spans, spans[token:end])
            _check_ends(features["span_ends"][row], window, answer, spans, token)
            assert token <= covered
            covered, token = end, token + min(stride, length - len(head) - 1)
        assert covered == len(ids)


def _check_ends(ends: np.ndarray, window: Window, answer: Span | None, spans: np.ndarray, token: int) -> None:
    """Checks that a row asks for the tokens that spell the answer if it has them all, else for its first token."""
    spelling = None if answer is None else _spelling_ends(answer, spans)
    if spelling is not None and token <= spelling[0] and spelling[1] < token + len(window.spans):
        assert (ends - window.column + token).tolist() == list(spelling)
    else:
        assert ends.tolist() == [0, 0]


def _spelling_ends(answer: Span, spans: np.ndarray) -> tuple[int, int] | None:
    """Returns the first and the last token that share a letter with an answer."""
    letters = set(range(answer.start, answer.start + len(answer.text)))
    tokens = [i for i, (start, end) in enumerate(spans.tolist()) if letters & set(range(start, end))]
    return (tokens[0], tokens[-1]) if tokens else None


@pytest.mark.parametrize("name", NAMES)
@quick
@given(asked=asked(), more=st.integers(1, 80), may_be_none=st.booleans())
def test_the_right_ends_read_back_as_the_answer(name, asked, more, may_be_none):
    question, context, answer = asked
    vocabulary = VOCABULARIES[name]
    length = count_marks(vocabulary.special_tokens, is_pair=True) + 3 + more
    spans_of = AnswerSpans(max_question_tokens=3, doc_stride=2)
    features, windows = spans_of([question], [context], [answer], vocabulary, length=length)
    logits = np.zeros((len(windows), 2, length), np.float32)
    rows = np.arange(len(windows))
    logits[rows, 0, features["span_ends"][:, 0]] = 1.0
    logits[rows, 1, features["span_ends"][:, 1]] = 1.0
    reader = AnswerReader(max_answer_tokens=length, n_best=3)
    read = reader(context, windows, logits, may_be_none=may_be_none)
    is_asked = (features["span_ends"] > 0).all(axis=1)
    if is_asked.any():
        assert answer is not None
        ((_, spans),) = vocabulary.encode_with_offsets([context])
        ends = _spelling_ends(answer, spans)
        assert ends is not None
        assert read == context[spans[ends[0], 0] : spans[ends[1], 1]]
        if name == "bytes":  # which spells every letter by itself
            assert read == answer.text.strip()
    elif may_be_none:
        assert read == ""


def _reference(context, windows, logits, reader: AnswerReader, may_be_none: bool) -> str:
    """Returns the answer by trying all there is."""
    best, text = -np.inf, ""
    for window, both in zip(windows, logits, strict=True):
        tokens = range(len(window.spans))
        for first, last in itertools.product(tokens, tokens):
            spelt = [window.spans[token][1] > window.spans[token][0] for token in (first, last)]
            if all(spelt) and 0 <= last - first < reader.max_answer_tokens:
                score = float(both[0, window.column + first]) + float(both[1, window.column + last])
                if score > best:
                    best, text = score, context[window.spans[first][0] : window.spans[last][1]]
    null = min(float(both[0, 0]) + float(both[1, 0]) for both in logits)
    return "" if may_be_none and null - best > reader.null_threshold else text


@quick
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), may_be_none=st.booleans())
def test_the_best_answer_is_that_of_all_that_there_are(data, seed, may_be_none):
    name = data.draw(st.sampled_from(list(NAMES)))
    question, context, _ = data.draw(asked())
    reader = AnswerReader(
        n_best=1000,
        max_answer_tokens=data.draw(st.integers(1, 5)),
        null_threshold=data.draw(st.sampled_from([-1.0, 0.0, 0.5])),
    )
    vocabulary = VOCABULARIES[name]
    length = count_marks(vocabulary.special_tokens, is_pair=True) + data.draw(st.integers(4, 40))
    spans_of = AnswerSpans(doc_stride=3, max_question_tokens=3)
    _, windows = spans_of([question], [context], [None], vocabulary, length=length)
    rng = np.random.default_rng(seed)
    # Few values, so that there are equals.
    logits = rng.integers(-2, 3, (len(windows), 2, length)).astype(np.float32)
    read = reader(context, windows, logits, may_be_none=may_be_none)
    assert read == _reference(context, windows, logits, reader, may_be_none)
    # Trimmed rows say the same.
    trimmed = [
        both[:, : window.column + len(window.spans)] for both, window in zip(logits, windows, strict=True)
    ]
    assert reader(context, windows, trimmed, may_be_none=may_be_none) == read


def _window(num_tokens: int, column: int = 3) -> Window:
    starts = np.arange(num_tokens) * 2
    return Window(0, column, np.stack([starts, starts + 1], axis=1).astype(np.int32))


CONTEXT = "a b c d e f g h"


def _logits(firsts: dict[int, float], lasts: dict[int, float]) -> np.ndarray:
    """Returns logits of a row of 11 columns, -5 where nothing is said; tokens of the context start at column 3."""
    logits = np.full((2, 11), -5.0, np.float32)
    for side, given_ in enumerate((firsts, lasts)):
        for column, value in given_.items():
            logits[side, column] = value
    return logits


def test_an_answer_does_not_end_before_it_starts_nor_grow_too_long():
    logits = _logits({7: 9.0, 4: 8.0}, {5: 9.0, 10: 8.0})
    read = AnswerReader()(CONTEXT, [_window(8)], [logits], may_be_none=False)
    assert read == "b c"  # 17; "e f g h" is 17 as well, and later; "e" to "c" would be 18
    assert AnswerReader(max_answer_tokens=2)(CONTEXT, [_window(8)], [logits], may_be_none=False) == "b c"
    long = _logits({4: 9.0}, {10: 9.0, 5: 0.0})
    assert AnswerReader()(CONTEXT, [_window(8)], [long], may_be_none=False) == "b c d e f g h"
    assert AnswerReader(max_answer_tokens=6)(CONTEXT, [_window(8)], [long], may_be_none=False) == "b c"


def test_marks_and_question_are_no_answer():
    logits = _logits({0: 99.0, 1: 99.0, 5: 1.0}, {1: 99.0, 2: 99.0, 6: 1.0})
    # However many tokens outside of the context are likelier.
    reader = AnswerReader(n_best=1)
    assert reader(CONTEXT, [_window(8)], [logits], may_be_none=False) == "c d"


def test_only_the_likeliest_are_tried():
    logits = _logits({7: 9.0, 4: 8.0}, {5: 9.0, 10: 1.0})
    assert AnswerReader(n_best=2)(CONTEXT, [_window(8)], [logits], may_be_none=False) == "b c"
    assert AnswerReader(n_best=1)(CONTEXT, [_window(8)], [logits], may_be_none=False) == ""


@pytest.mark.parametrize(
    ("nulls", "threshold", "expected"),
    [
        ((3.0, 3.0), 0.0, "b"),  # a null score equal to that of the answer does not win
        ((3.5, 3.5), 0.0, ""),
        ((3.5, 2.0), 0.0, "b"),  # one window that sees no reason for none is enough
        ((3.5, 3.5), 1.0, "b"),
        ((4.5, 4.5), 1.0, ""),
        ((2.5, 2.5), -1.0, ""),
    ],
)
def test_null_score(nulls, threshold, expected):
    windows = [_window(8), _window(8)]
    logits = [_logits({0: null, 4: 2.0}, {0: 0.0, 4: 1.0}) for null in nulls]
    reader = AnswerReader(null_threshold=threshold)
    assert reader(CONTEXT, windows, logits, may_be_none=True) == expected
    assert reader(CONTEXT, windows, logits, may_be_none=False) == "b"


def test_a_context_without_tokens_has_no_answer():
    features, windows = AnswerSpans(max_question_tokens=2)(
        ["a", "b"], ["", " \n"], [None, Span(" ", 0)], VOCABULARIES["bert"], length=8
    )
    assert features["span_ends"].tolist() == [[0, 0], [0, 0]]
    logits = np.zeros((2, 8), np.float32)
    for may_be_none in (False, True):
        assert AnswerReader()("", windows[:1], [logits], may_be_none=may_be_none) == ""


def test_worked_example():
    vocabulary = VOCABULARIES["bert"]
    features, windows = AnswerSpans(doc_stride=2, max_question_tokens=2)(
        ["a b"], ["a b c d e f g"], [Span("d e", 6)], vocabulary, length=9
    )
    assert [len(window.spans) for window in windows] == [4, 4, 3]
    assert features["span_ends"].tolist() == [[0, 0], [5, 6], [0, 0]]
    cls, sep = vocabulary.special_tokens.begin_ids[0], vocabulary.eos_id
    a, b, *_, e, f, g = vocabulary.encode("a b c d e f g").tolist()
    assert features["encoder_input_tokens"][2].tolist() == [cls, a, b, sep, e, f, g, sep, vocabulary.pad_id]


def test_settings_and_lengths_that_cannot_work_are_refused():
    for name in ("doc_stride", "max_question_tokens"):
        with pytest.raises(UserError, match=f"{name} must be at least 1 token, not 0"):
            AnswerSpans(**{name: 0})
    for name in ("n_best", "max_answer_tokens"):
        with pytest.raises(UserError, match=f"{name} must be at least 1, not 0"):
            AnswerReader(**{name: 0})
    with pytest.raises(UserError, match="inputs_length 67 has no room for a context beside 3 marks"):
        AnswerSpans()(["a"], ["b"], [None], VOCABULARIES["bert"], length=67)
    AnswerSpans()(["a"], ["b"], [None], VOCABULARIES["bert"], length=68)
