"""What monitoring finds: the content of the JSON report."""

from __future__ import annotations

from modelmill.monitoring.drift import ColumnDrift
from modelmill.monitoring.quality import QualityReport
from modelmill.options import Record


class MonitorReport(Record):
    """A comparison of a scored table with the training data."""

    name: str
    scored: str
    """The scored table, ``URI@VERSION``."""
    dataset: str
    """The training data, ``URI@VERSION``."""
    model: str
    """URI of the model that the scores are compared with."""
    rows: int
    """Rows of the scored table."""
    learned_rows: int
    """Of these: rows whose text the model learned from; they are left out."""
    compared_rows: int
    """Rows that were compared: all the others, or a sample of them."""
    not_compared: str | None
    """Why nothing was compared; None if it was."""
    columns: tuple[ColumnDrift, ...]
    skipped: dict[str, str]
    """Columns of both tables that cannot be compared, and why."""
    quality: QualityReport | None
    """None if no label is configured."""
    alarms: tuple[str, ...]
    """One line for each limit that is broken."""

    def lines(self) -> list[str]:
        """Return the report in words, for the log."""
        not_judged = [self.not_compared, self.quality.not_judged if self.quality else None]
        return [
            *self.alarms,
            *(f"not judged: {reason}" for reason in not_judged if reason),
            f"{len(self.columns)} columns of {self.compared_rows} rows compared, {len(self.alarms)} alarms",
        ]
