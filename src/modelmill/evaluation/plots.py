"""Plots of an evaluation. Figures are made without a display, and without Matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelmill.evaluation.results import BaselineResult, ModelResult
    from modelmill.registry.verdict import Check

_NUMBERED_CLASSES = 20
"""With more classes the counts would overlap."""
_NAMED_CLASSES = 60
_DRAWN_CHECKS = 30


def confusion_figure(matrix: npt.NDArray[np.int64], *, classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix: colours are shares of a true class, numbers are rows.

    :param matrix: ``(classes, classes)``; a row for each true class, a column for each answer.
    :param classes: their names.
    :param title: of the plot.
    :return: the figure.
    """
    from matplotlib.figure import Figure

    side = min(4 + 0.45 * len(classes), 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    if len(classes) <= _NAMED_CLASSES:
        names = [plain(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= _NUMBERED_CLASSES:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, size=8)
    return figure


def quality_figure(
    models: Sequence[ModelResult], baselines: Sequence[BaselineResult], *, confidence: float, title: str
) -> Figure:
    """Draw accuracy against documents per second; baselines are horizontal lines.

    A baseline far below the models stands in the legend only: its line would squeeze them into one.

    :param models: at least one.
    :param baselines: any number.
    :param confidence: of the intervals, for the legend.
    :param title: of the plot.
    :return: the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, model in enumerate(models):
        below, above = model.accuracy - model.accuracy_low, model.accuracy_high - model.accuracy
        axes.errorbar(
            model.documents_per_second,
            model.accuracy,
            yerr=[[max(below, 0.0)], [max(above, 0.0)]],
            fmt="o",
            capsize=4,
            color=f"C{index % 10}",
            label=f"{plain(model.name)}, {model.size_mb:.1f} MB",
        )
    for index, baseline in enumerate(baselines):
        style = (":", "--", "-.")[index % 3]
        label = f"{plain(baseline.name)}, {baseline.accuracy:.2%}"
        axes.axhline(baseline.accuracy, linestyle=style, color="grey", label=label)
    axes.set_ylim(*_span(models, baselines))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("{x:,g}" if _decades(models) < 1 else NullFormatter())
    axes.set(
        xlabel="documents per second (log)", ylabel=f"accuracy, {confidence:.0%} confidence", title=title
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _span(
    models: Sequence[ModelResult], baselines: Sequence[BaselineResult], *, near: float = 0.05
) -> tuple[float, float]:
    """Return the range of accuracies that holds the models and the baselines near them."""
    low = min(model.accuracy_low for model in models)
    values = [low, *(model.accuracy_high for model in models)]
    values += [baseline.accuracy for baseline in baselines if baseline.accuracy >= low - near]
    margin = max(0.1 * (max(values) - min(values)), 0.002)
    return min(values) - margin, max(values) + margin


def _decades(models: Sequence[ModelResult]) -> float:
    speeds = [model.documents_per_second for model in models]
    return float(np.log10(max(speeds) / min(speeds)))


def gate_figure(checks: Sequence[Check], *, title: str) -> Figure | None:
    """Draw how far a challenger is below each model that it is compared with, and how far it may be.

    :param checks: any number; those without an interval of shares are left out, and of very many the
        harmless.
    :param title: of the plot.
    :return: the figure; None if there is nothing to draw.
    """
    from matplotlib.figure import Figure

    drawn = [check for check in checks if check.unit == "share" and None not in (check.low, check.high)]
    drawn = sorted(drawn, key=lambda check: (check.passed, not check.warning))[:_DRAWN_CHECKS]
    if not drawn:
        return None
    figure = Figure(figsize=(8, 1.8 + 0.4 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for place, check in enumerate(drawn):
        colour = "tab:red" if not check.passed else "tab:orange" if check.warning else "tab:green"
        ends = [100 * (check.low or 0.0), 100 * (check.high or 0.0)]
        axes.plot(ends, [place, place], color=colour, linewidth=3)
        axes.plot(100 * check.drop, place, "o", color=colour)
        axes.plot(100 * check.limit, place, "|", color="black", markersize=18)
    names = [plain(f"{check.metric}: {check.name}") for check in drawn]
    axes.set_yticks(range(len(drawn)), names)
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set(xlabel="points worse (black: accepted)", title=plain(title, limit=80))
    return figure


def plain(name: str, *, limit: int = 40) -> str:
    """Shorten a name, and keep Matplotlib from reading a dollar sign as the start of a formula.

    :param name: the name.
    :param limit: longest result, in characters.
    :return: what a plot shows.
    """
    short = name if len(name) <= limit else f"{name[: limit - 3]}..."
    return short.replace("$", r"\$")
