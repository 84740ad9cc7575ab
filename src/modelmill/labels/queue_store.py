"""Queues of rows that people label, kept in append-only Delta tables.

Below a root lie ``queues``, what is asked in each queue, and for each of them a folder with

- ``rows``: the rows that were put forward,
- ``labels``: ``key``, ``label``, ``who``, ``when``, ``source`` (always ``person``). A null label takes back
  the person's earlier one. The table that the next night reads;
- ``claims``: which row was handed to whom until when, and who skipped it (``until`` is null) or took that
  back (``until`` is the beginning of 1970).

Nothing is held in a process: several servers may serve one root, and a restart loses nothing. A label has an
id that the browser gives it; it is the commit's application transaction, so a label that is sent again (an
answer was lost, a page was loaded anew) is written once. Of two servers that hand out one row at once, one
conflicts on the row's own transaction, and looks again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from modelmill.documents.versions import NotFoundError
from modelmill.errors import ConfigError
from modelmill.labels.appended_rows import AppendedRows
from modelmill.labels.live_queue import LiveQueue
from modelmill.labels.newest_table import NewestTable
from modelmill.labels.queue import LEASE, UNSKIPPED, LabelQueue, QueueRow
from modelmill.labels.queue_state import QueueState
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.opening import transaction_version
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

SOURCE = "person"
# Each act is a commit, and who opens the table reads those behind the last checkpoint.
_PROPERTIES = {"delta.appendOnly": "true", "delta.checkpointInterval": "20"}
_MOST_ROWS = 100_000
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Given:
    """One thing that a person did with a row."""

    id: str
    """Unique: the same is written once, however often it is sent."""
    key: str
    value: Any
    """The label; None: the label is taken back, or ``what`` is no label."""
    what: Literal["label", "skip", "unskip"] = "label"
    """A label, or the row was skipped, or that is taken back."""


class LabelQueues:
    """The queues below a root.

    :param root: path or URI of a folder.
    """

    def __init__(self, root: str) -> None:
        self.root = table_location(root)
        self._live: dict[str, LiveQueue] = {}
        self._tables: dict[str, NewestTable] = {}
        self._definition_rows: list[dict[str, Any]] = []
        self._definition_table = AppendedRows(self._definitions)
        self._lock = threading.Lock()

    def place(self, name: str, table: str = "labels") -> str:
        """Return where a table of a queue lies."""
        return f"{self.root}/{name}/{table}"

    def queues(self) -> list[LabelQueue]:
        """Return all queues, the latest first."""
        return [LabelQueue.model_validate_json(text) for text in reversed(self._newest().values())]

    def queue(self, name: str) -> LabelQueue:
        """Return what is asked in a queue; NotFoundError if there is none of this name."""
        found = self._newest().get(name)
        if found is None:
            raise NotFoundError(
                "a queue of rows to label must have this name",
                got=name,
                remedy="see the list of queues on the page Labelling",
            )
        return LabelQueue.model_validate_json(found)

    def put_forward(self, queue: LabelQueue, rows: Sequence[QueueRow], *, who: str) -> int:
        """Put rows into a queue, which is made if there is none of its name.

        Classes that the queue does not have yet come behind those that it has, which keep their keys. The
        share of second opinions stays as it was, and so does the source.

        :param queue: what is asked.
        :param rows: the rows; those whose key the queue has already are left out.
        :param who: who does it.
        :return: rows added.
        :raises ConfigError: if the queue of this name asks something else, or would become too long.
        """
        found = self._defined(queue, who)
        place = self.place(queue.name, "rows")
        now = datetime.now(UTC)
        added = 0

        def propose(table: DeltaTable | None) -> Proposal | None:
            nonlocal added
            known = self._told(found, rows=table).rows
            fresh = {row.key: row for row in rows if row.key not in known}
            added = len(fresh)
            if len(known) + added > _MOST_ROWS:
                raise ConfigError(f"a queue has {_MOST_ROWS:,} rows at most", got=f"{len(known) + added:,}")
            values = [
                {**row.model_dump(), "position": len(known) + number, "when": now, "who": who}
                for number, row in enumerate(fresh.values())
            ]
            return _proposal(values, _row_schema(), {"rows": _count(table, "rows") + 1})

        append_if(place, propose, schema=_row_schema(), properties=_PROPERTIES, own=True)
        self._make_labels(found)
        return added

    def state(self, name: str) -> QueueState:
        """Return all that is known of a queue now; NotFoundError if there is none of this name."""
        queue = self.queue(name)
        return self._state(queue, self._opened(queue, "claims"))

    def hand_out(
        self,
        name: str,
        who: str,
        *,
        most: int,
        holding: Sequence[str] = (),
        now: datetime | None = None,
    ) -> tuple[list[QueueRow], QueueState]:
        """Hand rows to a person for ten minutes from now: those that they have, then others that nobody has.

        :param name: the queue.
        :param who: the person.
        :param most: rows at most, those held among them.
        :param holding: keys of rows in front of the person. They come first, however many they are; those
            that went to others meanwhile, or that need no label any more, are left out.
        :param now: the time; None: the clock's.
        :return: the rows, and the state that they were chosen by.
        :raises NotFoundError: if there is no such queue.
        :raises TransientError: if other people were always faster.
        """
        queue, time = self.queue(name), now or datetime.now(UTC)
        place = self.place(name, "claims")
        chosen: list[QueueRow] = []
        states: list[QueueState] = []

        def propose(table: DeltaTable | None) -> Proposal | None:
            state = self._state(queue, table)
            held = state.still_theirs(holding, who, time)
            mine, fresh = state.next_rows(who, time, most=most, besides=held)
            chosen[:], states[:] = [*held, *mine, *fresh], [state]
            values = [{"key": row.key, "who": who, "when": time, "until": time + LEASE} for row in chosen]
            names = [f"row {hashlib.sha256(row.key.encode()).hexdigest()}" for row in chosen]
            return _proposal(values, _claim_schema(), {one: _count(table, one) + 1 for one in names})

        append_if(place, propose, schema=_claim_schema(), properties=_PROPERTIES, own=True)
        return chosen, states[0]

    def give(self, name: str, who: str, given: Sequence[Given], *, now: datetime | None = None) -> int:
        """Keep what a person did. Its times always rise, whatever the servers' clocks say.

        :param name: the queue.
        :param who: the person.
        :param given: labels, labels taken back, and skipped rows, in the order in which it was done.
        :param now: the time; None: the clock's.
        :return: how many were new.
        :raises NotFoundError: if there is no such queue.
        :raises ConfigError: if a key is not in the queue, or a label is no answer to what is asked: then
            nothing of all that is kept.
        """
        queue = self.queue(name)
        known = self._told(queue, rows=self._opened(queue, "rows")).rows
        unknown = [one.key for one in given if one.key not in known]
        if unknown:
            raise ConfigError(f"a row that is labelled is in the queue {name}", got=unknown[0])
        labels = [
            (one, None if one.value is None else queue.checked(one.value))
            for one in given
            if one.what == "label"
        ]
        time = now or datetime.now(UTC)
        kept = self._append(
            queue,
            "labels",
            [
                (one.id, {"key": one.key, "label": value, "who": who, "source": SOURCE})
                for one, value in labels
            ],
            time,
        )
        claims = [
            (one.id, {"key": one.key, "who": who, "until": UNSKIPPED if one.what == "unskip" else None})
            for one in given
            if one.what != "label"
        ]
        return kept + self._append(queue, "claims", claims, time)

    def _append(
        self, queue: LabelQueue, name: str, rows: Sequence[tuple[str, dict[str, Any]]], now: datetime
    ) -> int:
        """Append a person's rows that were not appended under their ids before, later than all of theirs."""
        schema = _label_schema(queue) if name == "labels" else _claim_schema()
        people = {row["who"] for _, row in rows}
        kept = 0

        def propose(table: DeltaTable | None) -> Proposal | None:
            nonlocal kept
            fresh = {id_: row for id_, row in rows if _count(table, f"given {id_}") == 0}
            kept = len(fresh)
            state = self._told(queue, **{name: table})
            before = [state.latest(name, who) for who in people]
            first = max([now, *(when + _TICK for when in before if when is not None)])
            values = [{**row, "when": first + number * _TICK} for number, row in enumerate(fresh.values())]
            return _proposal(values, schema, {f"given {id_}": 1 for id_ in fresh})

        if rows:
            append_if(self.place(queue.name, name), propose, schema=schema, properties=_PROPERTIES, own=True)
        return kept

    @property
    def _definitions(self) -> str:
        return f"{self.root}/queues"

    def _defined(self, queue: LabelQueue, who: str) -> LabelQueue:
        """Return the queue of this name with all classes; it is made, or gets the new ones."""
        found = queue
        name = f"queue {queue.name}"

        def propose(table: DeltaTable | None) -> Proposal | None:
            nonlocal found
            newest = self._newest(table).get(queue.name)
            if newest is not None:
                before = LabelQueue.model_validate_json(newest)
                found = _with_classes(before, queue)
                if found == before:
                    return None
            definition = json.dumps(found.model_dump(mode="json"))
            row = {"name": queue.name, "definition": definition, "who": who, "when": datetime.now(UTC)}
            return _proposal([row], _queue_schema(), {name: _count(table, name) + 1})

        append_if(self._definitions, propose, schema=_queue_schema(), properties=_PROPERTIES, own=True)
        return found

    def _make_labels(self, queue: LabelQueue) -> None:
        """Make the table of labels: a pipeline that reads it must not wait for the first one."""
        schema = _label_schema(queue)

        def propose(table: DeltaTable | None) -> Proposal | None:
            return Proposal(schema.empty_table(), {"made": 1}) if table is None else None

        append_if(self.place(queue.name), propose, schema=schema, properties=_PROPERTIES, own=True)

    def _newest(self, table: DeltaTable | None = None) -> dict[str, str]:
        """Return the newest definition of each queue, as JSON, the latest last."""
        place = self._definitions
        if table is None:
            table = self._table(place)
        with self._lock:
            fresh = self._definition_table.fresh(table)
            if fresh is None:  # made anew
                self._definition_table, self._definition_rows = AppendedRows(place), []
                fresh = self._definition_table.fresh(table) or []
            self._definition_rows += fresh
            rows = sorted(self._definition_rows, key=lambda row: row["when"])
        newest: dict[str, str] = {}
        for row in rows:
            newest.pop(row["name"], None)
            newest[row["name"]] = row["definition"]
        return newest

    def _state(self, queue: LabelQueue, claims: DeltaTable | None) -> QueueState:
        rows, labels = self._opened(queue, "rows"), self._opened(queue, "labels")
        return self._told(queue, rows=rows, labels=labels, claims=claims)

    def _opened(self, queue: LabelQueue, name: str) -> DeltaTable | None:
        return self._table(self.place(queue.name, name))

    def _table(self, place: str) -> DeltaTable | None:
        with self._lock:
            newest = self._tables.setdefault(place, NewestTable(place))
        return newest.opened()

    def _told(self, queue: LabelQueue, **tables: DeltaTable | None) -> QueueState:
        with self._lock:
            live = self._live.get(queue.name)
            if live is None:
                places = {name: self.place(queue.name, name) for name in ("rows", "labels", "claims")}
                live = self._live[queue.name] = LiveQueue(places)
        return live.told(queue, tables)


