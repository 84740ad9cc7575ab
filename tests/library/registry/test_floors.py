"""Floors, the budget of a chain, and the sentences of a verdict."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.comparison import Comparison
from modelmill.registry.floors import calibration_floor
from modelmill.registry.gate_report import GateReport
from modelmill.registry.metric_comparisons import Answered, Statistics, must_beat
from modelmill.registry.verdict import apart, judge, shown, span
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate
from modelmill.tasks.class_metrics import ACCURACY

WORDS = {
    "sport": ("goal", "match", "team", "score", "league", "coach"),
    "trade": ("bank", "share", "price", "profit", "market", "loan"),
}
Logged = Callable[..., ModelRef]


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetRef:
    """240 texts with one word that tells, half of them test rows: a model of skill 5/6 misses one word."""
    rows = [(topic, WORDS[topic][n % 6]) for n in range(120) for topic in WORDS]
    columns = {
        "id": [f"row-{n}" for n in range(240)],
        "body": [f"{word} thing{n} other{n}" for n, (_, word) in enumerate(rows)],
        "topic": [topic for topic, _ in rows],
        "split": ["train"] * 100 + ["validation"] * 20 + ["test"] * 120,
    }
    write_deltalake(str(tmp_path / "words"), pa.table(columns))
    return DatasetRef(
        uri=str(tmp_path / "words"), version=0, key="id", text="body", labels=("topic",), split="split"
    )


@pytest.fixture
def logged(make_bundle: Callable[..., Path], dataset: DatasetRef, step_context: StepContext) -> Logged:
    """Return a function that logs a model with its role and parent."""
    numbers = itertools.count()

    def log(role: str, parent: ModelRef | None = None, **how: float) -> ModelRef:
        folder = make_bundle(f"model-{next(numbers)}", **how)
        return log_model(folder, role=role, dataset=dataset, context=step_context, parent=parent)

    return log


def judged(
    dataset: DatasetRef, challenger: ModelRef, context: StepContext, **config: object
) -> tuple[VerdictRef, GateReport]:
    options = GateConfig.model_validate({"name": "topics", "resamples": 300, **config})
    verdict = run_gate(options, GateInputs(dataset=dataset, challenger=challenger), context).verdict
    path = context.run.client.download_artifacts(verdict.run_id, "gate/verdict.json")
    return verdict, GateReport.model_validate_json(Path(path).read_text())


def test_small_steps_add_up_from_the_start_of_the_chain(
    dataset: DatasetRef, logged: Logged, step_context: StepContext
) -> None:
    teacher = logged("teacher")
    student = logged("student", teacher, skill=5 / 6)
    exported = logged("exported", student, skill=4 / 6)
    only = {"max_class_drop": None, "max_below_baseline": 0.9, "max_calibration_error": None}
    verdict, report = judged(dataset, exported, step_context, max_drop=0.1, **only)
    (reason,) = verdict.reasons
    assert "83.33%, is 16.67 points worse than the start of the chain (100.00%;" in reason
    assert "accepted 10.00 points" in reason
    assert [link.role for link in report.chain] == ["teacher", "student", "exported"]
    assert [round(link.cost, 3) for link in report.chain[1:]] == [0.083, 0.083]
    assert "student `" in verdict.summary
    assert "this step costs 8.33 points (" in verdict.summary
    passed, _ = judged(dataset, exported, step_context, max_drop=0.2, **only)
    assert passed.passed, passed.reasons
    champion = promotion.promote(passed, step_context)
    card = step_context.run.client.get_model_version("topics", champion.uri.rsplit("/", 1)[1]).description
    assert "this step costs 8.33 points (" in card


def test_the_first_champion_meets_floors_that_are_on_by_default(
    dataset: DatasetRef, logged: Logged, step_context: StepContext
) -> None:
    verdict, report = judged(dataset, logged("exported", tweak=9.0), step_context)
    told = " | ".join(verdict.reasons)
    assert "is level with the majority class (50.00%" in told
    assert "recall of class trade is 0.00%; 0 of 60 test rows: refused: less than the" in told
    assert "calibration error is 4" in told
    floors = {check.name: check for check in report.checks if check.check in ("recall", "floor")}
    assert set(floors) == {"class sport", "class trade", "calibration error"}
    assert "passed; at least 20.00% is accepted" in floors["class sport"].sentence
    off = {"beat_majority": False, "min_recall": None, "max_calibration_error": None}
    verdict, _ = judged(dataset, logged("exported", tweak=9.001), step_context, **off)
    assert all("TF-IDF" in reason for reason in verdict.reasons)


def test_calibration_is_refused_beyond_chance_only() -> None:
    rng = np.random.default_rng(0)
    sure = 0.5 + rng.random(2000) / 2
    checks = judge(
        [
            calibration_floor(sure[:rows], rng.random(rows) < sure[:rows] - off, limit=0.1, alpha=0.05)
            for rows, off in ((2000, 0.0), (2000, 0.19), (60, 0.0))
        ],
        confidence=0.95,
    )
    assert [check.passed for check in checks] == [True, False, True]


def test_what_no_model_could_show_is_too_small_to_judge() -> None:
    truth = ["a"] * 20
    found = must_beat(
        "majority class",
        Answered.of(truth, truth, truth),
        check="baseline",
        metric=ACCURACY,
        how=Statistics(resamples=200),
    )
    assert found.least_p > 0.05
    half = Answered.of(["a", "b"] * 10, ["a"] * 20, ["a", "b"] * 10)
    found = must_beat(
        "majority class", half, check="baseline", metric=ACCURACY, how=Statistics(resamples=200)
    )
    (check,) = judge([found], confidence=0.95)
    assert check.passed
    assert "passed; shown to be better (p = 0.005)" in check.sentence


def test_sentences_read_right() -> None:
    assert span(-0.006, 0.0, "share") == "0.00 to 0.60 points better"
    assert span(-0.006, -0.002, "share") == "0.20 to 0.60 points better"
    assert span(0.002, 0.006, "share") == "0.20 to 0.60 points worse"
    assert span(-0.006, 0.002, "share") == "0.60 points better to 0.20 points worse"
    assert span(-1e-9, 1e-9, "share") == "no difference"
    assert shown(0.41456, "score") == "0.415"
    assert apart(-1e-9, "share") == "0.00 points"
    better = Comparison(
        check="metric",
        name="champion",
        metric="accuracy",
        unit="share",
        challenger=0.9744,
        other=0.9718,
        worse=-0.0026,
        limit=0.005,
        low=-0.006,
        high=0.0,
        p_value=1.0,
    )
    (check,) = judge([better], confidence=0.95)
    assert check.sentence == (
        "accuracy, 97.44%, is 0.26 points better than the champion (97.18%; 95% interval: 0.00 to 0.60 "
        "points better): passed; up to 0.50 points worse is accepted"
    )
