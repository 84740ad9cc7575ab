"""Challengers scored beside the champions, and the comparisons as rows of a Delta table.

A thread of its own scores rows that have been answered already. Rows that it has no time for are left out and
counted: the answers never wait for it. Comparisons are appended in batches, each batch once.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelmill.errors import ModelmillError
from modelmill.models.predictions import answer_text
from modelmill.serving.loaded_versions import LoadedVersions, ServedVersion
from modelmill.serving.metrics import Metrics
from modelmill.tables.commits import write_rows
from modelmill.tokens.contents import Content

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger(__name__)

_WAITING_ROWS = 10_000
"""Rows that may wait to be compared."""
_UNWRITTEN_ROWS = 100_000
"""Comparisons that are kept while the table cannot be written."""
_WRITE_SECONDS = 60.0
"""Seconds between two batches, if there are not enough rows before."""
_BATCH_ROWS = 5_000
"""Comparisons that are written at a time."""


@dataclass(frozen=True)
class AnsweredRow:
    """A row that a champion has answered, with the challengers that can be compared on it."""

    loaded: LoadedVersions
    """The challengers."""
    champion: ServedVersion
    share: float
    """Share of the rows that are compared."""
    content: Content
    prediction: Any
    score: float


class ShadowScorer:
    """Compares challengers with champions in the background.

    :param table: Delta table that gets a row for each comparison.
    :param service: name of the service, a column of that table.
    :param metrics: the service's metrics.
    """

    def __init__(self, table: str, *, service: str, metrics: Metrics) -> None:
        self._table = table
        self._service = service
        self._metrics = metrics
        self._waiting: deque[AnsweredRow] = deque()
        self._rows: list[dict[str, object]] = []
        self._batch: tuple[str, int] | None = None
        self._written = time.monotonic()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="modelmill-shadow", daemon=True)
        self._thread.start()

    def offer(self, rows: Sequence[AnsweredRow]) -> None:
        """Queue rows for comparison; those that the queue has no room for are left out and counted."""
        with self._changed:
            room = max(_WAITING_ROWS - len(self._waiting), 0)
            self._waiting.extend(rows[:room])
            self._changed.notify()
        if len(rows) > room:
            self._metrics.shadow_dropped.labels("busy").inc(len(rows) - room)

    def close(self) -> None:
        """Compare the waiting rows, write everything down, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closed:
                    self._changed.wait(_WRITE_SECONDS)
                rows = [self._waiting.popleft() for _ in range(min(len(self._waiting), 32))]
                last = self._closed and not self._waiting
            for row in rows:
                self._compare(row)
            due = time.monotonic() - self._written >= _WRITE_SECONDS
            full = len(self._rows) >= _BATCH_ROWS and self._batch is None  # a failed one waits
            if self._rows and (due or full):
                self._write()
            if last:
                while self._rows and self._write():
                    pass
                if self._rows:
                    self._metrics.shadow_dropped.labels("unwritten").inc(len(self._rows))
                    _log.error("%d comparisons could not be written before the end", len(self._rows))
                return

    def _compare(self, row: AnsweredRow) -> None:
        raw = row.content if isinstance(row.content, bytes) else row.content.encode()
        digest = hashlib.sha256(raw).hexdigest()
        # Chosen by the content's hash: the same rows are compared as long as the share is the same.
        if int(digest[:8], 16) >= row.share * 2**32:
            return
        name = row.champion.name
        challenger = row.loaded.models[name]
        try:
            ((prediction, score),) = row.loaded.answer([row.content], [name])[name]
        except Exception:  # to find challengers that fail is a purpose of shadow scoring
            _log.exception("%s version %d failed", name, challenger.version)
            self._metrics.shadow_dropped.labels("failed").inc()
            return
        agree = prediction == row.prediction
        self._metrics.shadow_rows.labels(name, str(agree).lower()).inc()
        self._rows.append(
            {
                "time": datetime.now(UTC),
                "service": self._service,
                "model": name,
                "champion": row.champion.version,
                "challenger": challenger.version,
                "text_sha256": digest,
                "champion_prediction": answer_text(row.prediction),
                "champion_score": row.score,
                "challenger_prediction": answer_text(prediction),
                "challenger_score": score,
                "agree": agree,
            }
        )

    def _write(self) -> bool:
        """Write the batch that failed before, else the waiting rows; return whether they are written."""
        import pyarrow as pa

        # A batch that failed keeps its rows and its transaction, so that it cannot be written twice.
        transaction, count = self._batch or (f"shadow-{uuid.uuid4()}", len(self._rows))
        self._batch, self._written = (transaction, count), time.monotonic()
        try:
            rows = pa.Table.from_pylist(self._rows[:count], schema=_schema())
            write_rows(self._table, rows, mode="append", transaction=transaction)
        except (ModelmillError, OSError):
            _log.exception("%d comparisons wait to be written to %s", len(self._rows), self._table)
            if len(self._rows) > _UNWRITTEN_ROWS:
                self._metrics.shadow_dropped.labels("unwritten").inc(count)
                self._forget(count)
            return False
        self._forget(count)
        return True

    def _forget(self, count: int) -> None:
        del self._rows[:count]
        self._batch = None


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("service", pa.string()),
            ("model", pa.string()),
            ("champion", pa.int64()),
            ("challenger", pa.int64()),
            ("text_sha256", pa.string()),
            ("champion_prediction", pa.string()),
            ("champion_score", pa.float64()),
            ("challenger_prediction", pa.string()),
            ("challenger_score", pa.float64()),
            ("agree", pa.bool_()),
        ]
    )
