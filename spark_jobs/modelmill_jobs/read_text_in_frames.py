"""Read the text in frames of the videos of a table; what cannot be decoded goes to a quarantine.

As an application: ``python -m modelmill_jobs.read_text_in_frames --table '{"uri": "/tables/probed",
"version": 0}' --to /tables/read --quarantine /tables/refused``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.jobs import run_as_application
from modelmill.videos.requests import ReadTextRequest, VideoJobResult
from modelmill_jobs.videos import work_on_videos

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def main(request: ReadTextRequest, spark: SparkSession) -> VideoJobResult:
    """Read the text.

    :param request: the table and the places.
    :param spark: session to use.
    :return: the tables, and what became of the videos.
    """
    return work_on_videos(request, spark)


if __name__ == "__main__":
    run_as_application(ReadTextRequest, main)
