"""What the steps over tables of videos share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Assets, Component, Config, Inputs, Outputs, StepContext
from modelmill.system.resources import Resources
from modelmill.videos.requests import VideoOptions, VideoRequest
from modelmill.videos.tasks import TASKS

if TYPE_CHECKING:
    from modelmill.settings import Settings


class VideoInputs(Inputs):
    """The table of videos."""

    table: TableRef


class VideoOutputs(Outputs):
    """What was read, and what was refused."""

    table: TableRef
    quarantine: TableRef


class VideoConfig(VideoOptions, Config):
    """What the steps over tables of videos have in common."""

    to: str = Field(description="Table to write: a row for each video.")
    quarantine: str = Field(description="Table to write refused videos to.")


ConfigT = TypeVar("ConfigT", bound=VideoConfig)


def video_component(
    name: str, title: str, config: type[ConfigT], request: type[VideoRequest]
) -> Component[ConfigT, VideoInputs, VideoOutputs]:
    """Declare a step over a table of videos.

    :param name: of the component.
    :param title: what the palette shows.
    :param config: its configuration: the fields of the request, but for the table.
    :param request: the job.
    :return: the component.
    """

    def run(config: ConfigT, inputs: VideoInputs, context: StepContext) -> VideoOutputs:
        asked = request(table=inputs.table, transaction=context.transaction, **dict(config))
        return run_videos(asked, context)

    return Component(
        name=name,
        title=title,
        group="Data",
        config=config,
        inputs=VideoInputs,
        outputs=VideoOutputs,
        run=run,
        version=TASKS[request.task_name].version,  # else a step whose task has changed is reused
        resources=Resources(cpus=2, memory_gb=4),
        outside_state=_files,
        assets=lambda config, _upstream: Assets(outlets=(config.to, config.quarantine)),
    )


def _files(config: VideoConfig, inputs: VideoInputs, _settings: Settings) -> str:
    """Return the state of the files that the table names: one that has come or changed is due."""
    from modelmill.videos.file_states import file_states

    return file_states(inputs.table, config.path, sidecars=getattr(config, "sidecars", False))


def run_videos(request: VideoRequest, context: StepContext) -> VideoOutputs:
    """Run a job over videos, and log what became of them.

    :param request: the job.
    :param context: the step's.
    :return: the tables.
    :raises ConfigError: if PyAV is not installed.
    """
    from modelmill.jobs import run_job

    found = run_job(request, settings=context.settings)
    refused = sum(found.refused.values())
    why = ", ".join(f"{count} {reason}" for reason, count in found.refused.items())
    context.run.log_dataset(request.table, context="source", rows=found.videos)
    context.run.log_metrics(
        {"videos": found.videos, "worked_on": found.worked_on, "refused": refused, "rows": found.rows}
    )
    context.run.log_json(found.model_dump(mode="json"), "videos.json")
    context.log(
        f"{context.step}: {found.videos} videos, {found.worked_on} of them new; "
        f"{refused} refused{f' ({why})' if why else ''}; {found.rows} rows in {found.table}"
    )
    return VideoOutputs(table=found.table, quarantine=found.quarantine)
