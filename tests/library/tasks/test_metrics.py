"""Metrics of sets of classes and of numbers, with intervals and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, root_mean_squared_error

from modelmill.errors import DatasetError
from modelmill.tasks.kinds import task_of


def metric(kind: Any, name: str) -> Any:
    return task_of(kind).metric(name)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, answers = ((random.random((40, 5)) < 0.3).astype(np.float64) for _ in range(2))
    for average in ("micro", "macro"):
        expected = f1_score(truth, answers, average=average)
        assert metric("classes", f"{average}_f1").of(truth, answers) == pytest.approx(expected)
    exact = (truth == answers).all(axis=1).mean()
    assert metric("classes", "exact").of(truth, answers) == pytest.approx(exact)
    truth, answers = random.normal(5000, 1, (40, 1)), random.normal(5000, 1, (40, 1))
    for name, function in (
        ("r2", r2_score),
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
    ):
        assert metric("number", name).of(truth, answers) == pytest.approx(function(truth, answers))


def test_intervals_come_from_drawn_rows_and_differences_are_paired() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(60, 1))
    near, far = truth + random.normal(0, 0.1, (60, 1)), truth + random.normal(0, 0.5, (60, 1))
    rmse = metric("number", "rmse")
    how = {"confidence": 0.9, "resamples": 2000}
    found = rmse.interval(truth, far, **how)
    drawn = [rmse.of(truth[rows], far[rows]) for rows in (random.integers(0, 60, 60) for _ in range(2000))]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.02)
    assert found.low < found.value < found.high
    # Less error is better, so the nearer model is the better one: positive.
    better = rmse.difference(truth, near, far, **how)
    assert 0 < better.low < better.value < better.high
    worse = rmse.difference(truth, far, near, **how)
    assert (worse.value, worse.low) == pytest.approx((-better.value, -better.high))
    assert (better.beyond, worse.beyond) == (1, 0)
    level = rmse.difference(truth, far, far, **how)
    assert (level.value, level.low, level.high, level.beyond) == (0, 0, 0, 0)
    with pytest.raises(DatasetError, match="at least one row"):
        rmse.interval(truth[:0], truth[:0], **how)
