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
from modelmill.language_models.labelled_columns import label_columns, review_columns
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
    inclusion: Sequence[float | None] | None = None,
) -> LabellingOutcome:
    """Make labels of votes. A gold label wins over every vote.

    :param rows: of the table, in its order.
    :param votes: one for each row.
    :param gold: which labels are given, and from which score on; None: all of them.
    :param inclusion: chance of each row of being chosen; None for a row that was not chosen. None: all rows
        are asked about.
    :return: the labels.
    """
    known = {} if gold is None else by_label(gold)
    outcome = LabellingOutcome(votes=[*votes], inclusion=[*(inclusion or ())])
    for row, vote in zip(rows, votes, strict=True):
        if row.gold is not None:
            differs = vote.label is not None and vote.label != row.gold
            outcome.rows.append(RowLabel(row.gold, "gold", 1.0, GOLD_DIFFERS if differs else None))
            continue
        if not row.keys:
            outcome.abstained["blank"] += 1
            outcome.rows.append(RowLabel(None, None, None))
        elif inclusion is not None and inclusion[len(outcome.rows)] is None:
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


def write_labelled(
    source: TableRef | DatasetRef, to: str, outcomes: Mapping[str, LabellingOutcome], *, transaction: str
) -> TableRef:
    """Write every row of a table with its labels.

    :param source: the table; columns of the labels' names are replaced.
    :param to: the table to write.
    :param outcomes: labels in the table's order, by name of the label column.
    :param transaction: application transaction id.
    :return: the table.
    :raises TableError: if it cannot be written, or the source has other rows than were planned.
    """
    import pyarrow as pa

    def columns(label: str, outcome: LabellingOutcome, part: slice) -> dict[str, pa.Array]:
        rows, votes = outcome.rows[part], outcome.votes[part]
        values = [
            pa.array([row.label for row in rows], pa.string()),
            pa.array([row.source for row in rows], pa.string()),
            pa.array([row.probability for row in rows], pa.float64()),
            pa.array([vote.label for vote in votes], pa.string()),
            pa.array(outcome.inclusion[part], pa.float64()),
        ]
        names = label_columns(label, selected=bool(outcome.inclusion))
        return dict(zip(names, values, strict=False))

    def labelled() -> Iterator[pa.Table]:
        for start, batch in _batches(source, _count(outcomes)):
            found = batch.drop_columns([name for name in batch.schema.names if name in outcomes])
            for label, outcome in outcomes.items():
                found = _with_columns(found, columns(label, outcome, slice(start, start + len(batch))))
            yield found

    return _write(labelled(), to, transaction=transaction, source=source)


def write_review(
    source: TableRef | DatasetRef,
    to: str,
    outcomes: Mapping[str, LabellingOutcome],
    *,
    most: int,
    transaction: str,
) -> tuple[TableRef, dict[str, int]]:
    """Write the rows that a person should see, the most useful ones first.

    :param source: the table.
    :param to: the table to write.
    :param outcomes: labels in the table's order, by name of the label column.
    :param most: rows at most for each of them.
    :param transaction: application transaction id.
    :return: the table, and how many of its rows are there for each label column. Where a row is there for
        another one, its columns of this one are null.
    :raises TableError: if it cannot be written.
    """
    import pyarrow as pa

    ranks = {label: _ranks(outcome, most) for label, outcome in outcomes.items()}
    places: dict[int, int] = {}
    for found in ranks.values():
        for number, rank in found.items():
            places[number] = min(rank, places.get(number, rank))

    parts, order = [], []
    for start, batch in _batches(source, _count(outcomes)):
        numbers = [number for number in range(start, start + len(batch)) if number in places]
        order += [places[number] for number in numbers]
        part = batch.take(pa.array([number - start for number in numbers], pa.int64()))
        for label, outcome in outcomes.items():
            part = _with_columns(part, _review_values(label, outcome, ranks[label], numbers))
        parts.append(part)
    rows = pa.concat_tables(parts)
    ranked = sorted(range(len(order)), key=order.__getitem__)
    ordered = rows.take(pa.array(ranked, pa.int64()))
    table = _write(iter([ordered]), to, transaction=transaction, source=source)
    return table, {label: len(found) for label, found in ranks.items()}


def _ranks(outcome: LabellingOutcome, most: int) -> dict[int, int]:
    """Return the rank of each row that is to be reviewed, from 1, by its number."""
    places = {reason: place for place, reason in enumerate(REASONS)}
    candidates = (
        (places[row.reason], outcome.votes[number].score, number)
        for number, row in enumerate(outcome.rows)
        if row.reason is not None
    )
    return {number: rank for rank, (*_, number) in enumerate(heapq.nsmallest(most, candidates), 1)}


def _review_values(
    label: str, outcome: LabellingOutcome, ranks: Mapping[int, int], numbers: Sequence[int]
) -> dict[str, pa.Array]:
    import pyarrow as pa

    votes = [outcome.votes[number] if number in ranks else Vote(None, 0.0) for number in numbers]
    reasons = [outcome.rows[number].reason if number in ranks else None for number in numbers]
    values = (
        pa.array([vote.label for vote in votes], pa.string()),
        pa.array([vote.score if vote.label else None for vote in votes], pa.float64()),
        pa.array(reasons, pa.string()),
        pa.array([ranks.get(number) for number in numbers], pa.int64()),
    )
    return dict(zip(review_columns(label), values, strict=True))


def _count(outcomes: Mapping[str, LabellingOutcome]) -> int:
    """Return the rows of the table, as they were planned."""
    return len(next(iter(outcomes.values())).rows)


def _batches(source: TableRef | DatasetRef, planned: int) -> Iterator[tuple[int, pa.Table]]:
    import pyarrow as pa

    schema = table_schema(source)
    start = 0
    for batch in scan_arrow(source, columns=schema.names, batch_rows=_FILE_ROWS):
        yield start, pa.Table.from_batches([batch])
        start += len(batch)
    if start != planned:
        raise TableError(
            f"a table's version must keep its rows while it is labelled ({source})",
            got=f"{start:,} rows instead of {planned:,}",
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
