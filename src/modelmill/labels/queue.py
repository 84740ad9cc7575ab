"""A queue of rows that people label: what is asked, and what counts of what was given."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from modelmill.documents.names import Name
from modelmill.errors import ConfigError
from modelmill.options import Record

LEASE = timedelta(minutes=10)
"""How long a row stays with whom it was handed to. A label that comes later counts all the same."""

UNSKIPPED = datetime(1970, 1, 1, tzinfo=UTC)
"""End of a claim that takes a skip back: the row is in front of the person again, for as long as a lease."""

MOST_CLASSES = 1000
"""All of them are on the page, and in each answer of its routes."""
_MOST_NAMED = 20
MOST_LETTERS = 20_000

Label = str | float | tuple[str, ...]
"""One class, a number, or a sorted set of classes."""


class LabelQueue(Record):
    """What is asked of the rows of a queue."""

    name: Name
    kind: Literal["class", "set", "number"] = Field(
        "class", description="One class of several, any set of them, or a number."
    )
    classes: tuple[str, ...] = Field((), description="In the order of their keys.")
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
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(
                f"a queue has {MOST_CLASSES:,} classes at most, not {len(self.classes):,}: "
                "name those that people choose from, or make several queues"
            )
        return self

    @classmethod
    def of_fields(cls, **fields: Any) -> LabelQueue:
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
                remedy=f"choose among {self._named_classes()}",
            )
        return tuple(sorted(set(chosen))) if self.kind == "set" else str(value)

    def _named_classes(self) -> str:
        more = len(self.classes) - _MOST_NAMED
        named = ", ".join(self.classes[:_MOST_NAMED])
        return f"{named} and {more:,} more" if more > 0 else named


class QueueRow(Record):
    """A row that is to be labelled."""

    key: str = Field(min_length=1, max_length=MOST_LETTERS)
    text: str = Field(max_length=MOST_LETTERS, description="What people read.")
    label: str | None = Field(None, description="The label that it has; null: none.")
    suggestion: str | None = Field(None, description="What functions or a model say; null: nothing.")
    why: str = Field("", description="Why a person should look at it.")


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
