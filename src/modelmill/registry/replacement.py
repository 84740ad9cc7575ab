"""Replacing the trunk below many champions: each new head is judged beside its old self; those that do not
regress move together.

What is judged is what a gate judges of one challenger (:mod:`modelmill.registry.gate_comparisons`), but for
the baselines: a new head has to keep up with the champion, which has beaten them. The test rows are read once
by each trunk, however many heads stand on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.errors import ModelmillError
from modelmill.evaluation.joint_logits import cache_logits_together
from modelmill.options import Record
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.champion import Registry
from modelmill.registry.comparison import Comparison, Unit
from modelmill.registry.contest_models import compared_models, make_contest
from modelmill.registry.gate import counted_from
from modelmill.registry.gate_comparisons import beside_models, without_lineage
from modelmill.registry.gate_options import GateLimits, GateOptions
from modelmill.registry.lineage import all_missing
from modelmill.registry.verdict import CheckResult, judge, shown
from modelmill.workspace import Workspace

REPLACEMENT_REPORT = "replacement/report.json"
Outcome = Literal["stays", "new", "moves", "unchanged"]
OUTCOMES: tuple[Outcome, ...] = ("stays", "new", "moves", "unchanged")
"""Those that somebody may have to look at come first."""


class HeadVerdict(Record):
    """What is said of one signal's new head."""

    signal: str
    name: str
    """Registered model."""
    outcome: Outcome
    """``unchanged``: it is the champion already; ``new``: there is no champion that it could replace."""
    challenger: ModelRef
    champion: ModelRef | None
    metric: str = ""
    """What was compared; empty if nothing was."""
    unit: Unit = "share"
    old: float | None = None
    """The champion's metric."""
    new: float | None = None
    drop: float | None = None
    """How much worse the new head is; negative where it is better."""
    low: float | None = None
    """Lower end of the drop's confidence interval."""
    high: float | None = None
    rows: int = 0
    """Test rows that both were judged on."""
    checks: tuple[CheckResult, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why it stays."""

    @property
    def champion_version(self) -> int | None:
        """Version of the champion that it was compared with."""
        return self.champion.version if self.champion else None


class ComposedVerdict(Record):
    """What is said of the decisions of a rule set, with all heads that would move beside their old selves."""

    rule_set: str
    signals: tuple[str, ...]
    """Those that it reads, and that would move."""
    passed: bool
    checks: tuple[CheckResult, ...]


class ReplacementReport(Record):
    """What became of each signal."""

    dataset: str
    trunks: tuple[str, ...]
    """Trunks that the new heads stand on."""
    confidence: float
    heads: tuple[HeadVerdict, ...]
    decisions: tuple[ComposedVerdict, ...] = ()
    """Of rule sets that read several of them; where one is refused, its signals stay."""
    passes: int
    """Times that a trunk has read the test rows."""
    cpu_seconds: float
    """Of the judging."""
    training_cpu_seconds: float | None = None
    """Of the run that trained the new heads; None if it does not say."""

    def with_outcome(self, outcome: Outcome) -> tuple[HeadVerdict, ...]:
        """Return the signals with an outcome."""
        return tuple(one for one in self.heads if one.outcome == outcome)


@dataclass(frozen=True)
class ProposedHead:
    """A new head, and what it is to replace."""

    signal: str
    name: str
    """Registered model."""
    challenger: ModelRef
    champion: ModelRef | None
    """None if there is none."""


def judge_heads(
    proposed: Sequence[ProposedHead],
    dataset: DatasetRef,
    limits: GateLimits,
    registry: Registry,
    workspace: Workspace,
) -> tuple[tuple[HeadVerdict, ...], int]:
    """Judge new heads, each beside the champion of its registered model.

    A signal that cannot be judged stays as it is, with the reason; the others are judged.

    :param proposed: the new heads.
    :param dataset: judged on its test split.
    :param limits: metric and limits, the same for all.
    :param registry: MLflow and the ledger.
    :param workspace: keeps bundles and logits.
    :return: what is said of each signal, and how many passes of a trunk it took.
    :raises TransientError: if MLflow does not answer.
    """
    both = [model for one in proposed for model in (one.challenger, one.champion) if model is not None]
    passes = cache_logits_together(_fetched(both, workspace), dataset, "test", workspace)
    found = []
    for place, one in enumerate(proposed):
        options = GateOptions(name=one.name, **limits.model_dump(include=set(GateLimits.model_fields)))
        found.append(_verdict(one, dataset, options, registry, workspace))
        workspace.progress(place + 1, len(proposed), what="models judged")
    return tuple(found), passes


def _fetched(models: Sequence[ModelRef], workspace: Workspace) -> list[tuple[ModelRef, Path]]:
    """Return the bundles that can be had. Of one that cannot, the comparison says why."""
    found = []
    for model in models:
        try:
            found.append((model, fetch_bundle(model, workspace.cache)))
        except ModelmillError as error:
            if error.retryable:
                raise
    return found


def _verdict(
    one: ProposedHead, dataset: DatasetRef, options: GateOptions, registry: Registry, workspace: Workspace
) -> HeadVerdict:
    plain = HeadVerdict(
        signal=one.signal, name=one.name, outcome="stays", challenger=one.challenger, champion=one.champion
    )
    if one.champion is None:
        why = "there is no champion that it could replace: a gate judges the first one"
        return plain.model_copy(update={"outcome": "new", "reasons": (why,)})
    if one.champion.digest == one.challenger.digest:
        return plain.model_copy(update={"outcome": "unchanged"})
    try:
        checks = _checks(one, dataset, options, registry, workspace)
    except ModelmillError as error:
        if error.retryable:
            raise
        return plain.model_copy(update={"reasons": (" ".join(str(error).split()),)})
    figures = next((check for check in checks if (check.check, check.name) == ("metric", "champion")), None)
    # Rows on which no head could be refused say nothing: a gate leaves that to a person, here nobody looks.
    failed = tuple(
        check.sentence for check in checks if not check.passed or (check is figures and check.too_small)
    )
    changes: dict[str, object] = {
        "outcome": "stays" if failed else "moves",
        "checks": checks,
        "reasons": failed,
    }
    if figures is not None:
        changes |= {
            "metric": figures.metric,
            "unit": figures.unit,
            "old": figures.other,
            "new": figures.challenger,
            "drop": figures.drop,
            "low": figures.low,
            "high": figures.high,
            "rows": figures.rows or 0,
        }
    return plain.model_copy(update=changes)


def _checks(
    one: ProposedHead, dataset: DatasetRef, options: GateOptions, registry: Registry, workspace: Workspace
) -> tuple[CheckResult, ...]:
    missing = all_missing(one.challenger.uri, registry.client)
    if missing:
        return judge([without_lineage(missing)], confidence=options.confidence)
    approved = counted_from(one.champion, options, registry.settings)
    models = compared_models(one.challenger, one.champion, approved, one.name, registry.client)
    contest, _ = make_contest(
        models,
        dataset,
        options,
        client=registry.client,
        settings=registry.settings,
        workspace=workspace,
    )
    compared = beside_models(options, contest, approved)
    return judge([each for each in compared if isinstance(each, Comparison)], confidence=options.confidence)


def report_lines(report: ReplacementReport) -> list[str]:
    """Return a report as a table in Markdown, those that stay first, and what it cost."""
    lines = ["| signal | old | new | difference | | why |", "| --- | --- | --- | --- | --- | --- |"]
    for head in (head for outcome in OUTCOMES for head in report.with_outcome(outcome)):
        why = "; ".join(head.reasons).replace("|", "\\|")
        lines.append(f"| {head.signal} | {_figures(head)} | {head.outcome} | {why} |")
    for one in report.decisions:
        outcome = "passed" if one.passed else "refused"
        lines += ["", f"Rule set {one.rule_set} with {', '.join(one.signals)} on the new trunk: {outcome}."]
        lines += [f"- {check.sentence}" for check in one.checks]
    counts = ", ".join(f"{len(report.with_outcome(outcome))} {outcome}" for outcome in OUTCOMES)
    lines += ["", f"{len(report.heads)} signals: {counts}. {_cost(report)}"]
    return lines


def _figures(one: HeadVerdict) -> str:
    if one.old is None or one.new is None or one.drop is None:
        return " | | "
    difference = f"{_signed(-one.drop, one.unit)}"
    if one.low is not None and one.high is not None:
        difference += f" ({_signed(-one.high, one.unit)} to {_signed(-one.low, one.unit)})"
    return f"{shown(one.old, one.unit)} | {shown(one.new, one.unit)} | {difference}"


def _signed(value: float, unit: Unit) -> str:
    return f"{100 * value:+.2f}" if unit == "share" else f"{value:+.3f}"


def _cost(report: ReplacementReport) -> str:
    count = max(len(report.heads), 1)
    said = f"Judging took {report.cpu_seconds:.1f} CPU s, {report.cpu_seconds / count:.2f} a head"
    if report.training_cpu_seconds is not None:
        seconds = report.training_cpu_seconds
        said = f"Training took {seconds:.1f} CPU s, {seconds / count:.2f} a head. {said}"
    return f"{said}; a trunk read the test rows {report.passes} times."
