"""Challengers, verdicts and steps, for the tests of the gate, promotion, the guard and rollback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.champion import Registry
from modelmill.registry.tracking import open_run
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate


@pytest.fixture
def propose(
    make_bundle: Callable[..., Path], topic_dataset: DatasetRef, step_context: StepContext
) -> Callable[..., ModelRef]:
    """Return a function that logs a model of a given skill."""

    def log(name: str, **how: float) -> ModelRef:
        return log_model(
            make_bundle(name, **how), role="exported", dataset=topic_dataset, context=step_context
        )

    return log


@pytest.fixture
def next_step(step_context: StepContext) -> Callable[[str], StepContext]:
    """Return a function that makes the context of another step: its own run and key."""

    def make(key: str) -> StepContext:
        run = open_run(step_context.run.client, step_context.run.experiment_id, key, name="next", tags={})
        return replace(step_context, run=run, step_key=key)

    return make


@pytest.fixture
def judged(topic_dataset: DatasetRef, step_context: StepContext) -> Callable[[ModelRef], VerdictRef]:
    """Return a function that asks the gate about a challenger."""

    def judge(challenger: ModelRef) -> VerdictRef:
        config, inputs = (
            GateConfig(name="topics", resamples=500),
            GateInputs(dataset=topic_dataset, challenger=challenger),
        )
        return run_gate(config, inputs, step_context).verdict

    return judge


@pytest.fixture
def accepted(registry: Registry, step_context: StepContext) -> Callable[..., VerdictRef]:
    """Return a function that makes a verdict which lets a challenger pass, on the champion of this moment."""

    def accept(challenger: ModelRef, **changes: object) -> VerdictRef:
        values = {
            "passed": True,
            "name": "topics",
            "challenger": challenger,
            "champion_version": promotion.champion_version("topics", registry.settings),
            "reasons": (),
            "uri": f"runs:/{step_context.run.run_id}/gate/verdict.json",
            "run_id": step_context.run.run_id,
        }
        return VerdictRef.model_validate(values | changes)

    return accept


@pytest.fixture
def registry(step_context: StepContext) -> Registry:
    """MLflow and the ledger of the test."""
    return Registry(step_context.run.client, step_context.settings, say=lambda line: None)


@pytest.fixture
def promoted(
    propose: Callable[..., ModelRef],
    accepted: Callable[..., VerdictRef],
    next_step: Callable[[str], StepContext],
) -> Callable[[int], ModelRef]:
    """Return a function that promotes the model with this number: another one for each number."""

    def promote(number: int) -> ModelRef:
        model = propose(f"model-{number}", tweak=number / 1000)
        return promotion.promote(accepted(model), next_step(f"promote-{number}"))

    return promote
