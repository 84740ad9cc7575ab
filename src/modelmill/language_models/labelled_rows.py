"""Writing labelled rows: every row of the source with its label, and the rows that a person should see."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.language_models.gold import GoldReport, by_label
from modelmill.language_models.plan import PlannedRow
from modelmill.language_models.votes import Vote
from modelmill.tables.commits import commit_files, committed_version
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import scan_arrow
from modelmill.tables.staged_files import stage_rows
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    import pyarrow as pa

_FILE_ROWS = 65_536

GOLD_DIFFERS, UNSURE, FAILED = "gold differs", "unsure", "failed"
REASONS = (GOLD_DIFFERS, UNSURE, FAILED)
"""Why a row is to be reviewed, the strongest reason first."""


@dataclass(frozen=True, slots=True)
class RowLabel:
    """What a row gets."""

    label: str | None
    source: str | None
    """``gold``, ``llm`` or None."""
    probability: float | None
    reason: str | None = None
    """Why it is to be reviewed; None: it is not."""


@dataclass
class LabellingOutcome:
    """The labels of all rows, and their counts."""

    rows: list[RowLabel] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    abstained: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    inclusion: list[float | None] = field(default_factory=list)
    """Chance of each row of being chosen; None: it was not. Empty if all rows are asked about."""

    def counts(self) -> tuple[int, int]:
        """Return the rows with a gold label, and those that the language model has labelled."""
        sources = Counter(row.source for row in self.rows)
        return sources["gold"], sources["llm"]


def decide(
    rows: Sequence[PlannedRow],
    votes: Sequence[Vote],
    gold: GoldReport | None,
    *,
    inclusion: Mapping[str, float] | None = None,
) -> LabellingOutcome:
    """Make labels of votes. A gold label wins over every vote.

    :param rows: of the table, in its order.
    :param votes: one for each row.
    :param gold: which labels are given, and from which score on; None: all of them.
    :param inclusion: chance of being chosen, by the first key of each row that was chosen; None: all rows are
        asked about.
    :return: the labels.
    """
    known = {} if gold is None else by_label(gold)
    outcome = LabellingOutcome(votes=[*votes])
    for row, vote in zip(rows, votes, strict=True):
        if inclusion is not None:
            outcome.inclusion.append(inclusion.get(row.keys[0]) if row.keys else None)
        if row.gold is not None:
            differs = vote.label is not None and vote.label != row.gold
            outcome.rows.append(RowLabel(row.gold, "gold", 1.0, GOLD_DIFFERS if differs else None))
            continue
        if not row.keys:
            outcome.abstained["blank"] += 1
            outcome.rows.append(RowLabel(None, None, None))
        elif inclusion is not None and row.keys[0] not in inclusion:
            outcome.abstained["not chosen"] += 1
            outcome.votes[len(outcome.rows)] = Vote(None, 0.0)  # an answer of another night plays no part
            outcome.rows.append(RowLabel(None, None, None))
        elif vote.failure is not None:
            outcome.failed[vote.failure] += 1
            outcome.rows.append(RowLabel(None, None, None, FAILED))
        elif vote.label is None:
            outcome.abstained["cannot tell"] += 1
            outcome.rows.append(RowLabel(None, None, None, UNSURE))
        else:
            held = known.get(vote.label)
            if held is not None and (held.threshold is None or vote.score < held.threshold):
                outcome.abstained["below the threshold"] += 1
                outcome.rows.append(RowLabel(None, None, None, UNSURE))
            else:
                sure = vote.score if held is None else held.probability
                outcome.rows.append(RowLabel(vote.label, "llm", round(sure, 9)))
    return outcome


def label_columns(label: str, *, selected: bool = False) -> tuple[str, ...]:
    """Return the columns that a labelled row gets; one more where rows are selected."""
    columns = (label, f"{label}_source", f"{label}_probability", f"{label}_answer")
    return (*columns, f"{label}_inclusion") if selected else columns


def review_columns(label: str) -> tuple[str, ...]:
    """Return the columns that a row for review gets."""
    return tuple(f"{label}_{part}" for part in ("suggested", "suggested_probability", "reason", "rank"))


def write_labelled(
    source: TableRef | DatasetRef, to: str, outcome: LabellingOutcome, *, label: str, transaction: str
) -> TableRef:
    """Write every row of a table with its label.

    :param source: the table; a column of the label's name is replaced.
    :param to: the table to write.
    :param outcome: labels, in the table's order.
    :param label: name of the label column.
    :param transaction: application transaction id.
    :return: the table.
    :raises TableError: if it cannot be written, or the source has other rows than were planned.
    """
    import pyarrow as pa

    names = label_columns(label, selected=bool(outcome.inclusion))

    def labelled() -> Iterator[pa.Table]:
        for start, batch in _batches(source, outcome):
            kept = batch.drop_columns([label]) if label in batch.schema.names else batch
            rows = outcome.rows[start : start + len(batch)]
            votes = outcome.votes[start : start + len(batch)]
            values = [
                pa.array([row.label for row in rows], pa.string()),
                pa.array([row.source for row in rows], pa.string()),
                pa.array([row.probability for row in rows], pa.float64()),
                pa.array([vote.label for vote in votes], pa.string()),
                pa.array(outcome.inclusion[start : start + len(batch)], pa.float64()),
            ]
            yield _with_columns(kept, dict(zip(names, values, strict=False)))

    return _write(labelled(), to, transaction=transaction, source=source)


def write_review(
    source: TableRef | DatasetRef,
    to: str,
    outcome: LabellingOutcome,
    *,
    label: str,
    most: int,
    transaction: str,
) -> tuple[TableRef, int]:
    """Write the rows that a person should see, the most useful ones first.

    :param source: the table.
    :param to: the table to write.
    :param outcome: labels, in the table's order.
    :param label: name of the label column.
    :param most: rows at most.
    :param transaction: application transaction id.
    :return: the table, and how many rows it has.
    :raises TableError: if it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    places = {REASONS[number]: number for number in range(len(REASONS))}
    candidates = (
        (places[row.reason], outcome.votes[number].score, number)
        for number, row in enumerate(outcome.rows)
        if row.reason is not None
    )
    ranks = {number: rank for rank, (*_, number) in enumerate(heapq.nsmallest(most, candidates), 1)}

    parts = []
    for start, batch in _batches(source, outcome):
        numbers = [number for number in range(start, start + len(batch)) if number in ranks]
        votes = [outcome.votes[number] for number in numbers]
        values = (
            pa.array([vote.label for vote in votes], pa.string()),
            pa.array([vote.score if vote.label else None for vote in votes], pa.float64()),
            pa.array([outcome.rows[number].reason for number in numbers], pa.string()),
            pa.array([ranks[number] for number in numbers], pa.int64()),
        )
        chosen = batch.take(pa.array([number - start for number in numbers], pa.int64()))
        parts.append(_with_columns(chosen, dict(zip(review_columns(label), values, strict=True))))
    rows = pa.concat_tables(parts)
    order = pc.sort_indices(rows.column(review_columns(label)[3]))
    table = _write(iter([rows.take(order)]), to, transaction=transaction, source=source)
    return table, rows.num_rows


