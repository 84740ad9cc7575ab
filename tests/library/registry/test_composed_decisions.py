"""Decisions that several heads make together are compared with all of them replaced at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError
from modelmill.registry.metric_comparisons import Statistics
from modelmill.registry.replacement import HeadVerdict
from modelmill.registry.versions import reference, register
from modelmill.rules.lifecycle.composed_decisions import Judging, hold_back
from modelmill.rules.lifecycle.options import DecisionLimits

Propose = Callable[..., ModelRef]


@pytest.fixture
def moving(propose: Propose, step_context: StepContext) -> Callable[..., HeadVerdict]:
    """Return a function that makes a champion that is always right, and a head that would replace it."""
    good = propose("good")

    def make(name: str, **challenger: float) -> HeadVerdict:
        client = step_context.run.client
        version = register(client, name, good)
        client.set_registered_model_alias(name, "champion", version.version)
        return HeadVerdict(
            signal=name.removeprefix("is_"),
            name=name,
            outcome="moves",
            challenger=propose(f"new-{name}", **challenger),
            champion=reference(version),
        )

    return make


def rule_set(place: Path, name: str, *models: str) -> str:
    """Write a rule set that says sport only if all models do."""
    content: dict[str, Any] = {
        "rule_set": name,
        "key": "id",
        "signals": {
            model: {
                "kind": "model",
                "column": "body",
                "model": f"models:/{model}@champion",
                "label": "sport",
            }
            for model in models
        },
        "rules": [
            {"name": "all", "when": " and ".join(f"{model} > 0.5" for model in models), "then": "sport"}
        ],
        "default": "trade",
    }
    path = place / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_all_heads_of_a_rule_set_that_decides_otherwise_stay_and_the_others_are_looked_at_again(
    moving: Callable[..., HeadVerdict], topic_dataset: DatasetRef, step_context: StepContext, tmp_path: Path
) -> None:
    heads = [moving("is_a", skill=-1.0), moving("is_b", tweak=0.001), moving("is_c", tweak=0.002)]
    sources = (rule_set(tmp_path, "second", "is_b", "is_c"), rule_set(tmp_path, "first", "is_a", "is_b"))
    limits = DecisionLimits(rule_sets=sources)
    judging = Judging(limits, Statistics(resamples=300), step_context.settings, step_context)
    now, decisions = hold_back(heads, topic_dataset, judging)
    assert {one.signal: one.outcome for one in now} == {"a": "stays", "b": "stays", "c": "moves"}
    assert now[1].reasons[0].startswith("rule set first, which reads it: share of rows with another decision")
    assert now[2].reasons == ()
    # b stays because of the first one, so the second one was decided on again with c alone.
    assert {one.rule_set: (one.signals, one.passed) for one in decisions} == {
        "first": (("a", "b"), False),
        "second": (("c",), True),
    }


def test_a_rule_set_that_reads_none_of_the_signals_is_named(
    moving: Callable[..., HeadVerdict], topic_dataset: DatasetRef, step_context: StepContext, tmp_path: Path
) -> None:
    moving("is_b", tweak=0.001)
    limits = DecisionLimits(rule_sets=(rule_set(tmp_path, "other", "is_b"),))
    judging = Judging(limits, Statistics(resamples=300), step_context.settings, step_context)
    with pytest.raises(ConfigError, match=r"reads champions of the signals.*other\.json"):
        hold_back([moving("is_a", tweak=0.001)], topic_dataset, judging)