def _with_classes(before: LabelQueue, queue: LabelQueue) -> LabelQueue:
    """Return a queue with the classes that a later one asks for.

    Its share of second opinions stays: which rows two people label must not change while they do.
    """
    if (before.kind, before.label, before.key) != (queue.kind, queue.label, queue.key):
        raise ConfigError(
            f"the queue {queue.name} must ask the same as before: {_asked(before)}",
            got=_asked(queue),
            remedy="choose another name",
        )
    more = [name for name in queue.classes if name not in before.classes]
    return LabelQueue.of_fields(**before.model_dump() | {"classes": (*before.classes, *more)})


def _asked(queue: LabelQueue) -> str:
    return f"a {queue.kind}, {queue.label}, of rows by {queue.key}"


def _count(table: DeltaTable | None, transaction: str) -> int:
    return 0 if table is None else transaction_version(table, transaction) or 0


def _proposal(
    values: list[dict[str, Any]], schema: pa.Schema, transactions: dict[str, int]
) -> Proposal | None:
    import pyarrow as pa

    return Proposal(pa.Table.from_pylist(values, schema), transactions) if values else None


def _queue_schema() -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("name", "definition", "who")]
    return pa.schema([*texts, ("when", _time())])


def _row_schema() -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in QueueRow.model_fields]
    return pa.schema([*texts, ("position", pa.int64()), ("when", _time()), ("who", pa.string())])


def _label_schema(queue: LabelQueue) -> pa.Schema:
    import pyarrow as pa

    label = {"class": pa.string(), "set": pa.list_(pa.string()), "number": pa.float64()}[queue.kind]
    text = pa.string()
    return pa.schema([("key", text), ("label", label), ("who", text), ("when", _time()), ("source", text)])


def _claim_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("key", pa.string()), ("who", pa.string()), ("when", _time()), ("until", _time())])


def _time() -> pa.DataType:
    import pyarrow as pa

    return pa.timestamp("us", tz="UTC")
