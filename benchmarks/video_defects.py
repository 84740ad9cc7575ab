"""What the rule set video_quality finds of defects that it was not tuned on, and at what cost.

``./run python -m benchmarks.video_defects --clips FOLDER [--pictures WHEEL]`` makes clips with defects of
clean ones, as ``make_defects`` does, measures them as ``measure_videos`` does, and decides with the rules of
``dags/rules/video_quality.yaml``, one detector at a time. ``--tune`` uses the scenes, the ranges and the rate
factor that the thresholds were chosen with; without it other scenes, other ranges and another rate factor are
used. Intervals: 95 %, bootstrap over scenes. The clips' names stand in ``TUNED`` and ``HELD_OUT``; with
``--pictures`` there are those of the wheel ``comfyui-workflow-templates-media-video``, too. They are clean by
hand, that is without borders, frozen or black stretches, and not blurred, dark or bright; those of
``LEFT_OUT`` are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks.video_scenes import pictures, scene_of

from modelmill.rules.engine import Engine
from modelmill.rules.reading import load_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import VideoMeasureOptions
from modelmill.videos.tasks import MEASURED

RULES = "dags/rules/video_quality.yaml"
TUNED = {
    "carphone": ["carphone_pristine.mp4"],
    "example": ["moviepy_example.mp4"],
    "signer": ["intel_walk.mkv", "intel_yes.mkv", "intel_again.mkv"],
    "road": ["intel_car-detection.mp4"],
}
HELD_OUT = {
    "cockatoo": ["imageio_cockatoo.mp4"],
    "fire": ["moviepy_fire2.mp4"],
    "bikes": ["bikes.mp4"],
    "bunny": ["bigbuckbunny.mp4"],
    "bottles": ["intel_bottle-detection.mp4"],
    "talk": ["moviepy_video_with_failing_audio.mp4"],
    "yard": ["vtest.avi"],
    "box": ["box.mp4"],
}
FIRST = ("cockatoo", "fire", "bikes", "bunny", "bottles", "talk")
"""Scenes that were judged before, with what was measured then."""
LEFT_OUT = {
    # held out
    "ltxv_text_to_video-1": "blurred by itself",
    "video_causal_forcing_i2v-1": "dark by itself",
    "video_wan2.1_fun_camera_v1.1_14B-1": "the same",
    # tuned
    "api_google_gemini_omni_flash_i2v-1": "a black part, with a storyboard",
    "api_kling_motion_control3-2": "dark by itself",
    "video_wan2_2_14B_fun_camera-1": "the same",
    "video_wan2_2_5B_ti2v-1": "the same",
}
"""Of the wheel, by hand: frames of each were looked at, those held out before any was measured."""
ONE_SCENE = {"video_wan2_2_14B_i2v-1": "armour", "video_wan_ati-1": "armour"}
"""Pictures of the wheel that show the same."""
DETECTORS = {
    "border": ["borders"],
    "freeze": ["frozen"],
    "black": ["black"],
    "slides": ["slideshow"],
    "blur": ["blurred"],
    "exposure": ["dark", "bright"],
}
"""Kind of defect, and the rules that find it. A slideshow is frozen, too, and counts for neither."""
IGNORED = {"freeze": {"slides"}, "slides": set(), "black": set()}
MEASURE = VideoMeasureOptions(sound=False).model_dump(mode="json")
DUPLICATE = ("duplicate_of", "duplicate_relation")
TYPES = {"numbers": pa.list_(pa.float64()), "text": pa.string(), "float": pa.float64(), "integer": pa.int64()}


def kinds(*, tune: bool) -> list[dict[str, Any]]:
    """Return defects: the ranges overlap only at their ends."""
    if tune:
        return [
            {"kind": "clean"},
            {"kind": "blur", "sigma": [2.5, 4.0]},
            {"kind": "border", "share": [0.06, 0.15]},
            {"kind": "freeze", "seconds": [1.3, 1.8]},
            {"kind": "black", "seconds": [1.2, 1.6]},
            {"kind": "slides", "seconds": [1.0, 1.4], "fade": [0, 0.4]},
            {"kind": "exposure", "dark": [0.1, 0.18], "bright": [2.8, 3.5]},
        ]
    return [
        {"kind": "clean"},
        {"kind": "blur", "sigma": [2.0, 2.5]},
        {"kind": "blur", "sigma": [4.0, 6.0]},
        {"kind": "border", "share": [0.03, 0.06]},
        {"kind": "border", "share": [0.15, 0.22]},
        {"kind": "freeze", "seconds": [1.15, 1.3]},
        {"kind": "freeze", "seconds": [1.8, 2.5]},
        {"kind": "black", "seconds": [1.6, 2.2]},
        {"kind": "slides", "seconds": [0.9, 1.0], "fade": [0.4, 0.8]},
        {"kind": "slides", "seconds": [1.4, 2.0], "fade": [0, 0]},
        {"kind": "exposure", "dark": [0.06, 0.1], "bright": [3.5, 4.5]},
        {"kind": "exposure", "dark": [0.18, 0.22], "bright": [2.4, 2.8]},
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--pictures", type=Path, help="the wheel")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--kept", type=Path, help="folder for the clips that are made")
    parser.add_argument("--show", action="store_true", help="print what each clip measures")
    options = parser.parse_args()
    began = time.monotonic()
    rows = made_rows(options)
    rule_set = load_rule_set(RULES)
    print(f"{len(rows)} clips; rule set {rule_set.digest[:12]}")
    if not options.tune:
        tables([row for row in rows if row["scene"] in FIRST], rule_set, show=False)
        tables([row for row in rows if row["scene"] not in FIRST], rule_set, show=False)
    tables(rows, rule_set, show=options.show)
    overlaps = [overlap(row["border_box"], row["truth_box"]) for row in rows if row["defect"] == "border"]
    print(
        f"box IoU of borders: mean {np.mean(overlaps):.4f}, least {min(overlaps):.4f}, {len(overlaps)} clips"
    )
    print(f"{time.monotonic() - began:.0f} s")


def tables(rows: Sequence[Mapping[str, Any]], rule_set: RuleSet, *, show: bool) -> None:
    """Print what the detectors find in some clips."""
    table = pa.RecordBatch.from_pylist(list(rows), schema=schema())
    print(f"\n{len(rows)} clips of {len({row['scene'] for row in rows})} scenes\n")
    print("| defect | clips | precision | recall | F1 | 95 % |\n| --- | --- | --- | --- | --- | --- |")
    for kind, names in DETECTORS.items():
        report(kind, rows, fired(rule_set, names, table), show=show)


def schema() -> pa.Schema:
    """Return the columns that the rules read, and what is known of each clip."""
    fields = [pa.field(name, TYPES[kind]) for name, kind in MEASURED.items() if kind in TYPES]
    known = ["seconds", "bit_rate", "frames_per_second"]
    fields += [pa.field(name, pa.float64()) for name in known]
    fields += [pa.field(name, pa.int64()) for name in ("width", "height")]
    return pa.schema(
        [*fields, *(pa.field(name, pa.string()) for name in ("key", "audio_codec", "subtitles", *DUPLICATE))]
    )


def made_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    how = {
        "defects": kinds(tune=options.tune),
        "seed": 1 if options.tune else 3,
        "seconds": options.seconds,
        "width": 480,
        "codec": "libx264",
        "crf": 23 if options.tune else 29,
    }
    rows = []
    with LimitedProcess(VideoLimits()) as process:
        for scene, name, source in sources(options):
            for made in process.work("defects", source, how):
                if options.kept is not None:
                    (options.kept / f"{made['clip']}.mp4").write_bytes(made["video"])
                (row,) = process.work("measure", {"content": made["video"]}, MEASURE)
                rows.append(
                    row
                    | {"scene": scene, "defect": made["defect"], "truth_box": made["box"]}
                    | {"key": f"{name} {made['clip']} {made['parameters']}"}
                    | {"seconds": made["clip_seconds"]}
                )
    return rows


def sources(options: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield scene, name and source of clean clips."""
    paths = {path.name: path for folder in options.clips for path in folder.rglob("*") if path.is_file()}
    for scene, names in (TUNED if options.tune else HELD_OUT).items():
        for name in names:
            if name in paths:
                yield scene, name, {"path": str(paths[name])}
            else:
                print(f"{name} is not there: left out")
    if options.pictures is not None:
        for name, content in pictures(options.pictures, tuned=options.tune):
            if name not in LEFT_OUT:
                yield ONE_SCENE.get(name, scene_of(name)), name, {"content": content}


