"""Judges by a backtest whether a rule set may replace the one in use."""

from __future__ import annotations

from modelmill.rules.confidence_bounds import upper_bound
from modelmill.rules.lifecycle.backtest import BacktestReport


def reasons_against(
    report: BacktestReport, *, max_changed: float, allow_dead: bool, confidence: float
) -> tuple[str, ...]:
    """Return why a rule set may not replace the one in use.

    :param report: its backtest.
    :param max_changed: largest accepted share of rows with another decision.
    :param allow_dead: whether a rule may be true on no row.
    :param confidence: confidence that labelled rows get worse, from which on they count.
    :return: one line for each check that failed.
    """
    found = []
    if report.dead and not allow_dead:
        found.append(f"rules are true on no row: {', '.join(report.dead)}")
    if report.failures:
        found.append(f"signals cannot be computed: {', '.join(sorted(report.failures))}")
    difference = report.difference
    if difference is None:
        return tuple(found)
    share = difference.changed / difference.rows
    if share > max_changed:
        found.append(f"{share:.2%} of the rows change their decision; accepted are {max_changed:.2%}")
    better, worse, unjudged = difference.better, difference.worse, difference.unjudged
    if _are_worse(better, worse, confidence):
        found.append(f"of {better + worse:,} labelled rows with another outcome {worse:,} are for the worse")
    elif _are_worse(better, worse + unjudged, confidence):
        found.append(
            f"of {better + worse + unjudged:,} labelled rows with another outcome {worse:,} are for the "
            f"worse, and {unjudged:,} cannot be judged: their label is no decision; list it under decision_of"
        )
    return tuple(found)


def _are_worse(better: int, worse: int, confidence: float) -> bool:
    """Return whether fewer than half of the rows are better, by an exact sign test (McNemar's)."""
    return worse > better and upper_bound(better, better + worse, doubt=1 - confidence) < 1 / 2
