"""Which copies of clips the step find_duplicate_videos finds, and what it takes for copies.

``./run python -m benchmarks.video_duplicates --clips FOLDER [--pictures WHEEL] [--keep FILE]`` decodes the
beginnings of real clips, makes copies by known transformations, encodes all of them, measures them as
``measure_videos`` does, and finds duplicates among the sources and the copies of one kind, for each kind.
``--pictures`` names the wheel of ``comfyui-workflow-templates-media-video``: its animated pictures are clips,
too. Sources without any frame that can be hashed are named and left out. Recall: copies that are in the group
of their source. Precision: of the clips that another one stands for, those for which it is of the same
source. Intervals: 95 %, bootstrap over sources.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from PIL import Image

from modelmill.artifacts import TableRef
from modelmill.jobs import run_job
from modelmill.tables.reading import read_arrow
from modelmill.videos.defects import encoded
from modelmill.videos.duplicate_request import FindDuplicateVideosRequest
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.requests import VideoMeasureOptions

MEASURE = VideoMeasureOptions(sound=False).model_dump(mode="json")
WIDTH, SECONDS, LEAST = 320, 4.0, 12
SUFFIXES = {".mp4", ".mkv", ".webm"}
SAME = {"carphone_distorted.mp4": "carphone_pristine.mp4"}
"""Clips that are copies of other ones, as they are shipped."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("pixels", pa.int64()),
        ("hash_times", pa.list_(pa.float64())),
        ("hashes", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Clip:
    name: str
    frames: list[np.ndarray]
    rate: float

    def each(self, change: Callable[[Image.Image], Image.Image]) -> list[np.ndarray]:
        return [np.asarray(change(Image.fromarray(frame)), np.uint8) for frame in self.frames]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--most", type=int, default=20, help="clips of the wheel at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Parquet file for what was measured; read if it is there")
    parser.add_argument("--distance", type=float, default=9.0, help="as the step's field")
    options = parser.parse_args()
    if options.keep and options.keep.exists():
        table = pq.read_table(options.keep)
    else:
        table = measured(options)
        if options.keep:
            pq.write_table(table, options.keep)
    rows = table.to_pylist()
    flat = {row["source"] for row in rows if row["kind"] == "source" and not row["hashes"]}
    for name in sorted(flat):
        print(f"{name}: no frame of it can be hashed")
    rows = [row for row in rows if row["source"] not in flat]
    print(f"{len({row['source'] for row in rows})} sources, {len(rows)} clips, {options.distance} bits")
    print("| copies | clips | recall | 95 % | precision | said to be crops | distance: median, most |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        if kind != "source":
            report(kind, rows, options.distance)


def measured(options: argparse.Namespace) -> pa.Table:
    random, rows = np.random.default_rng(options.seed), list[dict[str, Any]]()
    with LimitedProcess(VideoLimits()) as process:
        for clip in clips(options):
            for kind, frames, crf in copies(clip, random):
                content = encoded(frames, clip.rate, "libx264", {"crf": str(crf), "preset": "veryfast"})
                (row,) = process.work("measure", {"content": content}, MEASURE)
                row |= {"key": f"{clip.name} {kind}", "source": clip.name, "kind": kind}
                rows.append(row | {"pixels": frames[0].shape[0] * frames[0].shape[1]})
    return pa.Table.from_pylist(rows, SCHEMA)


def clips(options: argparse.Namespace) -> Iterator[Clip]:
    """Yield the beginnings of clips, at half their rate."""
    for folder in options.clips:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
            try:
                frames, rate = decoded(path)
            except (RefusedVideoError, OSError) as error:
                print(f"{path.name}: {error}")
                continue
            if len(frames) >= LEAST:
                yield Clip(path.name, frames, rate)
            else:
                print(f"{path.name}: {len(frames)} frames")
    if options.pictures:
        yield from pictures(options.pictures, options.most)


def decoded(path: Path) -> tuple[list[np.ndarray], float]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        size = even(stream.codec_context.width, stream.codec_context.height)
        frames = []
        for number, frame in enumerate(container.decode(stream)):
            if number >= SECONDS * rate:
                break
            if number % 2 == 0:
                frames.append(frame.reformat(*size, "rgb24", interpolation="AREA").to_ndarray())
    return frames, rate / 2


def pictures(wheel: Path, most: int) -> Iterator[Clip]:
    """Yield animated pictures of a wheel."""
    with zipfile.ZipFile(wheel) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".webp"))
        for name in names:
            with Image.open(io.BytesIO(files.read(name))) as image:
                rate = 1000 / (image.info.get("duration") or 42)
                count = min(getattr(image, "n_frames", 1), int(SECONDS * rate))
                if count < 2 * LEAST or most <= 0:
                    continue
                frames, size = [], even(*image.size)
                for place in range(0, count, 2):
                    image.seek(place)
                    frames.append(np.asarray(image.convert("RGB").resize(size), np.uint8))
            most -= 1
            yield Clip(Path(name).name, frames, rate / 2)


