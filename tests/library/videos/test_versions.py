"""A finished step is reused by its key: a task that gives other rows has to be in it."""

from __future__ import annotations

import pytest

from modelmill.pipeline.catalogue import component_named
from modelmill.videos.tasks import TASKS


@pytest.mark.parametrize(
    ("component", "task"),
    [
        ("probe_videos", "probe"),
        ("measure_videos", "measure"),
        ("extract_frames", "extract"),
        ("read_text_in_frames", "read_text"),
        ("make_defects", "defects"),
    ],
)
def test_a_steps_version_is_that_of_its_task(component: str, task: str) -> None:
    assert component_named(component).version == TASKS[task].version
