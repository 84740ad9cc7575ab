"""The contract of a table: what each value of a column must be.

The checks are Arrow's: a pattern takes linear time (RE2), and values keep their types. pandera around the
same checks takes 11.9 ms instead of 10.5 ms for 8,192 rows and five terms, and 0.35 s to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modelmill.datasets.options import ColumnContract
from modelmill.datasets.personal_data import SHOWN, PersonalData, has_personal_data
from modelmill.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

Test = Callable[[Any], Any]


def broken_contract(columns: Mapping[str, pa.Array], contract: Mapping[str, ColumnContract]) -> pa.Array:
    """Return for each row the term that it breaks.

    :param columns: columns of equal length, by name.
    :param contract: terms by column; each column is there and of the right type (see :func:`check_types`).
    :return: strings such as ``age: at most 120``, of several the first in alphabetical order; null where
        nothing is broken.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    terms = [
        (f"{name}: {said}", test, columns[name])
        for name, terms in contract.items()
        for test, said in _tests(terms)
    ]
    reasons = pa.nulls(len(next(iter(columns.values()))), pa.string())
    for said, test, column in sorted(terms, key=lambda term: term[0], reverse=True):
        reasons = pc.if_else(pc.fill_null(test(column), True), reasons, said)
    return reasons


def _tests(terms: ColumnContract) -> list[tuple[Test, str]]:
    """Return what each term asks of the values, null where it does not apply, and how it is named."""
    import pyarrow.compute as pc

    found: list[tuple[Test, str]] = []
    if terms.required:
        found.append((pc.is_valid, "null is refused"))
    if terms.min is not None:
        found.append((_is_within(pc.greater_equal, terms.min, math.ceil), f"at least {_shown(terms.min)}"))
    if terms.max is not None:
        found.append((_is_within(pc.less_equal, terms.max, math.floor), f"at most {_shown(terms.max)}"))
    if terms.allowed is not None:
        found.append((_is_allowed(terms.allowed), "not among the allowed values"))
    if terms.pattern is not None:
        pattern = terms.pattern
        found.append((lambda values: pc.match_substring_regex(values, pattern), f"matches {pattern}"))
    if terms.max_length is not None:
        longest = terms.max_length
        found.append((lambda values: pc.less_equal(_length(values), longest), f"at most {longest} long"))
    found += [(_lacks(kind), f"no {SHOWN[kind]}") for kind in terms.without]
    return found


def _lacks(kind: PersonalData) -> Test:
    import pyarrow.compute as pc

    return lambda texts: pc.invert(has_personal_data(texts, kind))


def _shown(limit: float) -> str:
    return f"{limit:.0f}" if limit.is_integer() and abs(limit) < 1e18 else repr(limit)


def _is_within(compare: Any, limit: float, whole: Callable[[float], int]) -> Any:
    def test(values: Any) -> Any:
        import pyarrow as pa

        if not pa.types.is_integer(values.type):
            return compare(values, limit)
        # Whole numbers are compared as such: beyond 2**53 a float would be another number, and Arrow refuses.
        return compare(values, pa.scalar(min(max(whole(limit), -(2**63)), 2**63 - 1), pa.int64()))

    return test


def _is_allowed(allowed: tuple[Any, ...]) -> Any:
    def test(values: Any) -> Any:
        import pyarrow.compute as pc

        known = pc.is_in(values, value_set=_allowed_values(allowed, values.type))
        return pc.if_else(pc.is_valid(values), known, None)

    return test


def _allowed_values(allowed: tuple[Any, ...], type_: pa.DataType) -> pa.Array:
    """Return the allowed values in the column's type: one value may be written as 1, 1.0 or 1.00."""
    import pyarrow as pa

    def spelt(item: Any) -> str:
        if isinstance(item, bool):
            return str(item).lower()
        whole = isinstance(item, float) and item.is_integer() and not _is_type(type_, "string")
        return str(int(item)) if whole else str(item)

    return pa.array([spelt(item) for item in allowed], pa.string()).cast(type_)


def _length(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    binary = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    return pc.binary_length(values) if binary else pc.utf8_length(values)


def check_types(schema: pa.Schema, contract: Mapping[str, ColumnContract], *, place: str) -> None:
    """Make sure that columns have the types that a contract says, and terms that fit them.

    :param schema: the table's columns.
    :param contract: terms by column.
    :param place: the table, for the message.
    :raises TableError: for the first column that does not fit.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, terms in contract.items():
        type_ = schema.field(name).type
        if terms.type is not None and not _is_type(type_, terms.type):
            raise TableError(
                f"the column {name!r} must be of type {terms.type}, as its contract says ({place})",
                got=str(type_),
                remedy="cast the column when it is loaded, or fix the contract",
            )
        _check_terms(terms, name, type_, place)
        if terms.allowed is not None:
            try:
                _allowed_values(terms.allowed, type_)
            except pa.ArrowException as error:
                raise TableError(
                    f"the allowed values of {name!r} must be of its type, {type_} ({place})",
                    got=", ".join(map(str, terms.allowed)),
                    remedy="write values of that type, or remove them",
                ) from error
        if terms.pattern is not None:
            try:
                pc.match_substring_regex(pa.array([""]), terms.pattern)
            except pa.ArrowInvalid as error:
                raise TableError(
                    f"the pattern of {name!r} must be a regular expression of RE2 ({error})",
                    got=terms.pattern,
                    remedy="see github.com/google/re2/wiki/Syntax",
                ) from error


def _check_terms(terms: ColumnContract, name: str, type_: pa.DataType, place: str) -> None:
    number = terms.min is not None or terms.max is not None
    if number and not (_is_type(type_, "number") or _is_type(type_, "integer")):
        raise _unfit("min and max", name, type_, "numbers", place)
    text = _is_type(type_, "string")
    for what, is_set in (("pattern", terms.pattern is not None), ("without", bool(terms.without))):
        if is_set and not text:
            raise _unfit(what, name, type_, "texts", place)
    if terms.max_length is not None and not text and not _is_type(type_, "binary"):
        raise _unfit("max_length", name, type_, "texts and binary values", place)


def _unfit(what: str, name: str, type_: pa.DataType, fits: str, place: str) -> TableError:
    return TableError(
        f"{what} in a contract are for columns of {fits} ({place})",
        got=f"{name}: {type_}",
        remedy="remove it",
    )


def _is_type(type_: pa.DataType, wanted: str) -> bool:
    import pyarrow.types as types

    tests = {
        "string": (types.is_string, types.is_large_string, types.is_string_view),
        "integer": (types.is_integer,),
        "number": (types.is_floating, types.is_decimal, types.is_integer),
        "boolean": (types.is_boolean,),
        "date": (types.is_date,),
        "timestamp": (types.is_timestamp,),
        "binary": (types.is_binary, types.is_large_binary, types.is_binary_view),
    }
    return any(test(type_) for test in tests[wanted])
