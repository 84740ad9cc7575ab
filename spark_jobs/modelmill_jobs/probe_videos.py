"""Read what the videos of a table say of themselves; what cannot be read goes to a quarantine.

As an application: ``python -m modelmill_jobs.probe_videos --table '{"uri": "/tables/clips", "version": 0}'
--to /tables/probed --quarantine /tables/refused``.
"""

from __future__ import annotations

from modelmill.jobs import run_as_application
from modelmill.videos.requests import ProbeVideosRequest
from modelmill_jobs.videos import work_on_videos

main = work_on_videos

if __name__ == "__main__":
    run_as_application(ProbeVideosRequest, main)
