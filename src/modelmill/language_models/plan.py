"""Which requests the rows of a table need: each different one once, however often its content is there."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.language_models.asker import Ask
from modelmill.language_models.dialects import Dialect, Parameters
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.language_models.questions import Questionnaire, rendered
from modelmill.tables.reading import scan_arrow
from modelmill.tokens.contents import BLANKS

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What one row needs for one signal."""

    keys: tuple[str, ...]
    """Of its requests, one for each order; empty: there is nothing to ask, since its columns are blank. Where
    one request asks for several signals, they have the same keys."""
    gold: str | None


@dataclass(frozen=True)
class Plan:
    """What the rows of a table need. It keeps no content: that is read again when it is sent."""

    signals: dict[str, list[PlannedRow]]
    """The rows of each signal, in the table's order."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Input tokens in the worst case, by key."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Number of the questionnaire, by key."""

    @property
    def rows(self) -> list[PlannedRow]:
        """Those of the first signal."""
        return next(iter(self.signals.values()))


@dataclass(frozen=True)
class Planner:
    """Makes requests of rows."""

    table: TableRef | DatasetRef
    options: LlmLabellingOptions
    dialect: Dialect
    questionnaires: tuple[Questionnaire, ...]
    """What is asked about a row."""
    parameters: Parameters

    def plan(self) -> Plan:
        """Read the table, and return what its rows need.

        :return: the plan.
        :raises TableError: if the table cannot be read, or has no such column.
        """
        plan = Plan({name: [] for name in self.options.by_name})
        for content, gold in self._rows():
            keys: dict[str, tuple[str, ...]] = {}
            for number, ask in self._asks(content, gold):
                key = ask.request.key
                if key not in plan.sizes:
                    plan.sizes[key] = self.dialect.worst_case(ask.request, self.parameters).input_tokens
                    plan.numbers[key] = number
                for question in ask.questions:
                    keys[question.name] = (*keys.get(question.name, ()), key)
            for name, rows in plan.signals.items():
                rows.append(PlannedRow(keys.get(name, ()), gold.get(name)))
        return plan

    def asks(self, keys: Container[str]) -> Iterator[Ask]:
        """Yield the requests of keys, each once; the table is read batch by batch.

        :param keys: of the requests.
        :yield: each with its question.
        """
        seen: set[str] = set()
        for content, gold in self._rows():
            for _, ask in self._asks(content, gold):
                key = ask.request.key
                if key in keys and key not in seen:
                    seen.add(key)
                    yield ask

    def _asks(self, content: str | None, gold: Mapping[str, str]) -> Iterator[tuple[int, Ask]]:
        """Yield the requests for a row, each with the number of its questionnaire."""
        if content is None:
            return
        for number, asked in enumerate(self.questionnaires):
            if asked.gold_only and not any(question.name in gold for question in asked.questions):
                continue
            request = self.dialect.request_about(asked.questions, content, self.parameters)
            yield number, Ask(request, asked.questions)

    @property
    def together(self) -> tuple[str, ...]:
        """Signals that each request asks for; empty: it asks for one."""
        names = tuple(question.name for question in self.questionnaires[0].questions)
        return names if len(names) > 1 else ()

    def contents(self) -> Iterator[str | None]:
        """Yield each row as it is rendered, in the table's order; None where there is nothing to ask."""
        for content, _ in self._rows():
            yield content

    def _rows(self) -> Iterator[tuple[str | None, dict[str, str]]]:
        """Yield each row as it is rendered, and its labels by hand, by signal."""
        columns = self.options.columns
        gold = {name: signal.gold for name, signal in self.options.by_name.items() if signal.gold is not None}
        wanted = list(dict.fromkeys([*columns, *gold.values()]))
        for batch in scan_arrow(self.table, columns=wanted, batch_rows=_BATCH_ROWS):
            texts = {name: gold_texts(batch.column(column)) for name, column in gold.items()}
            for place, row in enumerate(batch.select(columns).to_pylist()):
                labels = {name: text for name, found in texts.items() if (text := found[place]) is not None}
                yield rendered(row, columns), labels


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
