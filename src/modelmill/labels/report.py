"""Quality of labelling functions and label models by votes and gold labels, and the choice of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelmill.evaluation.statistics import Proportion
from modelmill.labels.models import LabelModel, ModelName, most_probable
from modelmill.labels.votes import Fired, VoteCounts
from modelmill.options import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Chosen = Literal["best", "majority_vote", "weighted"]

_CONFIDENCE = 0.95
_MOST_FUNCTIONS_SHOWN = 40


class FunctionReport(Record):
    """How one labelling function votes. Shares are of all rows."""

    name: str
    label: str
    coverage: float
    """Rows on which it votes."""
    overlaps: float
    """Rows on which it and another function vote."""
    conflicts: float
    """Rows on which it and a function of another label vote."""
    gold_accuracy: Proportion | None
    """Right votes among its votes on gold rows; None if it votes on none of them."""
    learnt_accuracy: float | None
    """Accuracy by the weighted model, learnt from agreements; None if it was not fitted."""


class ModelReport(Record):
    """How a label model does on the gold rows that a function votes on."""

    name: ModelName
    accuracy: Proportion | None
    """Rows whose most probable label is the gold one; None without gold rows."""
    labelled: Proportion | None
    """Rows whose label is more probable than the threshold."""
    accuracy_labelled: Proportion | None
    """Right labels among those."""


class GoldDifference(Record):
    """Accuracy of the weighted model minus that of the majority vote, on the same gold rows."""

    value: float
    low: float
    high: float
    """Ends of the 95 % bootstrap interval of the paired difference."""


class LabelReport(Record):
    """Summary of the labelled rows and of the votes."""

    source: str
    """The table, ``URI@VERSION``."""
    rows: int
    rows_gold: int
    rows_by_rule: int
    """Rows that got their label from the functions."""
    rows_unlabelled: int
    """``rows = rows_gold + rows_by_rule + rows_unlabelled``, always."""
    labels: dict[str, int]
    """Labelled rows by label."""
    coverage: float
    """Share of rows on which a function votes."""
    overlaps: float
    """Share of rows on which two functions vote."""
    conflicts: float
    """Share of rows on which functions vote for different labels."""
    rows_counted: int
    """Rows whose pattern of votes was counted: all, unless there are very many patterns."""
    functions: tuple[FunctionReport, ...]
    models: tuple[ModelReport, ...]
    difference: GoldDifference | None
    """None without gold rows that a function votes on."""
    model: ModelName
    """The model that made the labels."""
    reason: str
    """Why this one."""
    gold_without_functions: tuple[str, ...]
    """Gold labels that no function votes for."""
    functions_without_gold: tuple[str, ...]
    """Labels of functions that no gold row has; empty without gold rows."""
    review: dict[str, int]
    """Rows in the table for review, by reason."""


def function_reports(counts: VoteCounts, weighted: LabelModel | None) -> tuple[FunctionReport, ...]:
    """Describe each function.

    :param counts: the votes.
    :param weighted: the weighted model, if it was fitted.
    :return: in the order of the functions.
    """
    total = max(int(counts.rows.sum()), 1)
    several = counts.fired.sum(axis=1) > 1
    differing = disagree(counts)
    found = []
    for number, name in enumerate(counts.functions.names):
        fired = counts.fired[:, number]
        label = counts.functions.labels[number]
        gold = {key: rows for key, rows in counts.gold.items() if fired[key[0]]}
        right = sum(rows for (_, truth), rows in gold.items() if truth == label)
        found.append(
            FunctionReport(
                name=name,
                label=label,
                coverage=float(counts.rows[fired].sum() / total),
                overlaps=float(counts.rows[fired & several].sum() / total),
                conflicts=float(counts.rows[fired & differing].sum() / total),
                gold_accuracy=Proportion.of(right, sum(gold.values())),
                learnt_accuracy=weighted.accuracy[number] if weighted else None,
            )
        )
    return tuple(found)


def disagree(counts: VoteCounts) -> Fired:
    """Return which patterns have votes for different labels, ``(patterns,)``."""
    found: Fired = (counts.votes > 0).sum(axis=1) > 1
    return found


def gold_answers(counts: VoteCounts, model: LabelModel) -> tuple[list[str], list[str], list[float]]:
    """Answer the gold rows that a function votes on: gold labels, answers, and their probabilities."""
    probabilities = model.probabilities(counts.fired)
    answers = most_probable(probabilities, model.balance)
    truth: list[str] = []
    given: list[str] = []
    sure: list[float] = []
    for (pattern, label), rows in counts.gold.items():
        if counts.fired[pattern].any():
            truth += [label] * rows
            given += [model.classes[answers[pattern]]] * rows
            sure += [float(probabilities[pattern, answers[pattern]])] * rows
    return truth, given, sure


def model_report(counts: VoteCounts, model: LabelModel, *, threshold: float) -> ModelReport:
    """Measure a label model on the gold rows.

    :param counts: the votes.
    :param model: the model.
    :param threshold: probability that a label must exceed.
    :return: what it gets right.
    """
    truth, given, sure = gold_answers(counts, model)
    right = [one == other for one, other in zip(truth, given, strict=True)]
    labelled = [is_sure(one, threshold) for one in sure]
    both = sum(one and other for one, other in zip(right, labelled, strict=True))
    return ModelReport(
        name=model.name,
        accuracy=Proportion.of(sum(right), len(right)),
        labelled=Proportion.of(sum(labelled), len(right)),
        accuracy_labelled=Proportion.of(both, sum(labelled)),
    )


def is_sure(probability: Any, threshold: float) -> Any:
    """Return whether a probability exceeds the threshold by more than rounding errors."""
    return probability > threshold + 1e-9


def choose_model(
    counts: VoteCounts, majority: LabelModel, weighted: LabelModel, *, wanted: Chosen
) -> tuple[LabelModel, str, GoldDifference | None]:
    """Choose between the two models: the weighted one if it gets more gold rows right, and not by chance.

    A difference whose confidence interval includes 0 is a tie, and the majority vote, which is simpler, wins
    it. On Reuters R8 with 100 gold rows the better point estimate was the worse model four times in ten.

    :param counts: the votes.
    :param majority: the majority vote.
    :param weighted: the weighted model.
    :param wanted: what the configuration says.
    :return: the model, why, and how far they are apart.
    """
    from modelmill.tasks.class_metrics import ACCURACY

    truth, first, _ = gold_answers(counts, weighted)
    difference = None
    if truth:
        second = gold_answers(counts, majority)[1]
        found = ACCURACY.difference(truth, first, second, confidence=_CONFIDENCE)
        difference = GoldDifference(value=found.value, low=found.low, high=found.high)
    if wanted != "best":
        return (weighted if wanted == "weighted" else majority), "the configuration names it", difference
    if difference is None:
        return majority, "no gold row has a vote, so the simpler model is used", None
    if difference.low > 0:
        return weighted, "it gets more gold rows right than a majority vote", difference
    if difference.high < 0:
        return majority, "it gets more gold rows right than the weighted model", difference
    return majority, "the gold rows show no difference between the models, and it is simpler", difference


def metrics(report: LabelReport) -> dict[str, float]:
    """Return the numbers of a report that are worth a metric."""
    names = ("rows", "rows_gold", "rows_by_rule", "rows_unlabelled", "coverage", "overlaps", "conflicts")
    found = {name: float(getattr(report, name)) for name in names}
    for model in report.models:
        if model.accuracy:
            found[f"gold_accuracy.{model.name}"] = model.accuracy.value
    return {**found, "rows_for_review": sum(report.review.values())}


def summary(report: LabelReport) -> list[str]:
    """Return the report in a few lines for a log."""
    lines = [
        (
            f"{report.rows:,} rows: {report.rows_gold:,} gold, {report.rows_by_rule:,} labelled by rules, "
            f"{report.rows_unlabelled:,} without a label; {sum(report.review.values()):,} for review "
            f"{json.dumps(report.review)}"
        ),
        f"functions vote on {report.coverage:.1%} of the rows, and differ on {report.conflicts:.1%}",
    ]
    shown = ", ".join(f"{one.name} {one.accuracy.value:.1%}" for one in report.models if one.accuracy)
    lines.append(f"{report.model} is used: {report.reason}" + (f" ({shown})" if shown else ""))
    silent = [one.name for one in report.functions if one.coverage == 0]
    lines += [f"functions that never vote: {', '.join(silent)}"] if silent else []
    if report.gold_without_functions:
        lines.append(f"no function votes for: {', '.join(report.gold_without_functions)}")
    return lines


def functions_figure(functions: Sequence[FunctionReport]) -> Figure:
    """Plot how often each function votes, and how accurate it is.

    :param functions: at least one; of very many, those with the largest coverage are shown.
    :return: the figure.
    """
    from matplotlib.figure import Figure

    shown = sorted(functions, key=lambda one: -one.coverage)[:_MOST_FUNCTIONS_SHOWN]
    places = np.arange(len(shown))
    figure = Figure(figsize=(10, 1.8 + 0.32 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, height in (("coverage", 0.8), ("overlaps", 0.55), ("conflicts", 0.3)):
        left.barh(places, [100 * getattr(one, name) for one in shown], height=height, label=name)
    left.set_yticks(places, [f"{one.name} → {one.label}"[:44].replace("$", r"\$") for one in shown])
    left.set_ylim(len(shown) - 0.5, -0.5)
    left.set(xlabel="% of all rows", title="votes")
    for place, one in enumerate(shown):
        if one.gold_accuracy:
            ends = [100 * one.gold_accuracy.low, 100 * one.gold_accuracy.high]
            right.plot(ends, [place, place], color="C0", linewidth=3, alpha=0.5)
            right.plot(100 * one.gold_accuracy.value, place, "o", color="C0", label="on gold rows")
        if one.learnt_accuracy is not None:
            right.plot(100 * one.learnt_accuracy, place, "D", color="C1", label="learnt from agreements")
    right.set(xlim=(-2, 102), xlabel="% of its votes", title="right votes, 95 % confidence")
    right.grid(visible=True, axis="x", alpha=0.3)
    left.legend()
    handles, names = right.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside lower right", ncols=2)
    return figure
