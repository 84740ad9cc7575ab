"""The gate: the exported file, in its serving runtime, against its parent, the champion and the baselines.

Every comparison is on the same test rows. What is always compared: the metric with the champion, the model
that the chain starts with and the baselines, the recall of each class, and the floors; further checks are
configured. For sets of classes and numbers the
metric is the first one of their task unless the configured one is among them, and checks that ask whether a
single answer is right (recall of classes, slices, calibration) are listed as not judged. How a comparison
becomes a refusal is in :mod:`modelmill.registry.verdict`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import GateError, ModelError, TransientError, shorten
from modelmill.evaluation.logits import cached_logits
from modelmill.evaluation.rows import judged_label, judged_rows
from modelmill.models.bundle import BundleInfo
from modelmill.registry.approval import Approved, last_approved, spent_at
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparison import Comparison, NotJudged, must_be_zero
from modelmill.registry.contest import Contest, Contestant
from modelmill.registry.floors import floors
from modelmill.registry.gate_check import GateCheck
from modelmill.registry.gate_options import GateOptions
from modelmill.registry.gate_plot import gate_figure
from modelmill.registry.gate_report import ChainLink, ClassLine, GateReport, Mistake, as_html, summary
from modelmill.registry.history import history
from modelmill.registry.learnt_rows import LeftOut, check_left, learnt_rows
from modelmill.registry.lineage import all_missing
from modelmill.registry.metric_comparisons import (
    Answered,
    Statistics,
    compare_metric,
    compare_parts,
    must_beat,
    must_keep,
    parts_by,
    unit_of,
)
from modelmill.registry.promotion import champion
from modelmill.registry.tracking import TrackedRun
from modelmill.registry.verdict import judge
from modelmill.registry.versions import model_at, reference, version_numbered
from modelmill.settings import Settings
from modelmill.tasks.base import Answers
from modelmill.tasks.baselines import MAJORITY, MEAN
from modelmill.tasks.class_metrics import class_quality
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MIN_CLASS_ROWS = 5
"""Of a class with fewer test rows nothing can be shown."""

_PARENT = "made from 1"
_SHOWN_MISTAKES = 10
_SHOWN_LETTERS = 300

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
        models = _models(challenger, current, approved, options.name, run.client)
        contest, left_out = _contest(models, dataset, options, run.client, settings, workspace)
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
        chain=_costs(contest, options) if contest else (),
        checks=results,
        not_judged=tuple(one for one in found if isinstance(one, NotJudged)),
        **(_details(contest) if contest else {}),
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


def _models(
    challenger: ModelRef,
    current: ModelRef | None,
    approved: Approved | None,
    name: str,
    client: MlflowClient,
) -> dict[str, ModelRef]:
    """Return the models that are looked at; those that the challenger was made from as ``made from 1``, ….

    :param challenger: the challenger.
    :param current: the champion.
    :param approved: the last champion that a person approved.
    :param name: the registered model.
    :param client: MLflow's client.
    :return: the models by name.
    """
    models = {"challenger": challenger}
    if current is not None:
        models["champion"] = current
        if approved is not None:
            models["approved"] = _approved(name, approved.version, client)
    above, steps = challenger, 0
    while above.parent:
        above, steps = model_at(client, above.parent), steps + 1
        models[f"made from {steps}"] = above
    return models


def _approved(name: str, version: int, client: MlflowClient) -> ModelRef:
    found = version_numbered(client, name, version)
    if found is None:
        raise GateError(
            f"the version of {name} that a person last approved, or the first champion, must exist",
            got=f"version {version}, which MLflow no longer has",
            remedy="go back to a version that is there with modelmill registry rollback: that approves it",
        )
    return reference(found)


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
    own = infos["challenger"]
    # A trunk has no answers, and what answers another label is no measure of this one.
    used = [
        name
        for name, info in infos.items()
        if not name.startswith("made from")
        or (models[name].format != "trunk" and (info.label, info.target) == (own.label, own.target))
    ]
    everything = judged_rows(dataset, judged_label(dataset, [own]), [infos[name] for name in used])
    sides = {name: models[name] for name in models if name in ("challenger", "champion")}
    if "approved" in models and models["approved"].uri != models["champion"].uri:
        sides["champion that was last approved"] = models["approved"]
    learnt, left_out = learnt_rows(sides, dataset, everything.texts, client)
    for one in left_out:
        workspace.log(one.sentence)
    rows = everything.keep(~learnt)
    check_left(len(rows), len(everything), left_out, least=options.min_rows, lost=options.lost_datasets)

    def contestant(name: str, shown: str) -> Contestant:
        model, folder = models[name], folders[name]
        logits = cached_logits(model, folder, dataset, "test", workspace)[rows.rows.labelled]
        return Contestant(shown, model, folder, infos[name], logits, rows)

    challenger = contestant("challenger", "challenger")
    before = [name for name in used if name.startswith("made from")][::-1]
    # The oldest comes first; with a single step the parent is where the chain starts.
    names = ["start of the chain", *(models[name].role for name in before[1:])]
    chain = [contestant(name, shown) for name, shown in zip(before, names, strict=False)]
    if len(chain) == 1:
        chain = [replace(chain[0], name="parent")]
    parent = contestant(_PARENT, "parent") if _PARENT in used else None
    contest = Contest(
        name=options.name,
        dataset=dataset,
        rows=rows,
        left_out=int(learnt.sum()),
        challenger=challenger,
        champion=contestant("champion", "champion") if "champion" in models else None,
        parent=parent,
        chain=(*chain, challenger),
        approved=contestant("approved", f"version {models['approved'].uri.rsplit('/', 1)[1]}")
        if "approved" in models
        else None,
        how=Statistics(confidence=options.confidence, resamples=options.resamples),
        settings=settings,
        log=workspace.log,
    )
    return contest, left_out


def _fetch(name: str, model: ModelRef, cache: Path) -> Path:
    try:
        return fetch_bundle(model, cache)
    except (ModelError, TransientError) as error:
        if name not in ("champion", "approved"):
            raise
        registered = model.uri.split("/")[1]
        which = "champion" if name == "champion" else "last approved champion"
        raise type(error)(
            f"the {which} of {registered} must be there to compare with ({error.rule})",
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


def _costs(contest: Contest, options: GateOptions) -> tuple[ChainLink, ...]:
    """Return what each step of the challenger's chain cost."""
    metric, links = contest.rows.task.metric(options.metric), []
    confidence, resamples = options.confidence, options.resamples
    before: Contestant | None = None
    for one in contest.chain:
        value = metric.interval(contest.truth, one.answers, confidence=confidence, resamples=resamples)
        cost = (
            metric.difference(
                contest.truth, before.answers, one.answers, confidence=confidence, resamples=resamples
            )
            if before
            else None
        )
        links.append(
            ChainLink(
                role=one.model.role,
                uri=one.model.uri,
                metric=metric.title,
                unit=unit_of(metric),
                value=value.value,
                low=value.low,
                high=value.high,
                cost=cost.value if cost else None,
                cost_low=cost.low if cost else None,
                cost_high=cost.high if cost else None,
            )
        )
        before = one
    return tuple(links)


