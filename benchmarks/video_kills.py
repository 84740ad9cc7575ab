"""Jobs over videos that are killed with SIGKILL at random moments, and what becomes of their tables.

``./run python -m benchmarks.video_kills [--jobs NAME ...] [--kills 20]`` runs each job to the end once, on
clips that it makes. Then, again and again, on new tables: a child is killed after a random time, at any
instruction, and a second one asks for the same. Its tables must have the rows of the run that was never
killed, each once. A seed draws the moments.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from tests.library.videos.clips import write_clip

from modelmill.artifacts import TableRef
from modelmill.jobs import run_job
from modelmill.tables.reading import read_arrow
from modelmill.videos.duplicate_request import FindDuplicateVideosRequest
from modelmill.videos.requests import (
    ExtractFramesRequest,
    MakeDefectsRequest,
    MeasureVideosRequest,
    ProbeVideosRequest,
    ReadTextRequest,
)

Ask = Callable[[Path], Any]
"""Returns the request whose tables are in a folder."""
PARTS = ("pysail.spark", "pyspark.sql.connect.session", "pandas", "grpc", "modelmill_jobs.measure_videos")
DEFECTS = [{"kind": "clean"}, {"kind": "blur"}]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", nargs="+", default=list(JOBS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for module in (*PARTS, *(f"modelmill_jobs.{job}" for job in options.jobs)):
        import_module(module)  # once, not in each child
    source = random.Random(options.seed)
    print("| job | kills | the same tables | killed at work | with rows of some videos | left folders |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clips = TableRef(uri=str(place / "clips"), version=0)
        in_child(lambda: make_clips(place, options.clips))
        tables = {"clips": clips, "measured": clips}
        in_child(lambda: run_job(JOBS["measure_videos"](tables, place)))
        tables["measured"] = TableRef(
            uri=str(place / "made"), version=in_child(lambda: version(place / "made"))
        )
        wrong = 0
        for job in options.jobs:
            wrong += tried(job, lambda to, job=job: JOBS[job](tables, to), place / job, options.kills, source)
    sys.exit(wrong > 0)


def tried(job: str, ask: Ask, place: Path, kills: int, source: random.Random) -> int:
    """Kill a job, and compare its tables with those of a run that was not killed; return how many differ."""
    whole = ask(place / "whole")
    began = time.monotonic()
    in_child(lambda: run_job(whole))
    seconds, expected = time.monotonic() - began, in_child(lambda: rows_in(whole))
    same, early, partly, left = 0, 0, 0, 0
    for number in range(kills):
        request = ask(place / str(number))
        early += killed(request, source.uniform(0.02, 1.0) * seconds)
        partly += any(in_child(lambda request=request: rows_in(request)).values())
        in_child(lambda request=request: run_job(request))
        found = in_child(lambda request=request: rows_in(request))
        same += found == expected
        left += any((place / str(number)).rglob("_stage-*"))
        if found != expected:
            print(f"    kill {number}: {found} instead of {expected}")
    print(f"| `{job}` | {kills} | {same} | {early} | {partly} | {left} |", flush=True)
    return kills - same


def killed(request: Any, after: float) -> bool:
    """Run a job in a child, and kill it after some seconds; return whether it was still at work."""
    process = os.fork()
    if process == 0:
        run_job(request)
        os._exit(0)
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def in_child(work: Callable[[], Any]) -> Any:
    """Return what a function returns in a child, as JSON.

    The engines' threads do not survive a fork: so this process has none, and only its children use engines.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as answer:
            try:
                json.dump(work(), answer, default=str)
                status = 0
            except Exception:
                traceback.print_exc()
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    if os.waitpid(process, 0)[1]:
        raise SystemExit("a child failed")
    return json.loads(text)


def rows_in(request: Any) -> Mapping[str, list[str]]:
    """Return a hash of each row of a job's tables, sorted; none of a table that is not there."""
    found = {}
    for name in ("to", "quarantine"):
        place = getattr(request, name, None)
        if place is not None:
            there = (Path(place) / "_delta_log").is_dir()
            table = TableRef(uri=place, version=version(Path(place))) if there else None
            rows = read_arrow(table).to_pylist() if table else []
            found[name] = sorted(hashlib.sha256(repr(row).encode()).hexdigest()[:12] for row in rows)
    return found


def version(place: Path) -> int:
    return DeltaTable(str(place)).version()


def make_clips(place: Path, count: int) -> None:
    """Make clips, and a file that is none."""
    paths = [write_clip(place / f"{number}.mp4", seconds=1, seed=number // 2) for number in range(count)]
    (place / "none.mp4").write_bytes(b"no video")
    keys = [path.name for path in (*paths, place / "none.mp4")]
    table = pa.table({"key": keys, "path": [str(place / key) for key in keys]})
    write_deltalake(str(place / "clips"), table)


def _over_clips(kind: Any, **more: Any) -> Callable[[Mapping[str, TableRef], Path], Any]:
    def ask(tables: Mapping[str, TableRef], to: Path) -> Any:
        places = {"to": str(to / "made"), "quarantine": str(to / "refused")}
        return kind(
            table=tables["clips"], transaction="night", videos_per_commit=1, processes=1, **places, **more
        )

    return ask


def _duplicates(tables: Mapping[str, TableRef], to: Path) -> Any:
    return FindDuplicateVideosRequest(table=tables["measured"], to=str(to / "made"), transaction="night")


JOBS: Mapping[str, Callable[[Mapping[str, TableRef], Path], Any]] = {
    "probe_videos": _over_clips(ProbeVideosRequest),
    "extract_frames": _over_clips(ExtractFramesRequest),
    "measure_videos": _over_clips(MeasureVideosRequest),
    "read_text_in_frames": _over_clips(ReadTextRequest),
    "make_defects": _over_clips(MakeDefectsRequest, defects=DEFECTS, seconds=1, width=64),
    "find_duplicate_videos": _duplicates,
}


if __name__ == "__main__":
    main()
