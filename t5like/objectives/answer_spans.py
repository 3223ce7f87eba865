"""Questions for an encoder that points at the answer in their context, which windows cut where it is too long."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5like.batch import Features, encoder_pair_rows
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.objectives.classification import count_marks, joined

_FIRST, _LAST = 0, 1  # rows of the logits


class Span(NamedTuple):
    """An answer in its context."""

    text: str
    start: int  # of its first character


class Window(NamedTuple):
    """What a row holds of the context of its question.

    Attributes:
      question: place of the question in the list.
      column: where the first of its tokens stands in the row.
      spans: which characters of the context its tokens spell, [num_tokens, 2] int32.
    """

    question: int
    column: int
    spans: np.ndarray


class WindowRows(NamedTuple):
    """Rows, at least one a question and in their order, and what each of them holds.

    Attributes:
      features: what `encoder_pair_rows` gives, and `span_ends` [num_rows, 2] int32: the columns of the first and the
        last token of the answer; 0 and 0, the first token of the row, where it is not in the window as a whole.
      windows: of each row.
    """

    features: Features
    windows: list[Window]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerSpans:
    """Lays questions and windows of their contexts out in rows.

    Attributes:
      doc_stride: tokens from the start of a window to the start of the next, less where the row has room for less.
      max_question_tokens: a question that is longer loses its end.

    Raises:
      UserError: one of them is not positive.

    Source: Devlin et al. 2019, with the settings of the published code.
    """

    doc_stride: int = 128
    max_question_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("doc_stride", "max_question_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1 token, not {getattr(self, name)}.")

    def __call__(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        answers: Sequence[Span | None],
        vocabulary: Vocabulary,
        *,
        length: int,
    ) -> WindowRows:
        """Returns rows whose windows together hold every token of the contexts.

        With length 9, doc_stride 2, and the answer "d e" to "who?" in a context of seven words:

            [CLS] who ? [SEP] a b c d [SEP]    span_ends [0 0]
            [CLS] who ? [SEP] c d e f [SEP]    span_ends [5 6]
            [CLS] who ? [SEP] e f g   [SEP]    span_ends [0 0]

        Args:
          questions: texts.
          contexts: the text that each is asked of.
          answers: what is asked for; None: nothing.
          vocabulary: the model's.
          length: columns of a row.

        Raises:
          UserError: a question of `max_question_tokens` leaves no room for its context.
        """
        special_tokens = vocabulary.special_tokens
        num_marks = count_marks(special_tokens, is_pair=True)
        if length <= num_marks + self.max_question_tokens:
            raise UserError(
                f"inputs_length {length} has no room for a context beside {num_marks} marks and a question of "
                f"{self.max_question_tokens} tokens: make it longer, or max_question_tokens smaller."
            )
        num_around = len(special_tokens.begin_ids) + len(special_tokens.separator_ids)
        firsts, seconds, windows, ends = [], [], [], []
        distinct = list(dict.fromkeys(contexts))  # a context has many questions
        encoded = dict(zip(distinct, vocabulary.encode_with_offsets(distinct), strict=True))
        for number, question_ids in enumerate(vocabulary.encode_batch(list(questions))):
            question_ids = question_ids[: self.max_question_tokens]
            context_ids, spans = encoded[contexts[number]]
            answer = _tokens_of(answers[number], spans)
            column = num_around + len(question_ids)
            room = length - num_marks - len(question_ids)
            for start, end in _window_ends(len(context_ids), room, self.doc_stride):
                firsts.append(question_ids)
                seconds.append(context_ids[start:end])
                windows.append(Window(number, column, spans[start:end]))
                is_inside = answer is not None and start <= answer[0] and answer[1] < end
                ends.append([token - start + column for token in answer] if is_inside and answer else [0, 0])
        rows = encoder_pair_rows(*joined(firsts), *joined(seconds), special_tokens, length=length)
        return WindowRows({**rows, "span_ends": np.array(ends, np.int32).reshape(-1, 2)}, windows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerReader:
    """Reads the answer to a question off the logits of its windows.

    Attributes:
      n_best: of each window so many of the likeliest first tokens are tried with as many last ones.
      max_answer_tokens: a longer answer is none.
      null_threshold: there is no answer where none scores more than that above the best one. Matters only where
        there may be none.

    Raises:
      UserError: a number of tokens or of tries is not positive.

    Source: the published code of BERT for SQuAD, as Transformers' example has it. Here the likeliest are looked for
    among the tokens of the context, and not among all of which the others are then dropped.
    """

    n_best: int = 20
    max_answer_tokens: int = 30
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_best", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def __call__(
        self, context: str, windows: Sequence[Window], logits: Sequence[np.ndarray], *, may_be_none: bool
    ) -> str:
        """Returns the text of the context whose ends have the largest logits in a window, of equals the first; '' for none.

        The score of an answer is the sum of both logits. None is the answer where the first token of the row scores more
        than the best one does, in every window. Where there must be an answer, it is '' only for want of tokens.

        Args:
          context: of the question.
          windows: all of the question.
          logits: of each window [2, at least the row's tokens] float: of being the answer's first and last token.
          may_be_none: whether the question may have no answer.
        """
        best_score, best_text = -np.inf, ""
        for window, window_logits in zip(windows, logits, strict=True):
            score, first, last = self._best(window, window_logits)
            if score > best_score:
                best_score = score
                best_text = context[window.spans[first, 0] : window.spans[last, 1]]
        if not may_be_none:
            return best_text
        null_score = min(float(both[_FIRST, 0]) + float(both[_LAST, 0]) for both in logits)
        return "" if null_score - best_score > self.null_threshold else best_text

    def _best(self, window: Window, logits: np.ndarray) -> tuple[float, int, int]:
        """Returns the score of the best answer of a window, -inf for none, and its first and last token there."""
        spelling = np.flatnonzero(window.spans[:, 1] > window.spans[:, 0])
        scores = logits[:, window.column + spelling].astype(np.float64)
        # [tries], in order of the text, so that of equal scores the first is taken
        firsts, lasts = (np.sort(np.argsort(-side, kind="stable")[: self.n_best]) for side in scores)
        distances = spelling[lasts] - spelling[firsts][:, None]
        is_answer = (distances >= 0) & (distances < self.max_answer_tokens)
        if not is_answer.any():
            return -np.inf, 0, 0
        # [tries, tries]
        sums = np.where(is_answer, scores[_FIRST, firsts][:, None] + scores[_LAST, lasts], -np.inf)
        first, last = np.unravel_index(np.argmax(sums), sums.shape)
        return float(sums[first, last]), int(spelling[firsts[first]]), int(spelling[lasts[last]])


def _window_ends(num_tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Returns start and end of each window, the first that reaches the last token being the last.

    7 tokens, room 4, stride 2:   (0, 4) (2, 6) (4, 7)
    """
    starts = range(0, max(num_tokens - room, 0) + min(stride, room), min(stride, room))
    return [(start, min(start + room, num_tokens)) for start in starts]


def _tokens_of(answer: Span | None, spans: np.ndarray) -> tuple[int, int] | None:
    """Returns the first and the last token that spell something of an answer, None where there are none.

    Args:
      answer: None: nothing.
      spans: [num_tokens, 2], of the context's tokens.
    """
    if answer is None:
        return None
    end = answer.start + len(answer.text)
    tokens = np.flatnonzero(np.minimum(spans[:, 1], end) > np.maximum(spans[:, 0], answer.start))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None
