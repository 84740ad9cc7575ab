"""The evaluation of models that answer with sets of classes, or with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import StepContext
from modelmill.evaluation.kind_judge import LIKELY, KindJudge, kind_baselines, kind_judge
from modelmill.evaluation.kinds import Floats, kind_difference, kind_interval
from modelmill.evaluation.latency import Throughput
from modelmill.evaluation.results import KindBaseline, KindModel, KindReport, Score
from modelmill.evaluation.rows import cached_logits
from modelmill.evaluation.side_by_side import model_names, side_by_side, slug, unique_names
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.steps.evaluate import EvaluateConfig
from modelmill.tasks.kinds import task_of

_REPORT_FILE = "report.json"


@dataclass(frozen=True)
class _Measured:
    """A model that has been measured."""

    name: str
    model: ModelRef
    info: BundleInfo
    answers: Floats
    size_mb: float
    speed: Throughput


def other_kinds(
    config: EvaluateConfig,
    dataset: DatasetRef,
    models: Sequence[ModelRef],
    folders: Sequence[Path],
    context: StepContext,
) -> ReportRef:
    """Measure models side by side on the test split.

    :param config: what to measure.
    :param dataset: its test split is what the models are judged on.
    :param models: at least one; ratios are taken to the first.
    :param folders: their bundles.
    :param context: the step.
    :return: the report: a :class:`~modelmill.evaluation.results.KindReport` as JSON.
    :raises DatasetError: if there are no labelled test rows.
    :raises ModelError: if the models answer with different kinds of labels, or another one than the column's.
    """
    infos = [BundleInfo.load(folder) for folder in folders]
    judge = kind_judge(dataset, infos, config.label)
    context.run.log_dataset(dataset, context="evaluation", rows=len(judge.rows.texts))
    logits = [cached_logits(model, dataset, "test", context, label=judge.label) for model in models]
    speeds = side_by_side(folders, judge.rows.texts, config, context)
    measured = [
        _Measured(name, model, info, judge.answers(info, own), bundle_bytes(folder) / 1e6, speed)
        for name, model, info, own, folder, speed in zip(
            model_names(models), models, infos, logits, folders, speeds, strict=True
        )
    ]
    baselines = kind_baselines(judge, dataset) if config.baselines else {}
    report = KindReport(
        dataset=str(dataset),
        label=judge.label,
        target=judge.kind,
        rows=len(judge.rows.texts),
        throughput_rows=speeds[0].rows,
        confidence=config.confidence,
        models=tuple(_model(item, measured[0], baselines, judge, config) for item in measured),
        baselines=tuple(
            KindBaseline(name=name, scores=_scores(answers, judge, config))
            for name, answers in baselines.items()
        ),
    )
    context.run.log_metrics(_metrics(report))
    context.log(f"{report.label}: {report.rows:,} test rows of {report.dataset}")
    for baseline in report.baselines:
        context.log(f"{baseline.name}: {_words(baseline.scores, judge)}")
    for model in report.models:
        context.log(model.sentence)
    uri = context.run.log_json(report.model_dump(mode="json"), _REPORT_FILE)
    return ReportRef(uri=uri, run_id=context.run.run_id)


def _scores(answers: Floats, judge: KindJudge, config: EvaluateConfig) -> tuple[Score, ...]:
    found = []
    for metric in judge.metrics:
        interval = kind_interval(
            metric, answers, judge.truth, confidence=config.confidence, resamples=config.resamples
        )
        found.append(Score(metric=metric.name, value=interval.value, low=interval.low, high=interval.high))
    return tuple(found)


def _model(
    item: _Measured,
    first: _Measured,
    baselines: Mapping[str, Floats],
    judge: KindJudge,
    config: EvaluateConfig,
) -> KindModel:
    metric = judge.metrics[0]
    over, rival = None, None
    if baselines:
        rival = max(baselines, key=lambda name: metric.of(baselines[name], judge.truth))
        found = kind_difference(
            metric,
            item.answers,
            baselines[rival],
            judge.truth,
            confidence=config.confidence,
            resamples=config.resamples,
        )
        over = Score(metric=metric.name, value=found.value, low=found.low, high=found.high)
    scores = _scores(item.answers, judge, config)
    size_ratio = first.size_mb / item.size_mb
    speed_ratio = item.speed.documents_per_second / first.speed.documents_per_second
    # Their classes may differ: what is compared are answers, positive where a class was named.
    shift = LIKELY if judge.kind == "classes" else 0.0
    own, others = ((one.answers - shift).astype(np.float32) for one in (item, first))
    same = task_of(judge.kind).agreement(own, others)
    sentence = f"{item.name}: {_words(scores, judge)}"
    if item is not first:
        sentence += (
            f"; {size_ratio:.2f} times smaller and {speed_ratio:.2f} times faster than {first.name}, with "
            f"which it agrees by {same:.2%}"
        )
    if over is not None:
        settled = "" if over.low > 0 or over.high < 0 else ", which these rows do not settle"
        where = "above" if over.value > 0 else "below"
        scale, unit = (100, " points") if metric.is_share else (1, "")
        sentence += (
            f"; {metric.name} {abs(scale * over.value):.3g}{unit} {where} {rival} "
            f"({scale * over.low:+.3g} to {scale * over.high:+.3g}){settled}"
        )
    used = {name for name, column in zip(judge.classes, judge.truth.T, strict=False) if column.any()}
    return KindModel(
        name=item.name,
        role=item.model.role,
        uri=item.model.uri,
        format=item.model.format,
        scores=scores,
        size_mb=item.size_mb,
        parameters=item.info.parameters,
        documents_per_second=item.speed.documents_per_second,
        documents_per_cpu_second=item.speed.documents_per_cpu_second,
        size_ratio=size_ratio,
        speed_ratio=speed_ratio,
        agreement=same,
        over_baseline=over,
        beats_baseline=over.value > 0 if over else None,
        unknown_classes=tuple(sorted(used - set(item.info.classes))),
        sentence=f"{sentence}.",
    )


def _words(scores: Sequence[Score], judge: KindJudge) -> str:
    parts = []
    for score, metric in zip(scores, judge.metrics, strict=True):
        if metric.is_share:
            parts.append(f"{score.metric} {score.value:.2%} ({score.low:.2%} to {score.high:.2%})")
        else:
            parts.append(f"{score.metric} {score.value:.4g} ({score.low:.4g} to {score.high:.4g})")
    return ", ".join(parts)


def _metrics(report: KindReport) -> dict[str, float]:
    """Return what MLflow can compare between runs: by role, since ids change with each run."""
    figures = ("size_mb", "parameters", "documents_per_second", "size_ratio", "speed_ratio", "agreement")
    metrics: dict[str, float] = {}
    roles = unique_names([model.role for model in report.models])
    for model, role in zip(report.models, roles, strict=True):
        metrics |= {f"{name}/{slug(role)}": float(getattr(model, name)) for name in figures}
        metrics |= _score_metrics(model.scores, role)
    for baseline in report.baselines:
        metrics |= _score_metrics(baseline.scores, baseline.name)
    return metrics


def _score_metrics(scores: Sequence[Score], name: str) -> dict[str, float]:
    return {
        f"{score.metric}{end}/{slug(name)}": value
        for score in scores
        for end, value in (("", score.value), ("_low", score.low), ("_high", score.high))
    }
