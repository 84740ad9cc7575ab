"""What is in a step's key: all that decides its result, and nothing else; the same key tomorrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from modelmill.artifacts import ModelRef, TableRef
from modelmill.component import Component, Config, Inputs, Outputs
from modelmill.pipeline import request
from modelmill.pipeline.request import StepResult, references, step_key
from modelmill.settings import Settings


class SliceConfig(Config):
    """Values whose JSON is another one than themselves."""

    day: date = date(2026, 12, 1)
    folder: Path = Path("/data")
    share: float = 0.5


class SliceInputs(Inputs):
    rows: TableRef
    models: tuple[ModelRef, ...] = ()


class SliceOutputs(Outputs):
    rows: TableRef


def run(config: SliceConfig, inputs: SliceInputs, context: object) -> SliceOutputs:
    return SliceOutputs(rows=inputs.rows)


SLICE: Component[Any, Any, Any] = Component(
    name="slice",
    title="Slice",
    group="Data",
    config=SliceConfig,
    inputs=SliceInputs,
    outputs=SliceOutputs,
    run=run,
    version=2,
    outside_state=lambda config, inputs, settings: f"{config.folder} {inputs.rows.version} {settings.ledger}",
    extensions=("acme.methods", "acme.none"),
)
ROWS = TableRef(uri="/nowhere/rows", version=3)
MODEL = ModelRef(uri="runs:/1/model", run_id="1", digest="0" * 64, format="onnx", role="exported")


@pytest.fixture
def key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes a key; it takes what is other than usual."""
    known = {"acme.methods": ("acme 1.0",)}
    monkeypatch.setattr(request, "__version__", "1.2.3")
    monkeypatch.setattr(request, "distributions_of", lambda group: known.get(group, ()))
    here = replace(settings, ledger="/home/ledger")

    def make(
        component: Component[Any, Any, Any] = SLICE,
        config: SliceConfig | None = None,
        inputs: SliceInputs | None = None,
        settings: Settings = here,
    ) -> str:
        return step_key(component, config or SliceConfig(), inputs or SliceInputs(rows=ROWS), settings)

    return make


def test_a_key_stays_the_same_as_long_as_nothing_of_it_changes(
    key: Callable[..., str], settings: Settings
) -> None:
    """Written down: another key for the same would run every step of every deployment again."""
    assert key() == "a4b981347a1ac45ec642397a1f549f76b45f4759c0ce5ad623b682c12295e2d6"
    quiet = replace(SLICE, outside_state=None, extensions=())
    assert key(quiet) == "8534d3bc831edc616927af0c795256e0126460157b527600bbc20e84757c0ec2"
    other = replace(settings, home=settings.home / "elsewhere", ledger="/home/ledger")
    assert key(settings=other) == key()


def test_whatever_decides_the_result_changes_the_key(
    key: Callable[..., str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [
        key(),
        key(replace(SLICE, name="other")),
        key(replace(SLICE, version=3)),
        key(replace(SLICE, outside_state=None)),
        key(replace(SLICE, extensions=())),
        key(config=SliceConfig(share=0.25)),
        key(config=SliceConfig(folder=Path("/other"))),
        key(inputs=SliceInputs(rows=TableRef(uri="/nowhere/rows", version=4))),
        key(inputs=SliceInputs(rows=ROWS, models=(MODEL,))),
        key(inputs=SliceInputs(rows=ROWS, models=(MODEL, MODEL))),
        key(settings=replace(settings, ledger="/other/ledger")),
    ]
    monkeypatch.setattr(request, "table_states", lambda references: {str(*references): "written anew"})
    keys.append(key())
    monkeypatch.setattr(request, "__version__", "1.2.4")
    keys.append(key())
    monkeypatch.setattr(request, "distributions_of", lambda _: ("acme 1.1",))
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in keys)


def test_ports_with_several_edges_are_taken_apart() -> None:
    inputs = SliceInputs(rows=ROWS, models=(MODEL, MODEL.model_copy(update={"run_id": "2"})))
    assert references(inputs) == [ROWS, *inputs.models]
    assert references(SliceOutputs(rows=ROWS)) == [ROWS]


def test_what_only_the_steps_own_task_tells_others_is_not_kept() -> None:
    result = StepResult(
        outputs={"rows": ROWS},
        step_key="k",
        run_id="r",
        run_url="",
        reused=False,
        events=("toy://e",),
        figures={"f": 1.0},
    )
    assert result.to_keep() == {
        "step_key": "k",
        "run_id": "r",
        "run_url": "",
        "reused": False,
        "events": ["toy://e"],
    }, "as JSON: a list, and no tuple"
