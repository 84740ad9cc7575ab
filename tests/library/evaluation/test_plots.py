"""Plots are drawn from any number of classes and any names."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from modelmill.evaluation.plots import confusion_figure, quality_figure
from modelmill.evaluation.results import BaselineResult, ModelResult, Score

SCORES = (
    Score(metric="accuracy", value=0.9, low=0.85, high=0.93),
    Score(metric="macro_f1", value=0.8, low=0.7, high=0.9),
)
LOW = Score(metric="accuracy", value=0.4, low=0.3, high=0.5)


def drawn(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


@pytest.mark.parametrize("classes", [1, 8, 30, 80])
def test_confusion(classes: int) -> None:
    names = [f"$class_{number}^ of many with a long name, to be cut" for number in range(classes)]
    matrix = np.diag(np.arange(classes))
    figure = confusion_figure(matrix, classes=names, title="topic")
    axes = figure.axes[0]
    assert len(axes.texts) == (np.count_nonzero(matrix) if classes <= 20 else 0)
    assert drawn(figure).startswith(b"\x89PNG")


def test_quality() -> None:
    models = [
        ModelResult(
            scores=SCORES,
            name=f"model {number}",
            role="student",
            uri="models:/m-1",
            format="onnx",
            size_mb=10,
            parameters=5,
            documents_per_second=10.0**number,
            documents_per_cpu_second=1,
            size_ratio=1,
            speed_ratio=1,
            agreement=1,
            beats_baseline=True,
            unknown_classes=(),
            sentence="",
        )
        for number in range(3)
    ]
    figure = quality_figure(
        models,
        [
            BaselineResult(name="words", scores=SCORES),
            BaselineResult(name="majority", scores=(LOW,)),
        ],
        confidence=0.95,
        title="quality",
    )
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert "95% confidence" in axes.get_ylabel()
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "words, 90.00%",
        "majority, 40.00%",
        "model 0, 10.0 MB",
        "model 1, 10.0 MB",
        "model 2, 10.0 MB",
    ]
    (line,) = [line for line in axes.get_lines() if line.get_label() == "words, 90.00%"]
    assert list(line.get_ydata()) == [0.9, 0.9]
    low, high = axes.get_ylim()
    assert 0.8 < low < 0.85 < 0.93 < high
    assert drawn(figure).startswith(b"\x89PNG")
