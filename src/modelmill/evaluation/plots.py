"""Plots of an evaluation. Figures are made without a display, and without Matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelmill.evaluation.results import BaselineResult, ModelResult

_NUMBERED_CLASSES = 20
"""With more classes the counts would overlap."""
_NAMED_CLASSES = 60


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

    A baseline far below the models is in the legend only: its line would squeeze the others together.

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
        score = model["accuracy"]
        below, above = score.value - score.low, score.high - score.value
        axes.errorbar(
            model.documents_per_second,
            score.value,
            yerr=[[max(below, 0.0)], [max(above, 0.0)]],
            fmt="o",
            capsize=4,
            color=f"C{index % 10}",
            label=f"{plain(model.name)}, {model.size_mb:.1f} MB",
        )
    for index, baseline in enumerate(baselines):
        style = (":", "--", "-.")[index % 3]
        value = baseline["accuracy"].value
        label = f"{plain(baseline.name)}, {value:.2%}"
        axes.axhline(value, linestyle=style, color="grey", label=label)
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


_NEAR = 0.05
"""How much less accurate than every model a baseline may be and still be in the picture."""


def _span(models: Sequence[ModelResult], baselines: Sequence[BaselineResult]) -> tuple[float, float]:
    """Return the range of accuracies that holds the models and the baselines near them."""
    low = min(model["accuracy"].low for model in models)
    values = [low, *(model["accuracy"].high for model in models)]
    known = [baseline["accuracy"].value for baseline in baselines]
    values += [value for value in known if value >= low - _NEAR]
    margin = max(0.1 * (max(values) - min(values)), 0.002)
    # A point at 100 % is seen whole, and no tick stands above it.
    return min(values) - margin, min(max(values) + margin, 1 + margin / 10)


def _decades(models: Sequence[ModelResult]) -> float:
    speeds = [model.documents_per_second for model in models]
    return float(np.log10(max(speeds) / min(speeds)))


def plain(name: str, *, limit: int = 40) -> str:
    """Shorten a name, and keep Matplotlib from reading a dollar sign as the start of a formula."""
    short = name if len(name) <= limit else f"{name[: limit - 3]}..."
    return short.replace("$", r"\$")
