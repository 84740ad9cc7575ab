"""The report on a search: as data, as a table of plain text, and as a page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from modelmill.compression.search.measurement import MeasuredCandidate, Speed
from modelmill.compression.search.results import CompressionReport, Point
from modelmill.compression.search.search import Search
from modelmill.compression.search.selection import broken_limits
from modelmill.models.bundle import bundle_bytes

_COLUMNS = ("drop at most", "MB", "smaller", "docs/s", "faster", "p95 ms", "")


def compression_report(
    search: Search,
    teacher: Speed,
    measured: Sequence[MeasuredCandidate],
    chosen: MeasuredCandidate,
    *,
    candidates: int,
    trained: int,
    cpu_seconds: float,
) -> CompressionReport:
    """Return the report on a search. What it does not know, such as URIs, is empty."""
    metric = search.judging.metric
    return CompressionReport(
        dataset="",
        label=search.teacher.info.label,
        teacher=search.teacher.name,
        metric=metric.name,
        is_share=metric.is_share,
        teacher_quality=metric.of(search.judging.truth, search.judging.teacher_answers),
        teacher_size_mb=bundle_bytes(search.teacher.folder) / 1e6,
        teacher_documents_per_second=teacher.throughput.documents_per_second,
        teacher_latency_p95_ms=teacher.latency.p95_ms,
        judging_rows=len(search.judging),
        choosing_rows=len(search.ranking),
        confidence=search.options.confidence,
        budget=search.options.budget.model_dump(),
        candidates=candidates,
        trained=trained,
        cpu_seconds=cpu_seconds,
        points=tuple(_point(item, measured, chosen, search) for item in measured),
    )


def _point(
    item: MeasuredCandidate, measured: Sequence[MeasuredCandidate], chosen: MeasuredCandidate, search: Search
) -> Point:
    candidate, speed, rows = item.candidate, item.speed, search.judging
    recipe, info, structure = candidate.recipe, candidate.info, candidate.recipe.structure
    answers = rows.answers(candidate.logits, info.calibration)
    quality = rows.metric.interval(rows.truth, answers, confidence=search.options.confidence)
    return Point(
        name=str(recipe),
        family=recipe.family,
        layers=structure.layers if structure else None,
        tokens=structure.tokens if structure else None,
        width=structure.width if structure else None,
        heads=structure.heads if structure else None,
        vocabulary=recipe.vocabulary,
        quantization=recipe.quantization,
        format=info.format,
        parameters=info.parameters,
        uri="",
        size_mb=candidate.size_mb,
        metric=rows.metric.name,
        quality=quality.value,
        quality_low=quality.low,
        quality_high=quality.high,
        drop=item.drop.value,
        drop_bound=item.drop.bound,
        agreement=info.task.agreement(candidate.logits, rows.teacher_logits),
        latency_p50_ms=speed.latency.p50_ms,
        latency_p95_ms=speed.latency.p95_ms,
        documents_per_second=speed.throughput.documents_per_second,
        documents_per_cpu_second=speed.throughput.documents_per_cpu_second,
        speed_ratio=speed.ratio.value,
        speed_ratio_low=speed.ratio.low,
        speed_ratio_high=speed.ratio.high,
        size_ratio=bundle_bytes(search.teacher.folder) / 1e6 / candidate.size_mb,
        broken=tuple(map(str, broken_limits(item, search.options))),
        pareto=not any(_beats(other, item) for other in measured),
        chosen=item is chosen,
    )


def _beats(other: MeasuredCandidate, item: MeasuredCandidate) -> bool:
    """Return whether one candidate is as good as another in everything, and better in something."""

    def figures(one: MeasuredCandidate) -> tuple[float, float, float]:
        return (-one.drop.value, one.speed.ratio.value, -one.candidate.size_mb)

    pairs = list(zip(figures(other), figures(item), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _cells(report: CompressionReport) -> list[tuple[str, ...]]:
    value = ("{:.2%}" if report.is_share else "{:.4f}").format
    rows: list[tuple[str, ...]] = [("model", report.metric, *_COLUMNS)]
    for point in report.points:
        note = (
            "chosen" if point.chosen else "; ".join(point.broken) or ("on the front" if point.pareto else "")
        )
        rows.append(
            (
                point.name,
                f"{value(point.quality)} ({value(point.quality_low)} to {value(point.quality_high)})",
                f"{100 * point.drop_bound:.2f}" if report.is_share else f"{point.drop_bound:.4f}",
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
    """Return the report as a table: lines of plain text, columns aligned."""
    rows = _cells(report)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    teacher = f"{report.teacher_quality:.2%}" if report.is_share else f"{report.teacher_quality:.4f}"
    title = (
        f"{report.label}: teacher {teacher} on {report.judging_rows:,} validation rows; "
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
    """Return the report as a page: HTML without scripts or links to elsewhere."""
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
