"""What a run of a rule set says of itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import TableRef
from modelmill.tables.reading import read_arrow

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.rules.lifecycle.table_decisions import Deciding


class DecisionCounts(BaseModel):
    """What a decisions table holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    decisions: dict[str, int]
    """Rows by decision."""
    rules: dict[str, int]
    """Rows by the rule that decides them."""
    default: int
    """Rows on which no rule fires."""
    unknown: int
    """Rows that are decided because a condition is NULL."""


def count_decisions(decisions: TableRef) -> DecisionCounts:
    """Count what was decided.

    :param decisions: the decisions table.
    :return: the counts.
    """
    rows = read_arrow(decisions, columns=["decision", "rule", "because"])
    grouped = rows.group_by(["decision", "rule", "because"]).aggregate([([], "count_all")]).to_pylist()
    by_decision: Counter[str] = Counter()
    by_rule: Counter[str] = Counter()
    by_cause: Counter[str] = Counter()
    for one in grouped:
        by_decision[one["decision"]] += one["count_all"]
        by_cause[one["because"]] += one["count_all"]
        if one["because"] == "rule":
            by_rule[one["rule"]] += one["count_all"]
    return DecisionCounts(
        rows=rows.num_rows,
        decisions=dict(sorted(by_decision.items())),
        rules=dict(sorted(by_rule.items())),
        default=by_cause["default"],
        unknown=by_cause["unknown"],
    )


def log_decisions(
    counts: DecisionCounts,
    deciding: Deciding,
    source: TableRef,
    decisions: TableRef,
    *,
    seconds: float,
    context: StepContext,
) -> None:
    """Log a run into MLflow, and print it.

    :param counts: what was decided.
    :param deciding: what decided.
    :param source: the input.
    :param decisions: the decisions table.
    :param seconds: how long it took.
    :param context: the step's context.
    """
    run, rule_set = context.run, deciding.rule_set
    run.log_dataset(source, context="deciding", rows=counts.rows)
    run.log_json(
        {
            **counts.model_dump(mode="json"),
            "rule_set": rule_set.canonical(),
            "rule_set_digest": rule_set.digest,
            "models": {name: pin.version for name, pin in sorted(deciding.pins.items())},
            "plan": None if deciding.plan is None else deciding.plan.model_dump(mode="json"),
            "source": str(source),
            "table": str(decisions),
        },
        "decisions.json",
    )
    figures = {"rows": counts.rows, "rows_default": counts.default, "rows_unknown": counts.unknown}
    run.log_metrics({**{name: float(value) for name, value in figures.items()}, "seconds": seconds})
    run.set_tags({"modelmill.rule_set": f"{rule_set.rule_set}@{rule_set.digest[:12]}"})
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.decisions.items())
    context.log(f"{context.step}: {counts.rows:,} rows decided ({shown}); {decisions}")
    for name, pin in deciding.pins.items():
        if pin.missing:
            context.log(f"{context.step}: {name} does not exist: signals that need it are unknown")
    for line in deciding.plan.lines() if deciding.plan else ():
        context.log(f"{context.step}: {line}")
