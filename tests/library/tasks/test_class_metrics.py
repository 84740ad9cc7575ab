"""Metrics against scikit-learn, the bootstrap against drawing rows one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_confusion

from modelmill.errors import DatasetError
from modelmill.tasks import metrics as module
from modelmill.tasks.class_metrics import ACCURACY, MACRO_F1, class_quality, confusion_matrix
from modelmill.tasks.metrics import Metric

NAMES = np.array(["acq", "crude", "earn", "grain", "trade"])


def answers(
    rows: int, *, right: float, seed: int, truth: list[str] | None = None
) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    if truth is None:
        truth = rng.choice(NAMES, rows, p=[0.4, 0.3, 0.2, 0.07, 0.03]).tolist()
    guessed = np.where(rng.random(rows) < right, truth, rng.choice(NAMES, rows))
    return truth, guessed.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_point_values_are_those_of_scikit_learn(seed: int) -> None:
    truth, predicted = answers(60, right=0.6, seed=seed)
    assert ACCURACY.of(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))
    assert MACRO_F1.of(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    classes = sorted({*truth, *predicted})
    assert (confusion_matrix(truth, predicted, classes=classes) == sklearn_confusion(truth, predicted)).all()
    expected = precision_recall_fscore_support(truth, predicted, zero_division=0)
    found = class_quality(truth, predicted)
    assert [item.name for item in found] == classes
    for item, precision, recall, f1, rows in zip(found, *expected, strict=True):
        assert (item.precision, item.recall, item.f1) == pytest.approx((precision, recall, f1))
        assert item.rows == rows


def test_macro_f1_counts_an_answer_that_is_no_class_of_the_truth() -> None:
    # Each of a and b has F1 2/3 and 1; the invented class c has 0.
    assert MACRO_F1.of(["a", "a", "b"], ["a", "c", "b"]) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DatasetError, match="at least one row"):
        ACCURACY.of([], [])


def test_answers_and_rows_must_match() -> None:
    with pytest.raises(ValueError, match="rows"):
        ACCURACY.of(["a", "b"], ["a"])


def measured(metric: Metric, truth: np.ndarray, predicted: np.ndarray) -> float:
    """The metric by its definition, class by class."""
    if metric is ACCURACY:
        return float((truth == predicted).mean())
    scores = []
    for name in np.unique([truth, predicted]):
        right = ((truth == name) & (predicted == name)).sum()
        scores.append(2 * right / ((truth == name).sum() + (predicted == name).sum()))
    return float(np.mean(scores))


@pytest.mark.parametrize("metric", [ACCURACY, MACRO_F1])
def test_the_interval_is_that_of_drawing_rows(metric: Metric) -> None:
    truth, predicted = answers(80, right=0.7, seed=1)
    found = metric.interval(truth, predicted, resamples=20_000)
    rng = np.random.default_rng(7)
    columns = np.unique([truth, predicted], return_inverse=True)[1].reshape(2, -1)
    drawn = [measured(metric, *columns[:, rng.integers(0, 80, 80)]) for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015)
    assert found.value == pytest.approx(measured(metric, *columns))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", [ACCURACY, MACRO_F1])
def test_the_paired_interval_is_that_of_drawing_rows(metric: Metric) -> None:
    truth, first = answers(120, right=0.85, seed=2)
    _, second = answers(120, right=0.7, seed=3, truth=truth)
    found = metric.difference(truth, first, second, resamples=20_000)
    rng = np.random.default_rng(8)
    columns = np.unique([truth, first, second], return_inverse=True)[1].reshape(3, -1)

    def apart(rows: np.ndarray) -> float:
        return measured(metric, rows[0], rows[1]) - measured(metric, rows[0], rows[2])

    drawn = [apart(columns[:, rng.integers(0, 120, 120)]) for _ in range(4000)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    assert found.beyond == pytest.approx((np.array(drawn) > 0).mean(), abs=0.03)
    assert found.value == pytest.approx(apart(columns))
    assert found.first - found.second == found.value


def test_the_difference_changes_its_sign_with_the_order() -> None:
    truth, first = answers(200, right=0.9, seed=4)
    _, second = answers(200, right=0.8, seed=5, truth=truth)
    one = ACCURACY.difference(truth, first, second, resamples=4000)
    other = ACCURACY.difference(truth, second, first, resamples=4000)
    assert one.value == -other.value > 0
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.01)
    assert one.beyond > 0.9 > 0.1 > other.beyond


def test_equal_answers_differ_by_nothing() -> None:
    truth, first = answers(50, right=0.8, seed=6)
    found = MACRO_F1.difference(truth, first, first, resamples=200)
    assert (found.value, found.low, found.high, found.beyond) == (0, 0, 0, 0)


def test_pairing_narrows_the_interval() -> None:
    truth, first = answers(400, right=0.8, seed=7)
    second = list(first)
    for index in range(40):
        second[index] = truth[index]
    paired = ACCURACY.difference(truth, second, first, resamples=2000)
    alone = ACCURACY.interval(truth, first, resamples=2000)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_intervals_cover_what_they_promise() -> None:
    """Of 300 samples of a population whose accuracy is 0.8, about 90 % have it in their 90 % interval."""
    rng = np.random.default_rng(9)
    covered = 0
    for seed in range(300):
        right = rng.random(200) < 0.8
        found = ACCURACY.interval(
            ["yes"] * 200,
            np.where(right, "yes", "no").tolist(),
            confidence=0.9,
            resamples=400,
            seed=seed,
        )
        covered += found.low <= 0.8 <= found.high
    assert 0.84 <= covered / 300 <= 0.95


def test_the_seed_settles_the_interval() -> None:
    truth, predicted = answers(100, right=0.7, seed=10)
    intervals = [MACRO_F1.interval(truth, predicted, resamples=100, seed=seed) for seed in (1, 1, 2)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_chunks_give_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predicted = answers(100, right=0.7, seed=11)
    whole = ACCURACY.interval(truth, predicted, resamples=1000)
    monkeypatch.setattr(module, "_CHUNK", 100)
    assert ACCURACY.interval(truth, predicted, resamples=1000) == whole
