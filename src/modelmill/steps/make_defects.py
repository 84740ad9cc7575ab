"""Make labelled clips of clean ones, with Spark: training data for a defect."""

from __future__ import annotations

from pydantic import Field

from modelmill.steps.videos import VideoConfig, video_component
from modelmill.videos.requests import DefectOptions, MakeDefectsRequest


class MakeDefectsConfig(DefectOptions, VideoConfig):
    """Make labelled clips of clean ones by known transformations: blur, borders, slides and others.

    Each clip is decoded, transformed and encoded again; its labels are exact. Clips of one key, or of one
    value of a column carried along, show one scene: a split by it keeps scenes together.
    """

    to: str = Field(description="Table to write: a row for each clip made.")


make_defects = video_component("make_defects", "Make defects", MakeDefectsConfig, MakeDefectsRequest)