def _details(contest: Contest) -> dict[str, Any]:
    """Return what the page shows of the challenger's answers: classes, confusions, and the worst rows."""
    task, truth, one = contest.rows.task, contest.truth, contest.challenger
    if task.exclusive:
        wrong = np.flatnonzero(one.answers != truth)
        order = wrong[np.argsort(-one.confidence[wrong], kind="stable")]
        names = [str(name) for name in one.answers]
        score = one.confidence
    elif not task.has_classes:
        order = np.argsort(-np.abs(one.answers - truth)[:, 0], kind="stable")
        score = one.answers[:, 0]
        names = [f"{value:.4g}" for value in score]
    else:
        return {}
    mistakes = [
        Mistake(
            text=shorten(contest.texts[place], limit=_SHOWN_LETTERS),
            label=str(contest.rows.rows.values[place]),
            answer=names[place],
            score=float(score[place]),
        )
        for place in order[:_SHOWN_MISTAKES].tolist()
    ]
    if not task.exclusive:
        return {"mistakes": mistakes}
    pairs = Counter((str(truth[place]), names[place]) for place in order.tolist()).most_common(
        _SHOWN_MISTAKES
    )
    return {
        "mistakes": mistakes,
        "confusions": [(label, answer, count) for (label, answer), count in pairs],
        "classes": [
            ClassLine(name=each.name, rows=each.rows, precision=each.precision, recall=each.recall)
            for each in class_quality(truth, one.answers)
        ],
    }


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
    if report.rows:
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
