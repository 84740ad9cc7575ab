"""Exact bounds of shares on new rows, for any number of rows at hand.

The bounds are those of C. J. Clopper and E. S. Pearson, *The use of confidence or fiducial limits* (1934).
"""

from __future__ import annotations


def lower_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact lower bound of a share.

    :param having: rows that have a property.
    :param rows: all rows.
    :param doubt: chance that the true share is below the bound.
    :return: the bound, from 0 to 1.
    """
    from scipy.stats import beta

    return float(beta.ppf(doubt, having, rows - having + 1)) if having else 0.0


def upper_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact upper bound of a share.

    :param having: rows that have a property.
    :param rows: all rows.
    :param doubt: chance that the true share is above the bound.
    :return: the bound, from 0 to 1; 1 without rows.
    """
    return 1.0 - lower_bound(rows - having, rows, doubt=doubt) if rows else 1.0


def drop_bound(losses: int, gains: int, rows: int, *, doubt: float) -> float:
    """Return an upper bound of the drop of an accuracy, on rows that were decided both before and after.

    The drop is the share of rows whose correctness changes, times the net loss among them. Both get exact
    bounds, each with a part of the doubt; the net loss is the less certain one, so it gets nine tenths.

    :param losses: rows that were right before and are wrong after.
    :param gains: rows that were wrong before and are right after.
    :param rows: all labelled rows.
    :param doubt: chance that the drop is above the bound.
    :return: the bound, from -1 to 1; below 0 if the accuracy surely rises.
    """
    turned = losses + gains
    balance = 2 * upper_bound(losses, turned, doubt=0.9 * doubt) - 1
    most, least = (bound(turned, rows, doubt=0.1 * doubt) for bound in (upper_bound, lower_bound))
    return balance * (most if balance > 0 else least)
