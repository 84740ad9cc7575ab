"""What grows with the number of videos: memory with decodes, cost with rows.

``./run python -m benchmarks.video_growth [--counts 100 1000 10000] [--decodes 1000]``. First one process
measures clips again and again, one of them cut off, with all measures, the sound, and pictures of shots; its
resident memory after the first rounds is compared with that at the end. The product replaces such a process
after 200 videos; this one is not replaced. Then the job ``measure_videos`` measures tables of so many copies
of a clip: each has its own key, all are one file, one process decodes. CPU seconds of the job with all its
processes; each count runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
from benchmarks.video_kills import PARTS, in_child
from deltalake import write_deltalake
from tests.library.videos.clips import moving, write_clip, write_frames

from modelmill.artifacts import TableRef
from modelmill.jobs import run_job
from modelmill.videos.limits import VideoLimits
from modelmill.videos.measuring import measure
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.requests import MeasureVideosRequest, VideoMeasureOptions
from modelmill.videos.sources import open_source

EVERYTHING = VideoMeasureOptions(stills=320).model_dump(mode="json")
FEW: dict[str, Any] = {"measures": ("exposure",), "sound": False}
"""Of the copies: decoding takes the least part, so what grows beside it is seen."""
WARM = 20
"""Rounds after which memory is looked at first."""


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--decodes", type=int, default=1_000)
    options = parser.parse_args()
    for module in PARTS:
        import_module(module)  # once, not in each child
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.decodes:
            first, last = in_child(lambda: memory_of(place, options.decodes))
            print(
                f"{options.decodes:,} decodes: {first:.1f} MB after {WARM}, {last:.1f} MB at the end",
                flush=True,
            )
        if options.counts:
            in_child(lambda: str(write_clip(place / "copy.mp4", seconds=0.4, size=(64, 48))))
            print("| videos | CPU s | ms for each | seconds |\n| --- | --- | --- | --- |")
        for count in options.counts:
            spent, lasted = in_child(lambda count=count: cost_of(place, count))
            print(f"| {count:,} | {spent:.1f} | {1000 * spent / count:.1f} | {lasted:.0f} |", flush=True)


def memory_of(place: Path, decodes: int) -> tuple[float, float]:
    """Measure clips in this process; return its resident megabytes after the first rounds and at the end."""
    scene = moving(1, (320, 240))
    clips = [
        write_clip(place / "sound.mp4", seconds=1, sound=True),
        write_frames(place / "b.webm", map(scene, range(12)), codec="libvpx"),
        write_frames(place / "c.avi", map(scene, range(12)), codec="mpeg4"),
    ]
    content = clips[1].read_bytes()
    (place / "broken.webm").write_bytes(content[: len(content) // 2])
    clips.append(place / "broken.webm")
    first = 0.0
    for number in range(decodes + WARM):
        if number == WARM:
            first = resident()
        path = str(clips[number % len(clips)])
        with contextlib.suppress(RefusedVideoError), open_source({"path": path}, VideoLimits()) as source:
            measure(source, VideoLimits(), EVERYTHING)
    return first, resident()


def resident() -> float:
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def cost_of(place: Path, count: int) -> tuple[float, float]:
    """Measure copies of a clip by the job; return its CPU seconds and how long it took."""
    clips = str(place / f"clips{count}")
    keys = [f"copy-{number:06}" for number in range(count)]
    write_deltalake(clips, pa.table({"key": keys, "path": [str(place / "copy.mp4")] * count}))
    request = MeasureVideosRequest(
        table=TableRef(uri=clips, version=0),
        to=str(place / f"measured{count}"),
        quarantine=str(place / f"refused{count}"),
        transaction="night",
        processes=1,
        **FEW,
    )
    began, before = time.monotonic(), cpu()
    result = run_job(request)
    spent, lasted = cpu() - before, time.monotonic() - began
    if (result.rows, result.worked_on) != (count, count):
        raise SystemExit(f"{result.rows} rows of {count} videos")
    return spent, lasted


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
