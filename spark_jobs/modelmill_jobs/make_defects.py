"""Make labelled clips of clean ones; what cannot be decoded goes to a quarantine.

As an application: ``python -m modelmill_jobs.make_defects --table '{"uri": "/tables/probed", "version": 0}'
--to /tables/defects --quarantine /tables/refused``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.jobs import run_as_application
from modelmill.videos.requests import MakeDefectsRequest, VideoJobResult
from modelmill_jobs.videos import work_on_videos

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def main(request: MakeDefectsRequest, spark: SparkSession) -> VideoJobResult:
    """Make the clips.

    :param request: the table and the places.
    :param spark: session to use.
    :return: the tables, and what became of the videos.
    """
    return work_on_videos(request, spark)


if __name__ == "__main__":
    run_as_application(MakeDefectsRequest, main)
