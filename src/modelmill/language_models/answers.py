"""The table of answers: append-only, the cache and the truth. A key is in it once, whoever asked and when.

A request about several signals has a row for each, all of them of one commit: the request's key, a slash and
the signal's name is the row's key. The first one has what the request cost, the others 0, so that sums are
right.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.language_models.prices import Tariff
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.opening import open_table, transaction_version
from modelmill.tables.reading import scan_arrow
from modelmill.tables.storage import table_exists

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_BATCH_ROWS = 65_536
_MADE_AT_ONCE = 8_192
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
    parts: Mapping[str, LabelAnswer] | None = None
    """By signal, where the request asked for several; None: it is about one, or all have its status."""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> LabelAnswer:
        """Take it from an entry of the journal, or from a row of the table."""
        given, parts = entry["probabilities"], entry.get("parts")
        return cls(
            entry["status"],
            entry["label"],
            None if given is None else dict(given),
            entry.get("input_tokens"),
            entry.get("output_tokens"),
            None if parts is None else {name: cls.of(part) for name, part in parts.items()},
        )

    def about(self, signal: str) -> LabelAnswer:
        """Return what it says about a signal."""
        return self if self.parts is None else self.parts[signal]


@dataclass(frozen=True)
class AnswerOrigin:
    """What the answers of one result have in common."""

    dialect: str
    model: str
    """As it was asked for."""
    prompts: Mapping[str, str]
    """Digest of prompt, schema and parameters, by key."""
    together: tuple[str, ...] = ()
    """Signals that each request asked for; empty: it asked for one."""


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


def known_answers(uri: str, keys: Collection[str], *, together: Sequence[str] = ()) -> dict[str, LabelAnswer]:
    """Look answers up.

    :param uri: the table; it need not exist.
    :param keys: of requests.
    :param together: signals that each request asks for; empty: it asks for one.
    :return: those that are there, with all their signals.
    :raises TableError: if the table cannot be read, or is another one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not keys or not table_exists(uri):
        return {}
    wanted = pa.array((row for key in keys for row in row_keys(key, together)), pa.string())
    ref = TableRef(uri=uri, version=open_table(uri).version())
    columns = ["key", "status", "label", "probabilities", "input_tokens", "output_tokens"]
    found: dict[str, LabelAnswer] = {}
    for batch in scan_arrow(ref, columns=columns, batch_rows=_BATCH_ROWS):
        for row in batch.filter(pc.is_in(batch.column("key"), wanted)).to_pylist():
            found[row["key"]] = LabelAnswer.of(row)
    return _put_together(found, keys, together) if together else found


def row_keys(key: str, together: Sequence[str]) -> list[str]:
    """Return the keys of a request's rows: its own, or one for each signal that it asked for.

    :param key: of the request.
    :param together: signals that it asked for; empty: it asked for one.
    :return: the keys.
    """
    return [f"{key}/{name}" for name in together] or [key]


def _put_together(
    rows: Mapping[str, LabelAnswer], keys: Iterable[str], together: Sequence[str]
) -> dict[str, LabelAnswer]:
    """Return the answers to requests about several signals, of which each has a row."""
    found: dict[str, LabelAnswer] = {}
    for key in keys:
        parts = {name: rows.get(row) for name, row in zip(together, row_keys(key, together), strict=True)}
        there = {name: part for name, part in parts.items() if part is not None}
        if len(there) == len(together):
            first = there[together[0]]  # which has the tokens
            found[key] = replace(first, label=None, probabilities=None, parts=there)
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

    rows = _table(entries, origin, tariff)
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
        count = 0 if table is None else transaction_version(table, _COUNTER) or 0
        return Proposal(missing, {_COUNTER: count + 1}) if appended else None

    append_if(uri, propose, schema=schema(), properties={"delta.appendOnly": "true"})
    return appended


def _table(
    entries: Iterable[tuple[str, Mapping[str, Any]]], origin: AnswerOrigin, tariff: Tariff
) -> pa.Table:
    import pyarrow as pa

    rows = (row for key, entry in entries for row in _rows(key, entry, origin, tariff))
    parts = [schema().empty_table()]
    while some := list(itertools.islice(rows, _MADE_AT_ONCE)):  # as Python objects they are large
        parts.append(pa.Table.from_pylist(some, schema()))
    return pa.concat_tables(parts)


def _rows(
    key: str, entry: Mapping[str, Any], origin: AnswerOrigin, tariff: Tariff
) -> Iterator[dict[str, Any]]:
    """Yield the row of a request, or one for each signal: then the first one has what the request cost."""
    parts, shared = entry.get("parts") or {}, {"prompt": origin.prompts.get(key), "model": entry["model"]}
    for place, row_key in enumerate(row_keys(key, origin.together)):
        said = parts[origin.together[place]] if parts else entry
        paid = entry if place == 0 else {"input_tokens": 0, "output_tokens": 0, "units": 0}
        yield _row(row_key, {**said, **shared, **_costs(paid)}, origin, tariff)


def _costs(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("input_tokens", "output_tokens", "units")}


def _row(key: str, entry: Mapping[str, Any], origin: AnswerOrigin, tariff: Tariff) -> dict[str, Any]:
    given = entry["probabilities"]
    return {
        "key": key,
        "dialect": origin.dialect,
        "model": origin.model,
        "prompt": entry["prompt"],
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
