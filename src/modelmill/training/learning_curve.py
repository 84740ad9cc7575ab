"""The plot of a training: its loss by optimizer step, and the metric by which epochs are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.training.state import TrainingHistory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_PATH = "plots/learning_curve.png"
"""Where steps log it."""


def learning_curve(history: TrainingHistory, *, title: str) -> Figure:
    """Plot a training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*history.curve, strict=True), color="tab:blue", label="training loss")
    axes.set(xlabel="optimizer step", ylabel="training loss", title=f"{title}: learning curve")
    axes.set_ylim(bottom=0)
    handles = axes.get_lines()
    if history.epochs:
        right = axes.twinx()
        name = f"validation {next(iter(history.epochs[0][1]))}"
        steps = [step for step, _ in history.epochs]
        values = [next(iter(found.values())) for _, found in history.epochs]
        right.plot(steps, values, "o--", color="tab:orange", label=name)
        right.set_ylabel(name)
        handles = [*handles, *right.get_lines()]
    axes.legend(handles=handles, loc="center right")
    return figure
