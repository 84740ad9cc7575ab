"""Trying a rule set on a version of a table: a backtest, and beside the rule set in use a shadow run.

Every row of both rule sets is decided and nothing is acted on: the result is a report and the table of rows
that would be decided otherwise, for people to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import ReportRef, TableRef
from modelmill.errors import DatasetError
from modelmill.rules.confidence_bounds import suggest_threshold
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.language.program import reached
from modelmill.rules.lifecycle.table_decisions import pinned_signals, prepare, rows_of
from modelmill.rules.lifecycle.trial import (
    RuleSetDiff,
    Trial,
    compare,
    right_decisions,
    try_rules,
)
from modelmill.tables.commits import write_rows
from modelmill.tables.reading import check_columns
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.rules.lifecycle.options import TrialConfig
    from modelmill.signals.pins import Pin
    from modelmill.steps.ports import TrialInputs
    from modelmill.steps.try_rules import TryRulesConfig


class ThresholdAdvice(BaseModel):
    """From which probability on a model signal has the wanted precision for a decision, with confidence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: str
    decision: str
    """The right decision of the rows that the signal should be true of."""
    threshold: float
    rows: int
    """Rows that it takes."""
    precision: float
    low: float
    """Lower bound of the precision on new rows."""
    recall: float


class TryReport(BaseModel):
    """Everything that was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    trial: Trial
    failures: dict[str, int]
    """Rows on which a signal could not be computed, by its name."""
    dead: tuple[str, ...]
    """Rules whose condition is true on no row."""
    shadowed: tuple[str, ...]
    """Rules that are true somewhere and decide nothing."""
    against: Trial | None = None
    difference: RuleSetDiff | None = None
    thresholds: tuple[ThresholdAdvice, ...] = ()


def run(config: TryRulesConfig, inputs: TrialInputs, context: StepContext) -> tuple[ReportRef, TableRef]:
    """Try a rule set.

    :param config: the step's configuration.
    :param inputs: the table, and models of earlier steps.
    :param context: the step's context.
    :return: the report, and the rows that are decided otherwise.
    :raises RuleSetError: if a rule set breaks a rule; all problems are listed.
    :raises TableError: if a column is missing.
    :raises DatasetError: if the table has no rows.
    """
    report, sides = try_on(config, inputs, context, against=config.against, more=config.keep)
    home = context.settings.home / "rules" / context.pipeline / context.step
    changes = _write_changes(*sides, config, context, place=table_location(config.to or str(home)))
    return _log(report, inputs.table, changes, context), changes


def try_on(
    config: TrialConfig,
    inputs: TrialInputs,
    context: StepContext,
    *,
    against: str | None,
    more: Sequence[str] = (),
) -> tuple[TryReport, tuple[FullEvaluation | None, FullEvaluation]]:
    """Evaluate a rule set, and the one in use, on the rows of a table.

    :param config: what is tried, and what is looked at.
    :param inputs: the table, and models of earlier steps.
    :param context: the step's context.
    :param against: the rule set in use; None: there is none.
    :param more: further columns that the table must have.
    :return: the report, and both rule sets on the rows.
    :raises RuleSetError: if a rule set breaks a rule; all problems are listed.
    :raises TableError: if a column is missing.
    :raises DatasetError: if the table has no rows.
    """
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    rows = rows_of(inputs.table, most=config.rows)
    wanted = [*config.slices, *more, *([config.label] if config.label else [])]
    check_columns(rows.schema.names, wanted, place=str(inputs.table))
    if not rows.num_rows:
        raise DatasetError("rules are tried on rows", got=str(inputs.table), remedy="see what fills it")
    proposed = _evaluated(config.rule_set, rows, models, context)
    used = _evaluated(against, rows, models, context) if against else None
    truth = right_decisions(rows.column(config.label), config.decision_of) if config.label else None
    trial = try_rules(proposed, truth)
    report = TryReport(
        source=str(inputs.table),
        trial=trial,
        failures=proposed.failures,
        dead=tuple(rule.name for rule in trial.rules if rule.dead),
        shadowed=tuple(rule.name for rule in trial.rules if rule.shadowed),
        against=try_rules(used, truth) if used else None,
        difference=used
        and compare(used, proposed, slices=config.slices, examples=config.examples, truth=truth),
        thresholds=threshold_advice(proposed, truth, precision=config.precision) if truth else (),
    )
    return report, (used, proposed)


def _evaluated(
    source: str, rows: pa.RecordBatch, models: dict[str, Pin], context: StepContext
) -> FullEvaluation:
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set

    rule_set = open_rule_set(source, context.settings)
    deciding = prepare(rule_set, rows.schema, context.settings, models=models)
    return deciding.engine(rows.schema, context.settings).evaluate_fully(rows)


def threshold_advice(
    evaluated: FullEvaluation, truth: pa.Array, *, precision: float
) -> tuple[ThresholdAdvice, ...]:
    """Suggest a threshold for each model signal that a rule reads, and each decision of such a rule.

    :param evaluated: the rule set on labelled rows.
    :param truth: the decision that each row should have; null where nobody knows.
    :param precision: wanted on new rows.
    :return: what can be shown to keep it.
    """
    labelled = truth.is_valid().to_numpy(zero_copy_only=False)
    advice = []
    compiled = evaluated.compiled
    rule_set = compiled.rule_set
    reads = [
        {compiled.steps[step].column for step in reached(compiled.steps, [root])} for root in compiled.roots
    ]
    scores = {
        name
        for group in evaluated.groups
        for name, info in group.signals.items()
        if group.tier == "model" and info.kind == "float"
    }
    for name, values in evaluated.signals.items():
        if name not in scores or not labelled.any():
            continue
        found = values.cast(pa.float64()).fill_null(float("nan")).to_numpy()[labelled]
        if np.isnan(found).all():
            continue
        readers = (rule for rule, read in zip(rule_set.rules, reads, strict=True) if name in read)
        for decision in dict.fromkeys(rule.then for rule in readers):
            wanted = pc.fill_null(pc.equal(truth, decision), False).to_numpy(zero_copy_only=False)[labelled]
            best = suggest_threshold(found, wanted, precision=precision)
            if best is not None:
                advice.append(ThresholdAdvice(signal=name, decision=decision, **vars(best)))
    return tuple(advice)


def _write_changes(
    before: FullEvaluation | None,
    after: FullEvaluation,
    config: TryRulesConfig,
    context: StepContext,
    *,
    place: str,
) -> TableRef:
    """Write the rows that are decided otherwise; without a rule set in use, none is."""
    key = after.compiled.rule_set.key
    kept = list(dict.fromkeys([key, *config.keep]))
    columns = {name: after.rows.column(name) for name in kept}
    sides = {"before": before or after, "after": after}
    for side, evaluated in sides.items():
        columns[f"decision_{side}"] = evaluated.decisions()
        columns[f"rule_{side}"] = evaluated.deciding_rules()
    rows = pa.table(columns)
    changed = pc.not_equal(rows["decision_before"], rows["decision_after"])
    about = {
        "operation": "try_rules",
        "rule_set": f"{after.compiled.rule_set.rule_set}@{after.compiled.digest[:12]}",
    }
    found = rows.filter(changed)
    version = write_rows(
        place,
        found,
        mode="overwrite",
        transaction=context.step_key,
        metadata={"rows": found.num_rows, **about},
    )
    return TableRef(uri=place, version=version)


def _log(report: TryReport, source: TableRef, changes: TableRef, context: StepContext) -> ReportRef:
    run, trial = context.run, report.trial
    run.log_dataset(source, context="trying", rows=trial.rows)
    uri = run.log_json({**report.model_dump(mode="json"), "changes": str(changes)}, "rules.json")
    figures: dict[str, float] = {
        "rows": trial.rows,
        "dead_rules": len(report.dead),
        "shadowed_rules": len(report.shadowed),
    }
    if report.difference is not None:
        figures["rows_changed"] = report.difference.changed
    if trial.accuracy is not None:
        figures["accuracy"] = trial.accuracy.value
    run.log_metrics(figures)
    for line in lines(report):
        context.log(f"{context.step}: {line}")
    return ReportRef(uri=uri, run_id=run.run_id)


def lines(report: TryReport) -> list[str]:
    """Return the report in a few lines.

    :param report: the report.
    :return: the lines.
    """
    trial, difference = report.trial, report.difference
    shown = ", ".join(f"{name} {count:,}" for name, count in trial.decisions.items())
    found = [f"{trial.rule_set} on {trial.rows:,} rows: {shown}"]
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
