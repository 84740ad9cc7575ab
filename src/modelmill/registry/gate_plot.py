"""The plot of a verdict. Figures are made without a display, and without Matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmill.evaluation.plots import plain
from modelmill.registry.verdict import CheckResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_CHECKS = 30


def gate_figure(checks: Sequence[CheckResult], *, title: str) -> Figure | None:
    """Draw how far a challenger is below each model that it is compared with, and how far it may be.

    :param checks: any number; those without an interval are left out, and of very many those that
        passed.
    :param title: of the plot.
    :return: the figure; None if there is nothing to draw.
    """
    from matplotlib.figure import Figure

    drawn = [
        check
        for check in checks
        if check.unit in ("share", "score")
        and check.check != "quarter"
        and None not in (check.low, check.high)
    ]
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
    axes.set(xlabel="points worse, of R² hundredths (black: accepted)", title=plain(title, limit=80))
    return figure
