"""A worse challenger is refused for the right reason, and an equal one is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.evaluation.metrics import paired_difference
from modelmill.pipeline.component import StepContext
from modelmill.registry import gate
from modelmill.registry.models import log_model

Judged = Callable[[ModelRef], VerdictRef]


def test_an_exported_file_is_compared_with_the_model_it_was_made_from(
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
    step_context: StepContext,
    judged: Judged,
) -> None:
    parent = log_model(make_bundle("good"), role="student", dataset=topic_dataset, context=step_context)
    exported = log_model(
        make_bundle("bad", skill=-1.0),
        role="exported",
        dataset=topic_dataset,
        context=step_context,
        parent=parent,
    )
    verdict = judged(exported)
    assert any("parent (100.00%" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("wrong", "rows", "limit", "passed", "warning"),
    [
        (0, 1000, 0.005, True, False),
        (4, 1000, 0.005, True, False),
        (12, 60, 0.005, False, False),
        (1, 60, 0.005, True, True),
        (60, 1000, 0.005, False, False),
        (60, 1000, 0.1, True, False),
    ],
)
def test_a_limit_is_broken_only_beyond_chance(
    wrong: int, rows: int, limit: float, passed: bool, warning: bool
) -> None:
    truth = ["a", "b"] * (rows // 2)
    worse = ["x" if index < wrong else value for index, value in enumerate(truth)]
    difference = paired_difference(truth, truth, worse, metric="accuracy", resamples=1000)
    check = gate.judge("other", difference, limit=limit)
    assert (check.passed, check.warning) == (passed, warning)
