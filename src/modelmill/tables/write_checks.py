"""Checks before a Delta table is written, and the errors of commits that fail."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from modelmill.errors import InputError, TableError, TransientError
from modelmill.settings import Settings
from modelmill.system.disk import disk_error
from modelmill.tables.storage import check_place, is_local, store_of, table_location

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def spark_schema_to_delta(schema_json: str) -> Schema:
    """Return the Delta schema for a Spark schema: every column nullable, no metadata.

    :param schema_json: ``DataFrame.schema.json()``.
    :return: the schema.
    :raises TableError: if Delta has no such type.
    """
    from deltalake import Schema
    from deltalake.exceptions import DeltaError

    content = json.loads(schema_json)
    for field in content["fields"]:
        field |= {"nullable": True, "metadata": {}}
    try:
        return Schema.from_json(json.dumps(content))
    except (DeltaError, ValueError) as error:
        raise TableError(
            f"every column needs a type that Delta has ({error})",
            got=", ".join(f"{field['name']}: {field['type']}" for field in content["fields"]),
            remedy="cast the column",
        ) from error


def check_not_kept(place: str) -> None:
    """Refuse to write rows of a step where modelmill keeps its own: a pipeline must not add to the ledger.

    A row that the ledger did not count would make all of it unreadable.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :raises TableError: if it is the ledger, or lies where people's labels are kept, however it is spelled;
        and as :func:`~modelmill.tables.storage.check_place`.
    """
    check_place(place)
    settings = Settings.from_environment()
    for what, kept in (("the ledger", settings.ledger), ("the labels of people", settings.queues)):
        if f"{_spelt(place)}/".startswith(f"{_spelt(table_location(kept))}/"):
            raise TableError(
                f"a step does not write where modelmill keeps {what}", got=place, remedy="name another place"
            )


def _spelt(place: str) -> str:
    """Return one spelling of a place: links followed, and of a store's names, servers and escapes one."""
    if is_local(place):
        return os.path.realpath(place)
    scheme, _, rest = place.partition("://")
    store = store_of(scheme)
    bucket, _, path = rest.partition("/")
    if store == "az":
        bucket = bucket.partition("@")[0]  # abfss://CONTAINER@ACCOUNT/… is az://CONTAINER/…
    elif store == "hdfs":
        bucket = ""  # a name node has several names, and the default one none
    else:
        bucket = bucket.rpartition("@")[2].partition(":")[0]
    while (plain := unquote(path)) != path:
        path = plain
    return f"{store}://{bucket}/{path}"


def write_check(table: DeltaTable, place: str) -> None:
    """Refuse to write to a table with rules that added files would not be checked against.

    :param table: the table.
    :param place: its place, for the message.
    :raises TableError: if it is partitioned or has constraints, generated or identity columns.
    """
    metadata = table.metadata()
    promises = [key for key in metadata.configuration if key.startswith("delta.constraints.")]
    promises += [f"partition column {name}" for name in metadata.partition_columns]
    for field in table.schema().fields:
        promises += [
            f"{key} of column {field.name}"
            for key in field.metadata
            if key.startswith(("delta.invariants", "delta.generationExpression", "delta.identity"))
        ]
        promises += [] if field.nullable else [f"NOT NULL of column {field.name}"]
    if promises:
        raise TableError(
            f"a table that is written to has no partitions and no constraints ({place})",
            got=", ".join(promises),
            remedy="write to another table",
        )


def transient(error: Exception, place: str) -> TransientError | InputError:
    """Return the error for a commit that storage or a conflict stopped.

    :param error: what delta-rs raised.
    :param place: the table.
    :return: an error that can be retried, or one that cannot if the place is not writable.
    """
    text = " ".join(str(error).split())[:300]
    if isinstance(error, PermissionError) or "ermission denied" in text or "ead-only file system" in text:
        return not_writable(place, text)
    return TransientError(f"the commit must go through ({text})", got=place, remedy="try again")


def not_taken(place: str, error: OSError) -> TableError | TransientError:
    """Return the error for a write that a disk of this machine did not take.

    :param place: the table.
    :param error: what the write raised.
    :return: an error that can be retried if the disk is full; one that cannot, if the place is not writable.
    """
    full = disk_error(error, Path(place)) if error.errno in _FULL else None
    return full or not_writable(place, error.strerror or error)


def not_writable(place: str, reason: Any) -> TableError:
    """Return the error for a place that this user may not write."""
    return TableError(
        f"the table's directory must be writable ({reason})",
        got=place,
        remedy="name another place, or give this user the right to write there",
    )
