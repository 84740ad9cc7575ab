"""Documents per second: everybody gets the same rows, rounds and chances."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from modelmill.data.tokens import Tokens
from modelmill.evaluation.latency import measure_throughput
from modelmill.serving.bundle import BundleInfo
from modelmill.serving.runtime import FloatArray, Scorer


class Sleeper(Scorer):
    """A scorer that takes a known time for each text."""

    def __init__(self, name: str, seconds: float, turns: list[tuple[str, int]]) -> None:
        super().__init__(
            BundleInfo(
                format="onnx", label="topic", classes=("a", "b"), text="t", max_tokens=8, parameters=1
            ),
            Tokenizer(models.WordLevel({"text": 0}, unk_token="text")),
        )
        self.name, self.seconds, self.turns = name, seconds, turns

    def score(self, tokens: Tokens) -> FloatArray:
        self.turns.append((self.name, len(tokens)))
        time.sleep(self.seconds * len(tokens))
        return np.zeros((len(tokens), 2), np.float32)


def test_a_slower_model_is_slower_by_its_ratio() -> None:
    turns: list[tuple[str, int]] = []
    scorers = {"fast": Sleeper("fast", 0.0005, turns), "slow": Sleeper("slow", 0.002, turns)}
    found = measure_throughput(scorers, ["text"] * 40, rounds=3, seconds=0)
    ratio = found["fast"].documents_per_second / found["slow"].documents_per_second
    assert 3 < ratio < 4.5
    assert 300 < found["slow"].documents_per_second < 500
    assert found["slow"].documents_per_cpu_second > 3 * found["slow"].documents_per_second, "it only sleeps"
    assert found["slow"].rows == 40
    assert len(found["slow"].seconds) == 3


def test_models_take_turns_in_shuffled_rounds() -> None:
    turns: list[tuple[str, int]] = []
    scorers = {name: Sleeper(name, 0, turns) for name in "abc"}
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
    found = measure_throughput({"a": Sleeper("a", 0, turns)}, ["text"], seconds=5)
    assert len(found["a"].seconds) == 15
    slow = measure_throughput({"a": Sleeper("a", 0.05, turns)}, ["text"], seconds=0.3)
    assert 4 <= len(slow["a"].seconds) <= 7


def test_too_few_rounds_or_texts_are_refused() -> None:
    scorers = {"a": Sleeper("a", 0, [])}
    for texts, rounds in (([], 3), (["text"], 2)):
        with pytest.raises(ValueError, match="3 rounds"):
            measure_throughput(scorers, texts, rounds=rounds)
