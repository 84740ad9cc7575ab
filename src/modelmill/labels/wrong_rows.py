"""The rows that a gate says a model gets wrong, as rows for people to label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError, shorten
from modelmill.labels.queue import MOST_LETTERS, QueueRow
from modelmill.tables.reading import scan_arrow

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class WrongRow:
    """A row as the report of a gate has it."""

    text: str
    """As the report shows it: on one line, a long one cut in its middle."""
    label: str
    answer: str


def wrong_rows(
    dataset: DatasetRef, label: str, rows: Sequence[WrongRow], *, letters: int
) -> tuple[list[QueueRow], list[str]]:
    """Find the rows of a report in their dataset, which has them whole.

    A dataset's key may be a hash that no other table has, so the key is the text.

    :param dataset: the dataset that was judged.
    :param label: its label column.
    :param rows: the rows of the report, the worst first.
    :param letters: how many letters the report shows.
    :return: the rows in the report's order, and the classes of the dataset, sorted.
    :raises DatasetError: if the dataset has none of them any more.
    """
    import pyarrow.compute as pc

    text_column = dataset.text_column
    wanted = {row.text: row for row in rows}
    found: dict[str, QueueRow] = {}
    classes: set[str] = set()
    for batch in scan_arrow(dataset, columns=[text_column, label, dataset.split], batch_rows=_BATCH_ROWS):
        classes |= {str(one) for one in pc.unique(batch.column(label)).to_pylist() if one is not None}
        judged = batch.filter(pc.equal(batch.column(dataset.split), "test"))
        for text in judged.column(text_column).to_pylist():
            begin = "" if text is None else shorten(text, limit=letters)
            row = wanted.get(begin)
            if row is not None and begin not in found and len(text) <= MOST_LETTERS:
                why = f"the model answers {row.answer}"
                found[begin] = QueueRow(key=text, text=text, label=row.label, suggestion=row.answer, why=why)
    if not found:
        raise DatasetError(
            f"{dataset} must have the rows of the report",
            got=f"none of its {len(rows)} rows",
            remedy="run the pipeline again, so that the report is about this dataset",
        )
    return [found[row.text] for row in rows if row.text in found], sorted(classes)
