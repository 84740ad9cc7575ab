"""The contract of a table: what each value of a column must be. Checked by pandera, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelmill.data.dataset_config import ColumnContract
from modelmill.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa


def broken_contract(columns: Mapping[str, pa.Array], contract: Mapping[str, ColumnContract]) -> pa.Array:
    """Return for each row the first term that it breaks.

    :param columns: columns of equal length, by name.
    :param contract: terms by column; each column is there and of the right type (see :func:`check_types`).
    :return: strings such as ``age: at most 120``; null where nothing is broken.
    """
    import pyarrow as pa

    count = len(next(iter(columns.values())))
    if not contract:
        return pa.nulls(count, pa.string())
    import pandas as pd
    import pandera.pandas as pandera
    from pandera.errors import SchemaErrors

    frame = pd.DataFrame({name: columns[name].to_pandas(types_mapper=pd.ArrowDtype) for name in contract})
    schema = pandera.DataFrameSchema(
        {name: pandera.Column(nullable=True, checks=_checks(terms)) for name, terms in contract.items()}
    )
    reasons: list[str | None] = [None] * count
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        broken = errors.failure_cases
        for name, check, index in zip(broken["column"], broken["check"], broken["index"], strict=True):
            term = f"{name}: {check}"
            reasons[int(index)] = min(reasons[int(index)] or term, term)
    return pa.array(reasons, pa.string())


def _checks(terms: ColumnContract) -> list[Any]:
    import pandera.pandas as pandera
    import pyarrow.compute as pc

    def arrow(test: Any) -> Any:
        """Run a test on the Arrow array below the column: RE2 takes linear time, Python's ``re`` does not."""

        def on_column(values: Any) -> Any:
            import pandas as pd
            import pyarrow as pa

            answer = test(pa.chunked_array(values.array.__arrow_array__()))
            return pd.Series(pc.fill_null(answer, True).to_numpy(), index=values.index)

        return on_column

    found = []
    if terms.required:
        found.append((lambda values: pc.is_valid(values), "null is refused"))
    if terms.min is not None:
        found.append((lambda values: pc.greater_equal(values, terms.min), f"at least {terms.min:g}"))
    if terms.max is not None:
        found.append((lambda values: pc.less_equal(values, terms.max), f"at most {terms.max:g}"))
    if terms.allowed is not None:
        found.append((_is_allowed(terms.allowed), "not among the allowed values"))
    if terms.pattern is not None:
        pattern = terms.pattern
        found.append((lambda values: pc.match_substring_regex(values, pattern), f"matches {pattern}"))
    if terms.max_length is not None:
        longest = terms.max_length
        found.append((lambda values: pc.less_equal(_length(values), longest), f"at most {longest} long"))
    return [pandera.Check(arrow(test), name=name, error=name, ignore_na=False) for test, name in found]


def _is_allowed(allowed: tuple[Any, ...]) -> Any:
    def test(values: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pa.array([str(item).lower() if isinstance(item, bool) else str(item) for item in allowed])
        known = pc.is_in(values.cast(pa.string()), value_set=text)
        return pc.if_else(pc.is_valid(values), known, None)

    return test


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
                remedy="cast the column when it is loaded, or mend the contract",
            )
        number = terms.min is not None or terms.max is not None
        if number and not (_is_type(type_, "number") or _is_type(type_, "integer")):
            raise _unfit("min and max", name, type_, "numbers", place)
        text = _is_type(type_, "string")
        if terms.pattern is not None and not text:
            raise _unfit("pattern", name, type_, "texts", place)
        if terms.max_length is not None and not text and not _is_type(type_, "binary"):
            raise _unfit("max_length", name, type_, "texts and binary values", place)
        if terms.pattern is not None:
            try:
                pc.match_substring_regex(pa.array([""]), terms.pattern)
            except pa.ArrowInvalid as error:
                raise TableError(
                    f"the pattern of {name!r} must be a regular expression of RE2 ({error})",
                    got=terms.pattern,
                    remedy="see github.com/google/re2/wiki/Syntax",
                ) from error


def _unfit(what: str, name: str, type_: pa.DataType, fits: str, place: str) -> TableError:
    return TableError(
        f"{what} in a contract are for columns of {fits} ({place})",
        got=f"{name}: {type_}",
        remedy="take it out",
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
