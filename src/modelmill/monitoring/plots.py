"""Plots of what was monitored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelmill.evaluation.plots import plain
from modelmill.monitoring.drift import ColumnDrift

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

_MOST_COLUMNS = 40
_MOST_SHOWN = 9
"""Columns whose shares are drawn."""


def drift_figure(columns: Sequence[ColumnDrift], *, limit: float, title: str) -> Figure:
    """Draw how far each column has moved.

    :param columns: at least one; of many, those that moved least are left out.
    :param limit: stability index below which there is no drift.
    :param title: of the plot.
    :return: the figure.
    """
    from matplotlib.figure import Figure

    shown = sorted(columns, key=lambda column: -column.psi)[:_MOST_COLUMNS]
    figure = Figure(figsize=(8, 1.8 + 0.35 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = ["tab:red" if column.drifted else "tab:green" for column in shown]
    axes.barh([plain(column.name) for column in shown], [column.psi for column in shown], color=colours)
    axes.axvline(limit, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel="population stability index (red: drifted)", title=plain(title, limit=80))
    return figure


def shares_figure(columns: Sequence[ColumnDrift]) -> Figure:
    """Draw the shares of the bins or classes of the columns that moved most, then and now.

    :param columns: at least one.
    :return: the figure.
    """
    from matplotlib.figure import Figure

    shown = sorted(columns, key=lambda column: (not column.drifted, -column.psi))[:_MOST_SHOWN]
    wide = min(3, len(shown))
    tall = -(-len(shown) // wide)
    figure = Figure(figsize=(4.5 * wide, 3.2 * tall), layout="constrained")
    for place, column in enumerate(shown):
        axes = figure.add_subplot(tall, wide, place + 1)
        bins = column.shares[:20]
        positions = np.arange(len(bins))
        axes.bar(positions - 0.2, [share.reference for share in bins], width=0.4, label="training")
        axes.bar(positions + 0.2, [share.current for share in bins], width=0.4, label="scored")
        axes.set_xticks(positions, [plain(share.name, limit=16) for share in bins], rotation=90, size=7)
        axes.set_title(f"{plain(column.name)}: {column.psi:.3f}", size=9)
        if place == 0:
            axes.legend()
    return figure


def quality_figure(
    times: pa.ChunkedArray,
    answers: pa.ChunkedArray,
    truth: pa.ChunkedArray,
    *,
    reference: float,
    title: str,
) -> Figure:
    """Draw accuracy and labelled share by day.

    :param times: of each row.
    :param answers: of the model.
    :param truth: labels, null without a label.
    :param reference: accuracy on the held-out rows.
    :param title: of the plot.
    :return: the figure.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from matplotlib.figure import Figure

    table = pa.table(
        {
            "day": times.cast(pa.timestamp("us", tz="UTC")).cast(pa.date32()),
            "right": pc.equal(answers, truth).cast(pa.float64()),
            "labelled": pc.is_valid(truth).cast(pa.float64()),
        }
    )
    days = table.filter(pc.is_valid(table.column("day"))).group_by("day")
    found = days.aggregate([("right", "mean"), ("labelled", "mean")]).sort_by("day")
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    when = found.column("day").to_pylist()
    accuracy = [np.nan if value is None else value for value in found.column("right_mean").to_pylist()]
    axes.plot(when, accuracy, "o-", label="accuracy of labelled rows")
    axes.plot(when, found.column("labelled_mean").to_pylist(), ":", color="grey", label="labelled rows")
    axes.axhline(reference, color="black", linewidth=1, label=f"held-out rows, {reference:.2%}")
    axes.set(ylim=(-0.02, 1.02), xlabel="day", title=plain(title, limit=80))
    axes.tick_params(axis="x", rotation=45)
    axes.legend()
    return figure
