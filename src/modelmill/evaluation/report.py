"""The evaluation step: models side by side on the test split, and what they have to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, DatasetError, ModelError, shorten
from modelmill.evaluation.baselines import dataset_baselines
from modelmill.evaluation.kind_report import other_kinds
from modelmill.evaluation.latency import Throughput
from modelmill.evaluation.metrics import (
    class_quality,
    confidence_interval,
    confusion_matrix,
    paired_difference,
)
from modelmill.evaluation.plots import confusion_figure, quality_figure
from modelmill.evaluation.results import (
    BaselineResult,
    ClassResult,
    EvaluationReport,
    ModelResult,
    Quality,
)
from modelmill.evaluation.rows import cached_answers, judged_label, split_rows
from modelmill.evaluation.side_by_side import model_names, side_by_side, slug, unique_names
from modelmill.evaluation.summary import model_sentence, table_lines
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.steps.evaluate import EvaluateConfig

REPORT_FILE = "report.json"
_SEED = 0


@dataclass(frozen=True)
class _Judge:
    """What all models are judged by."""

    label: str
    texts: list[str]
    truth: list[str]
    confidence: float
    resamples: int

    def quality(self, answers: Sequence[str]) -> Quality:
        found = {
            metric: confidence_interval(
                self.truth,
                answers,
                metric=metric,
                confidence=self.confidence,
                resamples=self.resamples,
                seed=_SEED,
            )
            for metric in ("accuracy", "macro_f1")
        }
        first, second = found["accuracy"], found["macro_f1"]
        return Quality(
            accuracy=first.value,
            accuracy_low=first.low,
            accuracy_high=first.high,
            macro_f1=second.value,
            macro_f1_low=second.low,
            macro_f1_high=second.high,
        )


@dataclass(frozen=True)
class _Measured:
    """A model that has been measured."""

    name: str
    model: ModelRef
    info: BundleInfo
    answers: list[str]
    size_mb: float
    throughput: Throughput


def run(
    config: EvaluateConfig, dataset: DatasetRef, models: Sequence[ModelRef], context: StepContext
) -> ReportRef:
    """Measure models side by side on the test split.

    :param config: what to measure.
    :param dataset: its test split is what the models are judged on.
    :param models: at least one; ratios are taken to the first.
    :param context: the step.
    :return: the report: an :class:`~modelmill.evaluation.results.EvaluationReport` as JSON.
    :raises ConfigError: if there is no model, or the label is no label column.
    :raises DatasetError: if there are no labelled test rows.
    :raises ModelError: if a model cannot be loaded, or the models do not answer one label of the dataset.
    """
    folders = _fetch(models, context)
    infos = [BundleInfo.load(folder) for folder in folders]
    if any(info.target != "class" for info in infos):
        return other_kinds(config, dataset, models, folders, context)
    judge = _judge(config, dataset, infos)
    _check_classes(models, infos, judge, context)
    context.run.log_dataset(dataset, context="evaluation", rows=len(judge.texts))
    answers = [cached_answers(model, dataset, "test", context, label=judge.label) for model in models]
    speeds = side_by_side(folders, judge.texts, config, context)
    measured = [
        _Measured(name, model, info, given, bundle_bytes(folder) / 1e6, speed)
        for name, model, info, given, folder, speed in zip(
            model_names(models), models, infos, answers, folders, speeds, strict=True
        )
    ]
    baselines = dataset_baselines(dataset, label=judge.label, texts=judge.texts) if config.baselines else {}
    report = _report(dataset, judge, measured, baselines)
    _log(report, judge, measured, context)
    uri = context.run.log_json(report.model_dump(mode="json"), REPORT_FILE)
    return ReportRef(uri=uri, run_id=context.run.run_id)


def _fetch(models: Sequence[ModelRef], context: StepContext) -> list[Path]:
    from modelmill.registry.bundles import fetch_bundle

    if not models:
        raise ConfigError(
            "an evaluation needs at least one model", got=0, remedy="add inputs: {models: [STEP.model]}"
        )
    return [fetch_bundle(model, context.cache) for model in models]


def _judge(config: EvaluateConfig, dataset: DatasetRef, infos: Sequence[BundleInfo]) -> _Judge:
    label = judged_label(dataset, infos, config.label)
    texts, truth = split_rows(dataset, "test", label)
    if not texts:
        raise DatasetError(
            f"the test split must have rows with a value in {label!r}",
            got=str(dataset),
            remedy="change the dataset's split, or label test rows",
        )
    return _Judge(label, texts, truth, config.confidence, config.resamples)


def _check_classes(
    models: Sequence[ModelRef], infos: Sequence[BundleInfo], judge: _Judge, context: StepContext
) -> None:
    for model, info in zip(models, infos, strict=True):
        unknown = _unknown(info, judge)
        if set(unknown) == set(judge.truth):
            raise ModelError(
                f"a model must know a class of the test rows: {shorten(', '.join(unknown))} ({model.uri})",
                got=", ".join(info.classes),
                remedy=f"choose another label column than {judge.label!r}, or another model",
            )
        if unknown:
            rows = sum(name in unknown for name in judge.truth)
            context.log(
                f"{model.role}: {rows} test rows count as wrong, because the model does not know their "
                f"classes: {shorten(', '.join(unknown))}"
            )


def _unknown(info: BundleInfo, judge: _Judge) -> tuple[str, ...]:
    return tuple(sorted(set(judge.truth) - set(info.classes)))


def _report(
    dataset: DatasetRef,
    judge: _Judge,
    measured: Sequence[_Measured],
    baselines: Mapping[str, Sequence[str]],
) -> EvaluationReport:
    results = [
        BaselineResult(name=name, **judge.quality(answers).model_dump())
        for name, answers in baselines.items()
    ]
    best = max(results, key=lambda result: result.accuracy).name if results else None
    rival = None if best is None else (best, baselines[best])
    return EvaluationReport(
        dataset=str(dataset),
        label=judge.label,
        rows=len(judge.texts),
        throughput_rows=measured[0].throughput.rows,
        confidence=judge.confidence,
        models=tuple(_model_result(item, measured[0], rival, judge) for item in measured),
        baselines=tuple(results),
        per_class=tuple(
            ClassResult(model=item.name, **asdict(quality))
            for item in measured
            for quality in class_quality(judge.truth, item.answers)
        ),
    )


def _model_result(
    item: _Measured, first: _Measured, rival: tuple[str, Sequence[str]] | None, judge: _Judge
) -> ModelResult:
    quality = judge.quality(item.answers)
    over = rival and paired_difference(
        judge.truth,
        item.answers,
        rival[1],
        metric="accuracy",
        confidence=judge.confidence,
        resamples=judge.resamples,
        seed=_SEED,
    )
    size_ratio = first.size_mb / item.size_mb
    speed_ratio = item.throughput.documents_per_second / first.throughput.documents_per_second
    same = sum(one == other for one, other in zip(item.answers, first.answers, strict=True))
    agreement = same / len(item.answers)
    return ModelResult(
        **quality.model_dump(),
        name=item.name,
        role=item.model.role,
        uri=item.model.uri,
        format=item.model.format,
        size_mb=item.size_mb,
        parameters=item.info.parameters,
        documents_per_second=item.throughput.documents_per_second,
        documents_per_cpu_second=item.throughput.documents_per_cpu_second,
        size_ratio=size_ratio,
        speed_ratio=speed_ratio,
        agreement=agreement,
        beats_baseline=over.difference > 0 if over else None,
        unknown_classes=_unknown(item.info, judge),
        sentence=model_sentence(
            name=item.name,
            quality=quality,
            reference=None if item is first else first.name,
            size_ratio=size_ratio,
            speed_ratio=speed_ratio,
            agreement=agreement,
            baseline=rival[0] if rival else None,
            over_baseline=over,
        ),
    )


def _log(
    report: EvaluationReport, judge: _Judge, measured: Sequence[_Measured], context: StepContext
) -> None:
    context.run.log_metrics(_metrics(report))
    last = measured[-1]
    classes = sorted({*judge.truth, *last.answers})
    matrix = confusion_matrix(judge.truth, last.answers, classes=classes)
    confusion = confusion_figure(matrix, classes=classes, title=f"{report.label}: {last.name}")
    context.run.log_figure(confusion, "plots/confusion.png")
    quality = quality_figure(
        report.models,
        report.baselines,
        confidence=report.confidence,
        title=f"{report.label}: quality and speed on {report.rows:,} test rows",
    )
    context.run.log_figure(quality, "plots/quality.png")
    for line in table_lines(report):
        context.log(line)
    for model in report.models:
        context.log(model.sentence)


def _metrics(report: EvaluationReport) -> dict[str, float]:
    """Return what MLflow can compare between runs: by role, since ids change with each run."""
    shown = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "macro_f1_low", "macro_f1_high")
    figures = ("size_mb", "parameters", "documents_per_second", "size_ratio", "speed_ratio", "agreement")
    metrics: dict[str, float] = {}
    roles = unique_names([model.role for model in report.models])
    for model, role in zip(report.models, roles, strict=True):
        metrics |= {f"{name}/{slug(role)}": float(getattr(model, name)) for name in (*shown, *figures)}
    for baseline in report.baselines:
        metrics |= {f"{name}/{slug(baseline.name)}": getattr(baseline, name) for name in shown}
    return metrics
