"""What becomes of the decisions of rule sets if many of their models are replaced at one moment.

A head that is as good as its old self by itself can still turn a decision round that several of them make
together. So each rule set decides on the test rows twice: with the champions, and with all heads that would
move. Where that is refused, all heads that it reads stay, and the other rule sets are looked at again: they
may read some of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError, ModelmillError
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparison import Comparison, must_be_zero
from modelmill.registry.metric_comparisons import Statistics
from modelmill.registry.replacement import ComposedVerdict, HeadVerdict
from modelmill.registry.tracking import tracking_client
from modelmill.registry.verdict import judge
from modelmill.registry.versions import CHAMPION, rule_set_champions
from modelmill.rules.frames import one_batch
from modelmill.rules.lifecycle.decision_changes import compared_decisions, evaluated, read_columns
from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
from modelmill.signals.pinned_models import PinnedModel, pin_models
from modelmill.tasks.examples import in_split

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.artifacts import DatasetRef, ModelRef
    from modelmill.rules.lifecycle.options import DecisionLimits
    from modelmill.rules.rule_set import RuleSet
    from modelmill.settings import Settings
    from modelmill.workspace import Workspace


@dataclass(frozen=True)
class Judging:
    """How decisions are compared."""

    limits: DecisionLimits
    """The rule sets, and how much may change."""
    how: Statistics
    settings: Settings
    workspace: Workspace
    """Keeps bundles."""

    def pin(self, model: ModelRef) -> PinnedModel:
        """Bring a model to this machine."""
        folder = fetch_bundle(model, self.workspace.cache)
        return PinnedModel(model=model, folder=str(folder), digest=model.digest)


def hold_back(
    heads: Sequence[HeadVerdict],
    dataset: DatasetRef,
    judging: Judging,
) -> tuple[tuple[HeadVerdict, ...], tuple[ComposedVerdict, ...]]:
    """Compare the decisions of all rule sets that read heads that would move.

    :param heads: what was said of each signal by itself.
    :param dataset: decided on its test split.
    :param judging: the rule sets, and how much may change.
    :return: the signals, those that stay because of a rule set with the reason; and each rule set's last
        verdict.
    :raises ConfigError: if a rule set that is named reads no champion of these signals.
    :raises TableError: if the dataset lacks columns that a rule set reads.
    """
    sources = _sources(heads, judging.limits, judging.settings)
    found: dict[str, ComposedVerdict] = {}
    now, waiting = {one.name: one for one in heads}, list(sources)
    while waiting:
        source = waiting.pop(0)
        verdict = _verdict(sources[source], list(now.values()), dataset, judging)
        if verdict is None:
            found.pop(source, None)
            continue
        found[source] = verdict
        if not verdict.passed:
            why = f"rule set {verdict.rule_set}, which reads it: " + "; ".join(
                check.sentence for check in verdict.checks if not check.passed
            )
            held = {one.name for one in now.values() if one.signal in verdict.signals}
            now |= {
                name: now[name].model_copy(update={"outcome": "stays", "reasons": (*now[name].reasons, why)})
                for name in held
            }
            names = {f"models:/{name}@{CHAMPION}" for name in held}
            waiting += [
                other
                for other in sources
                if other != source and other not in waiting and names & set(sources[other].models)
            ]
    return tuple(now.values()), tuple(found.values())


def _sources(heads: Sequence[HeadVerdict], limits: DecisionLimits, settings: Settings) -> dict[str, RuleSet]:
    """Return the rule sets to look at, by where they are."""
    read = {_champion(one.name) for one in heads}
    sources: Sequence[str] = limits.rule_sets
    if not sources:
        client = tracking_client(settings.tracking_uri)
        sources = rule_set_champions(client)
    found = {source: open_rule_set(source, settings) for source in sources}
    strange = [source for source, one in found.items() if not read & set(one.models)]
    if limits.rule_sets and strange:
        raise ConfigError(
            "a rule set of the check of decisions reads champions of the signals as models:/NAME@champion",
            got=", ".join(strange),
            remedy="name them so in the rule set, or leave it out of the check",
        )
    return {source: one for source, one in found.items() if source not in strange}


def _verdict(
    rule_set: RuleSet,
    heads: Sequence[HeadVerdict],
    dataset: DatasetRef,
    judging: Judging,
) -> ComposedVerdict | None:
    """Compare the decisions of a rule set; None if nothing that it reads would move."""
    limits = judging.limits
    moving = [one for one in heads if one.outcome == "moves" and _champion(one.name) in set(rule_set.models)]
    if not moving:
        return None
    rows = _test_rows(read_columns(limits, dataset, rule_set), dataset)
    pins = pin_models(rule_set.models, judging.settings)
    old = {_champion(one.name): judging.pin(one.champion) for one in moving if one.champion}
    new = {_champion(one.name): judging.pin(one.challenger) for one in moving}
    name = f"{rule_set.rule_set}, champions"
    before = evaluated(rule_set, rows, {**pins, **old}, judging.settings)
    compared: list[Comparison]
    try:
        after = evaluated(rule_set, rows, {**pins, **new}, judging.settings)
    except ModelmillError as error:
        if error.retryable:
            raise
        what = "rule sets that cannot use the new heads"
        compared = [must_be_zero("decisions", name, what, 1, rows=len(rows), note=str(error))]
    else:
        how = judging.how
        compared = list(compared_decisions(limits, name, before, after, rows=rows, dataset=dataset, how=how))
    checks = judge(compared, confidence=judging.how.confidence)
    return ComposedVerdict(
        rule_set=rule_set.rule_set,
        signals=tuple(one.signal for one in moving),
        passed=all(check.passed for check in checks),
        checks=checks,
    )


def _test_rows(table: pa.Table, dataset: DatasetRef) -> pa.RecordBatch:
    import pyarrow as pa

    return one_batch(table.filter(pa.array(in_split(table, dataset, "test"))))


def _champion(name: str) -> str:
    return f"models:/{name}@{CHAMPION}"
