"""Summarisation, T5's way, from a table of texts and their summaries.

    summarisation:cnn_dailymail                                          a folder with train.jsonl and the like
    summarisation:notes.jsonl --text_columns note --label_column title   one file, of which a tenth is held out

The columns are `article` and `highlights` where the user names no others, see table_files.py. An encoder-decoder reads `summarize: ` and the text, and writes the summary.
"""

import functools
import pathlib
from typing import Any

from t5like.errors import UserError
from t5like.tasks.base import NO_LABEL, Answer, Example, Metric, Task
from t5like.tasks.measures import MeanMeasure
from t5like.tasks.table_files import Table, find_splits

PREFIX = "summarisation"
ARTICLE, HIGHLIGHTS = "article", "highlights"


def rouge(kind: str) -> Metric:
    """Returns the mean F-measure of a ROUGE of package rouge-score, without stemming, as in T5.

    T5 reports the middle of a bootstrap of that mean, which is the mean but for the luck of the draw: some hundredths of
    a percent. The sentences of a summary, which ROUGE-Lsum takes one by one, are lines, and as in T5 " . " ends one too.

    Args:
      kind: rouge1, rouge2, rougeL or rougeLsum.

    Source: Lin 2004, ROUGE: a Package for Automatic Evaluation of Summaries.
    """

    def score(example: Example, answer: Answer) -> float:
        scorer = _scorer(kind)
        accepted = [_with_lines(text) for text in example.accepted or (example.answer,)]
        return scorer.score_multi(accepted, _with_lines(answer))[kind].fmeasure

    return Metric(kind, MeanMeasure(score))


METRICS = (rouge("rouge1"), rouge("rouge2"), rouge("rougeLsum"))


@functools.cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # brings in nltk, and most commands score nothing

    return RougeScorer([kind])


def _with_lines(summary: str) -> str:
    return summary.replace(" . ", " .\n")


def summarisation_task(
    location: str, *, text_columns: tuple[str, ...] = (ARTICLE,), label_column: str = HIGHLIGHTS
) -> Task:
    """Returns the task of writing the summary of a text.

    Args:
      location: a JSON Lines file, or a folder with one for each split.
      text_columns: the one column of the texts.
      label_column: that of their summaries; a test file may have none.

    Raises:
      UserError: no file is named, or there is none, or there are several columns of texts.
    """
    if not location:
        raise UserError(f"{PREFIX}: names no texts: name a file or folder of JSON Lines behind it.")
    if len(text_columns) != 1 or label_column in text_columns:
        raise UserError(
            f"{PREFIX}:{location} takes one column of texts and another of summaries, not "
            f"{', '.join((*text_columns, label_column))}."
        )
    paths = find_splits("jsonl", location)
    table = Table(format="jsonl", paths=paths, text_columns=text_columns, target_column=label_column)

    def read(split: str, data_dir: pathlib.Path | None) -> list[Example]:
        if data_dir is not None:
            raise UserError(
                f"{PREFIX}:{location} says itself where its files are: leave out --data_dir {data_dir}."
            )
        examples = []
        for index, row in enumerate(table.rows(split)):
            summary = row.cells[label_column]
            if not summary and split != "test":
                raise UserError(f"{row.place}: column {label_column!r} is empty: fill it, or drop the line.")
            examples.append(
                Example(
                    index=index,
                    inputs=f"summarize: {row.cells[text_columns[0]]}",
                    targets=summary or NO_LABEL,
                    answer=summary or None,
                )
            )
        return examples

    return Task(name=f"{PREFIX}:{location}", kind="text", metrics=METRICS, splits=table.splits, read=read)
