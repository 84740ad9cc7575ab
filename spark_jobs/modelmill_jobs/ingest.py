"""Load JSON, CSV or Parquet files into a Delta table, each file exactly once.

As an application: ``python -m modelmill_jobs.ingest --source '/landing/*.jsonl' --to /tables/news``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError, TableError
from modelmill.jobs import run_as_application
from modelmill.tables.ingest import IngestRequest, IngestResult
from modelmill.tables.opening import open_table, transaction_version
from modelmill.tables.source_files import (
    SourceFile,
    check_content,
    check_not_own_files,
    check_unchanged,
    list_files,
)
from modelmill.tables.storage import table_exists, table_location
from modelmill.tables.versions import resolve_table
from modelmill_jobs.columns import quoted
from modelmill_jobs.engine_errors import as_input_error
from modelmill_jobs.paths import plain_path
from modelmill_jobs.writing import write_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Sail looks at the first 1,000 records by default, then drops what comes later: columns, digits.
_EVERY_RECORD = {"schema_infer_max_records": "1000000000000"}
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "json": {"mode": "FAILFAST", **_EVERY_RECORD},
    "csv": {"mode": "FAILFAST", "header": "true", **_EVERY_RECORD},
    "parquet": {"mergeSchema": "true"},
}
"""A malformed line is an error, not a row of nulls; a column of any file is a column of all."""

_SAFE_CASTS = {
    ("bigint", "double"),
    ("bigint", "string"),
    ("boolean", "string"),
    ("double", "string"),
    ("int", "bigint"),
    ("int", "double"),
    ("float", "double"),
}
"""What another night's files may be inferred as without anything being lost: from, to."""

_MOST_EXACT = 2**53
"""Up to it a double has every whole number."""
_LONGEST_HEADER = 1 << 24
"""Bytes of a CSV file's first line by which files are told apart."""
_INTERVAL = re.compile(r"(^|[:<])interval (year|month|day|hour|minute|second)")


def main(request: IngestRequest, spark: SparkSession) -> IngestResult:
    """Load the files that have not been loaded yet.

    :param request: which files, and which table.
    :param spark: session to use.
    :return: the table, and how much was loaded.
    :raises TableError: if there is nothing to load and no table, or files and table do not go together.
    """
    place = table_location(request.to)
    found = list_files(request.source)
    check_not_own_files(found, place)
    new = _not_loaded(found, place)
    if not new:
        if not found and not table_exists(place):
            raise TableError(
                "there must be files to load, or a table already",
                got=request.source,
                remedy="check the path and the glob",
            )
        return IngestResult(table=resolve_table(place), files_found=len(found), files=0, rows=0)
    check_content(new, request.format, {**_DEFAULTS[request.format], **request.options})
    rows = _columns(_read(spark, new, request), request)
    if request.format == "json" and not request.select:
        rows = rows.select(*map(quoted, sorted(rows.columns)))  # engines differ in their order
    rows = _fitted(rows, place, fill_missing=request.format == "json")
    transactions = [name for file in new for name in file.transactions]
    whole = hashlib.sha256("\n".join(transactions).encode()).hexdigest()
    with as_input_error("the files must be readable as what they are said to be", got=request.source):
        _, count = write_table(
            rows,
            place,
            mode="append",
            transaction=f"modelmill-load-{whole}",
            parts=transactions,
            metadata={"operation": "ingest", "source": request.source, "files": len(new)},
            properties={"delta.enableChangeDataFeed": "true"},  # datasets then follow it in small steps
            check=functools.partial(check_unchanged, new),
        )
    return IngestResult(table=resolve_table(place), files_found=len(found), files=len(new), rows=count or 0)


def _not_loaded(found: Sequence[SourceFile], place: str) -> list[SourceFile]:
    """Return the files that the table has not, each once, however many links lead to it."""
    table = open_table(place) if table_exists(place) else None
    new: dict[str, SourceFile] = {}
    for file in found:
        names = file.transactions
        if table is None or all(transaction_version(table, name) is None for name in names):
            new.setdefault(names[-1], file)
    return list(new.values())


def _read(spark: SparkSession, files: Sequence[SourceFile], request: IngestRequest) -> DataFrame:
    options = {**_DEFAULTS[request.format], **request.options}
    paths = [[plain_path(file.path) for file in group] for group in _alike(files, request.format, options)]
    with as_input_error("the files must be readable as what they are said to be", got=request.source):
        parts = [spark.read.format(request.format).options(**options).load(group) for group in paths]
        names = [sorted(part.columns) for part in parts]
    for part in parts:
        _check_names(part.columns, request.source)
    if not names[0]:
        raise TableError("the files must have rows", got=request.source, remedy="check the format")
    if any(other != names[0] for other in names):
        raise TableError(
            f"files that are loaded together must have the same columns ({request.source})",
            got=" and ".join(sorted({", ".join(group) for group in names})[:2]),
            remedy="load them by separate globs",
        )
    return functools.reduce(lambda one, other: one.unionByName(other), parts)


