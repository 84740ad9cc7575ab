"""Documents per second: everybody gets the same rows, rounds and chances."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from modelmill.evaluation import latency
from modelmill.evaluation.latency import (
    Throughput,
    measure_latency,
    measure_throughput,
    median_interval,
    speed_ratio,
)
from modelmill.models.bundle import BundleInfo
from modelmill.models.scorer import Scorer
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.metrics import Interval
from modelmill.tokens.contents import TextReader
from modelmill.tokens.token_ids import Tokens


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes while a model answers only, a hundredth of it on a core."""
    now = SimpleNamespace(wall=0.0)
    times = {
        "perf_counter": lambda: now.wall,
        "monotonic": lambda: now.wall,
        "process_time": lambda: now.wall / 100,
    }
    monkeypatch.setattr(latency, "time", SimpleNamespace(**times))
    monkeypatch.setattr(Sleeper, "clock", now)
    return now


class Sleeper(Scorer):
    """A scorer that takes a known time for each text."""

    clock = SimpleNamespace(wall=0.0)

    def __init__(self, name: str, seconds: float, turns: list[tuple[str, int]]) -> None:
        super().__init__(
            BundleInfo(
                format="onnx", label="topic", classes=("a", "b"), text="t", max_tokens=8, parameters=1
            ),
            TextReader(Tokenizer(models.WordLevel({"text": 0}, unk_token="text"))),
        )
        self.name, self.seconds, self.turns = name, seconds, turns

    def score(self, tokens: Tokens) -> FloatArray:
        self.turns.append((self.name, len(tokens)))
        self.clock.wall += self.seconds * len(tokens)
        return np.zeros((len(tokens), 2), np.float32)


def test_a_slower_model_is_slower_by_its_ratio() -> None:
    turns: list[tuple[str, int]] = []
    scorers = {"fast": Sleeper("fast", 0.0005, turns), "slow": Sleeper("slow", 0.002, turns)}
    found = measure_throughput(scorers, ["text"] * 40, rounds=3, seconds=0)
    assert found["fast"].documents_per_second == pytest.approx(2000)
    assert found["slow"].documents_per_second == pytest.approx(500)
    assert found["slow"].documents_per_cpu_second == pytest.approx(50_000), "it only sleeps"
    assert found["slow"].rows == 40
    assert len(found["slow"].seconds) == 3


def test_models_take_turns_in_shuffled_rounds() -> None:
    turns: list[tuple[str, int]] = []
    scorers = {name: Sleeper(name, 0.001, turns) for name in "abc"}
    told: list[tuple[float, float]] = []
    measure_throughput(
        scorers,
        ["text"] * 50,
        rounds=8,
        seconds=0,
        progress=lambda done, total, **_: told.append((done, total)),
    )
    warm_up, timed = turns[:3], turns[3:]
    assert [rows for _, rows in warm_up] == [32] * 3
    assert [rows for _, rows in timed] == [50] * 24
    rounds = [tuple(name for name, _ in timed[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 2
    assert told == [(turn, 24) for turn in range(1, 25)]


def test_time_that_is_left_is_used_for_more_rounds() -> None:
    turns: list[tuple[str, int]] = []
    found = measure_throughput({"a": Sleeper("a", 0.001, turns)}, ["text"], seconds=5)
    assert len(found["a"].seconds) == 15
    slow = measure_throughput({"a": Sleeper("a", 0.0625, turns)}, ["text"], seconds=0.3125)
    assert len(slow["a"].seconds) == 5


def test_too_few_rounds_or_texts_are_refused() -> None:
    scorers = {"a": Sleeper("a", 0.001, [])}
    for texts, rounds in (([], 3), (["text"], 2)):
        with pytest.raises(ValueError, match="3 rounds"):
            measure_throughput(scorers, texts, rounds=rounds)


def test_a_ratio_is_the_median_of_rounds_of_cpu_time_which_other_processes_hardly_change() -> None:
    teacher = Throughput(1, 1, 1, seconds=(5.0, 9.0, 5.0), cpu_seconds=(5.0, 5.4, 5.0))
    student = Throughput(1, 1, 1, seconds=(1.0, 9.0, 4.0), cpu_seconds=(1.0, 1.0, 0.9))
    assert speed_ratio(teacher, student, on_cpu=True) == Interval(5.4, 5.0, pytest.approx(5 / 0.9))
    assert speed_ratio(teacher, student, on_cpu=False).value == 1.25


def test_more_rounds_make_the_interval_of_a_median_narrower() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == Interval(2, 1, 3)
    assert median_interval([float(n) for n in range(15)]) == Interval(7, 3, 11)


def test_time_that_other_processes_had_is_no_latency() -> None:
    busy = Sleeper("busy", 0.5, [])
    found = measure_latency(busy, ["text"] * 3, on_cpu=True)
    assert (found.p50_ms, found.p95_ms) == pytest.approx((5, 5)), "it waits for 99 of 100 seconds"
    assert measure_latency(busy, ["text"] * 3).p95_ms == pytest.approx(500)
