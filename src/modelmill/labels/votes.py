"""Counts of the votes of labelling functions: label models learn from these, so the table may be large.

A labelling function answers with its label or not at all, so a row's votes are one bit for each function.
Rows with the same votes are interchangeable: what counts is how often each pattern of votes occurs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Fired = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Functions:
    """The labelling functions, in the order of the configuration."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    """Label that each of them votes for."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that any of them votes for, sorted."""
        return tuple(sorted(set(self.labels)))

    @property
    def voted(self) -> npt.NDArray[np.int64]:
        """Number of the class that each function votes for, ``(functions,)``."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[label] for label in self.labels], dtype=np.int64)


@dataclass(frozen=True)
class VoteCounts:
    """How often each pattern of votes occurs, and with which gold labels."""

    functions: Functions
    fired: Fired
    """Which functions voted, ``(patterns, functions)``; the patterns are different and sorted."""
    rows: Counts
    """Rows of each pattern, ``(patterns,)``."""
    gold: Mapping[tuple[int, str], int]
    """Rows by number of the pattern and gold label, for the rows that have one."""

    @classmethod
    def of(cls, functions: Functions, counted: Sequence[tuple[str, str | None, int]]) -> VoteCounts:
        """Sum up counts, whatever order they come in.

        :param functions: the labelling functions.
        :param counted: votes as a text of ``0`` and ``1``, gold label or None, number of rows.
        :return: the counts, in an order that does not depend on that of the input.
        """
        rows: dict[str, int] = {}
        golds: dict[tuple[str, str], int] = {}
        for pattern, label, count in counted:
            rows[pattern] = rows.get(pattern, 0) + count
            if label is not None:
                golds[pattern, label] = golds.get((pattern, label), 0) + count
        order = sorted(rows)
        numbers = {pattern: number for number, pattern in enumerate(order)}
        return cls(
            functions=functions,
            fired=fired_of(order, len(functions.names)),
            rows=np.array([rows[pattern] for pattern in order], dtype=np.int64),
            gold={(numbers[pattern], label): count for (pattern, label), count in sorted(golds.items())},
        )

    @property
    def votes(self) -> Counts:
        """Votes for each class, ``(patterns, classes)``."""
        return votes_by_class(self.fired, self.functions)


def fired_of(patterns: Sequence[str], functions: int) -> Fired:
    """Return patterns as booleans.

    :param patterns: texts of ``0`` and ``1``.
    :param functions: length of each.
    :return: ``(patterns, functions)``.
    """
    bits = np.frombuffer("".join(patterns).encode("ascii"), dtype=np.uint8)
    fired: Fired = (bits == ord("1")).reshape(len(patterns), functions)
    return fired


def votes_by_class(fired: Fired, functions: Functions) -> Counts:
    """Count the votes for each class.

    :param fired: which functions voted, ``(patterns, functions)``.
    :param functions: the labelling functions.
    :return: ``(patterns, classes)``.
    """
    belongs = np.eye(len(functions.classes), dtype=np.int64)[functions.voted]  # (functions, classes)
    counts: Counts = fired.astype(np.int64) @ belongs
    return counts
