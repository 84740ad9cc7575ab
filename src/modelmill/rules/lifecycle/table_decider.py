"""Decides on the rows of a table: the columns that are read, and those that are written."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError
from modelmill.rules.engine import Engine
from modelmill.rules.explanation.explainer import Explained
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.tables.reading import check_columns

_loading = threading.Lock()


class TableDecider(PinnedRuleSet):
    """A rule set that decides on a table, as it is handed to workers."""

    keep: tuple[str, ...] = ()
    """Columns to carry along beside the key."""
    explain: bool | Explained = False
    """Whether decisions have explanations, or which of them."""

    def columns(self, engine: Engine) -> tuple[str, ...]:
        """Return the columns that are read: those of every signal, and those that are carried along."""
        return tuple(dict.fromkeys([*engine.all_columns, *self.keep]))

    def output_schema(self, engine: Engine) -> pa.Schema:
        """Return the columns that are written: decisions, explanations, and what is carried along.

        :param engine: the engine of this rule set.
        :return: the columns.
        :raises TableError: if a column to carry along is missing.
        :raises ConfigError: if two columns have one name.
        """
        check_columns(engine.schema.names, self.keep, place="the input")
        schema = engine.decision_schema(explain=bool(self.explain))
        taken = [name for name in self.keep if name.lower() in {one.lower() for one in schema.names}]
        if taken:
            raise ConfigError(
                "the columns that are carried along have names of their own",
                got=", ".join(taken),
                remedy=f"the decisions have {', '.join(schema.names)}",
            )
        return pa.schema([*schema, *(engine.schema.field(name) for name in self.keep)])

    def decide(self, engine: Engine, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Decide on rows.

        :param engine: the engine of this rule set.
        :param batch: rows with the columns that are read.
        :return: one row for each, in their order; see :meth:`output_schema`.
        """
        found = engine.decide(batch, explain=self.explain)
        arrays = [*found.columns, *(batch.column(name) for name in self.keep)]
        names = [*found.schema.names, *self.keep]
        return pa.RecordBatch.from_arrays(arrays, names=names).cast(self.output_schema(engine))

    def commit_metadata(self, source: TableRef) -> dict[str, Any]:
        """Return what the commit of decisions tells about their origin, as JSON."""
        return {
            "operation": "decide",
            "source": str(source),
            "rule_set": f"{self.rule_set.rule_set}@{self.rule_set.digest[:12]}",
            "models": {name: pin.version for name, pin in sorted(self.pins.items())},
        }


def decide_partition(batches: Iterable[pa.RecordBatch], *, decider: str) -> Iterator[pa.RecordBatch]:
    """Decide on the rows of a partition, in a worker.

    :param batches: rows with the columns that are read.
    :param decider: a :class:`TableDecider` as JSON.
    :yields: see :meth:`TableDecider.output_schema`.
    """
    engine: Engine | None = None
    for batch in batches:
        if engine is None:
            # One engine for each partition; what is expensive in it is loaded once for each process.
            with _loading:
                made = _parsed(decider)
                engine = made.engine(batch.schema)
        yield made.decide(engine, batch)


@functools.lru_cache(maxsize=2)
def _parsed(decider: str) -> TableDecider:
    return TableDecider.model_validate_json(decider)
