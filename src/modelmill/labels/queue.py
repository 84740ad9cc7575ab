"""A queue of rows that people label: what is asked, what was given, and who is handed which row next.

Everything here follows from rows of append-only tables alone, so it is the same in every process and after a
restart (see :mod:`modelmill.labels.queue_store`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from modelmill.documents.names import Name
from modelmill.errors import ConfigError

LEASE = timedelta(minutes=10)
"""How long a row stays with whom it was handed to. A label that comes later counts all the same."""

UNSKIPPED = datetime(1970, 1, 1, tzinfo=UTC)
"""End of a claim that takes a skip back: the row is in front of the person again, for as long as a lease."""

MOST_CLASSES = 100
MOST_LETTERS = 20_000

Label = str | float | tuple[str, ...]
"""One class, a number, or a sorted set of classes."""


class LabelQueue(BaseModel):
    """What is asked of the rows of a queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Literal["class", "set", "number"] = Field(
        "class", description="One class of several, any set of them, or a number."
    )
    classes: tuple[str, ...] = Field((), max_length=MOST_CLASSES, description="In the order of their keys.")
    label: str = Field(min_length=1, max_length=250, description="Name of what is labelled, such as topic.")
    key: str = Field(min_length=1, max_length=250, description="Column that identifies a row at its source.")
    source: str = Field(description="Where the rows come from, for people.")
    second_opinion: float = Field(0.0, ge=0, le=1, description="Share of the rows that two people label.")

    @model_validator(mode="after")
    def _check_classes(self) -> LabelQueue:
        if self.kind == "number" and self.classes:
            raise ValueError(f"a number has no classes: {', '.join(self.classes)}")
        if self.kind != "number" and (len(set(self.classes)) < 2 or "" in self.classes):
            raise ValueError(f"there are two classes or more to choose from: {list(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"each class stands once: {list(self.classes)}")
        return self

    @classmethod
    def asking(cls, **fields: Any) -> LabelQueue:
        """Return a queue of what a person has filled in.

        :param **fields: the fields.
        :return: the queue.
        :raises ConfigError: if they are not right, with the first reason.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the queue"
            raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error

    def wanted(self, key: str) -> int:
        """Return how many people label a row: always the same of its key."""
        return 2 if zlib.crc32(key.encode()) / 2**32 < self.second_opinion else 1

    def checked(self, value: Any) -> Label:
        """Return a label as it is kept.

        :param value: as JSON gives it.
        :return: the class, the number, or the set, sorted.
        :raises ConfigError: if it is no answer to what is asked.
        """
        if self.kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigError("a label is a finite number here", got=value)
            return float(value)
        chosen = value if isinstance(value, list | tuple) and self.kind == "set" else [value]
        unknown = [one for one in chosen if one not in self.classes]
        if unknown:
            raise ConfigError(
                f"a label is one of the classes of {self.name}",
                got=unknown[0],
                remedy=f"choose among {', '.join(self.classes)}",
            )
        return tuple(sorted(set(chosen))) if self.kind == "set" else str(value)


class QueueRow(BaseModel):
    """A row that is to be labelled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1, max_length=MOST_LETTERS)
    text: str = Field(max_length=MOST_LETTERS, description="What people read.")
    label: str | None = Field(None, description="The label that it has; null: none.")
    suggestion: str | None = Field(None, description="What functions or a model say; null: nothing.")
    why: str = Field("", description="Why a person should look at it.")


@dataclass(frozen=True)
class Progress:
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


@dataclass
class QueueState:
    """All that is known of a queue at some moment."""

    queue: LabelQueue
    rows: dict[str, QueueRow] = field(default_factory=dict)
    """By key, in the order in which they were put forward."""
    labels: dict[str, dict[str, Label]] = field(default_factory=dict)
    """By key and person: the newest label, if it was not taken back."""
    skips: dict[str, set[str]] = field(default_factory=dict)
    """By key: who skipped it."""
    leases: dict[str, dict[str, datetime]] = field(default_factory=dict)
    """By key and person: until when the row is theirs."""

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
        for row in sorted(rows, key=lambda each: (each["when"], each["position"])):
            shown = {name: row[name] for name in QueueRow.model_fields}
            state.rows.setdefault(row["key"], QueueRow.model_validate(shown))
        state.labels = newest_labels(labels)
        for claim in sorted(claims, key=lambda each: each["when"]):
            key, who = claim["key"], claim["who"]
            if claim["until"] is None:
                state.skips.setdefault(key, set()).add(who)
            elif claim["until"] == UNSKIPPED:
                state.skips.get(key, set()).discard(who)
                state.leases.setdefault(key, {})[who] = claim["when"] + LEASE
            else:
                state.leases.setdefault(key, {})[who] = claim["until"]
        return state

    def still_theirs(self, keys: Iterable[str], who: str, now: datetime) -> list[QueueRow]:
        """Return those of the rows in front of a person that are still theirs to label.

        :param keys: of the rows.
        :param who: the person.
        :param now: the time.
        :return: the rows, in the order of the keys; without those that the person has labelled or skipped,
            that went to others after the lease, or that as many others have labelled as are wanted.
        """
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

    def progress(self) -> Progress:
        """Count."""
        people: dict[str, int] = {}
        for key in self.rows:
            for who in self.labels.get(key, {}):
                people[who] = people.get(who, 0) + 1
        given = {key: self.labels[key] for key in self.rows if self.labels.get(key)}
        return Progress(
            rows=len(self.rows),
            labelled=len(given),
            complete=sum(len(labels) >= self.queue.wanted(key) for key, labels in given.items()),
            contested=sum(len(set(labels.values())) > 1 for labels in given.values()),
            skipped=sum(bool(self.skips.get(key)) and key not in given for key in self.rows),
            people=dict(sorted(people.items(), key=lambda item: (-item[1], item[0]))),
        )

    def _is_settled(self, key: str, who: str) -> bool:
        return who in self.labels.get(key, {}) or who in self.skips.get(key, set())

    def _holds(self, key: str, who: str, now: datetime) -> bool:
        until = self.leases.get(key, {}).get(who)
        return until is not None and until > now

    def _is_open(self, key: str, who: str, now: datetime) -> bool:
        skipped, given = self.skips.get(key, set()), self.labels.get(key, {})
        busy = {other for other in self.leases.get(key, {}) if self._holds(key, other, now)} - skipped
        return len((set(given) | busy) - {who}) < self.queue.wanted(key)


def newest_labels(labels: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Label]]:
    """Return the newest label of each person for each row.

    :param labels: rows of a table of labels, in any order.
    :return: by key and person; labels that were taken back are left out.
    """
    found: dict[str, dict[str, Label]] = {}
    for row in sorted(labels, key=lambda each: each["when"]):
        given = found.setdefault(row["key"], {})
        value = row["label"]
        if value is None:
            given.pop(row["who"], None)
        else:
            given[row["who"]] = tuple(value) if isinstance(value, list) else value
    return {key: given for key, given in found.items() if given}


def settled_labels(labels: Mapping[str, Mapping[str, Label]]) -> dict[str, Label]:
    """Return the label of each row that most people gave.

    :param labels: by key and person.
    :return: by key; rows on which as many people say one thing as another are left out.
    """
    settled: dict[str, Label] = {}
    for key, given in labels.items():
        votes: dict[Label, int] = {}
        for label in given.values():
            votes[label] = votes.get(label, 0) + 1
        most = max(votes.values())
        best = [label for label, count in votes.items() if count == most]
        if len(best) == 1:
            settled[key] = best[0]
    return settled
