"""Measuring candidates: always the exported file in its serving runtime, and all of them side by side.

A machine that does other work as well is slower for all of them: so what counts is CPU time, in rounds in
which the teacher and the candidates take turns. Where three rounds leave open whether a limit is kept, more
are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modelmill.compression.options import Budget
from modelmill.compression.search.budget import Drop, Limit, hard_limits
from modelmill.compression.search.candidates import Candidate
from modelmill.compression.search.search import Search
from modelmill.evaluation.latency import (
    MIN_ROUNDS,
    Latency,
    Throughput,
    measure_latency,
    measure_throughput,
    speed_ratio,
)
from modelmill.models.scorers import load_scorer
from modelmill.tasks.metrics import Interval

_SPEED_ROWS = 128
_LATENCY_ROWS = 64
_TEACHER = ""
MORE_ROUNDS = 15


@dataclass(frozen=True)
class Speed:
    """How fast a model is."""

    throughput: Throughput
    latency: Latency
    ratio: Interval
    """Documents per second over the teacher's, see :func:`modelmill.evaluation.latency.speed_ratio`."""


@dataclass(frozen=True, eq=False)
class MeasuredCandidate:
    """A candidate with everything that is known of it."""

    candidate: Candidate
    speed: Speed
    drop: Drop
    """On the rows that finalists are judged on."""
    limits: tuple[Limit, ...]
    """Of latency, throughput and size, as far as the budget has them."""

    @property
    def in_limits(self) -> bool:
        """Whether it keeps latency, throughput and size."""
        return all(limit.kept for limit in self.limits)


def measure_speeds(
    folders: Sequence[Path], search: Search, *, rounds: int = MIN_ROUNDS
) -> tuple[Speed, list[Speed]]:
    """Measure bundles and their teacher side by side; return the teacher's speed, and that of each."""
    rows = search.ranking.texts + search.judging.texts
    places = np.linspace(0, len(rows) - 1, min(_SPEED_ROWS, len(rows))).astype(np.int64)
    texts = [rows[place] for place in places]
    scorers = {_TEACHER: load_scorer(search.teacher.folder)}
    scorers |= {str(number): load_scorer(folder) for number, folder in enumerate(folders)}
    found = measure_throughput(scorers, texts, rounds=rounds, seconds=0.0, progress=search.workspace.progress)
    on_cpu = not torch.cuda.is_available()

    def speed(name: str) -> Speed:
        return Speed(
            throughput=found[name],
            latency=measure_latency(scorers[name], texts[:_LATENCY_ROWS], rounds=rounds, on_cpu=on_cpu),
            ratio=speed_ratio(found[_TEACHER], found[name], on_cpu=on_cpu),
        )

    return speed(_TEACHER), [speed(str(number)) for number in range(len(folders))]


def in_doubt(speed: Speed, budget: Budget) -> bool:
    """Return whether a measurement leaves open if a limit is kept."""
    ratio, (low, high) = speed.ratio, speed.latency.p95_interval
    least, most = budget.min_throughput_ratio, budget.max_latency_ms
    return (least is not None and ratio.low < least <= ratio.high) or (
        most is not None and low <= most < high
    )


def measure(candidates: Sequence[Candidate], search: Search) -> tuple[Speed, list[MeasuredCandidate]]:
    """Measure candidates side by side, and judge their answers.

    Returned are the teacher's speed, and the candidates, the fastest first.
    """
    teacher, speeds = measure_speeds([one.folder for one in candidates], search)
    open_ = [place for place, speed in enumerate(speeds) if in_doubt(speed, search.options.budget)]
    if open_:
        search.workspace.log(f"measuring {len(open_)} again, which are close to a limit")
        _, again = measure_speeds([candidates[place].folder for place in open_], search, rounds=MORE_ROUNDS)
        for place, speed in zip(open_, again, strict=True):
            speeds[place] = speed
    found = [_measured(one, speed, search) for one, speed in zip(candidates, speeds, strict=True)]
    return teacher, sorted(found, key=lambda item: -item.speed.ratio.value)


def _measured(candidate: Candidate, speed: Speed, search: Search) -> MeasuredCandidate:
    rows, options = search.judging, search.options
    answers = rows.answers(candidate.logits, candidate.info.calibration)
    return MeasuredCandidate(
        candidate=candidate,
        speed=speed,
        drop=rows.drop(answers, confidence=options.confidence),
        limits=hard_limits(
            options.budget,
            latency_ms=speed.latency.p95_ms,
            throughput_ratio=speed.ratio.value,
            size_mb=candidate.size_mb,
        ),
    )
