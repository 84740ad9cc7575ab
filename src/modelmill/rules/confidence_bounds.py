"""Exact bounds of shares on new rows, for any number of rows at hand.

The bounds are those of C. J. Clopper and E. S. Pearson, *The use of confidence or fiducial limits* (1934).
"""

from __future__ import annotations


def lower_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact lower bound of a share.

    :param having: rows that have it.
    :param rows: all rows.
    :param doubt: chance that the share is below the bound.
    :return: from 0 to 1.
    """
    from scipy.stats import beta

    return float(beta.ppf(doubt, having, rows - having + 1)) if having else 0.0


def upper_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact upper bound of a share.

    :param having: rows that have it.
    :param rows: all rows.
    :param doubt: chance that the share is above the bound.
    :return: from 0 to 1; 1 without rows.
    """
    return 1.0 - lower_bound(rows - having, rows, doubt=doubt) if rows else 1.0


def drop_bound(losses: int, gains: int, rows: int, *, doubt: float) -> float:
    """Return an upper bound of the drop of an accuracy, on rows that were decided both before and after.

    The drop is the share of rows whose correctness changes, times what these lose on balance: exact bounds of
    both, each with a part of the doubt. The balance is what is uncertain, so it gets nine tenths.

    :param losses: rows that are right before and wrong after.
    :param gains: rows that are wrong before and right after.
    :param rows: all labelled rows.
    :param doubt: chance that the drop is above the bound.
    :return: from -1 to 1; below 0 where the accuracy surely rises.
    """
    turned = losses + gains
    balance = 2 * upper_bound(losses, turned, doubt=0.9 * doubt) - 1
    most, least = (bound(turned, rows, doubt=0.1 * doubt) for bound in (upper_bound, lower_bound))
    return balance * (most if balance > 0 else least)
