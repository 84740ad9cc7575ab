"""Make a page with pictures of what was decided on videos."""

from __future__ import annotations

from modelmill.artifacts import ReportRef, TableRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.monitoring.video_report_options import VideoReportOptions
from modelmill.steps.ports import ReportOutputs
from modelmill.system.resources import Resources


class ReportVideosConfig(VideoReportOptions, Config):
    """Make a page with pictures of what was decided on videos: what was refused, why, and where.

    The page is one file in MLflow, ``videos.html``, without scripts; ``videos.json`` has its counts.
    """


class ReportVideosInputs(Inputs):
    """The decisions, the frames of the videos, and quarantines of the steps that read them."""

    table: TableRef
    frames: TableRef
    refused: tuple[TableRef, ...] = ()


def run(config: ReportVideosConfig, inputs: ReportVideosInputs, context: StepContext) -> ReportOutputs:
    """Collect what is shown, and log the page."""
    from modelmill.monitoring.video_page import as_html, headline
    from modelmill.monitoring.video_report import report_videos_of

    report = report_videos_of(inputs.table, inputs.frames, inputs.refused, config)
    context.run.log_dataset(inputs.table, context="decisions", rows=report.rows)
    page = as_html(report, thumbnail_width=config.thumbnail_width)
    context.run.client.log_text(context.run.run_id, page, "videos.html")
    uri = context.run.log_json(report.figures(), "videos.json")
    figures = {"rows": report.rows, "shown": report.shown, "not_shown": report.not_shown}
    context.run.log_metrics({**figures, "unread": sum(count for _, count in report.unread)})
    context.log(
        f"{context.step}: {headline(report)}; {report.shown} shown, {report.not_shown} not; "
        f"{len(page) / 1e6:.2f} MB, videos.html of run {context.run.run_id}"
    )
    return ReportOutputs(report=ReportRef(uri=uri, run_id=context.run.run_id))


report_videos = Component(
    name="report_videos",
    title="Report on videos",
    group="Check",
    config=ReportVideosConfig,
    inputs=ReportVideosInputs,
    outputs=ReportOutputs,
    run=run,
    resources=Resources(cpus=1, memory_gb=2),
)
