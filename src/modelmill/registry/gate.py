"""The gate: the exported file, in its serving runtime, against its parent, the champion and the baselines.

Every comparison is on the same test rows. What is always compared: the metric with the champion, the model
that the chain starts with and the baselines, the recall of each class, and the floors; further checks are
configured. For sets of classes and numbers the
metric is the first one of their task unless the configured one is among them, and checks that ask whether a
single answer is right (recall of classes, slices, calibration) are listed as not judged. How a comparison
becomes a refusal is in :mod:`modelmill.registry.verdict`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.registry.approval import Approved, last_approved, spent_at
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparison import Comparison, NotJudged, must_be_zero
from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.contest_models import compared_models, make_contest
from modelmill.registry.floors import floors
from modelmill.registry.gate_check import GateCheck
from modelmill.registry.gate_details import answer_details, chain_costs, drop_metrics
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.gate_plot import gate_figure
from modelmill.registry.gate_report import GATE_REPORT, TAG_JUDGED, GateReport, as_html, summary
from modelmill.registry.history import history
from modelmill.registry.learnt_rows import LeftOut
from modelmill.registry.lineage import all_missing
from modelmill.registry.metric_comparisons import (
    Answered,
    compare_metric,
    compare_parts,
    must_beat,
    must_keep,
    parts_by,
)
from modelmill.registry.promotion import champion
from modelmill.registry.tracking import TrackedRun
from modelmill.registry.verdict import judge
from modelmill.settings import Settings
from modelmill.tasks.base import Answers
from modelmill.tasks.baselines import MAJORITY, MEAN
from modelmill.workspace import Workspace

_MIN_CLASS_ROWS = 5
"""Of a class with fewer test rows nothing can be shown."""


Compared = Comparison | NotJudged


def judge_challenger(
    challenger: ModelRef,
    dataset: DatasetRef,
    options: GateOptions,
    checks: Sequence[GateCheck],
    *,
    run: TrackedRun,
    settings: Settings,
    workspace: Workspace,
) -> VerdictRef:
    """Judge a challenger. A refusal is a verdict, not an error.

    :param challenger: the exported model.
    :param dataset: judged on its test split.
    :param options: name, metric and limits.
    :param checks: further checks.
    :param run: takes the report.
    :param settings: where MLflow is, for checks that read it.
    :param workspace: keeps bundles and logits.
    :return: the verdict, with its report in MLflow.
    :raises DatasetError: if there are no test rows.
    :raises GateError: if too few test rows are left that no model has learnt from, or that is not known.
    :raises ModelError: if the challenger's files have changed, or its label is not the dataset's.
    """
    current = champion(options.name, run.client)
    missing = all_missing(challenger.uri, run.client)
    contest: Contest | None = None
    found: list[Compared] = []
    left_out: tuple[LeftOut, ...] = ()
    note = ""
    if missing:
        found = [_without_lineage(missing)]
    elif current is not None and current.digest == challenger.digest:
        fetch_bundle(challenger, workspace.cache)
        note = f"{challenger.uri} is the champion already: there is nothing to compare"
    else:
        approved: Approved | None = None
        if current is not None and options.max_drift is not None:
            # A champion that was set by hand may be older than the ledger's first row.
            by_hand = Approved(int(current.uri.rsplit("/", 1)[1]), look=1)
            approved = last_approved(history(options.name, settings)) or by_hand
        models = compared_models(challenger, current, approved, options.name, run.client)
        contest, left_out = make_contest(
            models, dataset, options, client=run.client, settings=settings, workspace=workspace
        )
        found = [*_unfit(options, contest), *_compared(options, checks, contest, approved)]
    results = judge([one for one in found if isinstance(one, Comparison)], confidence=options.confidence)
    report = GateReport(
        name=options.name,
        passed=all(result.passed for result in results),
        challenger=challenger.uri,
        champion=current.uri if current else None,
        dataset=str(dataset),
        label=contest.label if contest else "",
        rows=len(contest.rows) if contest else 0,
        left_out=left_out,
        left_out_rows=contest.left_out if contest else 0,
        confidence=options.confidence,
        note=note,
        chain=chain_costs(contest, options) if contest else (),
        checks=results,
        not_judged=tuple(one for one in found if isinstance(one, NotJudged)),
        **(answer_details(contest) if contest else {}),
    )
    uri = _publish(report, dataset, run, workspace)
    failed = [result for result in results if not result.passed]
    return VerdictRef(
        passed=report.passed,
        undecided=bool(failed) and all(result.check == "drift" and result.must_show for result in failed),
        name=report.name,
        challenger=challenger,
        champion_version=int(current.uri.rsplit("/", 1)[1]) if current else None,
        reasons=tuple(result.sentence for result in failed),
        uri=uri,
        run_id=run.run_id,
        summary=summary(report, url=run.url),
        unchanged=report.passed and not results,
    )


def _without_lineage(missing: list[str]) -> Comparison:
    return must_be_zero(
        "lineage",
        "lineage",
        "things that the model does not say of its origin",
        len(missing),
        note=f"missing: {'; '.join(missing)}. Make it with a pipeline, or log it with "
        "modelmill.registry.bundles.log_model",
    )


def _unfit(options: GateOptions, contest: Contest) -> Iterator[Comparison]:
    """Yield faults that no metric shows as what they are."""
    broken = int((~contest.challenger.scored).sum())
    if broken:
        yield must_be_zero(
            "scores", "scores", "rows whose scores are no numbers", broken, note="such a row has no answer"
        )
    reference = contest.reference
    if reference and not options.may_lose_classes:
        lost = [name for name in reference.info.classes if name not in contest.challenger.info.classes]
        if lost:
            note = f"{reference.name} answers {', '.join(lost[:20])}, and the challenger cannot"
            yield must_be_zero(
                "classes",
                "classes",
                "classes that are lost",
                len(lost),
                note=f"{note}: see may_lose_classes",
            )


def _compared(
    options: GateOptions, checks: Sequence[GateCheck], contest: Contest, approved: Approved | None
) -> Iterator[Compared]:
    task = contest.rows.task
    metric = task.metric(options.metric)
    for other in (contest.start, contest.champion):
        if other:
            yield compare_metric(
                other.name,
                contest.against(other),
                check="metric",
                metric=metric,
                limit=options.max_drop,
                how=contest.how,
                proof=options.proof,
            )
    if contest.approved and approved:
        yield from _drift(contest, contest.approved, approved.look, options)
    baselines = contest.rows.baselines(contest.dataset)
    yield from _compared_baselines(options, contest, baselines)
    yield from floors(options, contest, baselines)
    if contest.yardstick and options.max_class_drop is not None:
        if task.exclusive:
            yield from _compared_classes(contest, contest.yardstick, limit=options.max_class_drop)
        else:
            yield _not_judged("class", f"classes, {contest.yardstick.name}", contest)
    for check in checks:
        if task.exclusive or check.any_task:
            yield from check.compare(contest)
        else:
            yield _not_judged(check.check, check.check, contest)


def _compared_baselines(
    options: GateOptions, contest: Contest, baselines: Mapping[str, Answers]
) -> Iterator[Compared]:
    metric = contest.rows.task.metric(options.metric)
    for name, answers in baselines.items():
        answered = Answered(contest.truth, answers, contest.challenger.answers)
        if options.beat_majority and name in (MAJORITY, MEAN):
            better = must_beat(name, answered, check="baseline", metric=metric, how=contest.how)
            if better.least_p <= 1 - options.confidence:
                yield better
                continue
            reason = "too small to judge: not even right answers to all rows would show it"
            yield NotJudged(
                check="baseline", name=f"better than {name}", rows=len(contest.rows), reason=reason
            )
        limit = options.max_below_baseline
        yield compare_metric(name, answered, check="baseline", metric=metric, limit=limit, how=contest.how)


def _drift(contest: Contest, approved: Contestant, look: int, options: GateOptions) -> Iterator[Compared]:
    """Compare with the last champion that a person approved, whatever small steps have been taken since."""
    budget, chance = options.max_drift or 0.0, 1 - options.confidence
    metric, rows = contest.rows.task.metric(options.metric), contest.against(approved)
    note = f"the last that a person approved, or the first champion; this is challenger {look} since"
    needed = math.ceil(math.log(spent_at(1, chance)) / math.log(1 - budget))
    if len(contest.rows) >= needed:
        alpha = spent_at(look, chance)
        found = must_keep(
            approved.name, rows, check="drift", metric=metric, budget=budget, alpha=alpha, how=contest.how
        )
        yield replace(found, note=note)
        return
    # So few rows cannot show it even of the same answers: then they must at least not show the contrary.
    reason = f"too small to judge: {len(contest.rows)} test rows, and {needed} are needed"
    yield NotJudged(check="drift", name=f"drop since {approved.name}", rows=len(contest.rows), reason=reason)
    if contest.champion is None or contest.champion.model.uri != approved.model.uri:
        found = compare_metric(
            approved.name, rows, check="drift", metric=metric, limit=budget, how=contest.how
        )
        yield replace(found, note=note)


def _compared_classes(contest: Contest, reference: Contestant, *, limit: float) -> Iterator[Compared]:
    known = dict.fromkeys(sorted({*reference.info.classes, *contest.challenger.info.classes}), ())
    yield from compare_parts(
        {**known, **parts_by(list(contest.truth))},
        reference.name,
        contest.against(reference),
        check="class",
        shown="recall",
        limit=limit,
        how=contest.how,
        min_rows=_MIN_CLASS_ROWS,
    )


def _not_judged(check: str, name: str, contest: Contest) -> NotJudged:
    reason = (
        f"it asks whether each row's one class is right, and {contest.label} holds {contest.rows.task.kind}"
    )
    return NotJudged(check=check, name=name, rows=len(contest.rows), reason=reason)


def _publish(report: GateReport, dataset: DatasetRef, run: TrackedRun, workspace: Workspace) -> str:
    """Log the report, and return the URI of its JSON."""
    for result in report.checks:
        if not result.passed or result.warning or result.too_small or result.check != "class":
            workspace.log(result.sentence)
    for one in report.not_judged:
        workspace.log(one.sentence)
    uri = run.log_json(report.model_dump(mode="json"), GATE_REPORT)
    outcome = "passed" if report.passed else "refused"
    figure = gate_figure(report.checks, title=f"{report.name}: {outcome}")
    if figure is not None:
        run.log_figure(figure, "gate/verdict.png")
    if report.rows:
        run.log_dataset(dataset, context="gate", rows=report.rows)
    run.client.log_text(run.run_id, as_html(report, figure), "gate/verdict.html")
    run.log_metrics({"gate/passed": float(report.passed), **drop_metrics(report.checks)})
    figures = {"metric", "unit", "value", "low", "high"}
    judged = report.chain[-1].model_dump(include=figures) if report.chain else {}
    run.set_tags({TAG_JUDGED: json.dumps(judged)})
    workspace.log(f"{report.name}: the challenger {report.challenger} is {outcome}. {report.note}".rstrip())
    return uri
