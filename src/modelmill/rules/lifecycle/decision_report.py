"""The report of a run of a rule set: how often each decision was made, and by which rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelmill.artifacts import TableRef
from modelmill.options import Record
from modelmill.rules.evaluation.decisions import EXPLANATION_COLUMN
from modelmill.rules.lifecycle.table_decider import TableDecider
from modelmill.tables.reading import scan_arrow

_BATCH_ROWS = 10_000
_COUNTED_ROWS = 65_536
_MOST_REASONS = 10
_MOST_HELD = 50_000
"""Reasons of one signal that are held at a time: a reason may repeat its row, so there may be one a row."""


class SignalFailure(Record):
    """Why a signal could not be computed, and on how many rows."""

    signal: str
    why: str
    """As the signal says it, which may repeat what stands in the row."""
    rows: int
    """At least: of more than 50,000 reasons of a signal, rare ones are not counted to the end."""


class DecisionCounts(Record):
    """The number of rows of a decisions table by decision, rule and cause."""

    rows: int
    decisions: dict[str, int]
    """Rows by decision."""
    rules: dict[str, int]
    """Rows by the rule that decided them."""
    default: int
    """Rows on which no rule fires."""
    unknown: int
    """Rows that are decided because a condition is NULL."""
    failures: tuple[SignalFailure, ...] | None = None
    """Why signals could not be computed: of each the most frequent reasons. Only explained rows say it; None:
    no row is explained."""

    @property
    def figures(self) -> dict[str, int]:
        """The numbers of rows, as MLflow keeps them."""
        rows = {"rows": self.rows, "rows_default": self.default, "rows_unknown": self.unknown}
        return rows if self.failures is None else {**rows, "failures": sum(one.rows for one in self.failures)}


def count_decisions(decisions: TableRef, *, explained: bool) -> DecisionCounts:
    """Count the rows of a decisions table.

    :param decisions: the table.
    :param explained: whether its rows may have explanations.
    :return: the counts.
    """
    columns = ["decision", "rule", "because"]
    read = [*columns, EXPLANATION_COLUMN] if explained else columns
    by_decision: Counter[str] = Counter()
    by_rule: Counter[str] = Counter()
    by_cause: Counter[str] = Counter()
    failures: dict[str, Counter[str]] = {}
    for batch in scan_arrow(decisions, columns=read, batch_rows=_BATCH_ROWS if explained else _COUNTED_ROWS):
        if explained:
            _add_failures(failures, batch.column(EXPLANATION_COLUMN))
        grouped = pa.Table.from_batches([batch]).group_by(columns).aggregate([([], "count_all")])
        for one in grouped.to_pylist():
            by_decision[one["decision"]] += one["count_all"]
            by_cause[one["because"]] += one["count_all"]
            if one["because"] == "rule":
                by_rule[one["rule"]] += one["count_all"]
    return DecisionCounts(
        rows=by_decision.total(),
        decisions=dict(sorted(by_decision.items())),
        rules=dict(sorted(by_rule.items())),
        default=by_cause["default"],
        unknown=by_cause["unknown"],
        failures=_most_frequent(failures) if explained else None,
    )


def _add_failures(found: dict[str, Counter[str]], explanations: pa.Array) -> None:
    """Count why signals could not be computed. A signal that is NULL for no such reason says ``NULL``."""
    signals = pc.list_flatten(pc.struct_field(explanations.drop_null(), "signals"))
    table = pa.table({name: pc.struct_field(signals, name) for name in ("signal", "unknown")})
    failed = table.filter(pc.and_(table["unknown"].is_valid(), pc.not_equal(table["unknown"], "NULL")))
    for one in failed.group_by(["signal", "unknown"]).aggregate([([], "count_all")]).to_pylist():
        found.setdefault(one["signal"], Counter())[one["unknown"]] += one["count_all"]
    for name, counts in found.items():
        if len(counts) > _MOST_HELD:  # rare ones go: those that are shown are the most frequent
            found[name] = Counter(dict(counts.most_common(_MOST_HELD // 2)))


def _most_frequent(failures: dict[str, Counter[str]]) -> tuple[SignalFailure, ...]:
    return tuple(
        SignalFailure(signal=name, why=why, rows=rows)
        for name, counts in sorted(failures.items())
        for why, rows in counts.most_common(_MOST_REASONS)
    )


def _failed_rows(counts: DecisionCounts) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in counts.failures or ():
        found[one.signal] += one.rows
    return found


def decision_report(
    counts: DecisionCounts, decider: TableDecider, *, source: TableRef, decisions: TableRef
) -> dict[str, Any]:
    """Return the report of a run, as JSON.

    :param counts: the counts of its decisions.
    :param decider: what decided.
    :param source: the input.
    :param decisions: the decisions table.
    :return: a mapping.
    """
    rule_set = decider.rule_set
    return {
        **counts.model_dump(mode="json"),
        "rule_set": rule_set.canonical(),
        "rule_set_digest": rule_set.digest,
        "models": {name: pin.version for name, pin in sorted(decider.pins.items())},
        "plan": None if decider.plan is None else decider.plan.model_dump(mode="json"),
        "source": str(source),
        "table": str(decisions),
    }


def report_lines(counts: DecisionCounts, decider: TableDecider, decisions: TableRef) -> list[str]:
    """Return the report of a run in a few lines of text."""
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.decisions.items())
    return [
        f"{counts.rows:,} rows decided ({shown}); {decisions}",
        *(
            f"{name} does not exist: signals that need it are unknown"
            for name, pin in decider.pins.items()
            if pin.missing
        ),
        *(
            f"{signal} could not be computed on {rows:,} rows: decisions.json and the explanations say why"
            for signal, rows in sorted(_failed_rows(counts).items())
        ),
        *(decider.plan.lines() if decider.plan else ()),
    ]
