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
    decided = difference.better + difference.worse
    if difference.worse > difference.better:
        # An exact sign test (McNemar's): of the labelled rows that differ, at least half are for the better.
        high = upper_bound(difference.better, decided, doubt=1 - confidence)
        if high < 1 / 2:
            found.append(
                f"of {decided:,} labelled rows with another outcome {difference.worse:,} are for the worse"
            )
    return tuple(found)
