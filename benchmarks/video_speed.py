"""What all measures of a video cost, beside the loop over frames that one writes with OpenCV.

``./run python -m benchmarks.video_speed --clips FOLDER ...`` measures each clip with ``measure_videos``'s
defaults, without sound, and again with filters, too, looking at four frames a second alone (``every_frame:
false``). It computes the same list of measures in a loop over ``cv2.VideoCapture``: of all frames and of four
a second, at full size and at 320 pixels. Four a second at 320 pixels are the frames and the size at which
modelmill measures; by default its filters see all frames, at 160 pixels. The loop uses OpenCV's own functions
wherever there is one. CPU seconds of this process, one thread each, medians of some rounds in turns; the sums
are over all clips. Needs ``opencv-python-headless``, which the extra ``ocr`` brings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from modelmill.videos.limits import VideoLimits
from modelmill.videos.measuring import measure
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.requests import VideoMeasureOptions
from modelmill.videos.sources import open_source

Picture = npt.NDArray[Any]

SUFFIXES = {".avi", ".mkv", ".mp4", ".webm"}
OPTIONS = VideoMeasureOptions(sound=False).model_dump(mode="json")
A_SECOND = 4.0
SMALL = 320
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ways: dict[str, Callable[[Path], int]] = {
        "measure_videos": by_modelmill,
        "measure_videos, every_frame: false": lambda path: by_modelmill(path, every_frame=False),
        "OpenCV, all frames, full size": by_opencv,
        "OpenCV, 4 frames a second, full size": lambda path: by_opencv(path, a_second=A_SECOND),
        "OpenCV, all frames, 320 pixels": lambda path: by_opencv(path, width=SMALL),
        "OpenCV, 4 frames a second, 320 pixels": lambda path: by_opencv(path, a_second=A_SECOND, width=SMALL),
    }
    paths = [
        path for folder in options.clips for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES
    ]
    paths = [path for path in paths if is_read(path)]
    if not paths:
        raise SystemExit("no clip that both can read")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    frames: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.process_time()
            frames[name] = sum(way(path) for path in paths)
            taken[name].append(time.process_time() - began)
    ours, sampled = (statistics.median(seconds) for seconds in list(taken.values())[:2])
    print(f"{len(paths)} clips, medians of {options.rounds} rounds\n")
    print("| | frames measured | CPU s | of the defaults' | of the four frames' |\n|" + " --- |" * 5)
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        shares = f"{median / ours:.1f} | {median / sampled:.1f}"
        print(f"| {name} | {frames[name]:,} | {median:.2f} | {shares} |", flush=True)


def is_read(path: Path) -> bool:
    """Return whether both read a clip, and its pictures are no strips of a few pixels.

    Whatever either imports is imported then.
    """
    video = cv2.VideoCapture(str(path))
    if min(video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) < 16:
        return False
    try:
        return by_modelmill(path) > 0 and by_opencv(path, a_second=0.5) > 0
    except RefusedVideoError:
        return False


def by_modelmill(path: Path, *, every_frame: bool = True) -> int:
    """Measure a clip; return how many frames were sampled."""
    with open_source({"path": str(path)}, VideoLimits()) as source:
        (row,) = measure(source, VideoLimits(), OPTIONS | {"every_frame": every_frame})
    return len(row["times"])


def by_opencv(path: Path, *, a_second: float | None = None, width: int | None = None) -> int:
    """Measure a clip with OpenCV; return how many frames were measured."""
    loop = Loop()
    for at, frame in frames_of(path, a_second):
        if width and frame.shape[1] > width:
            height = max(2, round(frame.shape[0] * width / frame.shape[1]))
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        loop.see(at, frame)
    loop.end()
    return loop.frames


def frames_of(path: Path, a_second: float | None) -> Iterator[tuple[float, Picture]]:
    """Yield frames with their times; those between are decoded, and not converted."""
    video = cv2.VideoCapture(str(path))
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    following = number = 0.0
    while video.grab():
        at = number / rate
        if a_second is None or at >= following:
            ok, frame = video.retrieve()
            if ok:
                yield at, frame
            following = at + 1 / a_second if a_second else 0.0
        number += 1
    video.release()


class Loop:
    """What a loop over frames keeps: the same list of measures as ``measure_videos``, but for the sound."""

    def __init__(self) -> None:
        self.frames = 0
        self.found: list[dict[str, float]] = []
        self.hashes: list[int] = []
        self.next_hash = 0.0
        self.before: Picture | None = None
        self.black: list[Picture] = []
        self.sums: list[Picture] = []

    def see(self, at: float, frame: Picture) -> None:
        """Measure a frame."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        self.found.append(
            exposure(grey)
            | {"colourfulness": colourfulness(frame), "text_share": text_share(grey), "blur": blur(grey)}
            | {"sharpness": float(cv2.Laplacian(grey, cv2.CV_32F).var()), "noise": noise(grey)}
            | {"blockiness": blockiness(grey), "motion": self.motion(grey)}
        )
        self.borders(grey)
        self.overlay(grey)
        if at >= self.next_hash:
            self.hashes.append(perceptual_hash(grey))
            self.next_hash = at + 0.5
        self.before = grey
        self.frames += 1

    def motion(self, grey: Picture) -> float:
        """Return the mean difference to the frame before: small where it is frozen, large at a cut."""
        return 0.0 if self.before is None else float(cv2.absdiff(grey, self.before).mean())

    def borders(self, grey: Picture) -> None:
        """Keep which lines are black in every frame."""
        rows, columns = cv2.reduce(grey, 1, cv2.REDUCE_MAX) < 32, cv2.reduce(grey, 0, cv2.REDUCE_MAX) < 32
        self.black = [rows, columns] if not self.black else [rows & self.black[0], columns & self.black[1]]

    def overlay(self, grey: Picture) -> None:
        """Add up gradients and their squares: where they stay, there is an overlay."""
        gradients = [cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)]
        if not self.sums:
            self.sums = [np.zeros(grey.shape, np.float32) for _ in range(4)]
        for place, gradient in enumerate(gradients):
            cv2.accumulate(gradient, self.sums[2 * place])
            cv2.accumulateSquare(gradient, self.sums[2 * place + 1])

    def end(self) -> None:
        """Bring what was kept to the measures of the whole clip."""
        if not self.sums:
            return
        count = float(self.frames)
        mean = [total / count for total in self.sums]
        spread = np.sqrt(np.maximum(mean[1] - mean[0] ** 2, 0) + np.maximum(mean[3] - mean[2] ** 2, 0))
        stays = (np.hypot(mean[0], mean[2]) > 2 * spread + 16).astype(np.uint8)
        joined = cv2.morphologyEx(stays, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
        cv2.connectedComponentsWithStats(joined)


def exposure(grey: Picture) -> dict[str, float]:
    """Return mean, deviation, and shares of dark and bright pixels."""
    mean, deviation = cv2.meanStdDev(grey)
    histogram = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel() / grey.size
    shares = {"dark_share": float(histogram[:32].sum()), "bright_share": float(histogram[224:].sum())}
    return shares | {"brightness": float(mean[0, 0]), "contrast": float(deviation[0, 0])}


def colourfulness(frame: Picture) -> float:
    """Return what Hasler and Süsstrunk, 2003, measure."""
    blue, green, red = cv2.split(frame.astype(np.float32))
    (mean_rg, std_rg), (mean_yb, std_yb) = (
        (float(mean[0, 0]), float(std[0, 0]))
        for mean, std in map(cv2.meanStdDev, (red - green, (red + green) / 2 - blue))
    )
    return float(np.hypot(std_rg, std_yb) + 0.3 * np.hypot(mean_rg, mean_yb))


def blur(grey: Picture) -> float:
    """Return the blur effect of Crété and others, 2007."""
    found = []
    for size, axis in (((9, 1), 1), ((1, 9), 0)):
        again = cv2.blur(grey, size)
        change = cv2.absdiff(grey[:, 1:], grey[:, :-1]) if axis else cv2.absdiff(grey[1:], grey[:-1])
        left = cv2.absdiff(again[:, 1:], again[:, :-1]) if axis else cv2.absdiff(again[1:], again[:-1])
        total = float(change.sum())
        found.append((total - float(cv2.subtract(change, left).sum())) / total if total else 0.0)
    return max(found)


def noise(grey: Picture) -> float:
    """Return the deviation of noise by Immerkær, 1996."""
    masked = cv2.filter2D(grey, cv2.CV_32F, IMMERKAER)
    return float(np.sqrt(np.pi / 2) * cv2.norm(masked, cv2.NORM_L1) / masked.size / 6)


def blockiness(grey: Picture) -> float:
    """Return how much larger steps are at the edges of blocks of eight than elsewhere."""
    steps = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    means = cv2.reduce(steps, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    return float(means[7::8].mean() / max(float(means.mean()), 1e-6))


def text_share(grey: Picture) -> float:
    """Return the share of the picture in lines of strokes: gradient, threshold, closing, regions."""
    gradient = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, strokes = cv2.threshold(gradient, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    lines = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    _, _, regions, _ = cv2.connectedComponentsWithStats(lines)
    wide = regions[1:][regions[1:, cv2.CC_STAT_WIDTH] > 3 * regions[1:, cv2.CC_STAT_HEIGHT]]
    return float(wide[:, cv2.CC_STAT_AREA].sum() / grey.size)


def perceptual_hash(grey: Picture) -> int:
    """Return 64 signs of a cosine transform."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


if __name__ == "__main__":
    main()