def _check_names(names: Sequence[str], source: str) -> None:
    """Refuse columns that engines and tables cannot tell apart, or cannot name."""
    lower = [name.lower() for name in names]
    wrong = sorted(name for name in names if not name.strip() or lower.count(name.lower()) > 1)
    if wrong:
        raise TableError(
            f"every column has a name, and names differ by more than case ({source})",
            got=", ".join(map(repr, wrong)),
            remedy="rename the columns in the files",
        )


def _alike(files: Sequence[SourceFile], format_: str, options: Mapping[str, str]) -> list[list[SourceFile]]:
    """Group the files that one reader may read: CSV readers go by position, whatever a file's header says."""
    if format_ != "csv" or options["header"].lower() != "true":
        return [list(files)]
    import fsspec

    groups: dict[bytes, list[SourceFile]] = {}
    for file in files:
        with fsspec.open(file.path, "rb", compression="infer") as content:
            groups.setdefault(content.readline(_LONGEST_HEADER).strip(), []).append(file)
    return list(groups.values())


def _columns(rows: DataFrame, request: IngestRequest) -> DataFrame:
    from pyspark.sql import functions as sql

    known = ", ".join(rows.columns)
    with as_input_error(f"select and where must be SQL over the files' columns ({known})", kind=ConfigError):
        if request.where:
            kind = rows.select(sql.expr(request.where).alias("x")).schema["x"].dataType.simpleString()
            if kind != "boolean":
                raise ConfigError("where must be a condition", got=request.where, remedy=f"it yields {kind}")
            rows = rows.where(request.where)
        if request.select:
            _check_names(list(request.select), "select")
            rows = rows.select(*(sql.expr(text).alias(name) for name, text in request.select.items()))
        rows.schema  # noqa: B018 (makes the engine check the expressions)
    return rows


def _fitted(rows: DataFrame, place: str, *, fill_missing: bool) -> DataFrame:
    """Give the rows the table's columns, or say why they do not fit."""
    types = {field.name: field.dataType.simpleString() for field in rows.schema.fields}
    spans = [f"{name}: {type_}" for name, type_ in types.items() if _INTERVAL.search(type_)]
    if spans:  # delta-rs takes them, and writes a log that no other reader knows
        raise TableError(
            "every column needs a type that Delta has", got=", ".join(spans), remedy="cast the column"
        )
    if not table_exists(place):
        # A column that is null in every row has no type of its own.
        return rows.selectExpr(*(_cast(name, "string" if t == "void" else t) for name, t in types.items()))
    wanted = {field.name: _spark_type(field.type) for field in open_table(place).schema().fields}
    wrong = [f"{name} is not in the table" for name in types if name not in wanted]
    expressions = []
    for name, type_ in wanted.items():
        have = types.get(name, "void" if fill_missing else None)
        if have is None:
            wrong.append(f"{name} is not in the files")
        elif have not in (type_, "void") and (have, type_) not in _SAFE_CASTS:
            wrong.append(f"{name} is {type_} in the table and {have} in the files")
        as_fraction = (have, type_) == ("bigint", "double")
        expressions.append(_exact_double(name) if as_fraction else _cast(name, type_, null=name not in types))
    if wrong:
        raise TableError(
            f"the files must have the columns of the table ({place})",
            got="; ".join(wrong),
            remedy="map them with select, or load them into another table",
        )
    return rows.selectExpr(*expressions)


def _cast(name: str, type_: str, *, null: bool = False) -> str:
    quoted = f"`{name.replace('`', '``')}`"
    return f"cast({'null' if null else quoted} as {type_}) as {quoted}"


def _exact_double(name: str) -> str:
    """Return the cast of whole numbers into a column of fractions, which has 53 bits for them."""
    quoted = f"`{name.replace('`', '``')}`"
    text = name.replace("\\", "").replace("'", "")
    problem = f"concat('whole numbers beyond 2^53 do not fit into the column {text} of doubles: ', {quoted})"
    return (
        f"if({quoted} is null or {quoted} between -{_MOST_EXACT} and {_MOST_EXACT}, "
        f"cast({quoted} as double), cast(raise_error({problem}) as double)) as {quoted}"
    )


def _spark_type(type_: Any) -> str:
    from pyspark.sql.types import StructType

    field = f'{{"name":"x","type":{type_.to_json()},"nullable":true,"metadata":{{}}}}'
    schema = StructType.fromJson(json.loads(f'{{"type":"struct","fields":[{field}]}}'))
    return str(schema.fields[0].dataType.simpleString())


if __name__ == "__main__":
    run_as_application(IngestRequest, main)
