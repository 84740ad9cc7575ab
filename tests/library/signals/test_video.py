"""Signals of videos: measures in time, brought to one number, with the time that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from modelmill.errors import SignalError
from modelmill.rules.reading import parse_rule_set
from modelmill.settings import Settings
from modelmill.signals.groups import SignalContext
from modelmill.signals.registry import build_groups
from modelmill.signals.video import VideoSignal

ROWS = pa.RecordBatch.from_pydict(
    {
        "times": [[0.0, 0.5, 1.0, 1.5, 2.0], [0.0], None, [0.0, 1.0]],
        "level": [[1.0, 4.0, 5.0, None, 2.0], [7.0], [1.0], [None, None]],
        "box": [[1.0, 2.0, 30.0, 40.0], None, None, None],
    },
    schema=pa.schema(
        [(name, pa.list_(pa.float64())) for name in ("times", "level")] + [("box", pa.list_(pa.float64()))]
    ),
)


def computed(rows: list[int], batch: pa.RecordBatch = ROWS, **more: Any) -> tuple[list[Any], list[Any]]:
    """Return the values of a signal on rows, and its evidence."""
    signals = {"s": VideoSignal(measure="level", **more)}
    (group,) = build_groups(signals, SignalContext(batch.schema, Settings.from_environment()))
    work = group.begin(batch)
    places = np.array(rows)
    values = work.compute(["s"], places)["s"].values.to_pylist()
    return values, work.evidence(["s"], places)["s"].to_pylist()


@pytest.mark.parametrize(
    ("more", "value", "time"),
    [
        ({"take": "max"}, 5.0, 1.0),
        ({"take": "min"}, 1.0, 0.0),
        ({}, 3.0, 0.5),
        ({"take": "quantile", "quantile": 0.0}, 1.0, 0.0),
        ({"take": "quantile", "quantile": 0.5}, 3.0, 0.5),
        ({"take": "longest_run", "above": 1.5}, 2.0, 0.5),
        ({"take": "longest_run", "above": 3.5, "below": 4.5}, 0.5, 0.5),
        ({"take": "longest_run", "above": 9}, 0.0, None),
        ({"take": "share", "above": 3.5}, 0.5, 0.5),
    ],
)
def test_what_is_taken(more: dict[str, Any], value: float, time: float | None) -> None:
    values, evidence = computed([0], **more)
    assert values == [pytest.approx(value)]
    shown = [] if time is None else [time]
    assert [place["time"] for place in evidence[0]] == shown


def test_rows_without_a_measure_are_unknown() -> None:
    values, evidence = computed([1, 2, 3], take="max", box="box")
    assert values == [7.0, None, None]
    assert [len(places) for places in evidence] == [1, 0, 0]
    _, (places,) = computed([0], take="max", box="box")
    assert places == [
        {"column": "level", "start": None, "end": None, "text": None, "time": 1.0, "box": [1, 2, 30, 40]}
    ]


def test_lists_of_different_lengths_are_an_error() -> None:
    batch = pa.RecordBatch.from_pydict({"times": [[0.0, 1.0]], "level": [[1.0]]})
    with pytest.raises(ValueError, match="1 numbers of level for 2 times"):
        computed([0], batch)


def test_a_column_of_another_kind_is_refused() -> None:
    batch = pa.RecordBatch.from_pydict({"times": [[0.0]], "level": [1.0]})
    with pytest.raises(SignalError, match="must be of kind numbers"):
        computed([0], batch)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"take": "longest_run"}, "needs a range"),
        ({"take": "max", "above": 1}, "has no range"),
        ({"take": "share", "above": 2, "below": 1}, "no number is above"),
        ({"take": "max", "quantile": 0.2}, "has no quantile"),
    ],
)
def test_wrong_configurations_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        VideoSignal(measure="level", **more)


def test_the_shipped_rule_set_is_valid() -> None:
    path = Path(__file__).parents[3] / "dags/rules/video_quality.yaml"
    rule_set = parse_rule_set(path.read_text(), source=str(path))
    assert len(rule_set.signals) >= 20
    assert sum(isinstance(signal, VideoSignal) for signal in rule_set.signals.values()) >= 8
