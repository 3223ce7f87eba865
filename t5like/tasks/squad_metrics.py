"""How answers that are texts are compared in SQuAD and ReCoRD: exact match and F1 of words, after normalisation."""

import collections
import re
import string
from collections.abc import Callable, Sequence

from t5like.tasks.base import Metric
from t5like.tasks.measures import GroupMeanMeasure

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Returns a text in lower case, without ASCII punctuation and articles, with single blanks between its words.

        ' The U.S. -- an  "ally" ' -> 'us ally'

    Source: the official script of SQuAD 1.1, in this order.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """Returns 1 where a normalised prediction is one of the accepted answers, else 0; to accept none is to accept ''."""
    return float(normalize_answer(prediction) in {normalize_answer(answer) for answer in accepted or ("",)})


def token_f1(prediction: str, accepted: Sequence[str], *, both_empty: float = 1.0) -> float:
    """Returns the best F1 of normalised words over the accepted answers; to accept none is to accept ''.

        prediction 'the old mill', accepted 'old water mill': 2 common words of 2 and of 3, F1 = 4/5

    Args:
      prediction: any text.
      accepted: answers that are as good.
      both_empty: F1 where no words are left on either side: 1 in SQuAD 2.0, 0 in SQuAD 1.1 and ReCoRD.
    """
    words = collections.Counter(normalize_answer(prediction).split())
    return max(
        _f1(words, collections.Counter(normalize_answer(answer).split()), both_empty)
        for answer in accepted or ("",)
    )


def _f1(predicted: collections.Counter[str], target: collections.Counter[str], both_empty: float) -> float:
    num_words = predicted.total() + target.total()
    return 2 * (predicted & target).total() / num_words if num_words else both_empty


def mean_over_questions(compare: Callable[[str, Sequence[str]], float]) -> GroupMeanMeasure:
    """Returns a measure: the mean over questions of (prediction, accepted answers) -> fraction.

    Of examples with the same group the first counts, as in T5; without a group each is a question.
    """
    return GroupMeanMeasure(lambda examples, answers: compare(answers[0], examples[0].accepted))


EXACT_MATCH = Metric("exact_match", mean_over_questions(exact_match), by_group=True)
TOKEN_F1 = Metric("f1", mean_over_questions(token_f1), by_group=True)
RECORD_F1 = Metric(
    "f1",
    mean_over_questions(lambda prediction, accepted: token_f1(prediction, accepted, both_empty=0.0)),
    by_group=True,
)
