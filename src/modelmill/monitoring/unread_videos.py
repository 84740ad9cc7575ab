"""Videos that could not be read: how many for each reason, and some of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from modelmill.artifacts import TableRef
from modelmill.redaction import redacted
from modelmill.tables.reading import scan_arrow

_BATCH_ROWS = 2_000
_MOST_TEXT = 500


@dataclass(frozen=True)
class UnreadVideo:
    """A video that could not be read."""

    key: str
    path: str
    reason: str
    detail: str


def unread_videos(
    tables: Sequence[TableRef], *, of_a_reason: int, most: int
) -> tuple[tuple[tuple[str, int], ...], tuple[UnreadVideo, ...]]:
    """Count the videos that could not be read, and take some of each reason.

    :param tables: quarantines of the steps that read videos.
    :param of_a_reason: videos of a reason that are taken, at most.
    :param most: videos that are taken in all, at most.
    :return: reasons with the number of videos, the most frequent first (one that two steps refused for one
        reason counts once); and the videos that are taken.
    :raises TableError: if a table is no quarantine.
    """
    keys = dict[str, set[str]]()
    taken = dict[str, dict[str, UnreadVideo]]()
    for table in tables:
        for batch in scan_arrow(table, columns=["key", "path", "reason", "detail"], batch_rows=_BATCH_ROWS):
            for row in batch.to_pylist():
                reason, key = str(row["reason"]), str(row["key"])
                keys.setdefault(reason, set()).add(key)
                some = taken.setdefault(reason, {})
                if len(some) < of_a_reason:
                    texts = (short(str(row[name] or "")) for name in ("key", "path", "reason", "detail"))
                    some.setdefault(key, UnreadVideo(*texts))
    counts = Counter({reason: len(some) for reason, some in keys.items()}).most_common()
    shown = [one for reason, _ in counts for _, one in sorted(taken[reason].items())]
    return tuple(counts), tuple(shown[:most])


def short(text: str) -> str:
    """Return the beginning of a text, without secrets, and how long it is if there is more."""
    text = redacted(text)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}… ({len(text):,} characters)"