def fired(rule_set: RuleSet, names: Sequence[str], table: pa.RecordBatch) -> list[bool]:
    """Return on which clips one of some rules alone decides."""
    rules = tuple(rule for rule in rule_set.rules if rule.name in names)
    alone = rule_set.model_copy(update={"rules": rules, "examples": ()})
    decided = Engine(alone, table.schema, settings=Settings.from_environment()).decide(table)
    return [rule is not None for rule in decided.column("rule").to_pylist()]


def report(kind: str, rows: Sequence[Mapping[str, Any]], found: Sequence[bool], *, show: bool) -> None:
    counted = [
        (row["scene"], row["defect"] == kind, hit)
        for row, hit in zip(rows, found, strict=True)
        if row["defect"] not in IGNORED.get(kind, set())
    ]
    scenes = sorted({scene for scene, _, _ in counted})
    random, scores = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = random.choice(scenes, len(scenes))
        scores.append(f1([one for scene in drawn for one in counted if one[0] == scene])[2])
    precision, recall, score = f1(counted)
    low, high = np.quantile(scores, [0.025, 0.975])
    positives = sum(truth for _, truth, _ in counted)
    scored = f"{precision:.3f} | {recall:.3f} | {score:.3f} | {low:.3f} to {high:.3f}"
    print(f"| {kind} | {positives} of {len(counted)} | {scored} |")
    if show:
        for row, hit in zip(rows, found, strict=True):
            if (row["defect"] == kind) != hit and row["defect"] not in IGNORED.get(kind, set()):
                print("   ", "missed" if not hit else "wrong", row["key"], {n: brief(row[n]) for n in SHOWN})


SHOWN = (
    "blur",
    "frozen_starts",
    "frozen_ends",
    "slideshow",
    "brightness",
    "dark_share",
    "bright_share",
    "border_box",
)


def brief(value: Any) -> Any:
    if not isinstance(value, list) or len(value) < 5:
        return value
    numbers = [one for one in value if one is not None]
    return [round(float(np.quantile(numbers, part)), 3) for part in (0.25, 0.5, 0.75)] if numbers else None


def f1(counted: Sequence[tuple[str, bool, bool]]) -> tuple[float, float, float]:
    hits = sum(truth and hit for _, truth, hit in counted)
    said, there = sum(hit for _, _, hit in counted), sum(truth for _, truth, _ in counted)
    precision, recall = hits / said if said else 1.0, hits / there if there else 1.0
    return precision, recall, 2 * hits / (said + there) if said + there else 1.0


def overlap(one: Sequence[float] | None, other: Sequence[float]) -> float:
    if one is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


if __name__ == "__main__":
    main()
