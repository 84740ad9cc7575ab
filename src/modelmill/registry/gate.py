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
from collections.abc import Sequence

from modelmill.artifacts import CHALLENGER, DatasetRef, ModelRef, VerdictRef
from modelmill.registry.approval import Approved, last_approved
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparison import Comparison, NotJudged
from modelmill.registry.contest import Contest
from modelmill.registry.contest_models import compared_models, make_contest
from modelmill.registry.gate_check import GateCheck
from modelmill.registry.gate_comparisons import Compared, compared, without_lineage
from modelmill.registry.gate_details import answer_details, chain_costs, drop_metrics
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.gate_plot import gate_figure
from modelmill.registry.gate_report import GATE_REPORT, TAG_JUDGED, GateReport, as_html, summary
from modelmill.registry.history import history
from modelmill.registry.learnt_rows import LeftOut
from modelmill.registry.lineage import all_missing
from modelmill.registry.promotion import champion
from modelmill.registry.tracking import TrackedRun, free_name
from modelmill.registry.verdict import judge
from modelmill.settings import Settings
from modelmill.workspace import Workspace


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
        found = [without_lineage(missing)]
    elif current is not None and current.digest == challenger.digest:
        fetch_bundle(challenger, workspace.cache)
        note = f"{challenger.uri} is the champion already: there is nothing to compare"
    else:
        approved = counted_from(current, options, settings)
        models = compared_models(challenger, current, approved, options.name, run.client)
        contest, left_out = make_contest(
            models, dataset, options, client=run.client, settings=settings, workspace=workspace
        )
        found = list(compared(options, checks, contest, approved))
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
        champion_version=current.version if current else None,
        reasons=tuple(result.sentence for result in failed),
        uri=uri,
        run_id=run.run_id,
        summary=summary(report, url=run.url),
        unchanged=report.passed and not results,
    )


def counted_from(current: ModelRef | None, options: GateOptions, settings: Settings) -> Approved | None:
    """Return the champion from which the drift of a registered model is counted.

    :param current: the champion.
    :param options: the gate's.
    :param settings: where the ledger is.
    :return: None if there is no champion, or no limit of drift.
    """
    if current is None or options.max_drift is None:
        return None
    # A champion that was set by hand may be older than the ledger's first row.
    by_hand = Approved(current.version, look=1)
    return last_approved(history(options.name, settings)) or by_hand


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
    judged_by = {f"{CHALLENGER}{free_name(one.metric, ())}": one.value for one in report.chain[-1:]}
    run.log_metrics({"gate/passed": float(report.passed), **judged_by, **drop_metrics(report.checks)})
    figures = {"metric", "unit", "value", "low", "high"}
    judged = report.chain[-1].model_dump(include=figures) if report.chain else {}
    run.set_tags({TAG_JUDGED: json.dumps(judged)})
    workspace.log(f"{report.name}: the challenger {report.challenger} is {outcome}. {report.note}".rstrip())
    return uri
