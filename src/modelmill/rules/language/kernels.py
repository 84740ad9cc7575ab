"""The operators and functions of expressions, over Arrow arrays and scalars.

Every operand has the Arrow type of its kind (see :mod:`modelmill.signals.values`). A NULL operand makes the
result NULL, except for operators about NULL such as ``IS NULL``. Regular expressions run on Arrow's RE2, in
time linear in the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.signals.patterns import match_counts
from modelmill.signals.values import STORED, Kind, without_nan

Values = Any
"""A :class:`pyarrow.Array` or a :class:`pyarrow.Scalar`."""

FALSE = pa.scalar(False)


def convert(values: Values, kind: Kind) -> Values:
    """Convert values to another kind: integers to doubles, NULL to a NULL of that kind."""
    return values.cast(STORED[kind], safe=False)


def arithmetic(left: Values, right: Values, operator: str) -> Values:
    """Compute with doubles. Undefined results (division by zero, infinity minus infinity) are NULL."""
    if operator == "%":
        return _remainder(left, right)
    if operator == "/":
        zero = pc.equal(right, 0.0)
        right = pc.if_else(zero, pa.scalar(None, pa.float64()), right)
    return without_nan(_ARITHMETIC[operator](left, right))


_ARITHMETIC = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}


def _remainder(left: Values, right: Values) -> Values:
    """Return the remainder with the sign of the dividend, as in C and SQL; Arrow has no such kernel."""
    with np.errstate(invalid="ignore"):
        found = np.fmod(_doubles(left), _doubles(right))
    return _from_doubles(found)


def _from_doubles(found: Any) -> Values:
    if np.ndim(found) == 0:
        return pa.scalar(None if np.isnan(found) else float(found), pa.float64())
    return pa.array(found, pa.float64(), from_pandas=True)  # NaN becomes null


def _doubles(values: Values) -> Any:
    if isinstance(values, pa.Scalar):
        return np.float64(np.nan if values.as_py() is None else values.as_py())
    return values.to_numpy(zero_copy_only=False)


def negate(values: Values) -> Values:
    """Change the sign."""
    return pc.negate(values)


def compare(left: Values, right: Values, operator: str) -> Values:
    """Compare two values of one kind; text by code points."""
    return _COMPARE[operator](left, right)


_COMPARE = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def same(left: Values, right: Values) -> Values:
    """Compare as ``IS NOT DISTINCT FROM`` does: NULL equals NULL."""
    neither = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.or_(neither, pc.fill_null(pc.equal(left, right), FALSE))


def conjunction(left: Values, right: Values) -> Values:
    """Return AND of Kleene's three-valued logic: false AND NULL is false."""
    return pc.and_kleene(left, right)


def disjunction(left: Values, right: Values) -> Values:
    """Return OR of Kleene's three-valued logic: true OR NULL is true."""
    return pc.or_kleene(left, right)


def negation(values: Values) -> Values:
    """Return NOT; NOT NULL is NULL."""
    return pc.invert(values)


def is_null(values: Values) -> Values:
    """Return whether each value is NULL."""
    return pc.is_null(values)


def is_true(values: Values) -> Values:
    """Return whether each value is true; NULL counts as false."""
    return pc.fill_null(values, FALSE)


def member(values: Values, members: pa.Array, *, or_null: bool) -> Values:
    """Return whether each value is one of a list of constants.

    :param values: the values.
    :param members: the constants, without NULL.
    :param or_null: whether the list also has a NULL: a value that is not found gives NULL then, not false.
    :return: booleans.
    """
    if pa.types.is_floating(members.type):
        values = pc.add(values, 0.0)  # Arrow compares bits: turn -0.0 into 0.0
    unknown = pa.scalar(None, pa.bool_())
    found = pc.is_in(values, value_set=members)
    if or_null:
        return pc.if_else(found, found, unknown)
    return pc.if_else(pc.is_valid(values), found, unknown)


def choose(*operands: Values) -> Values:
    """Return the value of ``CASE``.

    :param *operands: condition, value, condition, value, …, and the value if no condition is true.
    :return: the values.
    """
    *pairs, result = operands
    for index in range(len(pairs) - 2, -1, -2):
        result = pc.if_else(pc.fill_null(pairs[index], FALSE), pairs[index + 1], result)
    return result


def null_if(left: Values, right: Values) -> Values:
    """Return the first value; NULL if it equals the second."""
    equal = pc.fill_null(pc.equal(left, right), FALSE)
    return pc.if_else(equal, pa.scalar(None, left.type), left)


def coalesce(*operands: Values) -> Values:
    """Return the first value that is not NULL."""
    return pc.coalesce(*operands)


def concatenate(left: Values, right: Values) -> Values:
    """Join two texts; NULL if either is NULL."""
    return pc.binary_join_element_wise(left, right, pa.scalar("", pa.large_string()))


def like(values: Values, pattern: str, *, ignore_case: bool) -> Values:
    """Match a whole text against a pattern with ``%`` and ``_``; a backslash escapes the next character."""
    return pc.match_like(values, pattern, ignore_case=ignore_case)


