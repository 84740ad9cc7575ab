"""Where rule sets read the model, the gate compares their decisions with the champion and the challenger."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError

from modelmill.artifacts import DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TableError
from modelmill.registry import promotion
from modelmill.registry.gate_report import GateReport
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import gate as gate_component
from modelmill.steps.gate import run as run_gate
from modelmill.steps.gate_rules import GateRulesConfig
from modelmill.steps.gate_rules import run as gate_rules
from modelmill.steps.ports import TrialInputs

Propose = Callable[..., ModelRef]
Accepted = Callable[..., VerdictRef]
NextStep = Callable[[str], StepContext]

DESK: dict[str, Any] = {
    "rule_set": "desk",
    "key": "id",
    "signals": {
        "sport": {"kind": "model", "column": "body", "model": "models:/topics@champion", "label": "sport"},
        "goal": {"kind": "phrases", "column": "body", "phrases": ["goal"]},
    },
    "rules": [
        {"name": "goal", "when": "goal", "then": "sports desk"},
        {"name": "sport", "when": "sport > 0.5", "then": "sports desk"},
    ],
    "default": "trade desk",
}


def judge(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    return run_gate(config, GateInputs(dataset=dataset, challenger=challenger), context).verdict


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., str]:
    """Write a rule set, with changes, and return its path."""

    def write(**changes: Any) -> str:
        path = tmp_path / "desk.json"
        path.write_text(json.dumps(DESK | changes))
        return str(path)

    return write


@pytest.fixture
def look(
    propose: Propose, accepted: Accepted, topic_dataset: DatasetRef, step_context: StepContext
) -> Callable[..., GateReport]:
    """Promote a champion that is always right, and return what the gate's check says of a challenger."""
    promotion.promote(accepted(propose("good")), step_context)

    def ask(challenger: ModelRef, dataset: DatasetRef = topic_dataset, **check: Any) -> GateReport:
        config = GateConfig.model_validate(
            {
                "name": "topics",
                "resamples": 500,
                "max_drop": 0.9,
                "max_below_baseline": 0.9,
                "max_class_drop": None,
                "checks": [{"check": "decisions", **check}],
            }
        )
        verdict = judge(config, dataset, challenger, step_context)
        path = step_context.run.client.download_artifacts(verdict.run_id, "gate/verdict.json")
        return GateReport.model_validate_json(Path(path).read_text())

    return ask


def sentences(report: GateReport) -> list[str]:
    return [check.sentence for check in report.checks if check.check == "decisions"]


def test_a_challenger_that_turns_decisions_round_is_refused_and_an_equal_one_is_not(
    propose: Propose, look: Callable[..., GateReport], place: Callable[..., str]
) -> None:
    report = look(propose("bad", skill=-1.0), rule_sets=[place()])
    assert not report.passed
    (sentence,) = sentences(report)
    assert sentence.startswith("share of rows with another decision of desk is ")
    assert "from trade desk to sports desk (such as row-0" in sentence
    assert sentence.endswith("refused: more than the accepted 5.00%")
    assert look(propose("same", tweak=0.001), rule_sets=[place()]).passed
    anything = look(propose("bad-2", skill=-1.0, tweak=0.001), rule_sets=[place()], max_changed=1.0)
    assert ": passed; up to 100.00% is accepted" in sentences(anything)[0]


def test_labels_say_which_decisions_are_worse(
    propose: Propose, look: Callable[..., GateReport], place: Callable[..., str]
) -> None:
    how = {"label": "topic", "decision_of": {"sport": "sports desk", "trade": "trade desk"}}
    report = look(propose("bad", skill=-1.0), rule_sets=[place()], max_changed=None, **how)
    (sentence,) = sentences(report)
    assert sentence.startswith(
        "share of right decisions of desk, 15.00%, is 85.00 points worse than the champion"
    )
    assert "refused: more than the accepted 0.50 points, beyond chance" in sentence
    # A better model changes decisions, and is welcome where labels say that it is better.
    assert look(propose("same", tweak=0.001), rule_sets=[place()], **how).passed


