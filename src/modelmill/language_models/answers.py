"""The table of answers: append-only, the cache and the truth. A key is in it once, whoever asked and when."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.language_models.prices import Tariff
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.opening import open_table
from modelmill.tables.reading import scan_arrow
from modelmill.tables.storage import table_exists

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_BATCH_ROWS = 65_536
_COUNTER = "answers"
"""Application transaction that every commit raises by one: of two upon one version, one has to look again."""


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What is used of an answer."""

    status: str
    label: str | None
    probabilities: Mapping[str, float] | None
    input_tokens: int | None
    output_tokens: int | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> LabelAnswer:
        """Take it from an entry of the journal, or from a row of the table."""
        given = entry["probabilities"]
        return cls(
            entry["status"],
            entry["label"],
            None if given is None else dict(given),
            entry["input_tokens"],
            entry["output_tokens"],
        )


@dataclass(frozen=True)
class AnswerOrigin:
    """What the answers of one result have in common."""

    dialect: str
    model: str
    """As it was asked for."""
    prompts: Mapping[str, str]
    """Digest of prompt, schema and parameters, by key."""


def schema() -> pa.Schema:
    """Return the table's columns."""
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("dialect", pa.string()),
            ("model", pa.string()),
            ("prompt", pa.string()),
            ("status", pa.string()),
            ("label", pa.string()),
            ("probabilities", pa.map_(pa.string(), pa.float64())),
            ("text", pa.string()),
            ("answered_by", pa.string()),
            ("input_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("cost", pa.float64()),
            ("unit", pa.string()),
        ]
    )


def known_answers(uri: str, keys: Collection[str]) -> dict[str, LabelAnswer]:
    """Look answers up.

    :param uri: the table; it need not exist.
    :param keys: of requests.
    :return: those that are there.
    :raises TableError: if the table cannot be read, or is another one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not keys or not table_exists(uri):
        return {}
    wanted = pa.array(keys, pa.string())
    ref = TableRef(uri=uri, version=open_table(uri).version())
    columns = ["key", "status", "label", "probabilities", "input_tokens", "output_tokens"]
    found: dict[str, LabelAnswer] = {}
    for batch in scan_arrow(ref, columns=columns, batch_rows=_BATCH_ROWS):
        for row in batch.filter(pc.is_in(batch.column("key"), wanted)).to_pylist():
            found[row["key"]] = LabelAnswer.of(row)
    return found


def keep_answers(
    uri: str, entries: Iterable[tuple[str, Mapping[str, Any]]], origin: AnswerOrigin, tariff: Tariff
) -> int:
    """Append the answers of a journal that the table does not have.

    :param uri: the table; made if there is none.
    :param entries: entries of the journal by key, in the order of the keys.
    :param origin: what they have in common.
    :param tariff: what a unit is.
    :return: answers appended.
    :raises TableError: if the table cannot be written, or is another one.
    :raises TransientError: if other writers were always faster.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.Table.from_pylist([_row(key, entry, origin, tariff) for key, entry in entries], schema())
    appended = 0

    def propose(table: DeltaTable | None) -> Proposal | None:
        nonlocal appended
        missing = rows
        if table is not None:
            ref = TableRef(uri=uri, version=table.version())
            there = [
                batch.filter(pc.is_in(batch.column("key"), rows.column("key"))).column("key")
                for batch in scan_arrow(ref, columns=["key"], batch_rows=_BATCH_ROWS)
            ]
            known = pa.chunked_array(there, pa.string())
            missing = rows.filter(pc.invert(pc.is_in(rows.column("key"), known)))
        appended = missing.num_rows
        count = 0 if table is None else table.transaction_version(_COUNTER) or 0
        return Proposal(missing, {_COUNTER: count + 1}) if appended else None

    append_if(uri, propose, schema=schema(), properties={"delta.appendOnly": "true"})
    return appended


def _row(key: str, entry: Mapping[str, Any], origin: AnswerOrigin, tariff: Tariff) -> dict[str, Any]:
    given = entry["probabilities"]
    return {
        "key": key,
        "dialect": origin.dialect,
        "model": origin.model,
        "prompt": origin.prompts.get(key),
        "status": entry["status"],
        "label": entry["label"],
        "probabilities": None if given is None else sorted(given.items()),
        "text": entry["text"],
        "answered_by": entry["model"],
        "input_tokens": entry["input_tokens"],
        "output_tokens": entry["output_tokens"],
        "cost": tariff.shown(entry["units"]),
        "unit": tariff.unit,
    }
