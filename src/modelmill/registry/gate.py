"""The gate: the exported file, in its serving runtime, against its parent, the champion and the baselines.

Every comparison is on the same test rows. What is compared always: the metric with parent and champion, the
recall of each class, and the baselines; what else is in the configuration's ``checks``. How a finding
becomes a refusal is in :mod:`modelmill.registry.verdict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import DatasetError
from modelmill.evaluation.baselines import dataset_baselines
from modelmill.evaluation.plots import gate_figure
from modelmill.evaluation.rows import judged_label, split_rows
from modelmill.models.bundle import BundleInfo
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.checks import findings_of
from modelmill.registry.comparisons import (
    Finding,
    NotJudged,
    Statistics,
    metric_finding,
    must_be_none,
    part_findings,
    parts_by,
)
from modelmill.registry.contestants import Case, Contender
from modelmill.registry.gate_report import Report, as_html, summary
from modelmill.registry.kind_gate import kind_findings
from modelmill.registry.lineage import all_missing
from modelmill.registry.promotion import champion
from modelmill.registry.verdict import judge
from modelmill.registry.versions import model_at

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.steps.gate import GateConfig

_MIN_CLASS_ROWS = 5
"""Of a class with fewer test rows nothing can be shown."""


def run(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    """Judge a challenger. A refusal is a verdict, not an error.

    :param config: names, metric, limits and further checks.
    :param dataset: judged on its test split.
    :param challenger: the exported model.
    :param context: the step's context.
    :return: the verdict, with its report in MLflow.
    :raises DatasetError: if there are no test rows.
    :raises ModelError: if the challenger's files have changed, or its label is not the dataset's.
    """
    client = context.run.client
    current = champion(config.name, client)
    missing = all_missing(challenger.uri, client)
    case: Case | None = None
    found: list[Finding | NotJudged]
    label, note = "", ""
    if missing:
        found = [_lineage_finding(missing)]
    elif current is not None and current.digest == challenger.digest:
        fetch_bundle(challenger, context.cache)
        note = f"{challenger.uri} is the champion already: there is nothing to compare"
        found = []
    else:
        case = _case(config, dataset, challenger, current, context)
        label = case.label
        judged = _findings if case.challenger.info.target == "class" else kind_findings
        found = [*_unfit(config, case), *judged(config, case)]
    findings = [one for one in found if isinstance(one, Finding)]
    checks = judge(findings, confidence=config.confidence)
    report = Report(
        name=config.name,
        passed=all(check.passed for check in checks),
        challenger=challenger.uri,
        champion=current.uri if current else None,
        dataset=str(dataset),
        label=label,
        rows=len(case.truth) if case else 0,
        confidence=config.confidence,
        note=note,
        checks=checks,
        not_judged=tuple(one for one in found if isinstance(one, NotJudged)),
    )
    return _publish(report, challenger, current, dataset, context)


def _case(
    config: GateConfig,
    dataset: DatasetRef,
    challenger: ModelRef,
    current: ModelRef | None,
    context: StepContext,
) -> Case:
    info = BundleInfo.load(fetch_bundle(challenger, context.cache))
    label = judged_label(dataset, [info])
    texts, truth = split_rows(dataset, "test", label)
    if not truth:
        raise DatasetError(
            "the gate judges on labelled test rows", got=str(dataset), remedy="change the dataset's split"
        )
    parent = model_at(context.run.client, challenger.parent) if challenger.parent else None

    def contender(name: str, model: ModelRef) -> Contender:
        return Contender(name=name, model=model, dataset=dataset, label=label, context=context)

    return Case(
        name=config.name,
        dataset=dataset,
        label=label,
        texts=texts,
        truth=truth,
        challenger=contender("challenger", challenger),
        champion=contender("champion", current) if current else None,
        parent=contender("parent", parent) if parent else None,
        how=Statistics(confidence=config.confidence, resamples=config.resamples),
        context=context,
    )


def _lineage_finding(missing: list[str]) -> Finding:
    return must_be_none(
        "lineage",
        "lineage",
        "things that the model does not say of its origin",
        len(missing),
        note=f"missing: {'; '.join(missing)}. Make it with a pipeline, or log it with "
        "modelmill.registry.bundles.log_model",
    )


def _findings(config: GateConfig, case: Case) -> Iterator[Finding | NotJudged]:
    answers = case.challenger.answers
    for other in (case.parent, case.champion):
        if other:
            yield metric_finding(
                other.name,
                case.truth,
                other.answers,
                answers,
                check="metric",
                metric=config.metric,
                limit=config.max_drop,
                how=case.how,
                proof=config.proof,
            )
    for name, given in dataset_baselines(case.dataset, label=case.label, texts=case.texts).items():
        yield metric_finding(
            name,
            case.truth,
            given,
            answers,
            check="baseline",
            metric=config.metric,
            limit=config.max_below_baseline,
            how=case.how,
        )
    if case.reference and config.max_class_drop is not None:
        known = dict.fromkeys(sorted({*case.reference.info.classes, *case.challenger.info.classes}), ())
        yield from part_findings(
            {**known, **parts_by(case.truth)},
            case.reference.name,
            case.truth,
            case.reference.answers,
            answers,
            check="class",
            shown="recall",
            limit=config.max_class_drop,
            how=case.how,
            min_rows=_MIN_CLASS_ROWS,
        )
    for check in config.checks:
        yield from findings_of(check, case)


def _unfit(config: GateConfig, case: Case) -> Iterator[Finding]:
    """Yield what no metric shows as what it is; nothing where all is well."""
    broken = int((~case.challenger.scored).sum())
    if broken:
        yield must_be_none(
            "scores", "scores", "rows whose scores are no numbers", broken, note="such a row has no answer"
        )
    if case.reference and not config.may_lose_classes:
        lost = [name for name in case.reference.info.classes if name not in case.challenger.info.classes]
        if lost:
            note = f"{case.reference.name} answers {', '.join(lost[:20])}, and the challenger cannot"
            yield must_be_none(
                "classes",
                "classes",
                "classes that are lost",
                len(lost),
                note=f"{note}: see may_lose_classes",
            )


def _publish(
    report: Report, challenger: ModelRef, current: ModelRef | None, dataset: DatasetRef, context: StepContext
) -> VerdictRef:
    run = context.run
    for check in report.checks:
        if not check.passed or check.warning or check.too_small or check.check != "class":
            context.log(check.sentence)
    for one in report.not_judged:
        context.log(one.sentence)
    uri = run.log_json(report.model_dump(mode="json"), "gate/verdict.json")
    outcome = "passed" if report.passed else "refused"
    figure = gate_figure(report.checks, title=f"{report.name}: {outcome}")
    if figure is not None:
        run.log_figure(figure, "gate/verdict.png")
        run.log_dataset(dataset, context="gate", rows=report.rows)
    run.client.log_text(run.run_id, as_html(report, figure), "gate/verdict.html")
    figures = {"gate/passed": float(report.passed)}
    for check in report.checks:
        figures[f"gate/drop/{check.check}/{_metric_name(check.name)}"] = check.drop
    run.log_metrics(figures)
    context.log(f"{report.name}: the challenger {challenger.uri} is {outcome}. {report.note}".rstrip())
    return VerdictRef(
        passed=report.passed,
        name=report.name,
        challenger=challenger,
        champion_version=int(current.uri.rsplit("/", 1)[1]) if current else None,
        reasons=tuple(check.sentence for check in report.checks if not check.passed),
        uri=uri,
        run_id=run.run_id,
        summary=summary(report, url=run.url),
        unchanged=report.passed and not report.checks,
    )


def _metric_name(text: str) -> str:
    """MLflow's metric names take no plus signs."""
    kept = "".join(letter if letter.isalnum() or letter in " _-" else "" for letter in text)
    return kept.strip()[:200]
