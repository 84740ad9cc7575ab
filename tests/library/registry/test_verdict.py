"""Refused beyond chance, whatever the number of comparisons; accepted within it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from modelmill.registry.checks import CalibrationCheck
from modelmill.registry.comparison import Comparison
from modelmill.registry.gate_details import drop_metrics
from modelmill.registry.metric_comparisons import (
    Answered,
    Statistics,
    compare_metric,
    compare_parts,
    mcnemar,
    parts_by,
)
from modelmill.registry.verdict import CheckResult, judge
from modelmill.tasks.class_metrics import ACCURACY

HOW = Statistics(resamples=500)
CLASSES = ("a", "b", "c", "d")


def checks_of(
    truth: Sequence[str], champion: Sequence[str], challenger: Sequence[str], *, proof: bool = False
) -> list[CheckResult]:
    found = [
        compare_metric(
            name,
            Answered.of(truth, champion, challenger),
            check="metric",
            metric=ACCURACY,
            limit=0.005,
            how=HOW,
            proof=proof,
        )
        for name in ("champion", "parent")
    ]
    found += compare_parts(
        parts_by(truth),
        "champion",
        Answered.of(truth, champion, challenger),
        check="class",
        shown="recall",
        limit=0.05,
        how=HOW,
    )
    return list(judge(found, confidence=0.95))


def answers(truth: Sequence[str], skill: float, rng: np.random.Generator) -> list[str]:
    return [name if hit else "x" for name, hit in zip(truth, rng.random(len(truth)) < skill, strict=True)]


def test_equal_challengers_are_refused_at_most_as_often_as_said() -> None:
    """They err on rows of their own, so that each comparison has as much noise as it can have."""
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = [str(name) for name in rng.choice(CLASSES, size=400, p=[0.6, 0.2, 0.15, 0.05])]
        made = checks_of(truth, answers(truth, 0.9, rng), answers(truth, 0.9, rng))
        refused += not all(check.passed for check in made)
    assert refused <= 5


def test_a_challenger_that_learnt_one_class_from_shuffled_labels_is_refused_for_that_class() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        victim = CLASSES[seed % 4]
        truth = [str(name) for name in rng.choice(CLASSES, size=400, p=[0.6, 0.2, 0.15, 0.05])]
        champion = answers(truth, 0.95, rng)
        worse = [
            str(rng.choice(CLASSES)) if name == victim else given
            for name, given in zip(truth, answers(truth, 0.95, rng), strict=True)
        ]
        refused = {
            check.name: check.sentence for check in checks_of(truth, champion, worse) if not check.passed
        }
        assert f"class {victim}, champion" in refused, (seed, refused)
        assert "beyond chance" in refused[f"class {victim}, champion"]


@pytest.mark.parametrize(
    ("wrong", "rows", "passed", "warning"),
    [
        (0, 1000, True, False),
        (4, 1000, True, False),
        (12, 60, False, False),
        (1, 60, True, True),
        (60, 1000, False, False),
    ],
)
def test_a_limit_is_broken_only_beyond_chance(wrong: int, rows: int, passed: bool, warning: bool) -> None:
    truth = ["a", "b"] * (rows // 2)
    worse = ["x" if index < wrong else value for index, value in enumerate(truth)]
    check = checks_of(truth, truth, worse)[0]
    assert (check.passed, check.warning) == (passed, warning), check.sentence


def test_proof_is_what_few_rows_cannot_give() -> None:
    rng = np.random.default_rng(0)
    truth = ["a", "b"] * 50
    champion, equal = answers(truth, 0.9, rng), answers(truth, 0.9, rng)
    assert checks_of(truth, champion, equal)[0].passed
    check = checks_of(truth, champion, equal, proof=True)[0]
    assert not check.passed
    assert "the rows are too few to show" in check.sentence or "beyond chance" in check.sentence
    assert checks_of(truth, champion, champion, proof=True)[0].passed


def test_many_slices_do_not_blind_the_gate_to_the_whole() -> None:
    def finding(check: str, p_value: float) -> Comparison:
        numbers = {"challenger": 0.8, "other": 0.9, "worse": 0.1, "limit": 0.0}
        return Comparison(
            check=check, name="champion", metric="accuracy", unit="share", p_value=p_value, **numbers
        )

    whole, *slices = judge(
        [finding("metric", 0.02), *[finding("slice", 0.02) for _ in range(100)]], confidence=0.95
    )
    assert not whole.passed
    assert all(check.passed and check.warning for check in slices)


def test_mcnemar_counts_the_rows_that_one_of_two_got_right() -> None:
    def right(*places: int) -> np.ndarray:
        return np.isin(np.arange(10), places)

    every = np.ones(10, dtype=np.bool_)
    assert mcnemar(every, every) == 1.0
    assert mcnemar(every, right(7, 8, 9)) == pytest.approx(0.5**8)
    assert mcnemar(right(7, 8, 9), every) == 1.0
    lost_two_won_one = mcnemar(~right(2), ~right(0, 1))
    assert lost_two_won_one == pytest.approx(1 / 8 + 3 / 16)


def test_calibration_error_is_the_distance_of_confidence_and_rightness() -> None:
    right = np.tile([1.0, 1.0, 1.0, 1.0, 0.0], 20)
    honest, sure = np.full(100, 0.8), np.full(100, 1.0)
    limit, compared = CalibrationCheck(max_error=0.1, max_increase=0.02, bins=2).compare_errors(
        [sure, honest], [right, right], reference="champion", how=HOW
    )
    assert limit.challenger == pytest.approx(0.2)
    assert compared.other == pytest.approx(0.0, abs=1e-9)
    assert [check.passed for check in judge([limit, compared], confidence=0.95)] == [False, False]


def test_classes_whose_names_mlflow_does_not_take_have_a_metric_each() -> None:
    names = {"class C++": 0.1, "class C#": 0.2, "class C??": 0.3, "class a//b": 0.4}
    checks = [
        CheckResult.model_construct(check="class", name=name, drop=drop) for name, drop in names.items()
    ]
    assert drop_metrics(checks) == {
        "gate/drop/class/class C__": 0.1,
        "gate/drop/class/class C_": 0.2,
        "gate/drop/class/class C___2": 0.3,
        "gate/drop/class/class a__b": 0.4,
    }
