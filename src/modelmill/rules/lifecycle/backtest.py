"""Backtests a rule set on a version of a table, perhaps beside the rule set in use (a shadow run).

Both rule sets decide on every row, and nothing is acted on. The result is a report, and the rows that would
be decided otherwise, for people to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelmill.artifacts import TableRef
from modelmill.errors import DatasetError
from modelmill.options import Options
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.lifecycle.options import TrialOptions
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.rules.lifecycle.rule_set_diff import RuleSetDiff, compare_rule_sets
from modelmill.rules.lifecycle.rule_statistics import RuleSetStatistics, right_decisions, rule_set_statistics
from modelmill.rules.lifecycle.table_sample import sample_table
from modelmill.rules.lifecycle.threshold_advice import ThresholdAdvice, threshold_advice
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.settings import Settings
from modelmill.signals.pinned_models import PinnedModel
from modelmill.tables.commits import write_rows
from modelmill.tables.reading import check_columns


class BacktestReport(Options):
    """The report of a backtest."""

    source: str
    trial: RuleSetStatistics
    failures: dict[str, int]
    """Number of rows on which a signal could not be computed, by its name."""
    dead: tuple[str, ...]
    """Rules whose condition is true on no row."""
    shadowed: tuple[str, ...]
    """Rules whose condition is true on some rows, all of which earlier rules decide."""
    against: RuleSetStatistics | None = None
    difference: RuleSetDiff | None = None
    thresholds: tuple[ThresholdAdvice, ...] = ()


@dataclass(frozen=True)
class Backtest:
    """Rule sets on the rows of a table."""

    report: BacktestReport
    after: FullEvaluation
    """The rule set that is tried."""
    before: FullEvaluation | None = None
    """The rule set in use, if there is one."""


def backtest(
    table: TableRef,
    options: TrialOptions,
    settings: Settings,
    *,
    against: str | None = None,
    models: Mapping[str, PinnedModel] | None = None,
    keep: Sequence[str] = (),
) -> Backtest:
    """Evaluate a rule set, and the one in use, on the rows of a table.

    :param table: the table.
    :param options: the rule set, and what is looked at.
    :param settings: where MLflow and the caches are.
    :param against: source of the rule set in use; None if there is none.
    :param models: models of an earlier step, see :func:`~modelmill.rules.pinned_rule_set.pin_rule_set`.
    :param keep: further columns that the table must have.
    :return: the report, and both rule sets on the rows.
    :raises RuleSetError: if a rule set is not valid; all mistakes are listed.
    :raises TableError: if a column is missing.
    :raises DatasetError: if the table has no rows.
    """
    rows = sample_table(table, rows=options.rows)
    wanted = [*options.slices, *keep, *([options.label] if options.label else [])]
    check_columns(rows.schema.names, wanted, place=str(table))
    if not rows.num_rows:
        raise DatasetError("rules are tried on rows", got=str(table), remedy="see what fills it")

    def evaluated(source: str) -> FullEvaluation:
        rule_set = open_rule_set(source, settings)
        check_columns(rows.schema.names, [rule_set.key], place="the input")
        pinned = pin_rule_set(rule_set, settings, models=models)
        return pinned.engine(rows.schema, settings).evaluate_fully(rows)

    proposed = evaluated(options.rule_set)
    used = evaluated(against) if against else None
    truth = right_decisions(rows.column(options.label), options.decision_of) if options.label else None
    trial = rule_set_statistics(proposed, truth)
    report = BacktestReport(
        source=str(table),
        trial=trial,
        failures=proposed.failures,
        dead=tuple(rule.name for rule in trial.rules if rule.dead),
        shadowed=tuple(rule.name for rule in trial.rules if rule.shadowed),
        against=rule_set_statistics(used, truth) if used else None,
        difference=used
        and compare_rule_sets(used, proposed, slices=options.slices, examples=options.examples, truth=truth),
        thresholds=threshold_advice(proposed, truth, precision=options.precision) if truth else (),
    )
    return Backtest(report, proposed, used)


def write_changes(found: Backtest, place: str, *, keep: Sequence[str], transaction: str) -> TableRef:
    """Write the rows that the two rule sets decide otherwise; none without a rule set in use.

    :param found: the backtest.
    :param place: table to write.
    :param keep: columns to carry along beside the key.
    :param transaction: id under which the rows are committed once.
    :return: the table.
    """
    after = found.after
    rule_set = after.compiled.rule_set
    columns: dict[str, Any] = {name: after.rows.column(name) for name in dict.fromkeys([rule_set.key, *keep])}
    for side, evaluated in {"before": found.before or after, "after": after}.items():
        columns[f"decision_{side}"] = evaluated.decisions()
        columns[f"rule_{side}"] = evaluated.deciding_rules()
    rows = pa.table(columns)
    changed = rows.filter(pc.not_equal(rows["decision_before"], rows["decision_after"]))
    version = write_rows(
        place,
        changed,
        mode="overwrite",
        transaction=transaction,
        metadata={
            "rows": changed.num_rows,
            "operation": "try_rules",
            "rule_set": f"{rule_set.rule_set}@{after.compiled.digest[:12]}",
        },
    )
    return TableRef(uri=place, version=version)


def figures(report: BacktestReport) -> dict[str, float]:
    """Return the figures of a report, for MLflow."""
    found: dict[str, float] = {
        "rows": report.trial.rows,
        "dead_rules": len(report.dead),
        "shadowed_rules": len(report.shadowed),
    }
    difference = report.difference
    if difference is not None:
        found |= {"rows_changed": difference.changed}
        found |= {"better": difference.better, "worse": difference.worse, "unjudged": difference.unjudged}
    if report.trial.accuracy is not None:
        found["accuracy"] = report.trial.accuracy.value
    if report.against is not None and report.against.accuracy is not None:
        found["accuracy_before"] = report.against.accuracy.value
    return found


def report_lines(report: BacktestReport) -> list[str]:
    """Return a report in a few lines of text."""
    trial, difference = report.trial, report.difference
    shown = ", ".join(f"{name} {count:,}" for name, count in trial.decisions.items())
    found = [f"{trial.rule_set} on {trial.rows:,} rows: {shown}"]
    found += [line for one in (trial, report.against) if one is not None for line in _accuracy_lines(one)]
    found += [f"rules that are true on no row: {', '.join(report.dead)}"] if report.dead else []
    for rule in trial.rules:
        if rule.shadowed:
            found.append(f"{rule.name} decides nothing: {', '.join(rule.shadowed_by)} come first")
        if rule.precision is not None:
            found.append(
                f"{rule.name}: precision {rule.precision.value:.1%} "
                f"({rule.precision.low:.1%} to {rule.precision.high:.1%}) on {rule.precision.rows:,} rows"
            )
    if difference is not None:
        found.append(f"{difference.changed:,} of {difference.rows:,} rows change against {difference.before}")
        if trial.accuracy is not None:
            found.append(
                f"labelled rows among them: {difference.better:,} get better, {difference.worse:,} worse, "
                f"{difference.unjudged:,} have labels that are no decision"
            )
        for change in difference.changes[:10]:
            found.append(
                f"{change.rows:,} from {change.before} ({change.rule_before or 'no rule'}) to {change.after} "
                f"({change.rule_after or 'no rule'}), such as {', '.join(change.examples)}"
            )
    for one in report.thresholds:
        found.append(
            f"{one.signal} >= {one.threshold:.3f} for {one.decision}: precision at least {one.low:.1%} "
            f"on new rows, recall {one.recall:.1%} here"
        )
    return found


def _accuracy_lines(trial: RuleSetStatistics) -> list[str]:
    found = []
    if (right := trial.accuracy) is not None:
        found.append(
            f"{trial.rule_set} is right on {right.value:.1%} ({right.low:.1%} to {right.high:.1%}) of "
            f"{trial.labelled:,} labelled rows"
        )
    if trial.never_decided:
        shown = ", ".join(f"{name} {count:,}" for name, count in list(trial.never_decided.items())[:5])
        found.append(
            f"warning: {trial.rule_set} never decides what {sum(trial.never_decided.values()):,} labels say "
            f"({shown}): no answer is right there; list these labels under decision_of, or use null for them"
        )
    return found
