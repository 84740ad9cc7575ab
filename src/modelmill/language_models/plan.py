"""Which requests the rows of a table need: each different one once, however often its content is there."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.language_models.asker import Ask
from modelmill.language_models.dialects import Dialect, Parameters
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.language_models.questions import Question, rendered
from modelmill.tables.reading import scan_arrow
from modelmill.tokens.contents import BLANKS

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1_024


@dataclass(frozen=True)
class PlannedRow:
    """One row."""

    keys: tuple[str, ...]
    """Of its requests, one for each order; empty: there is nothing to ask, since its columns are blank."""
    gold: str | None


@dataclass(frozen=True)
class Plan:
    """What the rows of a table need. It keeps no content: that is read again when it is sent."""

    rows: list[PlannedRow] = field(default_factory=list)
    """In the table's order."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Input tokens in the worst case, by key."""
    orders: dict[str, int] = field(default_factory=dict)
    """Number of the order of the labels, by key."""


@dataclass(frozen=True)
class Planner:
    """Makes requests of rows."""

    table: TableRef | DatasetRef
    options: LlmLabellingOptions
    dialect: Dialect
    questions: tuple[Question, ...]
    """One for each order."""
    parameters: Parameters

    def plan(self) -> Plan:
        """Read the table, and return what its rows need.

        :return: the plan.
        :raises TableError: if the table cannot be read, or has no such column.
        """
        plan = Plan()
        for content, gold in self._rows():
            keys = []
            for order, ask in enumerate(self._asks(content, gold)):
                key = ask.request.key
                if key not in plan.sizes:
                    plan.sizes[key] = self.dialect.worst_case(ask.request, self.parameters).input_tokens
                    plan.orders[key] = order
                keys.append(key)
            plan.rows.append(PlannedRow(tuple(keys), gold))
        return plan

    def asks(self, keys: Container[str]) -> Iterator[Ask]:
        """Yield the requests of keys, each once; the table is read batch by batch.

        :param keys: of the requests.
        :yield: each with its question.
        """
        seen: set[str] = set()
        for content, gold in self._rows():
            for ask in self._asks(content, gold):
                key = ask.request.key
                if key in keys and key not in seen:
                    seen.add(key)
                    yield ask

    def _asks(self, content: str | None, gold: str | None) -> Iterator[Ask]:
        if content is None:
            return
        orders = self.options.all_orders if gold is not None else self.options.orders
        for question in self.questions[:orders]:
            yield Ask(self.dialect.request(question, content, self.parameters), question)

    def contents(self) -> Iterator[str | None]:
        """Yield each row as it is rendered, in the table's order; None where there is nothing to ask."""
        for content, _ in self._rows():
            yield content

    def _rows(self) -> Iterator[tuple[str | None, str | None]]:
        columns, gold = self.options.columns, self.options.gold
        wanted = [*columns] if gold is None else [*columns, gold]
        for batch in scan_arrow(self.table, columns=wanted, batch_rows=_BATCH_ROWS):
            golds: list[str | None] = [None] * len(batch)
            if gold is not None:
                golds = gold_texts(batch.column(gold))
            for row, label in zip(batch.select(columns).to_pylist(), golds, strict=True):
                yield rendered(row, columns), label


def gold_texts(column: pa.Array) -> list[str | None]:
    """Return gold labels as texts; a blank one is none.

    :param column: texts, whole numbers, or whatever else is one value a row.
    :return: the texts.
    :raises TableError: if the values are lists or structs, or are no text.
    """
    import pyarrow as pa

    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise TableError(
            f"a gold label is one text or number ({str(error)[:200]})",
            got=str(column.type),
            remedy="name a column with one label a row under gold",
        ) from error
    return [text if text is not None and text.strip(BLANKS) else None for text in texts]
