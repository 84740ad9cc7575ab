"""The table that a dataset is made of: how its rows are prepared, and whether the options fit its columns."""

from __future__ import annotations

from modelmill.artifacts import TableRef
from modelmill.datasets.contract import check_types
from modelmill.datasets.dataset_rows import KEY_COLUMN, SPLIT_COLUMN
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.prepared_columns import PREFIX, Preparation
from modelmill.errors import ConfigError, TableError
from modelmill.tables.opening import open_table
from modelmill.tables.reading import check_columns


def source_plan(options: BuildOptions, source: TableRef) -> tuple[Preparation, bool]:
    """Return how a source's rows are prepared.

    :param options: how the dataset is built.
    :param source: the source.
    :return: how they are prepared; whether the source has a change data feed.
    :raises TableError: see :func:`~modelmill.tables.opening.open_table`.
    """
    import pyarrow as pa

    table = open_table(source.uri, version=source.version)
    has_feed = table.metadata().configuration.get("delta.enableChangeDataFeed", "").lower() == "true"
    return Preparation(options, pa.schema(table.schema().to_arrow())), has_feed


def check_options(options: BuildOptions, table: TableRef, *, to: str) -> None:
    """Check the options against the table's columns.

    :param options: how the dataset is built.
    :param table: the source.
    :param to: where the dataset goes.
    :raises ConfigError: if names collide.
    :raises TableError: if a column is missing, or is of a type that does not fit its role.
    """
    plan, _ = source_plan(options, table)
    split = (options.key, options.split.column, options.split.group)
    plain = [name for name in (options.text, *split) if name is not None]
    used = [*plain, *options.contents, *options.labels, *options.carried, *options.contract]
    check_columns(plan.schema.names, used, place=str(table))
    _check_types(plan, plain, table)
    check_types(plan.schema, options.contract, place=str(table))
    taken = [KEY_COLUMN, *options.contents, *options.labels, SPLIT_COLUMN, *options.carried]
    lower = [name.lower() for name in taken]
    twice = sorted({name for name in taken if lower.count(name.lower()) > 1})
    if twice:
        raise ConfigError(
            f"a dataset's columns have different names; {KEY_COLUMN} and {SPLIT_COLUMN} are its own",
            got=", ".join(twice),
            remedy="rename the column when it is loaded",
        )
    reserved = [name for name in plan.schema.names if name.lower().startswith(PREFIX)]
    if reserved:
        raise ConfigError(
            f"columns of the source do not begin with {PREFIX}", got=reserved[0], remedy="rename the column"
        )
    ends = ("", "_quarantine", "_duplicates")
    if {f"{table.uri}{end}" for end in ends} & {f"{to}{end}" for end in ends}:
        raise ConfigError("a dataset is not written over its source", got=to, remedy="name another table")


def _check_types(plan: Preparation, plain: list[str], table: TableRef) -> None:
    import pyarrow.types as types

    def is_plain(name: str) -> bool:
        type_ = plan.schema.field(name).type
        return not (types.is_nested(type_) or types.is_binary(type_) or types.is_large_binary(type_))

    wrong = [name for name in plain if not is_plain(name)]
    rule = "text, key, split and group are columns of simple values"
    if not wrong and plan.options.image is not None:
        type_ = plan.schema.field(plan.options.image).type
        if types.is_nested(type_) or not (is_plain(plan.options.image) is False or types.is_string(type_)):
            rule, wrong = "an image is a binary value, or the path of one", [plan.options.image]
    for name, kind in zip(plan.options.labels, plan.kinds, strict=True):
        type_ = plan.schema.field(name).type
        fits = {
            "class": is_plain(name),
            "classes": types.is_list(type_) and not types.is_nested(type_.value_type),
            "number": is_plain(name) and not types.is_boolean(type_) and not types.is_temporal(type_),
        }[kind]
        if not wrong and not fits:
            rule, wrong = f"a label of kind {kind!r} needs a column that fits it", [name]
    if wrong:
        raise TableError(
            f"{rule} ({table})",
            got=f"{wrong[0]}: {plan.schema.field(wrong[0]).type}",
            remedy="cast the column when it is loaded",
        )
