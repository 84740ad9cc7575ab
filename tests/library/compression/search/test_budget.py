"""Budgets: the bound holds on new rows, and one bad model in a row of good ones ends the judging."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.compression.options import Budget
from modelmill.compression.search.budget import Limit, accuracy_drop, hard_limits, metric_drop
from modelmill.datasets.options import LabelKind
from modelmill.tasks.kinds import task_of


def test_the_bound_holds_on_as_many_new_rows() -> None:
    random = np.random.default_rng(0)
    rows, repeats = 400, 300
    shares = (0.02, 0.008, 0.972)  # the teacher alone, the model alone, both or neither
    exceeded = 0
    for _ in range(repeats):
        kinds = random.choice(3, size=rows, p=shares)
        bound = accuracy_drop(kinds != 1, kinds != 0, confidence=0.95).bound
        fresh = random.choice(3, size=rows, p=shares)
        exceeded += ((fresh == 0).sum() - (fresh == 1).sum()) / rows > bound
    assert 0.01 < exceeded / repeats < 0.08
    # The point estimate would be exceeded about every second time.


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_the_bound_holds_for_sets_and_numbers(kind: LabelKind) -> None:
    random, metric = np.random.default_rng(1), task_of(kind).metrics[0]
    rows, repeats = 60, 40

    def drawn() -> list[np.ndarray]:
        if kind == "number":
            truth = random.normal(size=(rows, 1))
            return [truth, *(truth + random.normal(size=(rows, 1)) * noise for noise in (0.3, 0.4))]
        truth = (random.random((rows, 4)) < 0.4).astype(float)
        return [truth, *(abs(truth - (random.random((rows, 4)) < share)) for share in (0.05, 0.07))]

    exceeded = 0
    for _ in range(repeats):
        found, (truth, teacher, model) = metric_drop(metric, *drawn(), confidence=0.9), drawn()
        exceeded += metric.of(truth, teacher) - metric.of(truth, model) > found.bound
    assert 0 < exceeded / repeats < 0.25
    truth = drawn()[0]
    assert 0 < metric_drop(metric, truth, truth, truth, confidence=0.95).bound < 0.2


def test_equal_answers_leave_a_doubt_that_shrinks_with_the_rows() -> None:
    few, many = (accuracy_drop(np.ones(n, bool), np.ones(n, bool), confidence=0.95) for n in (50, 5000))
    assert few.value == many.value == 0
    assert 0 < many.bound < 0.001 < few.bound < 0.1


def test_a_better_model_has_a_negative_drop() -> None:
    right = np.arange(1000) >= 100
    found = accuracy_drop(right, np.ones(1000, bool), confidence=0.95)
    assert found.value == -0.1
    assert found.value < found.bound < 0


def test_rows_must_be_the_same_and_some() -> None:
    with pytest.raises(ValueError, match="rows must be the same"):
        accuracy_drop(np.ones(3, bool), np.ones(4, bool), confidence=0.95)
    with pytest.raises(ValueError, match="rows must be the same"):
        accuracy_drop(np.ones(0, bool), np.ones(0, bool), confidence=0.95)


def test_limits_say_by_how_much_they_are_missed() -> None:
    budget = Budget(max_latency_ms=2, min_throughput_ratio=8, max_size_mb=10)
    latency, throughput, size = hard_limits(budget, latency_ms=3.5, throughput_ratio=6, size_mb=10)
    assert [limit.kept for limit in (latency, throughput, size)] == [False, False, True]
    assert str(latency) == "max_latency_ms: 3.5 ms, 1.5 above the limit of 2"
    assert str(throughput) == "min_throughput_ratio: 6 times the teacher's, 2 below the limit of 8"
    assert (latency.excess, throughput.excess, size.excess) == (0.75, pytest.approx(1 / 3), 0)
    assert hard_limits(Budget(), latency_ms=1, throughput_ratio=1, size_mb=1) == ()
    assert Limit("x", 0, 1, "", at_least=True).excess == float("inf")
