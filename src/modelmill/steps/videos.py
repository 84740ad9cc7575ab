"""What the steps over tables of videos share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.component import Inputs, Outputs, StepContext
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.settings import Settings
    from modelmill.videos.requests import VideoOptions, VideoRequest

video_resources = Resources(cpus=2, memory_gb=4)


class VideoInputs(Inputs):
    """The table of videos."""

    table: TableRef


class VideoOutputs(Outputs):
    """What was read, and what was refused."""

    table: TableRef
    quarantine: TableRef


def videos_state(config: VideoOptions, inputs: VideoInputs, _settings: Settings) -> str:
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
