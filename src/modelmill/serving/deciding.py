"""Decisions of one rule set on rows of requests."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.frames import one_batch
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.serving.batching import QueueFullError
from modelmill.serving.requests import RowError
from modelmill.settings import Settings


class Decider:
    """A rule set and its models, as they were when the service started.

    :param source: path of the rule set, or ``models:/NAME@ALIAS``.
    :param settings: where MLflow and the caches are.
    :param most_rows: rows that may wait for their decisions.
    :raises InputError: if there is no such rule set, or it is not valid.
    """

    def __init__(self, source: str, settings: Settings, *, most_rows: int) -> None:
        rule_set = open_rule_set(source, settings, anywhere=True)
        pinned = pin_rule_set(rule_set, settings)
        self.columns = tuple(rule_set.columns())
        # A rule set is compiled for the types of its columns; requests of one sender have the same ones.
        self._engine = functools.lru_cache(maxsize=8)(lambda schema: pinned.engine(schema, settings))
        self._most_rows = most_rows
        self._waiting = 0
        self._changing, self._deciding = threading.Lock(), threading.Lock()

    def decide(self, rows: Sequence[Mapping[str, Any]], *, explain: bool) -> list[dict[str, Any]]:
        """Decide on rows.

        :param rows: values by column; a column that a row lacks is null in it.
        :param explain: whether each decision has its ``explanation``.
        :return: of each row what :func:`modelmill.rules.frames.decide` gives, as JSON has it.
        :raises RowError: if a column is missing in all rows, or its values have no common type.
        :raises QueueFullError: if too many rows wait.
        :raises InputError: if a signal cannot be made of the values.
        """
        table = self._table(rows)
        with self._changing:
            if self._waiting and self._waiting + len(rows) > self._most_rows:
                raise QueueFullError(1)
            self._waiting += len(rows)
        try:
            with self._deciding:  # an engine learns from each batch in which order signals are cheapest
                engine: Engine = self._engine(table.schema)
                found = engine.decide(one_batch(table), explain=explain)
        finally:
            with self._changing:
                self._waiting -= len(rows)
        return [_json_value(row) for row in found.to_pylist()]

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        missing = [name for name in self.columns if all(name not in row for row in rows)]
        if missing:
            raise RowError(f"rows: must have the fields {', '.join(missing)}")
        columns = {}
        for name in self.columns:
            try:
                columns[name] = pa.array([row.get(name) for row in rows])
            except (pa.ArrowException, OverflowError, TypeError) as error:
                raise RowError(f"rows: the values of {name} must have one type ({error})") from error
        return pa.table(columns)


def _json_value(value: Any) -> Any:
    """Return a value as JSON has it, which knows no NaN, no infinity, no bytes and no times."""
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, date):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
