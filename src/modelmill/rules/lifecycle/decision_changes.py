"""What becomes of the decisions of rule sets if a challenger takes the champion's place.

Both sides decide on the test rows that the gate judges on, with the same rules and the same other models; the
name ``models:/NAME@champion`` alone stands once for the champion and once for the challenger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from modelmill.errors import ConfigError, ModelmillError, TableError, did_you_mean
from modelmill.registry.comparison import Comparison, NotJudged, against_limit, must_be_zero
from modelmill.registry.metric_comparisons import Answered, Statistics, compare_metric
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION, rule_set_champions
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.frames import one_batch
from modelmill.rules.lifecycle.options import DecisionLimits
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.rules.lifecycle.rule_set_diff import RuleSetDiff, compare_rule_sets
from modelmill.rules.lifecycle.rule_statistics import right_decisions
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.signals.pinned_models import PinnedModel, pin_models
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import read_arrow
from modelmill.tasks.class_metrics import ACCURACY

if TYPE_CHECKING:
    from modelmill.artifacts import DatasetRef
    from modelmill.registry.contest import Contest, Contestant
    from modelmill.rules.rule_set import RuleSet
    from modelmill.settings import Settings

_MOST_CHANGES = 5
"""Kinds of changes that are told of."""


def compare_decisions(config: DecisionLimits, contest: Contest) -> Iterator[Comparison | NotJudged]:
    """Compare the decisions with the champion (without one: with the parent) and with the challenger.

    :param config: the rule sets, and the limits.
    :param contest: what is judged.
    :yields: comparisons for each rule set, or that there is nothing to compare.
    :raises ConfigError: if a rule set that is named does not read the model, or reads heads of a step.
    :raises TableError: if the test rows lack columns that a rule set reads.
    :raises RuleSetError: if a rule set breaks a rule.
    """
    settings = contest.settings
    sources = rule_sets_of(config, contest.name, settings)
    if contest.reference is None:
        yield _nothing(contest, "there is neither a champion nor a parent to compare with")
        return
    if not sources:
        yield _nothing(contest, f"no registered rule set's champion reads {_champion(contest.name)}")
    for source in sources:
        yield from _compared(config, contest, contest.reference, open_rule_set(source, settings), source)


def _nothing(contest: Contest, reason: str) -> NotJudged:
    return NotJudged(check="decisions", name="decisions", rows=len(contest.truth), reason=reason)


def rule_sets_of(config: DecisionLimits, name: str, settings: Settings) -> tuple[str, ...]:
    """Return the rule sets that are looked at.

    :param config: names them, or does not.
    :param name: the registered model.
    :param settings: where MLflow is.
    :return: paths, URLs, or names of registered rule sets.
    """
    if config.rule_sets:
        return config.rule_sets
    client = tracking_client(settings.tracking_uri)
    registered = rule_set_champions(client)
    return tuple(one for one in registered if _champion(name) in open_rule_set(one, settings).models)


def _champion(name: str) -> str:
    return f"models:/{name}@{CHAMPION}"


def _compared(
    config: DecisionLimits, contest: Contest, reference: Contestant, rule_set: RuleSet, source: str
) -> Iterator[Comparison]:
    read, own = rule_set.models, _champion(contest.name)
    if own not in read:
        raise ConfigError(
            f"a rule set of the gate's check of decisions must read the model as {own}",
            got=f"{source}, which reads {', '.join(dict.fromkeys(read)) or 'no model'}",
            remedy="name it so in the rule set, or leave the rule set out of the check",
        )
    heads = [name for name in read if name.startswith("signals:")]
    if heads:
        raise ConfigError(
            "a rule set of the gate's check of decisions reads registered models, and no heads of a step",
            got=f"{source}, which reads {', '.join(dict.fromkeys(heads))}",
            remedy="register them, and name them models:/NAME@champion",
        )
    rows = _rows(config, contest, rule_set)
    pins = pin_models([name for name in read if name != own], contest.settings)
    before = evaluated(rule_set, rows, {**pins, own: _pin(reference)}, contest.settings)
    name = f"{rule_set.rule_set}, {reference.name}"
    try:
        after = evaluated(rule_set, rows, {**pins, own: _pin(contest.challenger)}, contest.settings)
    except ModelmillError as error:
        if error.retryable:
            raise
        what = "rule sets that cannot use the challenger"
        yield must_be_zero("decisions", name, what, 1, rows=len(rows), note=str(error))
        return
    yield from compared_decisions(
        config, name, before, after, rows=rows, dataset=contest.dataset, how=contest.how
    )


def compared_decisions(
    config: DecisionLimits,
    name: str,
    before: FullEvaluation,
    after: FullEvaluation,
    *,
    rows: pa.RecordBatch,
    dataset: DatasetRef,
    how: Statistics,
) -> Iterator[Comparison]:
    """Compare the decisions of one rule set before and after models have changed.

    :param config: the limits.
    :param name: what the comparisons are called.
    :param before: of the rows, with the models as they are.
    :param after: with the models as they would be.
    :param rows: the rows, with the label column if there is one.
    :param dataset: for errors.
    :param how: confidence and resamples.
    :yields: the comparisons.
    :raises TableError: if no row has a label.
    """
    failed = sum(after.failures.values()) - sum(before.failures.values())
    if failed > 0:
        note = f"signals that fail with the challenger: {', '.join(sorted(after.failures))}"
        what = "more signals that cannot be computed"
        yield must_be_zero("decisions", name, what, failed, rows=len(rows), note=note)
    truth = right_decisions(rows.column(config.label), config.decision_of) if config.label else None
    difference = compare_rule_sets(before, after, examples=config.examples, truth=truth)
    if config.max_changed is not None:
        yield against_limit(
            "decisions",
            name,
            f"share of rows with another decision of {after.compiled.rule_set.rule_set}",
            difference.changed / difference.rows,
            limit=config.max_changed,
            rows=difference.rows,
            note=_changes(difference),
        )
    if truth is not None:
        decided = (truth, before.decisions(), after.decisions())
        yield _rightness(config, name, decided, after=after, dataset=dataset, how=how)


def _rightness(
    config: DecisionLimits,
    name: str,
    decided: tuple[pa.Array, pa.Array, pa.Array],
    *,
    after: FullEvaluation,
    dataset: DatasetRef,
    how: Statistics,
) -> Comparison:
    """Compare decisions with the right ones; ``decided``: the right ones, those before and those after."""
    known = decided[0].is_valid()
    columns = [one.filter(known).to_pylist() for one in decided]
    if not columns[0]:
        raise TableError(
            f"the test rows must have labels that say the right decision ({dataset})",
            got=f"null in every row of {config.label}",
            remedy="name another column under label, or none",
        )
    found = compare_metric(
        name,
        Answered.of(*columns),
        check="decisions",
        metric=ACCURACY,
        shown="share of right decisions",
        limit=config.max_drop,
        how=how,
    )
    strange = sorted(set(columns[0]) - after.compiled.rule_set.decisions)
    if strange:
        rows = sum(one in strange for one in columns[0])
        note = f"{rows:,} labels are no decision, so that no answer is right: {', '.join(strange[:5])}"
        found = dataclasses.replace(found, note=f"{note}; list them under decision_of")
    return found


def _rows(config: DecisionLimits, contest: Contest, rule_set: RuleSet) -> pa.RecordBatch:
    """Read the test rows that the gate judges on, with all that the rule set reads."""
    return one_batch(contest.test_rows(read_columns(config, contest.dataset, rule_set)))


def read_columns(config: DecisionLimits, dataset: DatasetRef, rule_set: RuleSet) -> pa.Table:
    """Read what a rule set reads of the rows of a dataset.

    :param config: may name a label column.
    :param dataset: the dataset.
    :param rule_set: the rule set.
    :return: all rows, with the label and the split.
    :raises TableError: if the dataset lacks columns.
    """
    known = table_schema(dataset).names
    wanted = rule_set.columns()
    if config.label:
        wanted.setdefault(config.label, [])
    missing = {name: readers for name, readers in wanted.items() if name not in known}
    if missing:
        told = [f"{name} ({_what(name, readers, rule_set)})" for name, readers in missing.items()]
        near = did_you_mean(next(iter(missing)), known)
        raise TableError(
            f"the dataset must have every column that rule set {rule_set.rule_set} reads ({dataset})",
            got=f"no column {', '.join(told)}",
            remedy=f"carry {', '.join(missing)} along with keep of build_dataset; {near}",
        )
    return read_arrow(dataset, columns=list(dict.fromkeys([*wanted, dataset.split])))


def _what(name: str, readers: list[str], rule_set: RuleSet) -> str:
    if readers:
        return f"read by {', '.join(readers[:5])}"
    return "its key" if name == rule_set.key else "the label"


def _pin(one: Contestant) -> PinnedModel:
    return PinnedModel(model=one.model, folder=str(one.folder), digest=one.model.digest)


def evaluated(
    rule_set: RuleSet, rows: pa.RecordBatch, pins: dict[str, PinnedModel], settings: Settings
) -> FullEvaluation:
    """Decide on rows by a rule set with these models.

    :param rule_set: the rule set.
    :param rows: the rows.
    :param pins: its models, by the names that it has for them.
    :param settings: where the caches are.
    :return: the decisions, with the values of all signals.
    """
    return PinnedRuleSet(rule_set=rule_set, pins=pins).engine(rows.schema, settings).evaluate_fully(rows)


def _changes(difference: RuleSetDiff) -> str:
    told = [
        f"{one.rows:,} from {one.before} to {one.after}"
        + (f" (such as {', '.join(one.examples)})" if one.examples else "")
        for one in difference.changes[:_MOST_CHANGES]
    ]
    more = len(difference.changes) - len(told)
    return "; ".join([*told, *([f"{more} more kinds of changes"] if more else [])])
