"""Extreme values, and columns of them.

Whole numbers around 2^53 and 2^63, infinities, NaN, subnormal numbers, decimals, the first and the last
dates, texts that are empty, of a megabyte or not UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]

_DENSE, _END = 2**53, 2**63
_TINY, _MOST = 5e-324, 1.7976931348623157e308
WHOLE = [0, 1, -1, 7, _DENSE - 1, _DENSE, _DENSE + 1, -_DENSE - 1, 2**60, 1712345678901234567]
WHOLE += [_END - 1, _END - 2, -_END, -_END + 1]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    _TINY,
    -_TINY,
    2.2250738585072014e-308,
    float(_DENSE),
    _DENSE + 2.0,
]
FLOATS += [_END, 2**64 - 1, -_END - 1, float(_END), -float(_END), 1e19, 1e300, _MOST, -_MOST]
TIMES = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)]
TIMES += [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(2026, 11, 28, 13, 5, tzinfo=UTC)]
LONG = "a" * 1_000_000
TEXTS = ["", "a", "b", "ab", "aab", "é", "😀", " a ", "A\n", "\0", "\U0010ffff", "a%_", "$"]
BROKEN = [b"\xff", b"a\xc3", b"\xed\xa0\x80"]
"""Bytes that are not UTF-8: unknown, like NULL."""
_HIGH = Decimal(10) ** 31
DECIMALS = [Decimal(one) for one in ("0", "0.1", "-0.1", "0.000001", "9007199254740993", "1e19")]
DECIMALS += [_HIGH, -_HIGH, Decimal("9" * 32 + ".999999")]
VALUES: dict[str, Sequence[Any]] = {
    "boolean": [True, False],
    "integer": WHOLE,
    "float": FLOATS,
    "text": TEXTS,
    "time": TIMES,
}
"""What constants are drawn from, by kind."""


@dataclass(frozen=True)
class Column:
    """A column of the rows."""

    kind: str
    arrow: pa.DataType
    values: Sequence[Any]


_FLOATING = [*map(float, FLOATS), math.inf, -math.inf, math.nan, 3.5]
_TEXTUAL = 3 * [text.encode() for text in (*TEXTS, "zzz")] + [LONG.encode(), *BROKEN]
COLUMNS: dict[str, Column] = {
    **dict.fromkeys("fg", Column("boolean", pa.bool_(), [True, False])),
    **dict.fromkeys("nm", Column("integer", pa.int64(), WHOLE)),
    **dict.fromkeys("xy", Column("float", pa.float64(), _FLOATING)),
    "c": Column("float", pa.decimal128(38, 6), DECIMALS),
    **dict.fromkeys("st", Column("text", pa.string(), _TEXTUAL)),
    **dict.fromkeys("ew", Column("time", pa.timestamp("us", tz="UTC"), TIMES)),
    "d": Column("time", pa.date32(), [date.min, date.max, date(1970, 1, 1)]),
    "b": Column("bytes", pa.binary(), [b"", b"\xff" * 9]),
    "l": Column("texts", pa.list_(pa.string()), [[], ["a", None], [""]]),
}


def written(value: Any) -> str:
    """Return a constant as SQL."""
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat(sep=' ')}'"
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).upper() if isinstance(value, bool) else f"({value!r})"


def as_signal(value: Any) -> Any:
    """Return a value as the language has it: NaN is NULL, a decimal a double, a date its first moment."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def known(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    """Return the values of a row as the language has them; NULL for a text that is not UTF-8."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        try:
            found[name] = as_signal(batch.column(name)[row].as_py())
        except UnicodeDecodeError:
            found[name] = None
    return found