def even(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, WIDTH / width)
    return max(16, round(width * scale / 2) * 2), max(16, round(height * scale / 2) * 2)


def copies(clip: Clip, random: np.random.Generator) -> Iterator[tuple[str, list[np.ndarray], int]]:
    """Yield the source and its copies: kind, frames, rate factor of the encoder."""
    height, width = clip.frames[0].shape[:2]
    yield "source", clip.frames, 23
    yield "encoded again", clip.frames, int(random.integers(30, 40))
    scale, stretched = random.uniform(0.4, 0.75), random.uniform(0.9, 1.1)
    size = round(width * scale / 2) * 2, round(height * scale * stretched / 2) * 2
    yield "resized", clip.each(lambda image: image.resize(size)), 27
    gain, more = random.uniform(1.1, 1.5), random.uniform(0, 10)
    brighter = [np.minimum(frame * gain + more, 255).astype(np.uint8) for frame in clip.frames]
    yield "brighter", brighter, 27
    yield "letterboxed", clip.each(bordered(random.uniform(0.05, 0.2), across=random.random() < 0.4)), 27
    for name, low, high in CROPS:
        share = random.uniform(low, high)
        yield name, clip.each(cropped(share, share, share, share)), 27
    for name, high in (("cropped off centre, up to 4 %", 0.04), ("cropped off centre, 4 to 8 %", 0.08)):
        sides = random.uniform(high - 0.04, high, 4) * (random.random(4) < 0.6)
        sides[random.integers(4)] = high
        yield name, clip.each(cropped(*sides)), 27


CROPS = (
    ("cropped by 1 to 4 %", 0.01, 0.04),
    ("cropped by 6 to 8 %", 0.06, 0.08),
    ("cropped by 12 to 15 %", 0.12, 0.15),
    ("cropped by 20 to 25 %", 0.2, 0.25),
)
"""Shares of the width and of the height that are cut off each side."""


def bordered(share: float, *, across: bool) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        edge = (round(share * width), 0) if across else (0, round(share * height))
        found = Image.new("RGB", image.size)
        found.paste(image.resize((width - 2 * edge[0], height - 2 * edge[1])), edge)
        return found

    return change


def cropped(left: float, top: float, right: float, bottom: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        begin, end = (
            (round(left * width), round(top * height)),
            (round(right * width), round(bottom * height)),
        )
        return image.crop((*begin, width - end[0], height - end[1])).resize(image.size)

    return change


def report(kind: str, rows: Sequence[Mapping[str, Any]], distance: float) -> None:
    chosen = [row for row in rows if row["kind"] in ("source", kind)]
    found = duplicates(pa.Table.from_pylist(chosen, SCHEMA), distance)
    by_key = {row["key"]: row for row in found}
    sources = {row["source"]: row for row in found if row["kind"] == "source"}
    made = [row for row in found if row["kind"] == kind]
    hits = [row["duplicate_group"] == sources[row["source"]]["duplicate_group"] for row in made]
    said = [row for row in found if row["duplicate_of"]]
    right = [shown(row["source"]) == shown(by_key[row["duplicate_of"]]["source"]) for row in said]
    random = np.random.default_rng(0)
    drawn = [np.mean(random.choice(hits, len(hits))) for _ in range(1000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    crops = sum(row["duplicate_relation"] == "cropped" for row in made)
    bits = [row["duplicate_distance"] for row in said] or [float("nan")]
    precision = np.mean(right) if right else 1.0
    scored = f"{np.mean(hits):.3f} | {low:.3f} to {high:.3f} | {precision:.3f}"
    print(f"| {kind} | {len(made)} | {scored} | {crops} | {np.median(bits):.1f}, {max(bits):.1f} |")
    for row, hit in zip(made, hits, strict=True):
        if not hit:
            print(f"    missed: {row['key']}")
    for row, true in zip(said, right, strict=True):
        if not true:
            print(f"    wrong: {row['key']} = {row['duplicate_of']}, {row['duplicate_distance']} bits")


def shown(source: str) -> str:
    return SAME.get(source, source)


def duplicates(table: pa.Table, distance: float) -> Sequence[Mapping[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        write_deltalake(f"{folder}/measured", table)
        source = TableRef(uri=f"{folder}/measured", version=0)
        request = FindDuplicateVideosRequest(
            table=source, to=f"{folder}/unique", prefer=("pixels",), distance=distance
        )
        found = run_job(request)
        rows: list[dict[str, Any]] = read_arrow(found.table).to_pylist()
    return rows


if __name__ == "__main__":
    main()
