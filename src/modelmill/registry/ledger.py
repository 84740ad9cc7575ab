"""The ledger: an append-only Delta table with a row for each promotion and each refusal."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from modelmill.data.commits import write_rows
from modelmill.data.tables import read_arrow, resolve_table, table_exists

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.settings import Settings

Action = Literal["promote", "refuse"]


class Entry(BaseModel):
    """One row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    model: str
    from_version: int | None
    """Champion before; None if there was none."""
    to_version: int | None
    """Champion after; None if there is none."""
    digest: str
    """Digest of the challenger's files."""
    reasons: tuple[str, ...]
    """Why it was refused; empty for a promotion."""
    evidence: str
    """URI of the gate's report."""
    pipeline: str
    step_key: str
    """Step that decided it. A step writes one row, however often it is tried."""


def record(entry: Entry, settings: Settings) -> None:
    """Append a row, unless an earlier attempt of the same step has.

    :param entry: the row.
    :param settings: where the ledger is.
    :raises TransientError: if other writers win again and again.
    :raises TableError: if the ledger cannot be written.
    """
    import pyarrow as pa

    row = {"time": datetime.now(UTC), "who": _user(), **entry.model_dump(), "reasons": list(entry.reasons)}
    rows = pa.Table.from_pylist([row], schema=_schema())
    write_rows(settings.ledger, rows, mode="append", transaction=entry.step_key)


def entries(settings: Settings, *, model: str | None = None) -> list[dict[str, object]]:
    """Return the ledger's rows, the oldest first.

    :param settings: where the ledger is.
    :param model: only this model's; None for all.
    :return: rows as dictionaries; empty where there is no ledger yet.
    """
    if not table_exists(settings.ledger):
        return []
    rows: list[dict[str, object]] = read_arrow(resolve_table(settings.ledger)).to_pylist()
    rows.sort(key=lambda row: str(row["time"]))
    return [row for row in rows if model in (None, row["model"])]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid {os.getuid()}"


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("who", pa.string()),
            ("action", pa.string()),
            ("model", pa.string()),
            ("from_version", pa.int64()),
            ("to_version", pa.int64()),
            ("digest", pa.string()),
            ("reasons", pa.list_(pa.string())),
            ("evidence", pa.string()),
            ("pipeline", pa.string()),
            ("step_key", pa.string()),
        ]
    )
