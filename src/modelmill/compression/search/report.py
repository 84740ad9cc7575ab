"""What a compression leaves in MLflow: every measured model, the report, the plot."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from modelmill.artifacts import ModelRef, ReportRef
from modelmill.compression.search.measurement import Measured, Speed
from modelmill.compression.search.plots import pareto_figure
from modelmill.compression.search.problem import Task
from modelmill.compression.search.results import CompressionReport, Point
from modelmill.compression.search.selection import broken_limits
from modelmill.models.bundle import bundle_bytes
from modelmill.tasks.class_metrics import ACCURACY
from modelmill.tasks.kinds import task_of

REPORT_FILE = "compression.json"
TAG_RECIPE = "modelmill.recipe"
_COLUMNS: Mapping[str, str] = {
    "name": "model",
    "accuracy": "accuracy",
    "drop_bound": "drop at most",
    "size_mb": "MB",
    "size_ratio": "smaller",
    "documents_per_second": "docs/s",
    "speed_ratio": "faster",
    "latency_p95_ms": "p95 ms",
    "note": "",
}


def publish(
    task: Task,
    teacher: Speed,
    measured: Sequence[Measured],
    chosen: Measured,
    *,
    candidates: int,
    trained: int,
    cpu_seconds: float,
) -> tuple[ModelRef, ReportRef]:
    """Log every measured model, the report and the plot.

    :param task: the compression.
    :param teacher: how fast the teacher is.
    :param measured: the measured candidates, the fastest first.
    :param chosen: the one that is taken.
    :param candidates: recipes that were considered.
    :param trained: students of which at least one round was trained.
    :param cpu_seconds: what the search has cost.
    :return: the chosen model, and the report.
    """
    context = task.context
    found = [_point(item, measured, chosen, task) for item in measured]
    models = [_log(item, point, task) for item, point in zip(measured, found, strict=True)]
    points = [point.model_copy(update={"uri": model.uri}) for point, model in zip(found, models, strict=True)]
    report = CompressionReport(
        dataset=str(task.dataset),
        label=task.info.label,
        teacher=task.parent.uri,
        teacher_accuracy=float(task.judging.teacher_right.mean()),
        teacher_size_mb=bundle_bytes(task.folder) / 1e6,
        teacher_documents_per_second=teacher.throughput.documents_per_second,
        teacher_latency_p95_ms=teacher.latency.p95_ms,
        judging_rows=len(task.judging),
        choosing_rows=len(task.choosing),
        confidence=task.config.confidence,
        budget=task.config.budget.model_dump(),
        candidates=candidates,
        trained=trained,
        cpu_seconds=cpu_seconds,
        points=tuple(points),
    )
    best = next(point for point in points if point.chosen)
    figures = {"cpu_seconds": cpu_seconds, "candidates": float(candidates), "measured": float(len(points))}
    context.run.log_metrics(figures | {f"chosen_{name}": value for name, value in _figures(best).items()})
    context.run.log_figure(pareto_figure(report), "plots/pareto.png")
    context.run.client.log_text(context.run.run_id, report_html(report), "compression.html")
    uri = context.run.log_json(report.model_dump(mode="json"), REPORT_FILE)
    for line in table_lines(report):
        context.log(line)
    return models[measured.index(chosen)], ReportRef(uri=uri, run_id=context.run.run_id)


def _log(item: Measured, point: Point, task: Task) -> ModelRef:
    from modelmill.registry.bundles import log_model

    return log_model(
        item.made.folder,
        role="compressed" if point.chosen else "candidate",
        dataset=task.dataset,
        context=task.context,
        parent=task.parent,
        metrics=_figures(point),
        more_tags={TAG_RECIPE: point.name},
    )


def _figures(point: Point) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in point.model_dump().items()
        if isinstance(value, float) and name not in ("tokens", "width", "heads")
    }


def _point(item: Measured, measured: Sequence[Measured], chosen: Measured, task: Task) -> Point:
    recipe, rows, info = item.made.recipe, task.judging, item.made.info
    truth = [info.classes[number] for number in rows.data.targets]
    accuracy = ACCURACY.interval(
        truth,
        [info.classes[number] for number in item.logits.argmax(axis=1)],
        confidence=task.config.confidence,
    )
    speed = item.speed
    return Point(
        name=str(recipe),
        family=recipe.family,
        layers=recipe.structure.layers if recipe.structure else None,
        tokens=recipe.structure.tokens if recipe.structure else None,
        width=recipe.structure.width if recipe.structure else None,
        heads=recipe.structure.heads if recipe.structure else None,
        vocabulary=recipe.vocabulary,
        quantization=recipe.quantization,
        format=info.format,
        parameters=info.parameters,
        uri="",
        size_mb=item.made.size_mb,
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        drop=item.drop.value,
        drop_bound=item.drop.bound,
        agreement=task_of("class").agreement(item.logits, rows.teacher),
        latency_p50_ms=speed.latency.p50_ms,
        latency_p95_ms=speed.latency.p95_ms,
        documents_per_second=speed.throughput.documents_per_second,
        documents_per_cpu_second=speed.throughput.documents_per_cpu_second,
        speed_ratio=speed.ratio,
        size_ratio=bundle_bytes(task.folder) / 1e6 / item.made.size_mb,
        broken=tuple(map(str, broken_limits(item, task.config))),
        pareto=not any(_beats(other, item) for other in measured),
        chosen=item is chosen,
    )


def _beats(other: Measured, item: Measured) -> bool:
    """Return whether one candidate is as good as another in everything, and better in something."""

    def figures(one: Measured) -> tuple[float, float, float]:
        return (-one.drop.value, one.speed.ratio, -one.made.size_mb)

    pairs = list(zip(figures(other), figures(item), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _cells(report: CompressionReport) -> list[tuple[str, ...]]:
    rows = [tuple(_COLUMNS.values())]
    for point in report.points:
        note = (
            "chosen" if point.chosen else "; ".join(point.broken) or ("on the front" if point.pareto else "")
        )
        rows.append(
            (
                point.name,
                f"{point.accuracy:.2%} ({100 * point.accuracy_low:.1f} to {100 * point.accuracy_high:.1f})",
                f"{100 * point.drop_bound:.2f}",
                f"{point.size_mb:.2f}",
                f"{point.size_ratio:.1f}x",
                f"{point.documents_per_second:,.0f}",
                f"{point.speed_ratio:.1f}x",
                f"{point.latency_p95_ms:.2f}",
                note,
            )
        )
    return rows


def table_lines(report: CompressionReport) -> list[str]:
    """Return the report as a short table.

    :param report: the report.
    :return: lines of plain text, columns aligned.
    """
    rows = _cells(report)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    title = (
        f"{report.label}: teacher {report.teacher_accuracy:.2%} on {report.judging_rows:,} validation rows; "
        f"{report.candidates} candidates, {len(report.points)} measured, {report.cpu_seconds:,.0f} CPU s"
    )
    return [
        title,
        *(
            "  ".join(
                cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ),
    ]


def report_html(report: CompressionReport) -> str:
    """Return the report as a page.

    :param report: the report.
    :return: HTML without scripts or links to elsewhere.
    """
    head, *rows = _cells(report)
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr{' class=chosen' if point.chosen else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for point, row in zip(report.points, rows, strict=True)
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Compression</title>"
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:right}"
        "td:first-child,td:last-child,th:first-child{text-align:left}.chosen{background:#dff0d8}</style>"
        f"<p>{html.escape(table_lines(report)[0])}</p><table><tr>{cells}</tr>{body}</table>"
    )
