"""Models side by side in a notebook: texts and labels, no dataset and no step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelmill.errors import ConfigError, DatasetError, ModelError
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.side_by_side import evaluate
from modelmill.tasks.baselines import MAJORITY, TFIDF_SVM

OPTIONS = EvaluationOptions(resamples=100)


def test_models_and_baselines_are_measured(
    make_bundle: Callable[..., Path], topic_rows: Callable[..., list[tuple[str, str]]]
) -> None:
    texts, labels = map(list, zip(*topic_rows(40, seed=1), strict=True))
    train = tuple(map(list, zip(*topic_rows(60), strict=True)))
    models = {"good": make_bundle("good"), "half": make_bundle("half", skill=0.5)}
    report = evaluate(models, texts, labels, train=train, options=OPTIONS)
    good, half = report.models
    assert (good.name, good["accuracy"].value) == ("good", 1.0)
    assert half["accuracy"].value < 1
    assert half.agreement == half["accuracy"].value
    assert [baseline.name for baseline in report.baselines] == [MAJORITY, f"{TFIDF_SVM} (words)"]
    shown = str(report).splitlines()
    assert shown[0].split() == ["accuracy", "macro-F1", "MB", *shown[0].split()[3:]]
    assert shown[1].startswith("good")
    assert shown[-1] == half.sentence


def test_numbers_have_metrics_of_their_own(make_bundle: Callable[..., Path]) -> None:
    report = evaluate(
        {"counts": make_bundle("counts", target="number")},
        ["goal goal", "bank", "goal"],
        [2.0, 0.0, 1.0],
        options=OPTIONS,
    )
    assert report.models[0]["r2"].value == pytest.approx(1)
    assert "R²" in str(report)


def test_what_cannot_be_compared_is_refused(make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        evaluate({}, ["a"], ["sport"])
    good = make_bundle("good")
    with pytest.raises(DatasetError, match="got '1 texts and 0 labels'"):
        evaluate({"good": good}, ["a"], [])
    with pytest.raises(ModelError, match="of the kind that they answer with"):
        evaluate({"good": good, "counts": make_bundle("n", target="number")}, ["a"], ["sport"])
