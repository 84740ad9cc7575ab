"""The gate: the exported file, in its serving runtime, against its parent, the champion and the baselines.

Every comparison is on the same test rows. What is always compared: the metric with parent, champion and
baselines, and the recall of each class; further checks are configured. For sets of classes and numbers the
metric is the first one of their task unless the configured one is among them, and checks that ask whether a
single answer is right (recall of classes, slices, calibration) are listed as not judged. How a comparison
becomes a refusal is in :mod:`modelmill.registry.verdict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import ModelError, TransientError
from modelmill.evaluation.logits import cached_logits
from modelmill.evaluation.rows import judged_label, judged_rows
from modelmill.models.bundle import BundleInfo
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparison import Comparison, NotJudged, must_be_zero
from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.gate_check import GateCheck
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.gate_plot import gate_figure
from modelmill.registry.gate_report import GateReport, as_html, summary
from modelmill.registry.learnt_rows import LeftOut, check_left, learnt_rows
from modelmill.registry.lineage import all_missing
from modelmill.registry.metric_comparisons import (
    Answered,
    Statistics,
    compare_metric,
    compare_parts,
    parts_by,
)
from modelmill.registry.promotion import champion
from modelmill.registry.tracking import TrackedRun
from modelmill.registry.verdict import judge
from modelmill.registry.versions import model_at
from modelmill.settings import Settings
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
        models = {"challenger": challenger}
        if current is not None:
            models["champion"] = current
        if challenger.parent:
            models["parent"] = model_at(run.client, challenger.parent)
        contest, left_out = _contest(models, dataset, options, run.client, settings, workspace)
        found = [*_unfit(options, contest), *_compared(options, checks, contest)]
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
        checks=results,
        not_judged=tuple(one for one in found if isinstance(one, NotJudged)),
    )
    uri = _publish(report, dataset, run, workspace)
    return VerdictRef(
        passed=report.passed,
        name=report.name,
        challenger=challenger,
        champion_version=int(current.uri.rsplit("/", 1)[1]) if current else None,
        reasons=tuple(result.sentence for result in results if not result.passed),
        uri=uri,
        run_id=run.run_id,
        summary=summary(report, url=run.url),
        unchanged=report.passed and not results,
    )


def _contest(
    models: dict[str, ModelRef],
    dataset: DatasetRef,
    options: GateOptions,
    client: MlflowClient,
    settings: Settings,
    workspace: Workspace,
) -> tuple[Contest, tuple[LeftOut, ...]]:
    folders = {name: _fetch(name, model, workspace.cache) for name, model in models.items()}
    infos = {name: BundleInfo.load(folder) for name, folder in folders.items()}
    everything = judged_rows(dataset, judged_label(dataset, [infos["challenger"]]), [*infos.values()])
    sides = {name: models[name] for name in ("challenger", "champion") if name in models}
    learnt, left_out = learnt_rows(sides, dataset, everything.texts, client)
    for one in left_out:
        workspace.log(one.sentence)
    rows = everything.keep(~learnt)
    check_left(len(rows), len(everything), left_out, least=options.min_rows, lost=options.lost_datasets)
    contestants = {}
    for name, folder in folders.items():
        logits = cached_logits(models[name], folder, dataset, "test", workspace)[rows.rows.labelled]
        contestants[name] = Contestant(name, models[name], folder, infos[name], logits, rows)
    contest = Contest(
        name=options.name,
        dataset=dataset,
        rows=rows,
        left_out=int(learnt.sum()),
        challenger=contestants["challenger"],
        champion=contestants.get("champion"),
        parent=contestants.get("parent"),
        how=Statistics(confidence=options.confidence, resamples=options.resamples),
        settings=settings,
        log=workspace.log,
    )
    return contest, left_out


def _fetch(name: str, model: ModelRef, cache: Path) -> Path:
    try:
        return fetch_bundle(model, cache)
    except (ModelError, TransientError) as error:
        if name != "champion":
            raise
        registered = model.uri.split("/")[1]
        raise type(error)(
            f"the champion of {registered} must be there to compare with ({error.rule})",
            got=model.uri,
            remedy=f"restore its files, or go back with modelmill registry rollback {registered}",
        ) from error


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


def _compared(options: GateOptions, checks: Sequence[GateCheck], contest: Contest) -> Iterator[Compared]:
    task, own = contest.rows.task, contest.challenger.answers
    metric = task.metric(options.metric)
    for other in (contest.parent, contest.champion):
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
    for name, answers in contest.rows.baselines(contest.dataset).items():
        yield compare_metric(
            name,
            Answered(contest.truth, answers, own),
            check="baseline",
            metric=metric,
            limit=options.max_below_baseline,
            how=contest.how,
        )
    if contest.reference and options.max_class_drop is not None:
        if task.exclusive:
            yield from _compared_classes(contest, contest.reference, limit=options.max_class_drop)
        else:
            yield _not_judged("class", f"classes, {contest.reference.name}", contest)
    for check in checks:
        if task.exclusive or check.any_task:
            yield from check.compare(contest)
        else:
            yield _not_judged(check.check, check.check, contest)


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
    uri = run.log_json(report.model_dump(mode="json"), "gate/verdict.json")
    outcome = "passed" if report.passed else "refused"
    figure = gate_figure(report.checks, title=f"{report.name}: {outcome}")
    if figure is not None:
        run.log_figure(figure, "gate/verdict.png")
        run.log_dataset(dataset, context="gate", rows=report.rows)
    run.client.log_text(run.run_id, as_html(report, figure), "gate/verdict.html")
    figures = {"gate/passed": float(report.passed)}
    for result in report.checks:
        figures[f"gate/drop/{result.check}/{_metric_name(result.name)}"] = result.drop
    run.log_metrics(figures)
    workspace.log(f"{report.name}: the challenger {report.challenger} is {outcome}. {report.note}".rstrip())
    return uri


def _metric_name(text: str) -> str:
    """Return a name without the characters that MLflow's metric names do not take."""
    kept = "".join(letter if letter.isalnum() or letter in " _-" else "" for letter in text)
    return kept.strip()[:200]
