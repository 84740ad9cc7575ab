"""Statistics that several reports need: proportions with an interval, p-values of many tests."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

_CONFIDENCE = 0.95


class Proportion(BaseModel):
    """The share of some rows that have something, with a 95 % confidence interval.

    The interval is that of E. B. Wilson, *Probable inference, the law of succession, and statistical
    inference*, Journal of the American Statistical Association 22 (1927): it holds for few rows, and near 0
    and 1.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    rows: int
    """Number of rows that it is a share of."""

    @classmethod
    def of(cls, having: int, rows: int) -> Proportion | None:
        """Return the proportion; None if there are no rows."""
        from scipy.stats import binomtest

        if rows == 0:
            return None
        ends = binomtest(having, rows).proportion_ci(_CONFIDENCE, method="wilson")
        return cls(value=having / rows, low=float(ends.low), high=float(ends.high), rows=rows)


def holm(p_values: Iterable[float]) -> list[float]:
    """Adjust p-values for the number of tests.

    S. Holm, "A simple sequentially rejective multiple test procedure" (1979).

    :param p_values: any number.
    :return: adjusted ones in the same order. If those up to alpha are rejected, the chance that any of them
        is rejected by chance is at most alpha.
    """
    values = list(p_values)
    result, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        result[place] = highest
    return result