def _batches(source: TableRef | DatasetRef, outcome: LabellingOutcome) -> Iterator[tuple[int, pa.Table]]:
    import pyarrow as pa

    schema = table_schema(source)
    start = 0
    for batch in scan_arrow(source, columns=schema.names, batch_rows=_FILE_ROWS):
        yield start, pa.Table.from_batches([batch])
        start += len(batch)
    if start != len(outcome.rows):
        raise TableError(
            f"a table's version must keep its rows while it is labelled ({source})",
            got=f"{start:,} rows instead of {len(outcome.rows):,}",
            remedy="something has changed its files: restore them",
        )
    if not start:
        yield 0, schema.empty_table()


def _with_columns(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _write(
    tables: Iterator[pa.Table], to: str, *, transaction: str, source: TableRef | DatasetRef
) -> TableRef:
    from deltalake import Schema

    place = table_location(to)
    version = committed_version(place, transaction)
    if version is None:
        schema, files = None, []
        for table in tables:
            schema = schema or table.schema
            files.append(stage_rows(table, place))
        if schema is None:
            raise ValueError("a table has a part at least, which may be empty")
        version = commit_files(
            place,
            files,
            schema=Schema.from_arrow(schema),
            mode="overwrite",
            transaction=transaction,
            metadata={"operation": "label_by_llm", "source": str(source)},
        )
    return TableRef(uri=place, version=version)
