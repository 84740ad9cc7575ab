"""The plot of a search. Made without a display, and without Matplotlib's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.compression.search.results import CompressionReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"teacher": "tab:grey", "transformer": "tab:blue", "static": "tab:green"}


def pareto_figure(report: CompressionReport) -> Figure:
    """Plot the drop of the metric against the speed-up; the line joins the points that no other one beats."""
    from matplotlib.figure import Figure

    scale, unit = (100, "points of ") if report.is_share else (1, "")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for family, colour in _COLOURS.items():
        points = [point for point in report.points if point.family == family]
        axes.scatter(
            [point.speed_ratio for point in points],
            [scale * point.drop for point in points],
            s=[25 + 4 * point.size_mb for point in points],
            color=colour,
            alpha=0.7,
            label=f"{family} ({len(points)})",
        )
        for point in points:
            axes.plot(
                [point.speed_ratio] * 2,
                [scale * point.drop, scale * point.drop_bound],
                color=colour,
                linewidth=1,
            )
    front = sorted((point.speed_ratio, scale * point.drop) for point in report.points if point.pareto)
    axes.step(*zip(*front, strict=True), where="post", color="black", linewidth=1, label="front")
    for point in report.points:
        if point.chosen:
            axes.plot(
                point.speed_ratio, scale * point.drop, "*", color="tab:red", markersize=16, label="chosen"
            )
    limit = report.budget.get("max_metric_drop")
    if limit is not None:
        axes.axhline(scale * limit, linestyle="--", color="grey", label="budget")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(
        xlabel="documents per second over the teacher's (log); area: size",
        ylabel=f"{unit}{report.metric} below the teacher; line: bound, {report.confidence:.0%}",
        title=f"{report.label}: {report.candidates} candidates, {len(report.points)} measured",
    )
    axes.invert_yaxis()
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=6)
    return figure
