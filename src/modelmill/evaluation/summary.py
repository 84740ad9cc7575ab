"""An evaluation in words: a sentence for each model."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.evaluation.results import ModelResult, Score
from modelmill.tasks.base import Task
from modelmill.tasks.metrics import Metric


def model_sentence(result: ModelResult, task: Task, *, reference: str | None, baseline: str | None) -> str:
    """Say in one sentence what a model is worth.

    :param result: the model, its sentence aside.
    :param task: that of the label.
    :param reference: name of the first model; None for the first model itself.
    :param baseline: name of the best baseline; None without baselines.
    :return: the sentence.
    """
    # A class a row has one metric that says most.
    text = f"{result.name}: {scores_text(result.scores[:1] if task.exclusive else result.scores, task)}"
    if reference is not None and task.exclusive:
        text += (
            f", {_ratio(result.size_ratio, 'smaller', 'larger')} and "
            f"{_ratio(result.speed_ratio, 'faster', 'slower')} than {reference}, whose answer it gives to "
            f"{result.agreement:.2%} of the rows"
        )
    elif reference is not None:
        text += (
            f"; {result.size_ratio:.2f} times smaller and {result.speed_ratio:.2f} times faster than "
            f"{reference}, with which it agrees by {result.agreement:.2%}"
        )
    if baseline is not None and result.over_baseline is not None:
        against = _points_from if task.exclusive else _metric_from
        text += f"; {against(result.over_baseline, baseline, task.metrics[0])}"
    return f"{text}."


def scores_text(scores: Sequence[Score], task: Task) -> str:
    """Return scores in words.

    :param scores: of the first metrics of the task.
    :param task: that of the label.
    :return: for instance ``accuracy 93.00% (91.20% to 94.80%)``.
    """
    parts = []
    for score, metric in zip(scores, task.metrics, strict=False):
        style = ".2%" if metric.is_share else ".4g"
        parts.append(f"{score.metric} {score.value:{style}} ({score.low:{style}} to {score.high:{style}})")
    return ", ".join(parts)


def _ratio(ratio: float, more: str, less: str) -> str:
    return f"{ratio:.2f} times {more}" if ratio >= 1 else f"{1 / ratio:.2f} times {less}"


def _points_from(over: Score, baseline: str, _metric: Metric) -> str:
    points = 100 * over.value
    span = f"{100 * over.low:+.2f} to {100 * over.high:+.2f}"
    if not points:
        return f"as good as {baseline} ({span} points)"
    where = "above" if points > 0 else "below"
    return f"{abs(points):.2f} points {where} {baseline} ({span}){_doubt(over)}"


def _metric_from(over: Score, baseline: str, metric: Metric) -> str:
    where = "above" if over.value > 0 else "below"
    scale, unit = (100, " points") if metric.is_share else (1, "")
    return (
        f"{metric.name} {abs(scale * over.value):.3g}{unit} {where} {baseline} "
        f"({scale * over.low:+.3g} to {scale * over.high:+.3g}){_doubt(over)}"
    )


def _doubt(over: Score) -> str:
    return "" if over.low > 0 or over.high < 0 else ", which these rows do not settle"
