"""Searches why rows have their decisions, and the fewest changes that lead to other ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.explanation.alternatives import TrialRows, positions
from modelmill.rules.explanation.counterfactuals import Ways, counterfactuals
from modelmill.rules.explanation.nearest_changes import RowChanges, nearest_changes, without_farther
from modelmill.rules.explanation.ordinals import ORDERED
from modelmill.rules.explanation.single_changes import Base
from modelmill.rules.explanation.sufficient_sets import smallest_sufficient_sets
from modelmill.rules.explanation.trials import NOT_COMPUTED, Codes, DecisionTable
from modelmill.signals.groups import Mask
from modelmill.signals.values import STORED

_MAX_CACHED = 50_000
"""Results that are kept, for rows like those that were explained."""
_MAX_ROWS = 1024
"""Rows that are searched side by side."""


@dataclass(frozen=True)
class SignalChange:
    """One signal of a counterfactual."""

    signal: str
    old: Any
    """None: unknown, or never computed."""
    new: Any
    region: str | None
    """Region of the new value, such as ``above 0.9``; None where the value itself says as much."""


@dataclass(frozen=True)
class RowExplanation:
    """Why a row has its decision."""

    sufficient: tuple[str, ...]
    """Signals whose values settle the decision, whatever the others are."""
    minimal: bool
    """Whether it is proved that no smaller set is sufficient."""
    changes: tuple[SignalChange, ...]
    """The fewest changes that lead to another decision; empty if none were found."""
    other_decision: str | None
    """That other decision."""


@dataclass(frozen=True)
class FoundReasons:
    """Why rows have their decisions."""

    sufficient: npt.NDArray[np.bool_]
    """Whether each signal is in the sufficient set of each row, ``(rows, signals)``."""
    minimal: Mask
    """Whether it is proved that no smaller set is sufficient."""
    changes: RowChanges


@dataclass(frozen=True)
class _Cached:
    """What holds for every row whose signals are in the same classes."""

    sufficient: npt.NDArray[np.bool_]
    minimal: bool
    ways: Ways


class ExplanationSearch:
    """Explains rows of one rule set, and remembers what holds for rows like them."""

    def __init__(self, program: RuleProgram) -> None:
        self.table = DecisionTable(program)
        self.domains = self.table.domains
        self._cached: dict[bytes, _Cached] = {}
        self._texts: dict[bytes, int] = {}

    def explain(self, values: Mapping[str, Any]) -> RowExplanation:
        """Explain one row.

        :param values: values of the signals that are known, None for NULL. They settle the row.
        :return: the smallest sufficient set, and the nearest counterfactual.
        """
        columns = {
            name: pa.array([values[name]], STORED[self.domains[name].kind])
            for name in self.domains
            if name in values
        }
        found = self.explain_rows(columns, {name: np.ones(1, np.bool_) for name in columns}, 1)
        names = self.table.names
        changes = found.changes
        return RowExplanation(
            tuple(name for name, there in zip(names, found.sufficient[0], strict=True) if there),
            bool(found.minimal[0]),
            tuple(
                SignalChange(one["signal"], values.get(one["signal"]), one["value"], one["region"])
                for one in changes.listed()
            ),
            changes.decisions[0],
        )

    def explain_rows(
        self, values: Mapping[str, pa.Array], known: Mapping[str, Mask], count: int
    ) -> FoundReasons:
        """Explain rows.

        :param values: values of the signals, of the Arrow type of their kinds. They settle the rows.
        :param known: where they are known; a signal that is left out is known nowhere.
        :param count: number of rows.
        :return: why each row has its decision.
        """
        if len(self._cached) > _MAX_CACHED or len(self._texts) > _MAX_CACHED:
            self._cached.clear()
            self._texts.clear()
        table = self.table
        columns: dict[int, pa.Array] = {}
        masks: dict[int, Mask] = {}
        for place, name in enumerate(table.names):
            there = known.get(name)
            if there is None or not there.any():
                masks[place] = np.zeros(count, np.bool_)
                columns[place] = pa.nulls(count, STORED[self.domains[name].kind])
            else:
                masks[place], columns[place] = there, values[name]
        codes, keys = self._coded(columns, masks, count)
        names = [key.tobytes() for key in keys]
        first: dict[bytes, int] = {}
        for row, key in enumerate(names):
            if key not in self._cached:
                first.setdefault(key, row)
        new = list(first.items())
        size = max(1, min(_MAX_ROWS, table.block))
        for start in range(0, len(new), size):
            part = new[start : start + size]
            taken = np.array([row for _, row in part], np.int64)
            loose = [place for place, one in enumerate(table.tables) if one is None]
            rows = TrialRows(
                table,
                codes[taken],
                {place: columns[place].take(pa.array(taken)) for place in loose},
                {place: masks[place][taken] for place in loose},
            )
            for (key, _), found in zip(part, _searched(rows), strict=True):
                self._cached[key] = found
        every = [self._cached[key] for key in names]
        return FoundReasons(
            np.array([one.sufficient for one in every]).reshape(count, table.width),
            np.array([one.minimal for one in every], np.bool_),
            nearest_changes(table, [one.ways for one in every], columns, masks),
        )

    def _coded(
        self, columns: Mapping[int, pa.Array], masks: Mapping[int, Mask], count: int
    ) -> tuple[Codes, npt.NDArray[np.int64]]:
        """Return the codes of signals that are tables, and what tells rows apart."""
        table = self.table
        codes = np.full((count, table.width), NOT_COMPUTED, np.int32)
        keys: list[npt.NDArray[np.int64]] = []
        for place, name in enumerate(table.names):
            there, values, kind = masks[place], columns[place], self.domains[name].kind
            if table.tables[place] is not None:
                if there.all():
                    codes[:, place] = table.code_of(place, values)
                elif there.any():
                    codes[there, place] = table.code_of(place, values.filter(pa.array(there)))
                keys.append(codes[:, place].astype(np.int64))
                continue
            null = values.is_null().to_numpy(zero_copy_only=False)
            keys.append(np.where(there, np.where(null, 1, 2), 0))
            if kind in ORDERED:
                keys += positions(table, place, columns, masks)
            elif kind == "boolean":
                keys.append((there & values.fill_null(False).to_numpy(zero_copy_only=False)).astype(np.int64))
            elif kind == "text":
                texts = values.cast(pa.large_binary()).to_pylist()
                keys.append(
                    np.array(
                        [
                            self._texts.setdefault(text, len(self._texts)) if own and text is not None else -1
                            for text, own in zip(texts, there, strict=True)
                        ],
                        np.int64,
                    )
                )
        return codes, np.stack(keys, axis=1) if keys else np.zeros((count, 0), np.int64)


def _searched(rows: TrialRows) -> Sequence[_Cached]:
    base = Base(rows)
    singles = base.single_changes()
    sufficient, minimal = smallest_sufficient_sets(rows, base.decisions, singles)
    ways = without_farther(rows.table, counterfactuals(rows, base.decisions, singles))
    return [_Cached(*one) for one in zip(sufficient, minimal.tolist(), ways, strict=True)]