def test_registered_rule_sets_that_read_the_model_are_found(
    propose: Propose,
    look: Callable[..., GateReport],
    place: Callable[..., str],
    topic_dataset: DatasetRef,
    next_step: NextStep,
    step_context: StepContext,
) -> None:
    found = look(propose("first", tweak=0.001)).not_judged
    (nothing,) = (one for one in found if one.check == "decisions")
    assert nothing.reason == "no registered rule set's champion reads models:/topics@champion"

    def state() -> str:
        config = GateConfig.model_validate({"name": "topics", "checks": [{"check": "decisions"}]})
        assert gate_component.outside_state is not None
        inputs = GateInputs(dataset=topic_dataset, challenger=propose(f"m-{len(states)}"))
        return gate_component.outside_state(config, inputs, step_context.settings)

    states: list[str] = []
    states.append(state())
    table = TableRef(uri=topic_dataset.uri, version=topic_dataset.version)
    words = {**DESK, "signals": {"goal": DESK["signals"]["goal"]}, "rules": DESK["rules"][:1]}
    for name, content in (("desk", DESK), ("words", words)):
        context = next_step(name)
        verdict = gate_rules(
            GateRulesConfig(rule_set=place(**content), name=name), TrialInputs(table=table), context
        ).verdict
        promotion.promote(verdict, dataclasses.replace(context, step_key=f"promote-{name}"))
    states.append(state())
    assert len(set(states)) == 2, "a verdict is not used again where a rule set has come to read the model"
    report = look(propose("bad", skill=-1.0))
    (sentence,) = sentences(report)
    assert "another decision of desk is " in sentence
    assert not [one for one in report.not_judged if one.check == "decisions"]


def test_without_a_champion_and_a_parent_there_is_nothing_to_compare(
    propose: Propose, place: Callable[..., str], topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    config = GateConfig.model_validate(
        {"name": "topics", "checks": [{"check": "decisions", "rule_sets": [place()]}]}
    )
    verdict = judge(config, topic_dataset, propose("good"), step_context)
    assert verdict.passed
    assert "decisions: there is neither a champion nor a parent" in verdict.summary


WRONG = [
    (
        {"key": "number"},
        TableError,
        r"every column that rule set desk reads .* got 'no column number \(its key\)'; carry number along",
    ),
    (
        {"signals": {**DESK["signals"], "team": {"kind": "column"}}},
        TableError,
        r"no column team \(read by team\)'; carry team along with keep of build_dataset",
    ),
    (
        {"signals": {"goal": DESK["signals"]["goal"]}, "rules": DESK["rules"][:1]},
        ConfigError,
        r"must read the model as models:/topics@champion; got .*desk.json, which reads no model",
    ),
    (
        {
            "signals": {
                **DESK["signals"],
                "mood": {"kind": "model", "column": "body", "model": "signals:mood", "output": "label"},
            }
        },
        ConfigError,
        r"reads registered models, and no heads of a step; .*which reads signals:mood",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), WRONG)
def test_a_rule_set_that_cannot_be_tried_on_the_rows_is_told(
    propose: Propose,
    look: Callable[..., GateReport],
    place: Callable[..., str],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        look(propose("other", tweak=0.001), rule_sets=[place(**changes)])


def test_labels_that_nobody_gave_are_told(
    propose: Propose, look: Callable[..., GateReport], place: Callable[..., str], topic_dataset: DatasetRef
) -> None:
    with pytest.raises(TableError, match=r"no column desk \(the label\)"):
        look(propose("other", tweak=0.001), rule_sets=[place()], label="desk")
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    empty = table.append_column("desk", pa.nulls(len(table), pa.string()))
    write_deltalake(topic_dataset.uri, empty, mode="overwrite", schema_mode="overwrite")
    dataset = topic_dataset.model_copy(update={"version": 1})
    with pytest.raises(TableError, match="labels that say the right decision"):
        look(propose("more", tweak=0.002), dataset, rule_sets=[place()], label="desk")


def test_a_challenger_that_a_rule_set_cannot_use_is_refused(
    make_bundle: Callable[..., Path],
    look: Callable[..., GateReport],
    place: Callable[..., str],
    topic_dataset: DatasetRef,
    step_context: StepContext,
) -> None:
    from modelmill.registry.bundles import log_model

    folder = make_bundle("renamed", tweak=0.001)
    info = json.loads((folder / "modelmill.json").read_text())
    (folder / "modelmill.json").write_text(json.dumps({**info, "classes": ["sports", "trade"]}))
    model = log_model(folder, role="exported", dataset=topic_dataset, context=step_context)
    report = look(model, rule_sets=[place()])
    (sentence,) = sentences(report)
    assert "rule sets that cannot use the challenger is 1" in sentence
    assert "the label of signal 'sport' must be a class of its model" in sentence
    assert not report.passed


def test_a_check_without_any_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one of max_changed and label is needed"):
        GateConfig.model_validate({"name": "t", "checks": [{"check": "decisions", "max_changed": None}]})
