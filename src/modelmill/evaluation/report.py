"""Models side by side on the test split, and what they have to beat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.errors import ConfigError, ModelError, shorten
from modelmill.evaluation.latency import Throughput, measure_throughput
from modelmill.evaluation.logits import cached_logits
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.plots import confusion_figure, quality_figure
from modelmill.evaluation.results import (
    BaselineResult,
    ClassResult,
    EvaluationReport,
    ModelResult,
    Score,
)
from modelmill.evaluation.rows import JudgedRows, judged_label, judged_rows
from modelmill.evaluation.summary import model_sentence, scores_text
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.scorers import load_scorer
from modelmill.tasks.base import Answers
from modelmill.tasks.class_metrics import class_quality, confusion_matrix
from modelmill.tasks.metrics import Interval
from modelmill.workspace import Workspace

_SEED = 0
_FIGURES = ("size_mb", "parameters", "documents_per_second", "size_ratio", "speed_ratio", "agreement")


@dataclass(frozen=True)
class FetchedModel:
    """A model and its bundle on this machine."""

    model: ModelRef
    folder: Path


@dataclass(frozen=True)
class MeasuredModel:
    """A model, its answers to the test rows, its size and its speed."""

    name: str
    model: ModelRef
    info: BundleInfo
    answers: Answers
    size_mb: float
    speed: Throughput


def evaluate_models(
    models: Sequence[FetchedModel], dataset: DatasetRef, options: EvaluationOptions, workspace: Workspace
) -> EvaluationReport:
    """Measure models side by side on the test split; log metrics, plots and the report in words.

    :param models: at least one; ratios are relative to the first.
    :param dataset: the models are judged on its test split.
    :param options: what to measure.
    :param workspace: keeps logits, and takes metrics and plots.
    :return: the report.
    :raises ConfigError: if there is no model, or the label is not a label column.
    :raises DatasetError: if there are no labelled test rows.
    :raises ModelError: if a model cannot be loaded, or the models do not answer one label of the dataset.
    """
    if not models:
        raise ConfigError(
            "an evaluation needs at least one model", got=0, remedy="add inputs: {models: [STEP.model]}"
        )
    infos = [BundleInfo.load(one.folder) for one in models]
    rows = judged_rows(dataset, judged_label(dataset, infos, options.label), infos)
    _check_classes(models, infos, rows, workspace)
    answers = [
        rows.answers(info, cached_logits(one.model, one.folder, dataset, "test", workspace))
        for one, info in zip(models, infos, strict=True)
    ]
    speeds = _speeds([one.folder for one in models], rows.texts, options, workspace)
    measured = [
        MeasuredModel(name, one.model, info, given, bundle_bytes(one.folder) / 1e6, speed)
        for name, one, info, given, speed in zip(
            _names([one.model for one in models]), models, infos, answers, speeds, strict=True
        )
    ]
    baselines = rows.baselines(dataset) if options.baselines else {}
    report = compare_models(measured, rows, baselines, options, dataset=str(dataset))
    workspace.tracker.log_metrics(_metrics(report))
    if rows.task.exclusive:
        _log_plots(report, rows, measured[-1], workspace)
    for line in _lines(report, rows):
        workspace.log(line)
    return report


def compare_models(
    measured: Sequence[MeasuredModel],
    rows: JudgedRows,
    baselines: Mapping[str, Answers],
    options: EvaluationOptions,
    *,
    dataset: str,
) -> EvaluationReport:
    """Return the report on models that have been measured.

    :param measured: at least one; ratios are relative to the first.
    :param rows: what they are judged on.
    :param baselines: answers to these rows by name of the baseline.
    :param options: confidence and resamples.
    :param dataset: name of the dataset.
    :return: the report.
    """
    metric = rows.task.metrics[0]
    results = [
        BaselineResult(name=name, scores=_scores(answers, rows, options))
        for name, answers in baselines.items()
    ]
    order = 1 if metric.more_is_better else -1
    best = max(results, key=lambda result: order * result[metric.name].value).name if results else None
    return EvaluationReport(
        dataset=dataset,
        label=rows.label,
        target=rows.task.kind,
        rows=len(rows),
        throughput_rows=measured[0].speed.rows,
        confidence=options.confidence,
        models=tuple(
            _model_result(item, measured[0], (best, baselines[best]) if best else None, rows, options)
            for item in measured
        ),
        baselines=tuple(results),
        per_class=tuple(
            ClassResult(model=item.name, **asdict(quality))
            for item in measured
            if rows.task.exclusive
            for quality in class_quality(rows.truth, item.answers)
        ),
    )


def _check_classes(
    models: Sequence[FetchedModel], infos: Sequence[BundleInfo], rows: JudgedRows, workspace: Workspace
) -> None:
    if not rows.task.exclusive:
        return
    for one, info in zip(models, infos, strict=True):
        unknown = _unknown_classes(info, rows)
        if set(unknown) == set(rows.truth):
            raise ModelError(
                f"a model must know a class of the test rows: {shorten(', '.join(unknown))} "
                f"({one.model.uri})",
                got=", ".join(info.classes),
                remedy=f"choose another label column than {rows.label!r}, or another model",
            )
        if unknown:
            wrong = sum(name in unknown for name in rows.truth)
            workspace.log(
                f"{one.model.role}: {wrong} test rows count as wrong, because the model does not know their "
                f"classes: {shorten(', '.join(unknown))}"
            )


def _unknown_classes(info: BundleInfo, rows: JudgedRows) -> tuple[str, ...]:
    return tuple(sorted(rows.task.used_classes(rows.truth, rows.classes) - set(info.classes)))


def _speeds(
    folders: Sequence[Path], texts: Sequence[str], options: EvaluationOptions, workspace: Workspace
) -> list[Throughput]:
    """Measure documents per second of models, taking turns on the same texts."""
    timed = rows_to_time(texts, options.throughput_rows)
    workspace.log(
        f"measuring documents per second of {len(folders)} models side by side on {len(timed):,} rows"
    )
    scorers = {str(index): load_scorer(folder) for index, folder in enumerate(folders)}
    found = measure_throughput(scorers, timed, seed=_SEED, progress=workspace.progress)
    return [found[str(index)] for index in range(len(folders))]


def rows_to_time(texts: Sequence[str], most: int) -> list[str]:
    """Return texts to measure documents per second on: always the same ones.

    :param texts: the test texts.
    :param most: how many at most.
    :return: some of them.
    """
    count = min(most, len(texts))
    chosen = np.random.default_rng(_SEED).choice(len(texts), size=count, replace=False)
    return [texts[index] for index in chosen]


def _scores(answers: Answers, rows: JudgedRows, options: EvaluationOptions) -> tuple[Score, ...]:
    return tuple(
        _score(
            metric.name,
            metric.interval(
                rows.truth,
                answers,
                confidence=options.confidence,
                resamples=options.resamples,
                seed=_SEED,
            ),
        )
        for metric in rows.task.metrics
    )


def _score(metric: str, interval: Interval) -> Score:
    return Score(metric=metric, value=interval.value, low=interval.low, high=interval.high)


def _model_result(
    item: MeasuredModel,
    first: MeasuredModel,
    rival: tuple[str, Answers] | None,
    rows: JudgedRows,
    options: EvaluationOptions,
) -> ModelResult:
    metric = rows.task.metrics[0]
    over = None
    if rival is not None:
        found = metric.difference(
            rows.truth,
            item.answers,
            rival[1],
            confidence=options.confidence,
            resamples=options.resamples,
            seed=_SEED,
        )
        over = _score(metric.name, found)
    result = ModelResult(
        name=item.name,
        scores=_scores(item.answers, rows, options),
        role=item.model.role,
        uri=item.model.uri,
        format=item.model.format,
        size_mb=item.size_mb,
        parameters=item.info.parameters,
        documents_per_second=item.speed.documents_per_second,
        documents_per_cpu_second=item.speed.documents_per_cpu_second,
        size_ratio=first.size_mb / item.size_mb,
        speed_ratio=item.speed.documents_per_second / first.speed.documents_per_second,
        agreement=rows.task.same_answers(item.answers, first.answers),
        over_baseline=over,
        beats_baseline=over.value > 0 if over else None,
        unknown_classes=_unknown_classes(item.info, rows),
        sentence="",
    )
    sentence = model_sentence(
        result,
        rows.task,
        reference=None if item is first else first.name,
        baseline=rival[0] if rival else None,
    )
    return result.model_copy(update={"sentence": sentence})


def _log_plots(report: EvaluationReport, rows: JudgedRows, last: MeasuredModel, workspace: Workspace) -> None:
    classes = sorted({*rows.truth, *last.answers})
    matrix = confusion_matrix(rows.truth, last.answers, classes=classes)
    confusion = confusion_figure(matrix, classes=classes, title=f"{report.label}: {last.name}")
    workspace.tracker.log_figure(confusion, "plots/confusion.png")
    quality = quality_figure(
        report.models,
        report.baselines,
        confidence=report.confidence,
        title=f"{report.label}: quality and speed on {report.rows:,} test rows",
    )
    workspace.tracker.log_figure(quality, "plots/quality.png")


def _lines(report: EvaluationReport, rows: JudgedRows) -> list[str]:
    """Return the report in words, for the log."""
    lines = [f"{report.label}: {report.rows:,} test rows of {report.dataset}"]
    if rows.task.exclusive:
        lines += report.table()
    else:
        lines += [f"{one.name}: {scores_text(one.scores, rows.task)}" for one in report.baselines]
    return [*lines, *(model.sentence for model in report.models)]


def _metrics(report: EvaluationReport) -> dict[str, float]:
    """Return what MLflow can compare between runs: by role, since ids change with each run."""
    metrics: dict[str, float] = {}
    roles = _unique([model.role for model in report.models])
    for model, role in zip(report.models, roles, strict=True):
        metrics |= {f"{name}/{_slug(role)}": float(getattr(model, name)) for name in _FIGURES}
        metrics |= _score_metrics(model.scores, role)
    for baseline in report.baselines:
        # Without the features that were chosen, so that runs can be compared.
        metrics |= _score_metrics(baseline.scores, baseline.name.partition(" (")[0])
    return metrics


def _score_metrics(scores: Sequence[Score], name: str) -> dict[str, float]:
    return {
        f"{score.metric}{end}/{_slug(name)}": value
        for score in scores
        for end, value in (("", score.value), ("_low", score.low), ("_high", score.high))
    }


def _names(models: Sequence[ModelRef]) -> list[str]:
    """Return a name for each model: role and short id, unique."""
    ids = [model.uri.removeprefix("models:/") for model in models]
    shown = [name[:10] if name.startswith("m-") and "/" not in name else name for name in ids]
    return _unique([f"{model.role} ({name})" for model, name in zip(models, shown, strict=True)])


def _unique(names: Sequence[str]) -> list[str]:
    """Return names with a number appended to those that have come before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return found


def _slug(name: str) -> str:
    """Return a name in the characters that MLflow takes: a to z, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "model"
