"""Make labelled clips of clean ones; what cannot be decoded goes to a quarantine.

As an application: ``python -m modelmill_jobs.make_defects --table '{"uri": "/tables/probed", "version": 0}'
--to /tables/defects --quarantine /tables/refused``.
"""

from __future__ import annotations

from modelmill.jobs import run_as_application
from modelmill.videos.requests import MakeDefectsRequest
from modelmill_jobs.videos import work_on_videos

main = work_on_videos

if __name__ == "__main__":
    run_as_application(MakeDefectsRequest, main)
