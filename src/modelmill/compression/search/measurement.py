"""Measuring candidates: always the exported file in its serving runtime, and all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelmill.compression.search.budget import Drop, Limit, accuracy_drop, hard_limits
from modelmill.compression.search.candidates import Candidate
from modelmill.compression.search.search import Search
from modelmill.evaluation.latency import Latency, Throughput, measure_latency, measure_throughput
from modelmill.models.scorers import load_scorer
from modelmill.tasks.calibration import FloatArray

_SPEED_ROWS = 128
_LATENCY_ROWS = 64
_TEACHER = ""


@dataclass(frozen=True)
class Speed:
    """How fast a model is."""

    throughput: Throughput
    latency: Latency
    ratio: float
    """Documents per second over the teacher's."""


@dataclass(frozen=True)
class MeasuredCandidate:
    """A candidate with everything that is known of it."""

    candidate: Candidate
    speed: Speed
    drop: Drop
    """On the rows that finalists are judged on."""
    logits: FloatArray
    """For those rows, ``(rows, classes)``."""
    limits: tuple[Limit, ...]
    """Of latency, throughput and size, as far as the budget has them."""

    @property
    def in_limits(self) -> bool:
        """Whether it keeps latency, throughput and size."""
        return all(limit.kept for limit in self.limits)


def measure_speeds(candidates: Sequence[Candidate], search: Search) -> tuple[Speed, list[Speed]]:
    """Measure candidates and their teacher side by side.

    :param candidates: the candidates.
    :param search: the search.
    :return: the teacher's speed, and that of each candidate.
    """
    rows = search.ranking.texts + search.judging.texts
    places = np.linspace(0, len(rows) - 1, min(_SPEED_ROWS, len(rows))).astype(np.int64)
    texts = [rows[place] for place in places]
    scorers = {_TEACHER: load_scorer(search.teacher.folder)}
    scorers |= {str(number): load_scorer(one.folder) for number, one in enumerate(candidates)}
    found = measure_throughput(scorers, texts, seconds=0.0, progress=search.workspace.progress)
    base = found[_TEACHER].documents_per_second

    def speed(name: str) -> Speed:
        return Speed(
            throughput=found[name],
            latency=measure_latency(scorers[name], texts[:_LATENCY_ROWS]),
            ratio=found[name].documents_per_second / base,
        )

    return speed(_TEACHER), [speed(str(number)) for number in range(len(candidates))]


def measure(candidates: Sequence[Candidate], search: Search) -> tuple[Speed, list[MeasuredCandidate]]:
    """Measure the speed of candidates side by side, and their answers to the rows for judging.

    :param candidates: the candidates.
    :param search: the search.
    :return: the teacher's speed; the candidates, the fastest first.
    """
    teacher, speeds = measure_speeds(candidates, search)
    found = [_measured(one, speed, search) for one, speed in zip(candidates, speeds, strict=True)]
    return teacher, sorted(found, key=lambda item: -item.speed.ratio)


def _measured(candidate: Candidate, speed: Speed, search: Search) -> MeasuredCandidate:
    rows, options = search.judging, search.options
    logits = load_scorer(candidate.folder).logits(rows.texts)
    return MeasuredCandidate(
        candidate=candidate,
        speed=speed,
        drop=accuracy_drop(rows.teacher_right, rows.right(logits), confidence=options.confidence),
        logits=logits,
        limits=hard_limits(
            options.budget,
            latency_ms=speed.latency.p95_ms,
            throughput_ratio=speed.ratio,
            size_mb=candidate.size_mb,
        ),
    )
