"""Measuring candidates: always the exported file in its serving runtime, and all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelmill.compression.search.budget import Drop, Limit, accuracy_drop, hard_limits
from modelmill.compression.search.problem import Task
from modelmill.compression.search.recipes import Recipe
from modelmill.evaluation.latency import Latency, Throughput, measure_latency, measure_throughput
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.scorers import load_scorer

Floats = npt.NDArray[np.float32]

_SPEED_ROWS = 128
_LATENCY_ROWS = 64
_TEACHER = ""


@dataclass(frozen=True)
class Made:
    """A candidate as a bundle, and its answers to the rows that candidates are ranked by."""

    recipe: Recipe
    folder: Path
    info: BundleInfo
    size_mb: float
    choosing_drop: float

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, task: Task) -> Made:
        """Score a bundle on the rows that candidates are ranked by.

        :param recipe: how it was made.
        :param folder: the bundle.
        :param task: the compression.
        :return: the candidate.
        """
        rows = task.choosing
        right = rows.right(load_scorer(folder).logits(rows.texts))
        return cls(
            recipe=recipe,
            folder=folder,
            info=BundleInfo.load(folder),
            size_mb=bundle_bytes(folder) / 1e6,
            choosing_drop=float(rows.teacher_right.mean() - right.mean()),
        )


@dataclass(frozen=True)
class Speed:
    """How fast a candidate is."""

    throughput: Throughput
    latency: Latency
    ratio: float
    """Documents per second over the teacher's."""


@dataclass(frozen=True)
class Measured:
    """A candidate with everything that is known of it."""

    made: Made
    speed: Speed
    drop: Drop
    """On the rows that finalists are judged on."""
    logits: Floats
    """For those rows, ``(rows, classes)``."""
    limits: tuple[Limit, ...]
    """Those that are measured."""

    @property
    def in_limits(self) -> bool:
        """Whether it keeps latency, throughput and size."""
        return all(limit.kept for limit in self.limits)


def measure_speeds(made: Sequence[Made], task: Task) -> tuple[Speed, list[Speed]]:
    """Measure candidates and their teacher side by side.

    :param made: the candidates.
    :param task: the compression.
    :return: the teacher's speed, and that of each candidate.
    """
    rows = task.choosing.texts + task.judging.texts
    places = np.linspace(0, len(rows) - 1, min(_SPEED_ROWS, len(rows))).astype(np.int64)
    texts = [rows[place] for place in places]
    scorers = {_TEACHER: load_scorer(task.folder)}
    scorers |= {str(number): load_scorer(item.folder) for number, item in enumerate(made)}
    found = measure_throughput(scorers, texts, seconds=0.0, progress=task.context.progress)
    base = found[_TEACHER].documents_per_second

    def speed(name: str) -> Speed:
        return Speed(
            throughput=found[name],
            latency=measure_latency(scorers[name], texts[:_LATENCY_ROWS]),
            ratio=found[name].documents_per_second / base,
        )

    return speed(_TEACHER), [speed(str(number)) for number in range(len(made))]


def measure(made: Sequence[Made], task: Task) -> tuple[Speed, list[Measured]]:
    """Measure candidates: speed side by side, and answers to the rows that finalists are judged on.

    :param made: the candidates.
    :param task: the compression.
    :return: the teacher's speed; the candidates, the fastest first.
    """
    teacher, speeds = measure_speeds(made, task)
    found = [_measured(item, speed, task) for item, speed in zip(made, speeds, strict=True)]
    return teacher, sorted(found, key=lambda item: -item.speed.ratio)


def _measured(made: Made, speed: Speed, task: Task) -> Measured:
    rows = task.judging
    logits = load_scorer(made.folder).logits(rows.texts)
    return Measured(
        made=made,
        speed=speed,
        drop=accuracy_drop(rows.teacher_right, rows.right(logits), confidence=task.config.confidence),
        logits=logits,
        limits=hard_limits(
            task.config.budget,
            latency_ms=speed.latency.p95_ms,
            throughput_ratio=speed.ratio,
            size_mb=made.size_mb,
        ),
    )
