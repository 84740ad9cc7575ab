"""Whether two samples of a column come from the same distribution: how far apart they are, and how surely.

The distance is the population stability index (PSI), the symmetric Kullback-Leibler divergence of the shares
of the reference's deciles, or of the classes. By itself it says nothing of chance: between two samples of 100
rows from the same distribution it easily exceeds 0.1. So a column has drifted only if its PSI is over the
limit **and** a test tells the samples apart: Kolmogorov-Smirnov for numbers, chi-squared for classes and for
the share of missing values. The p-values of all columns are adjusted together (S. Holm, 1979), so the chance
of one false alarm or more is at most the configured one, as long as rows are drawn independently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelmill.evaluation.statistics import holm
from modelmill.options import Record

Floats = npt.NDArray[np.float64]
Kind = Literal["number", "class"]

_BINS = 10
_MOST_CLASSES = 50
"""Rarer classes are taken together."""
_EXPECTED = 5.0
"""Rows that a class must be expected to have for the chi-squared test (W. G. Cochran, 1954)."""
REST = "(rest)"
"""All classes that are too rare to stand alone."""
MISSING = "(missing)"
"""Rows without a value."""


class BinShares(Record):
    """One class, or one bin of numbers."""

    name: str
    reference: float
    """Share of the reference's rows, from 0 to 1."""
    current: float
    """Share of the current rows, from 0 to 1."""


class ColumnDrift(Record):
    """How far a column has moved."""

    name: str
    kind: Kind
    reference_rows: int
    current_rows: int
    psi: float
    """Population stability index; 0 if nothing has moved."""
    ks: float | None
    """Kolmogorov-Smirnov statistic, from 0 to 1; None for classes."""
    p: float
    """Chance of samples so far apart from one distribution; not adjusted for the number of columns."""
    adjusted_p: float
    """The same for the whole family of columns (Holm)."""
    drifted: bool
    shares: tuple[BinShares, ...]
    """What the index is computed from."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers on both sides; NaN is a missing value."""

    name: str
    reference: Floats
    """``(rows,)``."""
    current: Floats
    """``(rows,)``."""

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the reference and of the current side."""
        return len(self.reference), len(self.current)

    def measure(self) -> tuple[tuple[BinShares, ...], float | None, float]:
        """Return the shares of the bins, the Kolmogorov-Smirnov statistic and the p-value."""
        from scipy.stats import ks_2samp

        known, now = self.reference[~np.isnan(self.reference)], self.current[~np.isnan(self.current)]
        missing = [rows - len(side) for rows, side in zip(self.rows, (known, now), strict=True)]
        ks, p = 0.0, 1.0
        if len(known) and len(now):
            result = ks_2samp(known, now, method="asymp")
            ks, p = float(result.statistic), float(result.pvalue)
        edges = _deciles(known)
        counts = [
            np.bincount(np.searchsorted(edges, side, "left"), minlength=len(edges) + 1)
            for side in (known, now)
        ]
        names = [_bin_name(edges, place) for place in range(len(edges) + 1)]
        if any(missing):
            names.append(MISSING)
            counts = [np.append(side, absent) for side, absent in zip(counts, missing, strict=True)]
            present = [rows - absent for rows, absent in zip(self.rows, missing, strict=True)]
            # Two tests of one column: of the values, and of whether there are any.
            p = min(1.0, 2 * min(p, _independent(np.column_stack([missing, present]))))
        return _shares(names, counts[0], counts[1]), ks, p


@dataclass(frozen=True)
class Classes:
    """A column of classes on both sides: rows by class; :data:`MISSING` counts those without one."""

    name: str
    reference: Mapping[str, int]
    current: Mapping[str, int]

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the reference and of the current side."""
        return sum(self.reference.values()), sum(self.current.values())

    def measure(self) -> tuple[tuple[BinShares, ...], float | None, float]:
        """Return the shares of the classes, None and the p-value."""
        sides = (self.reference, self.current)
        names = sorted({*sides[0], *sides[1]}, key=lambda name: (-sides[0].get(name, 0), name))
        shown, rare = names[:_MOST_CLASSES], names[_MOST_CLASSES:]
        counts = np.array([[side.get(name, 0) for name in shown] for side in sides])
        if rare:
            rest = [sum(side.get(name, 0) for name in rare) for side in sides]
            shown, counts = [*shown, REST], np.column_stack([counts, rest])
        return _shares(shown, counts[0], counts[1]), None, _independent(counts)


Column = Numbers | Classes


def compare(columns: Sequence[Column], *, max_psi: float, false_alarms: float) -> list[ColumnDrift]:
    """Compare columns.

    :param columns: each side of each has at least one row.
    :param max_psi: a smaller index is no drift.
    :param false_alarms: chance of one column or more that has drifted by chance alone.
    :return: what was found, in the order of the columns.
    """
    measured = [column.measure() for column in columns]
    adjusted = holm([p for _, _, p in measured])
    found = []
    for column, (shares, ks, p), together in zip(columns, measured, adjusted, strict=True):
        psi = stability_index(shares, *column.rows)
        found.append(
            ColumnDrift(
                name=column.name,
                kind="number" if isinstance(column, Numbers) else "class",
                reference_rows=column.rows[0],
                current_rows=column.rows[1],
                psi=psi,
                ks=ks,
                p=p,
                adjusted_p=together,
                drifted=psi >= max_psi and together <= false_alarms,
                shares=shares,
            )
        )
    return found


def stability_index(shares: Sequence[BinShares], reference_rows: int, current_rows: int) -> float:
    """Return the population stability index.

    :param shares: of all bins, on both sides.
    :param reference_rows: rows that the reference's shares are of.
    :param current_rows: rows that the current shares are of.
    :return: at least 0.
    """
    # Half a row more in each bin: an empty one would make it infinite.
    reference = np.array([share.reference for share in shares]) * reference_rows + 0.5
    current = np.array([share.current for share in shares]) * current_rows + 0.5
    r, c = reference / reference.sum(), current / current.sum()
    return float(((c - r) * np.log(c / r)).sum())


def _independent(counts: npt.NDArray[np.int64]) -> float:
    """Return the p-value of Pearson's chi-squared test; bins that are too small are taken together.

    :param counts: ``(2, bins)``.
    :return: from 0 to 1; 1 if there is nothing to compare.
    """
    from scipy.stats import chi2_contingency

    table = counts.astype(np.float64)
    expected = table.sum(0) * table.sum(1).min() / table.sum()
    small = expected < _EXPECTED
    if small.any():
        table = np.column_stack([table[:, ~small], table[:, small].sum(1)])
        table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return 1.0
    return float(chi2_contingency(table, correction=False).pvalue)


def _deciles(values: Floats) -> Floats:
    """Return the borders between the bins: fewer where values come up often."""
    if not len(values):
        return np.zeros(0)
    return np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))


def _shares(names: Sequence[str], reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[BinShares, ...]:
    r, c = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    return tuple(
        BinShares(name=name, reference=float(before), current=float(after))
        for name, before, after in zip(names, r / max(r.sum(), 1), c / max(c.sum(), 1), strict=True)
    )


def _bin_name(edges: Floats, place: int) -> str:
    if not len(edges):
        return "all"
    if place == 0:
        return f"to {edges[0]:.4g}"
    return f"over {edges[-1]:.4g}" if place == len(edges) else f"to {edges[place]:.4g}"


def drift_asset(name: str) -> str:
    """Return the URI of the asset that an alarm updates."""
    return f"modelmill-drift://{name}"
