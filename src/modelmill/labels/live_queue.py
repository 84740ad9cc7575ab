"""A queue's state in memory, told of what is new in its tables whenever somebody asks for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelmill.labels.appended_rows import AppendedRows
from modelmill.labels.queue import LabelQueue
from modelmill.labels.queue_state import QueueState

if TYPE_CHECKING:
    from deltalake import DeltaTable


class LiveQueue:
    """The state of one queue. Threads may share it.

    :param places: of the tables ``rows``, ``labels`` and ``claims``, by these names.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._state: QueueState | None = None
        self._tables: dict[str, AppendedRows] = {}

    def told(self, queue: LabelQueue, tables: Mapping[str, DeltaTable | None]) -> QueueState:
        """Return the state after it was told of some tables; of the others it knows what it knew.

        :param queue: what is asked now.
        :param tables: tables by name; None: there is none yet.
        :return: the state. Its rows, labels and claims are at least as new as these tables.
        :raises TableError: if a table cannot be read.
        """
        with self._lock:
            state = self._state
            if state is None or state.queue.second_opinion != queue.second_opinion:
                state = self._begin(queue)
            state.queue = queue
            fresh = self._fresh(tables)
            if fresh is None:
                state = self._begin(queue)
                fresh = self._fresh(tables) or {}
            try:
                state.add_rows(fresh.get("rows", ()))
                state.add_labels(fresh.get("labels", ()))
                state.add_claims(fresh.get("claims", ()))
            except BaseException:
                self._state = None  # it has a part of them, and none of them comes again
                raise
            return state

    def _fresh(self, tables: Mapping[str, DeltaTable | None]) -> dict[str, list[dict[str, Any]]] | None:
        found: dict[str, list[dict[str, Any]]] = {}
        try:
            for name, table in tables.items():
                rows = self._tables[name].fresh(table)
                if rows is None:
                    return None
                found[name] = rows
        except BaseException:
            self._state = None
            raise
        return found

    def _begin(self, queue: LabelQueue) -> QueueState:
        self._tables = {name: AppendedRows(place) for name, place in self._places.items()}
        self._state = QueueState(queue)
        return self._state
