"""The gate on models of sets of classes and of numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.registry.bundles import log_model
from modelmill.registry.gate_report import GateReport
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate


def judge(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    return run_gate(config, GateInputs(dataset=dataset, challenger=challenger), context).verdict


@pytest.fixture
def kinds(topic_dataset: DatasetRef) -> Callable[[str], DatasetRef]:
    """Return a function that makes the label a set of classes, or a number: 2 for sport, 0 for trade."""
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    topics = table.column("topic").to_pylist()
    columns = {
        "classes": pa.array([[name] for name in topics], pa.list_(pa.string())),
        "number": pa.array([2.0 if name == "sport" else 0.0 for name in topics]),
    }

    def make(target: str) -> DatasetRef:
        uri = f"{topic_dataset.uri}_{target}"
        write_deltalake(uri, table.drop_columns(["topic"]).append_column("topic", columns[target]))
        return topic_dataset.model_copy(update={"uri": uri})

    return make


@pytest.mark.parametrize(("target", "metric"), [("classes", "micro-F1"), ("number", "R²")])
def test_a_worse_model_is_refused_and_an_equal_one_is_not(
    target: Any,
    metric: str,
    kinds: Callable[[str], DatasetRef],
    make_bundle: Callable[..., Path],
    step_context: StepContext,
) -> None:
    dataset = kinds(target)

    def logged(name: str, parent: ModelRef | None = None, **how: float) -> ModelRef:
        bundle = make_bundle(name, target=target, **how)
        return log_model(bundle, role="exported", dataset=dataset, context=step_context, parent=parent)

    parent = logged("parent")
    config = GateConfig.model_validate(
        {
            "name": "topics",
            "resamples": 500,
            "checks": [{"check": "size", "max_ratio": 2}, {"check": "slice", "column": "id"}],
        }
    )
    equal = judge(config, dataset, logged("equal", parent, tweak=-1e-6), step_context)
    assert equal.passed, equal.reasons
    path = step_context.run.client.download_artifacts(equal.run_id, "gate/verdict.json")
    report = GateReport.model_validate_json(Path(path).read_text())
    compared = {check.name: check for check in report.checks if check.check in ("metric", "baseline")}
    assert {check.metric for check in compared.values()} == {metric}
    assert compared["parent"].drop == pytest.approx(0, abs=1e-4)
    assert compared["parent"].challenger == pytest.approx(1, abs=1e-4)
    assert len(compared) == 3  # the parent and two baselines
    kinds = {"metric", "baseline", "size", "floor"} | ({"quarter"} if target == "number" else set())
    assert {check.check for check in report.checks} == kinds
    small = {"recall"} if target == "classes" else set()
    assert {one.check for one in report.not_judged} == {"class", "slice"} | small
    assert any(f"topic holds {target}" in one.sentence for one in report.not_judged)

    worse = judge(config, dataset, logged("worse", parent, skill=-1.0), step_context)
    assert not worse.passed
    assert any(reason.startswith(metric) and "worse than the parent" in reason for reason in worse.reasons)
