"""Read the text in frames of the videos of a table; what cannot be decoded goes to a quarantine.

As an application: ``python -m modelmill_jobs.read_text_in_frames --table '{"uri": "/tables/probed",
"version": 0}' --to /tables/read --quarantine /tables/refused``.
"""

from __future__ import annotations

from modelmill.jobs import run_as_application
from modelmill.videos.requests import ReadTextRequest
from modelmill_jobs.videos import work_on_videos

main = work_on_videos

if __name__ == "__main__":
    run_as_application(ReadTextRequest, main)
