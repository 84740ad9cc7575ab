"""Choosing: in a fixed order, ended by the first that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelmill.compression.options import CompressionOptions
from modelmill.compression.search.budget import Drop, Limit
from modelmill.compression.search.candidates import Candidate
from modelmill.compression.search.measurement import MeasuredCandidate, Speed
from modelmill.compression.search.recipes import Recipe, Structure
from modelmill.compression.search.selection import choose, judging_order
from modelmill.errors import ConfigError
from modelmill.evaluation.latency import Latency, Throughput
from modelmill.models.bundle import BundleInfo
from modelmill.tasks.metrics import Interval

INFO = BundleInfo(format="onnx", label="x", classes=("a", "b"), text="body", max_tokens=8, parameters=1)


def candidate(
    speed: float,
    *,
    seen: float,
    bound: float,
    size: float = 1.0,
    limits: tuple[Limit, ...] = (),
    **recipe: Any,
) -> MeasuredCandidate:
    values = {"family": "transformer", "structure": Structure(1, 16, 1.0), "vocabulary": "seen", **recipe}
    logits = np.zeros((1, 2), np.float32)
    made = Candidate(Recipe(**values), Path(), INFO, size_mb=size, ranking_drop=seen, logits=logits)
    throughput = Throughput(speed, speed, 1, (1.0,))
    drop = Drop(rows=100, value=0.0, bound=bound)
    latency, ratio = Latency(1, 1, 1, (1, 1)), Interval(speed, speed, speed)
    return MeasuredCandidate(made, Speed(throughput, latency, ratio), drop, limits)


def speeds(found: list[MeasuredCandidate]) -> list[float]:
    return [item.speed.ratio.value for item in found]


def test_the_fastest_that_passes_is_taken() -> None:
    config = CompressionOptions()
    good = [candidate(2, seen=0.0, bound=0.001), candidate(4, seen=0.002, bound=0.005)]
    fast = candidate(9, seen=0.008, bound=0.02)
    assert choose([fast, *good], config) is good[1]
    beaten = candidate(1, seen=0.005, bound=0.0)
    out_of_sight = candidate(20, seen=0.02, bound=0.0)
    order = judging_order([fast, beaten, *good, out_of_sight], config)
    assert speeds(order) == [2, 4, 9]


def test_the_first_failure_ends_the_judging() -> None:
    found = [candidate(2, seen=0.0, bound=0.02), candidate(4, seen=0.001, bound=0.001)]
    with pytest.raises(ConfigError) as caught:
        choose(found, CompressionOptions())
    assert "of 2 that were measured the nearest does not" in str(caught.value)


def test_what_is_preferred() -> None:
    found = [
        candidate(2, seen=0.0, bound=0.001, size=9),
        candidate(4, seen=0.002, bound=0.005, size=3),
        candidate(3, seen=0.003, bound=0.005, size=1),
    ]
    taken = {name: choose(found, CompressionOptions(prefer=name)) for name in ("speed", "size", "quality")}
    assert {name: item.speed.ratio.value for name, item in taken.items()} == {
        "speed": 4,
        "size": 3,
        "quality": 2,
    }


def test_a_broken_limit_is_named_with_its_excess() -> None:
    slow = Limit("max_latency_ms", 3, 2, "ms")
    found = [
        candidate(2, seen=0.0, bound=0.001, limits=(slow,)),
        candidate(9, seen=0.0, bound=0.05, limits=(Limit("max_latency_ms", 1, 2, "ms"),)),
    ]
    with pytest.raises(ConfigError) as caught:
        choose(found, CompressionOptions())
    assert "(max_latency_ms: 3 ms, 1 above the limit of 2)" in str(caught.value)


def test_the_teacher_itself_has_no_drop() -> None:
    own = candidate(1, seen=0.0, bound=0.05, family="teacher", vocabulary="all", quantization="none")
    assert choose([own], CompressionOptions()) is own
    # It stays to fall back on where another one seems better and cannot be shown to be good enough.
    assert choose([own, candidate(9, seen=-0.001, bound=0.02)], CompressionOptions()) is own
    assert choose([own, candidate(9, seen=-0.001, bound=0.002)], CompressionOptions()) is not own