def regexp_like(values: Values, pattern: str) -> Values:
    """Return whether a regular expression matches anywhere in a text."""
    return pc.match_substring_regex(values, pattern)


def regexp_count(values: Values, pattern: str) -> Values:
    """Return how often a regular expression matches in a text."""
    return match_counts(values, pattern)


def contains(values: Values, part: str) -> Values:
    """Return whether a text contains another."""
    return pc.match_substring(values, part)


def starts_with(values: Values, part: str) -> Values:
    """Return whether a text starts with another."""
    return pc.starts_with(values, part)


def ends_with(values: Values, part: str) -> Values:
    """Return whether a text ends with another."""
    return pc.ends_with(values, part)


def lower(values: Values) -> Values:
    """Return a text in lower case."""
    return pc.utf8_lower(values)


def upper(values: Values) -> Values:
    """Return a text in upper case."""
    return pc.utf8_upper(values)


def trim(values: Values) -> Values:
    """Return a text without the spaces around it."""
    return pc.utf8_trim(values, characters=" ")


def length(values: Values) -> Values:
    """Return the number of code points of a text."""
    return pc.cast(pc.utf8_length(values), pa.int64())


def absolute(values: Values) -> Values:
    """Return the absolute value."""
    return pc.abs(values)


def floor(values: Values) -> Values:
    """Round down to a whole number."""
    return pc.floor(values)


def ceil(values: Values) -> Values:
    """Round up to a whole number."""
    return pc.ceil(values)


def rounded(values: Values, digits: int = 0) -> Values:
    """Round to a number of decimal digits, halves away from zero.

    Arrow's own ``round`` is not used: it raises near the largest doubles, leaves tiny numbers as they are
    when it rounds to tens, and has its powers of ten beyond 10 digits in single precision.
    """
    x, power = _doubles(values), 10.0 ** abs(digits)
    with np.errstate(all="ignore"):
        scaled = x * power if digits >= 0 else x / power
        rest = scaled - np.trunc(scaled) if digits >= 0 else np.fmod(x, power)
        half = 0.5 if digits >= 0 else power / 2
        whole = np.trunc(scaled) if digits >= 0 else np.rint((x - rest) / power)
        whole = whole + np.where(np.abs(rest) >= half, np.sign(x), 0.0)
        found = whole / power if digits >= 0 else whole * power
        # Doubles from 2^52 on are whole numbers.
        found = np.where((rest == 0) | ~(np.abs(scaled) < 2.0**52), x, found)
    return _from_doubles(found)


_DAY = 86_400_000_000
"""Microseconds."""


def year(values: Values) -> Values:
    """Return the year of a time, in UTC."""
    return _part_of_time(values, lambda moments: moments.astype("M8[Y]").astype(np.int64) + 1970)


def month(values: Values) -> Values:
    """Return the month of a time, 1 to 12."""
    return _part_of_time(values, lambda moments: moments.astype("M8[M]").astype(np.int64) % 12 + 1)


def day(values: Values) -> Values:
    """Return the day of the month of a time, 1 to 31."""

    def days(moments: Any) -> Any:
        first = moments.astype("M8[M]").astype("M8[D]")
        return (moments.astype("M8[D]") - first).astype(np.int64) + 1

    return _part_of_time(values, days)


def hour(values: Values) -> Values:
    """Return the hour of a time, 0 to 23."""
    return _part_of_time(values, lambda moments: moments.astype(np.int64) % _DAY // (_DAY // 24))


def weekday(values: Values) -> Values:
    """Return the day of the week of a time: 1 is Monday, 7 Sunday."""
    # The first of January 1970 was a Thursday.
    return _part_of_time(values, lambda moments: (moments.astype(np.int64) // _DAY + 3) % 7 + 1)


def _part_of_time(values: Values, part: Callable[[Any], Any]) -> Values:
    """Compute with numpy: Arrow's own functions know the years up to 32,767 alone."""
    if isinstance(values, pa.Scalar):
        return _part_of_time(pa.array([values.value], pa.int64()), part)[0]
    known = values.is_valid().to_numpy(zero_copy_only=False)
    moments = values.cast(pa.int64()).fill_null(0).to_numpy().astype("M8[us]")
    return pa.array(part(moments), pa.int64(), mask=~known)


def seconds_between(earlier: Values, later: Values) -> Values:
    """Return the seconds from one time to another; negative if the other one is earlier."""
    first, last = earlier.cast(pa.int64()), later.cast(pa.int64())
    rough = pc.subtract(last.cast(pa.float64(), safe=False), first.cast(pa.float64(), safe=False))
    # Microseconds of 64 bits are exact for 292,000 years.
    exact = pc.subtract(last, first).cast(pa.float64(), safe=False)
    return pc.divide(pc.if_else(pc.less(pc.abs(rough), 9e18), exact, rough), 1e6)


def days_between(earlier: Values, later: Values) -> Values:
    """Return the days from one time to another, with their fractions."""
    return pc.divide(seconds_between(earlier, later), 86_400.0)
