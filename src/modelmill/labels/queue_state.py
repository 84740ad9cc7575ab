"""Where a queue of rows that people label stands, and who is handed which row next.

A state follows from rows of append-only tables alone, so it is the same in every process and after a restart
(see :mod:`modelmill.labels.queue_store`). It is told of new rows only, in whatever order they come, and keeps
count: what a label costs does not depend on how many rows and labels a queue has.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelmill.labels.agreement import Agreement, Answers, answer_pairs, counted_agreements
from modelmill.labels.queue import LEASE, UNSKIPPED, Label, LabelQueue, QueueRow


@dataclass(frozen=True)
class QueueProgress:
    """How far a queue is."""

    rows: int
    labelled: int
    """Rows that somebody has labelled."""
    complete: int
    """Rows that as many people have labelled as are wanted."""
    contested: int
    """Rows that people labelled differently."""
    skipped: int
    """Rows that somebody skipped and nobody has labelled."""
    people: Mapping[str, int]
    """Rows that each person has labelled."""


class QueueState:
    """All that is known of a queue. Threads may share it.

    :param queue: what is asked.
    """

    def __init__(self, queue: LabelQueue) -> None:
        self.queue = queue
        self.rows: dict[str, QueueRow] = {}
        """By key, in the order in which they were put forward."""
        self.labels: dict[str, dict[str, Label]] = {}
        """By key and person: the newest label, if it was not taken back."""
        self.skips: dict[str, set[str]] = {}
        """By key: who skipped it."""
        self.leases: dict[str, dict[str, datetime]] = {}
        """By key and person: until when the row is theirs."""
        self._lock = threading.RLock()
        self._places: dict[str, tuple[datetime, int]] = {}
        self._newest: dict[tuple[str, str, str], datetime] = {}
        self._latest: dict[tuple[str, str], datetime] = {}
        self._counts: Counter[str] = Counter()
        self._people: Counter[str] = Counter()
        self._pairs: dict[tuple[str, str], Answers] = {}

    @classmethod
    def of(
        cls,
        queue: LabelQueue,
        rows: Iterable[Mapping[str, Any]],
        labels: Iterable[Mapping[str, Any]],
        claims: Iterable[Mapping[str, Any]],
    ) -> QueueState:
        """Put a queue's state together from the rows of its tables, in whatever order they come."""
        state = cls(queue)
        state.add_rows(rows)
        state.add_labels(labels)
        state.add_claims(claims)
        return state

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn of rows that were put forward.

        :param rows: new rows of the table, in any order.
        """
        with self._lock:
            new = [row for row in rows if row["key"] not in self._places]
            if not new:
                return
            new.sort(key=lambda each: (each["when"], each["position"]))
            last = max(self._places.values(), default=None)
            for row in new:
                key = row["key"]
                if key not in self._places:
                    shown = {name: row[name] for name in QueueRow.model_fields}
                    self.rows[key] = QueueRow.model_validate(shown)
                    self._places[key] = (row["when"], row["position"])
                    self._count(key, 1)
            if last is not None and self._places[new[0]["key"]] < last:
                # Put forward by a server whose clock is slow.
                self.rows = {key: self.rows[key] for key in sorted(self.rows, key=self._places.__getitem__)}

    def add_labels(self, labels: Iterable[Mapping[str, Any]]) -> None:
        """Learn of labels that were given, or taken back.

        :param labels: new rows of the table of labels, in any order.
        """
        with self._lock:
            for row in sorted(labels, key=lambda each: each["when"]):
                key, who, value = row["key"], row["who"], row["label"]
                if not self._is_news("label", key, who, row["when"]):
                    continue
                self._count(key, -1)
                given = self.labels.setdefault(key, {})
                if value is None:
                    given.pop(who, None)
                else:
                    given[who] = tuple(value) if isinstance(value, list) else value
                if not given:
                    del self.labels[key]
                self._count(key, 1)

    def add_claims(self, claims: Iterable[Mapping[str, Any]]) -> None:
        """Learn of rows that were handed out, or skipped.

        :param claims: new rows of the table of claims, in any order.
        """
        with self._lock:
            for row in sorted(claims, key=lambda each: each["when"]):
                key, who, when, until = row["key"], row["who"], row["when"], row["until"]
                is_skip, is_back = until is None, until == UNSKIPPED
                if (is_skip or is_back) and self._is_news("skip", key, who, when):
                    self._count(key, -1)
                    skipped = self.skips.setdefault(key, set())
                    if is_skip:
                        skipped.add(who)
                    else:
                        skipped.discard(who)
                    self._count(key, 1)
                if not is_skip and self._is_news("lease", key, who, when):
                    self.leases.setdefault(key, {})[who] = when + LEASE if is_back else until

    def latest(self, what: str, who: str) -> datetime | None:
        """Return when a person last did something.

        :param what: ``labels``, or ``claims``: a row was handed to them, or skipped.
        :param who: the person.
        :return: the time; None: they never did.
        """
        return self._latest.get((what, who))

    def still_theirs(self, keys: Iterable[str], who: str, now: datetime) -> list[QueueRow]:
        """Return those of the rows in front of a person that are still theirs to label.

        :param keys: of the rows.
        :param who: the person.
        :param now: the time.
        :return: the rows, in the order of the keys; without those that the person has labelled or skipped,
            that went to others after the lease, or that as many others have labelled as are wanted.
        """
        with self._lock:
            return [
                self.rows[key]
                for key in dict.fromkeys(keys)
                if key in self.rows and not self._is_settled(key, who) and self._is_open(key, who, now)
            ]

    def next_rows(
        self, who: str, now: datetime, *, most: int, besides: Sequence[QueueRow] = ()
    ) -> tuple[list[QueueRow], list[QueueRow]]:
        """Choose the rows that a person is shown next.

        :param who: the person.
        :param now: the time.
        :param most: rows at most, those that the person has before them among them.
        :param besides: rows that the person has before them.
        :return: rows that are with this person already, and rows to hand out.
        """
        mine: list[QueueRow] = []
        fresh: list[QueueRow] = []
        shown = {row.key for row in besides}
        most = max(0, most - len(shown))
        with self._lock:
            for key, row in self.rows.items():
                if len(mine) >= most:
                    break
                if key in shown or self._is_settled(key, who):
                    continue
                if self._holds(key, who, now):
                    mine.append(row)
                elif len(mine) + len(fresh) < most and self._is_open(key, who, now):
                    fresh.append(row)
        return mine, fresh[: most - len(mine)]

    def progress(self) -> QueueProgress:
        """Return how far the queue is."""
        with self._lock:
            people = {who: rows for who, rows in self._people.items() if rows > 0}
            return QueueProgress(
                rows=len(self.rows),
                labelled=self._counts["labelled"],
                complete=self._counts["complete"],
                contested=self._counts["contested"],
                skipped=self._counts["skipped"],
                people=dict(sorted(people.items(), key=lambda item: (-item[1], item[0]))),
            )

    def agreements(self) -> list[Agreement]:
        """Return how people agree, see :func:`~modelmill.labels.agreement.counted_agreements`."""
        with self._lock:
            return counted_agreements(self._pairs)

    def _count(self, key: str, sign: int) -> None:
        """Count a row with what is known of it (1), or take that out before it changes (-1)."""
        if key not in self.rows:
            return
        given = self.labels.get(key, {})
        if not given:
            self._counts["skipped"] += sign * bool(self.skips.get(key))
            return
        self._counts["labelled"] += sign
        self._counts["complete"] += sign * (len(given) >= self.queue.wanted(key))
        self._counts["contested"] += sign * (len(set(given.values())) > 1)
        for who in given:
            self._people[who] += sign
        for people, answers in answer_pairs(given):
            counted = self._pairs.setdefault(people, Counter())
            counted[answers] += sign
            if counted[answers] == 0:
                del counted[answers]

    def _is_news(self, what: str, key: str, who: str, when: datetime) -> bool:
        """Whether nothing later is known of a person and a row; if so, this is now the latest."""
        table = "labels" if what == "label" else "claims"
        self._latest[table, who] = max(when, self._latest.get((table, who), when))
        if self._newest.get((what, key, who), when) > when:
            return False
        self._newest[what, key, who] = when
        return True

    def _is_settled(self, key: str, who: str) -> bool:
        return who in self.labels.get(key, {}) or who in self.skips.get(key, set())

    def _holds(self, key: str, who: str, now: datetime) -> bool:
        until = self.leases.get(key, {}).get(who)
        return until is not None and until > now

    def _is_open(self, key: str, who: str, now: datetime) -> bool:
        skipped, given = self.skips.get(key, set()), self.labels.get(key, {})
        busy = {other for other in self.leases.get(key, {}) if self._holds(key, other, now)} - skipped
        return len((set(given) | busy) - {who}) < self.queue.wanted(key)
