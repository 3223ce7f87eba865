"""What is measured of a model on a task: its answers to all examples, and their scores.

An evaluation is a function of the parameters, so that the training loop and `t5like evaluate` share it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t5like.scores import Sample, Score
from t5like.task_forms import AnswerAll
from t5like.tasks.base import Answer, Example, Task, constant_answer, score, task_score

PyTree = Any

NUM_SAMPLES = 8
TASK_SCORE = "task_score"
"""Of a row of metrics: what tells checkpoints apart."""


class TaskEvaluation:
    """The evaluation that answers every example of a task and scores the answers.

    Attributes:
      answers: to every example, of the last call.
    """

    def __init__(self, task: Task, examples: Sequence[Example], answer_all: AnswerAll) -> None:
        """Takes what answers the examples; see `t5like.task_forms`."""
        self._task, self._examples, self._answer_all = task, examples, answer_all
        self.answers: list[Answer] = []

    def __call__(self, params: PyTree) -> dict[str, float]:
        """Returns the task's metrics in percent, and their mean."""
        self.answers = self._answer_all(params)
        scores = score(self._task, self._examples, self.answers)
        return {**scores, TASK_SCORE: task_score(self._task, scores)}

    @property
    def name(self) -> str:
        """Of the task."""
        return self._task.name

    def scores(self, metrics: Mapping[str, Any], *, num_tasks: int = 1) -> list[Score]:
        """Returns the scores that a row of metrics holds; see `task_scores`.

        Args:
          num_tasks: how many tasks the row is of; metrics of one among several have its name before theirs.
        """
        prefix = metric_name(self.name, "", num_tasks=num_tasks)
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        return task_scores(self._task, self._examples, own)

    def samples(self) -> list[Sample]:
        """Returns the first few answers of the last call."""
        return [
            Sample(
                inputs=example.inputs,
                targets=shown(self._task, example.answer),
                prediction=shown(self._task, answer),
            )
            for example, answer in zip(self._examples[:NUM_SAMPLES], self.answers, strict=False)
        ]


def metric_name(task: str, metric: str, *, num_tasks: int) -> str:
    """Returns what a row of metrics calls one of a task's, `accuracy`, or `glue/rte accuracy` where it is of several."""
    return metric if num_tasks == 1 else f"{task} {metric}"


def together(evaluations: Sequence[TaskEvaluation]) -> Callable[[PyTree], dict[str, float]]:
    """Returns the evaluation of several tasks: their metrics, each with the task's name before it, and their mean."""
    if len(evaluations) == 1:
        return evaluations[0]

    def evaluate(params: PyTree) -> dict[str, float]:
        metrics = {evaluation.name: evaluation(params) for evaluation in evaluations}
        named = {
            metric_name(task, name, num_tasks=len(metrics)): value
            for task, own in metrics.items()
            for name, value in own.items()
        }
        return {**named, TASK_SCORE: sum(own[TASK_SCORE] for own in metrics.values()) / len(metrics)}

    return evaluate


def shown(task: Task, answer: Answer) -> str:
    """Returns an answer as people read it."""
    if answer is None:
        return ""
    if task.kind == "label":
        return task.labels[answer] if answer >= 0 else "(no label)"
    if task.kind == "tags":
        return " ".join(answer)
    return f"{answer:.3g}" if task.kind == "number" else str(answer)


def task_scores(task: Task, examples: Sequence[Example], metrics: Mapping[str, float]) -> list[Score]:
    """Returns the task's metrics beside what the best single answer to everything would have scored."""
    constant = constant_answer(task, examples)
    baselines = {} if constant is None else score(task, examples, [constant] * len(examples))
    baseline_name = {"label": "majority class", "number": "mean"}.get(task.kind)
    scores = [
        Score(
            name=f"{task.name} {metric.name}",
            value=metrics[metric.name],
            unit="%",
            baseline=baselines.get(metric.name),
            baseline_name=baseline_name,
        )
        for metric in task.metrics
    ]
    if task.kind == "label":
        invalid = metrics["invalid_rate"]
        scores.append(Score(name="invalid answers", value=invalid, unit="%", higher_is_better=False))
    return scores
